"""How the end of a job reads in the logbook."""

from collections.abc import Callable

from homeassistant.components.logbook import (
    LOGBOOK_ENTRY_ENTITY_ID,
    LOGBOOK_ENTRY_MESSAGE,
    LOGBOOK_ENTRY_NAME,
)
from homeassistant.core import Event, HomeAssistant, callback

from .const import DOMAIN
from .engine.jobs.model import JobEvent
from .events import EVENT_JOB
from .job_payload import JobEventPayload


@callback
def async_describe_events(
    hass: HomeAssistant,
    async_describe_event: Callable[
        [str, str, Callable[[Event[JobEventPayload]], dict[str, str | None]]], None
    ],
) -> None:
    """Describe what ended; what only goes on would fill the logbook."""

    def describe(what: str) -> Callable[[Event[JobEventPayload]], dict[str, str | None]]:
        @callback
        def described(event: Event[JobEventPayload]) -> dict[str, str | None]:
            job = event.data
            message = f"{job['operation']} of ESPHome {job['esphome_version']} {what}"
            if job["error"]:
                message = f"{message}: {job['error']}"
            return {
                LOGBOOK_ENTRY_NAME: job["device_name"],
                LOGBOOK_ENTRY_MESSAGE: message,
                LOGBOOK_ENTRY_ENTITY_ID: job["entity_id"],
            }

        return described

    for event, what in (
        (JobEvent.COMPLETED, "completed"),
        (JobEvent.FAILED, "failed"),
        (JobEvent.CANCELLED, "was cancelled"),
    ):
        async_describe_event(DOMAIN, EVENT_JOB[event], describe(what))
