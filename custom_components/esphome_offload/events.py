"""JOB_* on Home Assistant's event bus."""

from typing import Final

from homeassistant.core import Context, HomeAssistant, callback

from .const import DOMAIN
from .job_payload import JobEventPayload
from .jobs.model import JobEvent

EVENT_JOB: Final = {
    JobEvent.QUEUED: f"{DOMAIN}_job_queued",
    JobEvent.STARTED: f"{DOMAIN}_job_started",
    JobEvent.PROGRESS: f"{DOMAIN}_job_progress",
    JobEvent.COMPLETED: f"{DOMAIN}_job_completed",
    JobEvent.FAILED: f"{DOMAIN}_job_failed",
    JobEvent.CANCELLED: f"{DOMAIN}_job_cancelled",
}


@callback
def async_fire(
    hass: HomeAssistant, event: JobEvent, payload: JobEventPayload, context: Context
) -> None:
    """Fire what the bus is meant to hear; other changes are for our own subscribers."""
    if (event_type := EVENT_JOB.get(event)) is not None:
        hass.bus.async_fire(event_type, payload, context=context)
