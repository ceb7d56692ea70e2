"""Repairs about jobs: firmware that is not what was built."""

from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import issue_registry as ir

from .const import DOMAIN, FailureReason
from .jobs.model import FirmwareJob, JobEvent


@callback
def async_note(hass: HomeAssistant, event: JobEvent, job: FirmwareJob) -> None:
    """Raise or take back what the end of a job says about its firmware."""
    issue_id = f"firmware_altered_{job.request.configuration}"
    if event is JobEvent.COMPLETED:
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
