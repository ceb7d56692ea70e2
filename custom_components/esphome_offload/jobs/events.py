"""JOB_* on Home Assistant's event bus."""

from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from typing import Final

from homeassistant.core import Context, HomeAssistant, callback
from homeassistant.util import dt as dt_util

from .. import registry
from ..const import DOMAIN
from ..engine.jobs.forecast import Forecast
from ..engine.jobs.model import FirmwareJob, JobEvent
from ..texts.reasons import plain_text, reason_text
from .payload import JobDetails, event_payload, job_details

EVENT_JOB: Final = {
    JobEvent.QUEUED: f"{DOMAIN}_job_queued",
    JobEvent.STARTED: f"{DOMAIN}_job_started",
    JobEvent.PROGRESS: f"{DOMAIN}_job_progress",
    JobEvent.COMPLETED: f"{DOMAIN}_job_completed",
    JobEvent.FAILED: f"{DOMAIN}_job_failed",
    JobEvent.CANCELLED: f"{DOMAIN}_job_cancelled",
}


class JobAnnouncer:
    """Fires the events of jobs, in the context of the request for the job."""

    def __init__(self, hass: HomeAssistant) -> None:
        self._hass = hass
        self._text_of = partial(reason_text, hass)
        self._contexts: dict[str, Context] = {}
        self._submitting: Context | None = None

    @contextmanager
    def on_behalf_of(self, context: Context) -> Generator[None]:
        """Use this context for jobs that are queued meanwhile."""
        self._submitting = context
        try:
            yield
        finally:
            self._submitting = None

    @callback
    def announce(self, event: JobEvent, job: FirmwareJob) -> None:
        """Fire an event, unless it is only for our own subscribers."""
        if event is JobEvent.QUEUED and self._submitting is not None:
            self._contexts[job.job_id] = self._submitting
        # Of a job from before a restart only the user is known.
        context = self._contexts.get(job.job_id) or Context(user_id=job.request.user_id)
        if job.terminal:
            self._contexts.pop(job.job_id, None)
        if (event_type := EVENT_JOB.get(event)) is not None:
            payload = event_payload(job, *self._ids(job), dt_util.utcnow(), self._text_of)
            payload["error"] = plain_text(payload["error"])
            payload["source_label"] = plain_text(payload["source_label"])
            self._hass.bus.async_fire(event_type, payload, context=context)

    def details(self, job: FirmwareJob, forecast: Forecast) -> JobDetails:
        """Return all fields of a job, ready for JSON."""
        return job_details(job, *self._ids(job), dt_util.utcnow(), self._text_of, forecast=forecast)

    def _ids(self, job: FirmwareJob) -> tuple[str | None, str | None]:
        entity = registry.async_entity(self._hass, job.request.target)
        return (None, None) if entity is None else (entity.device_id, entity.entity_id)
