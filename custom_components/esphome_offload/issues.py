"""Repairs about jobs: firmware that is not what was built."""

from collections.abc import Container
from typing import Final

from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import issue_registry as ir

from .const import DOMAIN
from .engine.const import FailureReason, Operation
from .engine.jobs.model import FirmwareJob, JobEvent

_ALTERED: Final = "firmware_altered_"


@callback
def async_note(hass: HomeAssistant, event: JobEvent, job: FirmwareJob) -> None:
    """Raise or take back what the end of a job says about its firmware."""
    issue_id = f"{_ALTERED}{job.request.configuration}"
    if event is JobEvent.COMPLETED:
        # Cleaning brings no firmware that would be as it was built.
        if job.request.operation is not Operation.CLEAN:
            ir.async_delete_issue(hass, DOMAIN, issue_id)
    elif event is JobEvent.FAILED and job.outcome.failure_reason is FailureReason.INTEGRITY:
        ir.async_create_issue(
            hass,
            DOMAIN,
            issue_id,
            is_fixable=False,
            # Nobody may be looking when it happens.
            is_persistent=True,
            severity=ir.IssueSeverity.ERROR,
            translation_key="firmware_altered",
            translation_placeholders={
                "device": job.request.device_name,
                "builder": job.routing.source_label or "",
                "error": job.outcome.error or "",
            },
        )


@callback
def async_forget(hass: HomeAssistant, keep: Container[str] = ()) -> None:
    """Take back what was said of configurations that are gone, ``keep`` being those that are not.

    They have no later job, which would do that.
    """
    for domain, issue_id in tuple(ir.async_get(hass).issues):
        configuration = issue_id.removeprefix(_ALTERED)
        if domain == DOMAIN and configuration != issue_id and configuration not in keep:
            ir.async_delete_issue(hass, domain, issue_id)
