"""FirmwareJob: one install, compile, upload or clean, from request to terminal status."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType

from ..build.model import BuildInfo
from ..const import (
    REQUESTED_AUTO,
    FailureReason,
    JobStatus,
    Operation,
    Source,
    Stage,
)

_NO_REASONS: Mapping[str, str] = MappingProxyType({})


class JobEvent(StrEnum):
    """What listeners hear of a job.

    Of each job exactly one QUEUED, at most one STARTED and exactly one of the last three, also
    across restarts. CHANGED is any other transition (stage, attempt, what it waits for).
    PROGRESS comes at most once a second.
    """

    QUEUED = "queued"
    STARTED = "started"
    CHANGED = "changed"
    PROGRESS = "progress"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class IllegalTransitionError(Exception):
    """A job was asked to move where it cannot go from here; a defect in the caller."""


@dataclass(frozen=True, slots=True)
class JobRequest:
    """What somebody asks for. ``requested_source`` is "auto", "local" or a peer's pin.

    ``address`` overrides where the device is flashed, ``user_id`` is Home Assistant's.
    """

    operation: Operation
    configuration: str
    device_name: str
    esphome_version: str
    requested_source: str = REQUESTED_AUTO
    clean: bool = False
    address: str | None = None
    from_version: str | None = None
    user_id: str | None = None


@dataclass(frozen=True, slots=True)
class Routing:
    """Who builds, why this builder, and why not each of the others (by label)."""

    source: Source = Source.PENDING
    source_pin_sha256: str | None = None
    source_label: str | None = None
    source_esphome_version: str | None = None
    reason: str | None = None
    why_not: Mapping[str, str] = field(default=_NO_REASONS)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One dispatch to one builder; ``failure`` stays None while it runs and when it went well.

    ``fingerprint`` is the state of the configuration that it began with.
    """

    attempt_id: str
    builder_id: str
    source: Source
    label: str
    started_at: datetime
    finished_at: datetime | None = None
    failure: FailureReason | None = None
    detail: str | None = None
    fingerprint: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended. ``verified`` None means that it never came to that."""

    error: str | None = None
    failure_reason: FailureReason | None = None
    exit_code: int | None = None
    verified: bool | None = None


@dataclass(slots=True)
class FirmwareJob:
    """One job. Read it anywhere; move it only through its transitions.

    Times are UTC. ``progress`` is whole percents over the whole job or None while unknown;
    ``firmware_sha256`` names the kept firmware once there is one, ``fingerprint`` the state
    of the configuration that it was built from. ``flashed_at`` is when the device had taken it.
    ``stage_seconds`` adds up the time in each stage. ``waiting_for`` says to people what a
    queued or waiting job waits for.
    """

    job_id: str
    request: JobRequest
    created_at: datetime
    status: JobStatus = JobStatus.QUEUED
    stage: Stage | None = None
    progress: int | None = None
    routing: Routing = field(default_factory=Routing)
    attempts: tuple[Attempt, ...] = ()
    started_at: datetime | None = None
    finished_at: datetime | None = None
    outcome: Outcome = field(default_factory=Outcome)
    firmware_sha256: str | None = None
    build_info: BuildInfo | None = None
    fingerprint: str | None = None
    flashed_at: datetime | None = None
    waiting_for: str | None = None
    stage_seconds: dict[Stage, float] = field(default_factory=dict)
    _stage_since: datetime | None = None

    @property
    def terminal(self) -> bool:
        """Whether the job has ended."""
        return self.status.terminal

    @property
    def waiting(self) -> bool:
        """Whether the job holds no slot: queued, or waiting for a builder or its device."""
        return self.status is JobStatus.QUEUED or (
            self.status is JobStatus.RUNNING and self.stage is not None and self.stage.waiting
        )

    @property
    def in_progress(self) -> bool:
        """Whether a person should see it as going on; waiting for a device is not."""
        return not self.terminal and self.stage is not Stage.WAITING_DEVICE

    @property
    def current_attempt(self) -> Attempt | None:
        """The attempt that runs now."""
        if self.attempts and self.attempts[-1].finished_at is None:
            return self.attempts[-1]
        return None

    def seconds_in(self, stage: Stage, now: datetime) -> float:
        """Return the seconds spent in a stage until now."""
        seconds = self.stage_seconds.get(stage, 0.0)
        if self.stage is stage and self._stage_since is not None:
            seconds += (now - self._stage_since).total_seconds()
        return seconds

    def rename(self, configuration: str) -> None:
        """Go on under the new name of the configuration file."""
        self.request = replace(self.request, configuration=configuration)

    def wait_in_queue(self, waiting_for: str) -> bool:
        """Say what a queued job waits for; returns whether that is new."""
        self._require(JobStatus.QUEUED)
        changed = waiting_for != self.waiting_for
        self.waiting_for = waiting_for
        return changed

    def start(self, now: datetime) -> None:
        """Leave the queue."""
        self._require(JobStatus.QUEUED)
        self.status = JobStatus.RUNNING
        self.started_at = self.started_at or now
        self._enter(Stage.PREPARING, now, None)

    def enter(self, stage: Stage, now: datetime, waiting_for: str | None = None) -> bool:
        """Enter a stage; returns whether anything changed."""
        self._require(JobStatus.RUNNING)
        if stage is self.stage and waiting_for == self.waiting_for:
            return False
        self._enter(stage, now, waiting_for)
        return True

    def begin_attempt(self, attempt: Attempt, routing: Routing) -> None:
        """Bind the job to a builder."""
        self._require(JobStatus.RUNNING)
        if self.current_attempt is not None:
            raise IllegalTransitionError(f"{self.job_id}: an attempt is running already")
        self.attempts = (*self.attempts, attempt)
        self.routing = routing

    def note_fingerprint(self, fingerprint: str) -> None:
        """Note the state of the configuration that the current attempt begins with."""
        attempt = self.current_attempt
        if attempt is None:
            raise IllegalTransitionError(f"{self.job_id}: no attempt is running")
        self.attempts = (*self.attempts[:-1], replace(attempt, fingerprint=fingerprint))

    def end_attempt(
        self, now: datetime, failure: FailureReason | None = None, detail: str | None = None
    ) -> None:
        """Note how the current attempt went."""
        attempt = self.current_attempt
        if attempt is None:
            raise IllegalTransitionError(f"{self.job_id}: no attempt is running")
        ended = replace(attempt, finished_at=now, failure=failure, detail=detail)
        self.attempts = (*self.attempts[:-1], ended)

    def built(
        self, firmware_sha256: str, build_info: BuildInfo, fingerprint: str | None = None
    ) -> None:
        """Keep the name of the firmware to flash and what it was built from."""
        self._require(JobStatus.RUNNING)
        self.firmware_sha256 = firmware_sha256
        self.build_info = build_info
        self.fingerprint = fingerprint

    def flashed(self, now: datetime) -> None:
        """Note that the device has taken the firmware; it still has to come back with it."""
        self._require(JobStatus.RUNNING)
        self.flashed_at = now
        self._enter(Stage.VERIFYING, now, None)

    def advance(self, progress: int) -> bool:
        """Show progress, never backwards; returns whether it changed."""
        self._require(JobStatus.RUNNING)
        if self.progress is not None and progress <= self.progress:
            return False
        self.progress = progress
        return True

    def suspend(self, now: datetime) -> None:
        """Stop the clock of the current stage: what follows is not time spent on the job."""
        self._leave_stage(now)

    def requeue(self, now: datetime) -> None:
        """Start over after Home Assistant was stopped in between; what was built is kept.

        An attempt on another machine stays the current one: that machine was not stopped.
        """
        self._require(JobStatus.QUEUED, JobStatus.RUNNING)
        attempt = self.current_attempt
        elsewhere = attempt is not None and attempt.source is Source.REMOTE
        if attempt is not None and not elsewhere:
            self.end_attempt(now, FailureReason.BUILDER_UNAVAILABLE, "Home Assistant was stopped")
        if self.firmware_sha256 is None and not elsewhere:
            self.routing = Routing()
        self.status = JobStatus.QUEUED
        self.stage = None
        self._stage_since = None
        self.waiting_for = None

    def complete(self, now: datetime, *, verified: bool | None) -> None:
        """End well; ``verified`` is None when nothing was flashed."""
        self._require(JobStatus.RUNNING)
        self._end(JobStatus.COMPLETED, now, Outcome(verified=verified, exit_code=0))
        self.progress = 100

    def fail(
        self, now: datetime, reason: FailureReason, error: str, exit_code: int | None = None
    ) -> None:
        """End badly."""
        self._require(JobStatus.QUEUED, JobStatus.RUNNING)
        verified = False if reason is FailureReason.NOT_VERIFIED else None
        self._end(
            JobStatus.FAILED,
            now,
            Outcome(error=error, failure_reason=reason, exit_code=exit_code, verified=verified),
        )

    def cancel(self, now: datetime, reason: FailureReason = FailureReason.CANCELLED) -> None:
        """End because somebody wanted so; ``reason`` is cancelled or superseded."""
        self._require(JobStatus.QUEUED, JobStatus.RUNNING)
        self._end(JobStatus.CANCELLED, now, Outcome(failure_reason=reason))

    def _require(self, *allowed: JobStatus) -> None:
        if self.status not in allowed:
            raise IllegalTransitionError(f"{self.job_id}: not possible while {self.status}")

    def _enter(self, stage: Stage, now: datetime, waiting_for: str | None) -> None:
        self._leave_stage(now)
        self.stage = stage
        self._stage_since = now
        self.waiting_for = waiting_for

    def _leave_stage(self, now: datetime) -> None:
        if self.stage is not None and self._stage_since is not None:
            spent = (now - self._stage_since).total_seconds()
            self.stage_seconds[self.stage] = self.stage_seconds.get(self.stage, 0.0) + spent
        self._stage_since = None

    def _end(self, status: JobStatus, now: datetime, outcome: Outcome) -> None:
        if self.current_attempt is not None:
            self.end_attempt(now, outcome.failure_reason, outcome.error)
        self._leave_stage(now)
        self.status = status
        self.finished_at = now
        self.outcome = outcome
        self.waiting_for = None
