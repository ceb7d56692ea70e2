"""The public forms of a FirmwareJob (events, responses, websocket), and of a request for one."""

from collections.abc import Callable
from datetime import UTC, datetime
import math
from typing import Final, TypedDict

from ..engine.const import Stage
from ..engine.jobs.forecast import Forecast
from ..engine.jobs.model import Attempt, FirmwareJob
from ..engine.reason import Reason

_END_STEP: Final = 10
"""Seconds to which an expected end is rounded up."""

type TextOf = Callable[[Reason], str]
"""Returns a reason in Home Assistant's language."""


class RequestOptions(TypedDict, total=False):
    """The options of a request for a job; ``source`` is "auto" or a builder's id.

    ``batch`` is the same for all that is asked for together; without one the context says it.
    """

    version: str | None
    source: str
    clean: bool
    rebuild: bool
    address: str | None
    user_id: str | None
    batch: str | None
    automatic: bool


class JobEventPayload(TypedDict):
    """The data of every ``esphome_offload_job_*`` event; all keys are always there.

    ``seconds`` counts from the start of the job, or from its creation while it is queued, to its
    end, or to now. ``progress`` is whole percents of the whole job.
    """

    job_id: str
    device_id: str | None
    entity_id: str | None
    configuration: str
    device_name: str
    operation: str
    status: str
    stage: str | None
    progress: int | None
    source: str
    source_label: str | None
    source_pin_sha256: str | None
    esphome_version: str
    from_version: str | None
    verified: bool | None
    failure_reason: str | None
    error: str | None
    seconds: float


class AttemptDetails(TypedDict):
    """One dispatch of a job to a builder; times are ISO 8601, UTC."""

    attempt_id: str
    builder_id: str
    source: str
    label: str
    started_at: str
    finished_at: str | None
    failure: str | None
    detail: str | None


class Expectation(TypedDict):
    """What is expected of a job that has not ended.

    ``queue_place``: 1 is the next to get a build slot; None when it waits for none.
    ``expected_end`` is ISO 8601, UTC; None while it is not known.
    """

    queue_place: int | None
    expected_end: str | None


class JobDetails(JobEventPayload, Expectation):
    """All fields of a job; times are ISO 8601, UTC, ``stages`` seconds by stage.

    ``target`` is what it is for: the configuration, or one of its devices with its MAC address.
    ``pending``: the firmware is built and waits for the device; ``message`` says so, or why it is
    not known whether the device runs it.
    """

    target: str
    requested_source: str
    source_esphome_version: str | None
    routing_reason: str | None
    why_not: dict[str, str]
    clean: bool
    rebuild: bool
    address: str | None
    user_id: str | None
    automatic: bool
    waiting_for: str | None
    pending: bool
    message: str | None
    in_progress: bool
    attempts: list[AttemptDetails]
    exit_code: int | None
    firmware_sha256: str | None
    build_time: str | None
    created_at: str
    started_at: str | None
    finished_at: str | None
    stages: dict[str, float]


def event_payload(
    job: FirmwareJob,
    device_id: str | None,
    entity_id: str | None,
    now: datetime,
    text_of: TextOf,
) -> JobEventPayload:
    """Return the flat payload of a job's events."""
    since = job.started_at or job.created_at
    return {
        "job_id": job.job_id,
        "device_id": device_id,
        "entity_id": entity_id,
        "configuration": job.request.configuration,
        "device_name": job.request.device_name,
        "operation": job.request.operation.value,
        "status": job.status.value,
        "stage": None if job.stage is None else job.stage.value,
        "progress": job.progress,
        "source": job.routing.source.value,
        "source_label": job.routing.source_label,
        "source_pin_sha256": job.routing.source_pin_sha256,
        "esphome_version": job.request.esphome_version,
        "from_version": job.request.from_version,
        "verified": job.outcome.verified,
        "failure_reason": (
            None if job.outcome.failure_reason is None else job.outcome.failure_reason.value
        ),
        "error": None if job.outcome.error is None else text_of(job.outcome.error),
        # Not below 0: the clock may have been set back.
        "seconds": round(max(0.0, ((job.finished_at or now) - since).total_seconds()), 3),
    }


def job_details(
    job: FirmwareJob,
    device_id: str | None,
    entity_id: str | None,
    now: datetime,
    text_of: TextOf,
    *,
    forecast: Forecast,
) -> JobDetails:
    """Return all fields of a job, ready for JSON."""
    return {
        **event_payload(job, device_id, entity_id, now, text_of),
        "target": job.request.target,
        "requested_source": job.request.requested_source,
        "source_esphome_version": job.routing.source_esphome_version,
        "routing_reason": None if job.routing.reason is None else text_of(job.routing.reason),
        "why_not": {label: text_of(why) for label, why in job.routing.why_not.items()},
        "clean": job.request.clean,
        "rebuild": job.request.rebuild,
        "address": job.request.address,
        "user_id": job.request.user_id,
        "automatic": job.request.automatic,
        "waiting_for": None if job.waiting_for is None else text_of(job.waiting_for),
        **expectation(forecast, now),
        "pending": job.pending,
        "message": None
        if (reason := job.pending_reason or job.unverified) is None
        else text_of(reason),
        "in_progress": job.in_progress,
        "attempts": [_attempt(attempt, text_of) for attempt in job.attempts],
        "exit_code": job.outcome.exit_code,
        "firmware_sha256": job.firmware_sha256,
        "build_time": None if job.build_info is None else job.build_info.build_time,
        "created_at": job.created_at.isoformat(),
        "started_at": _iso(job.started_at),
        "finished_at": _iso(job.finished_at),
        "stages": {
            stage.value: round(job.stage_seconds[stage], 3)
            for stage in Stage
            if stage in job.stage_seconds
        },
    }


def expectation(forecast: Forecast, now: datetime) -> Expectation:
    """Return what is expected of a job; not more exactly than it can be known."""
    if forecast.seconds is None:
        return {"queue_place": forecast.place, "expected_end": None}
    end = now.timestamp() + forecast.seconds
    rounded = datetime.fromtimestamp(math.ceil(end / _END_STEP) * _END_STEP, UTC)
    return {"queue_place": forecast.place, "expected_end": rounded.isoformat()}


def _attempt(attempt: Attempt, text_of: TextOf) -> AttemptDetails:
    return {
        "attempt_id": attempt.attempt_id,
        "builder_id": attempt.builder_id,
        "source": attempt.source.value,
        "label": attempt.label,
        "started_at": attempt.started_at.isoformat(),
        "finished_at": _iso(attempt.finished_at),
        "failure": None if attempt.failure_reason is None else attempt.failure_reason.value,
        "detail": None if attempt.error is None else text_of(attempt.error),
    }


def _iso(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()
