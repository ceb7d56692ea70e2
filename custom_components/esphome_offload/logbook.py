"""The end of a job in the logbook."""

from collections.abc import Callable

from homeassistant.components.logbook import (
    LOGBOOK_ENTRY_ENTITY_ID,
    LOGBOOK_ENTRY_MESSAGE,
    LOGBOOK_ENTRY_NAME,
)
from homeassistant.core import Event, HomeAssistant, callback

from .const import DOMAIN
from .engine.const import FailureReason
from .engine.jobs.model import JobEvent
from .jobs.events import EVENT_JOB
from .jobs.payload import JobEventPayload
from .texts.reasons import common_text


@callback
def async_describe_events(
    hass: HomeAssistant,
    async_describe_event: Callable[
        [str, str, Callable[[Event[JobEventPayload]], dict[str, str | None]]], None
    ],
) -> None:
    """Describe how jobs ended; their progress would fill the logbook."""

    def describer(ending: JobEvent) -> Callable[[Event[JobEventPayload]], dict[str, str | None]]:
        @callback
        def describe(event: Event[JobEventPayload]) -> dict[str, str | None]:
            job = event.data
            superseded = job["failure_reason"] == FailureReason.SUPERSEDED
            message = common_text(
                hass,
                f"logbook_{FailureReason.SUPERSEDED if superseded else ending}",
                operation=common_text(hass, f"operation_{job['operation']}"),
                version=job["esphome_version"],
                error=job["error"] or "",
            )
            return {
                LOGBOOK_ENTRY_NAME: job["device_name"],
                LOGBOOK_ENTRY_MESSAGE: message,
                LOGBOOK_ENTRY_ENTITY_ID: job["entity_id"],
            }

        return describe

    for ending in (JobEvent.COMPLETED, JobEvent.FAILED, JobEvent.CANCELLED):
        async_describe_event(DOMAIN, EVENT_JOB[ending], describer(ending))
