"""FirmwareJob: one install, compile, upload or clean, from request to terminal status."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
import math
from types import MappingProxyType
from typing import Annotated

from ..build.model import BuildInfo
from ..codec import Keyed, Many, Number, Text
from ..const import (
    REQUESTED_AUTO,
    FailureReason,
    JobStatus,
    Operation,
    Source,
    Stage,
)
from ..reason import Reason, ReasonKey
from ..target import TargetId, configuration_of, mac_of, mac_suffix, target_id

_NO_REASONS: Mapping[str, Reason] = MappingProxyType({})

# What jobs are made of comes from ourselves; the limits only keep a damaged store from harm.
_Id = Annotated[str, Text(32, r"[0-9a-f]{32}")]
_String = Annotated[str, Text(1000, free=True)]
_Reasons = Annotated[Mapping[_String, Reason], Keyed(500)]
_ExitCode = Annotated[int, Number(-(2**31), 2**31)]


class JobEvent(StrEnum):
    """What listeners are notified of.

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
    """A transition that is not possible in the present state; a defect in the caller."""


@dataclass(frozen=True, slots=True)
class JobRequest:
    """What a job is to do. ``requested_source`` is "auto", "local" or a peer's pin.

    ``mac`` says which device it is for among several of the configuration; ``device_name`` then
    ends in a part of it. ``address`` overrides where the device is flashed, ``user_id`` is Home
    Assistant's. ``clean``: build from nothing; of a job that cleans, remove also the tools.
    ``rebuild``: build also when nothing has changed, with the build tree that is there.
    ``batch`` is the same for all that was asked for together. ``automatic``: nobody asked for it.
    """

    operation: Operation
    configuration: _String
    device_name: _String
    esphome_version: _String
    requested_source: _String = REQUESTED_AUTO
    clean: bool = False
    address: _String | None = None
    from_version: _String | None = None
    user_id: _String | None = None
    mac: _String | None = None
    batch: _String | None = None
    automatic: bool = False
    rebuild: bool = False

    @property
    def target(self) -> TargetId:
        """The device that it is for, or the configuration."""
        return target_id(self.configuration, self.mac)

    @property
    def node_name(self) -> str:
        """The name in the configuration."""
        return self.device_name.removesuffix("" if self.mac is None else mac_suffix(self.mac))

    def same_work(self, other: JobRequest) -> bool:
        """Whether both ask for the same, whoever asks and whatever the device runs meanwhile."""
        return self == replace(
            other,
            from_version=self.from_version,
            user_id=self.user_id,
            batch=self.batch,
            automatic=self.automatic,
        )


@dataclass(frozen=True, slots=True)
class Routing:
    """The builder, why it was chosen, and why not each of the others (by label)."""

    source: Source = Source.PENDING
    source_pin_sha256: _String | None = None
    source_label: _String | None = None
    source_esphome_version: _String | None = None
    reason: Reason | None = None
    why_not: _Reasons = field(default=_NO_REASONS)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One dispatch to one builder.

    ``failure_reason`` and ``error`` stay None while it runs and when it succeeded;
    ``fingerprint`` is the state of the configuration that it started with; ``warm``: the builder
    had a build tree of this version already.
    """

    attempt_id: _Id
    builder_id: _String
    source: Source
    label: _String
    started_at: datetime
    finished_at: datetime | None = None
    failure_reason: FailureReason | None = None
    error: Reason | None = None
    fingerprint: _String | None = None
    warm: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended. ``verified`` is None when no device was flashed."""

    error: Reason | None = None
    failure_reason: FailureReason | None = None
    exit_code: _ExitCode | None = None
    verified: bool | None = None


@dataclass(slots=True)
class FirmwareJob:
    """One job. Read it anywhere; move it only through its transitions.

    Times are UTC. ``progress`` is whole percents over the whole job or None while unknown;
    ``firmware_sha256`` names the kept firmware once there is one, ``fingerprint`` the state
    of the configuration that it was built from. ``flashed_at`` is when the device had taken it,
    ``replaced`` the build that it ran before; ``unverified`` is why it is not known what it runs.
    ``stage_seconds`` adds up the time in each stage, by
    a monotonic clock; what a queued job waits for a builder counts as that stage, and what built
    firmware waits for an upload slot as none. ``waiting_for`` is what a queued or waiting job waits
    for.
    """

    job_id: _Id
    request: JobRequest
    created_at: datetime
    status: JobStatus = JobStatus.QUEUED
    stage: Stage | None = None
    progress: Annotated[int, Number(0, 100)] | None = None
    routing: Routing = field(default_factory=Routing)
    attempts: Annotated[tuple[Attempt, ...], Many(1000)] = ()
    started_at: datetime | None = None
    finished_at: datetime | None = None
    outcome: Outcome = field(default_factory=Outcome)
    firmware_sha256: _String | None = None
    build_info: BuildInfo | None = None
    fingerprint: _String | None = None
    flashed_at: datetime | None = None
    replaced: BuildInfo | None = None
    unverified: Reason | None = None
    waiting_for: Reason | None = None
    stage_seconds: Annotated[dict[Stage, Annotated[float, Number(0, math.inf)]], Keyed(16)] = field(
        default_factory=dict
    )

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
    def uploading(self) -> bool:
        """Whether its firmware is being sent, and does not wait for that."""
        return not self.terminal and self.stage is Stage.UPLOADING and self.waiting_for is None

    @property
    def pending(self) -> bool:
        """Whether its firmware is built and waits for the device."""
        return not self.terminal and self.stage is Stage.WAITING_DEVICE

    @property
    def pending_reason(self) -> Reason | None:
        """What people are told while its firmware waits for the device."""
        if not self.pending:
            return None
        request = self.request
        parameters = {"version": request.esphome_version, "device": request.device_name}
        return Reason(ReasonKey.FIRMWARE_PENDING, parameters)

    @property
    def in_progress(self) -> bool:
        """Whether it is shown as in progress; waiting for a device is not."""
        return not self.terminal and not self.pending

    @property
    def current_attempt(self) -> Attempt | None:
        """The attempt that runs now."""
        if self.attempts and self.attempts[-1].finished_at is None:
            return self.attempts[-1]
        return None

    @property
    def timed_stage(self) -> Stage | None:
        """The stage that its time counts for now."""
        if self.status is JobStatus.QUEUED:
            return None if self.waiting_for is None else Stage.WAITING_BUILDER
        if self.stage is Stage.UPLOADING and not self.uploading:
            return None
        return None if self.terminal else self.stage

    def spend(self, stage: Stage, seconds: float) -> None:
        """Add to the time in a stage."""
        self.stage_seconds[stage] = self.stage_seconds.get(stage, 0.0) + seconds

    def move(self, target: TargetId) -> None:
        """Change the configuration file, or the device that it is for."""
        mac = mac_of(target)
        self.request = replace(
            self.request,
            configuration=configuration_of(target),
            mac=mac,
            device_name=self.request.node_name + ("" if mac is None else mac_suffix(mac)),
        )

    def wait_in_queue(self, waiting_for: Reason) -> bool:
        """Set what a queued job waits for; returns whether that changed."""
        self._require(JobStatus.QUEUED)
        changed = waiting_for != self.waiting_for
        self.waiting_for = waiting_for
        return changed

    def start(self, now: datetime) -> None:
        """Leave the queue."""
        self._require(JobStatus.QUEUED)
        self.status = JobStatus.RUNNING
        self.started_at = self.started_at or now
        self._enter(Stage.PREPARING, None)

    def enter(self, stage: Stage, waiting_for: Reason | None = None) -> bool:
        """Enter a stage; returns whether anything changed."""
        self._require(JobStatus.RUNNING)
        if stage is self.stage and waiting_for == self.waiting_for:
            return False
        self._enter(stage, waiting_for)
        return True

    def start_attempt(self, attempt: Attempt, routing: Routing) -> None:
        """Bind the job to a builder."""
        self._require(JobStatus.RUNNING)
        if self.current_attempt is not None:
            raise IllegalTransitionError(f"{self.job_id}: an attempt is running already")
        self.attempts = (*self.attempts, attempt)
        self.routing = routing

    def reuse(self, routing: Routing) -> None:
        """Take kept firmware; ``routing`` says who built it."""
        self._require(JobStatus.RUNNING)
        self.routing = routing

    def set_fingerprint(self, fingerprint: str) -> None:
        """Set the state of the configuration that the current attempt starts with."""
        attempt = self.current_attempt
        if attempt is None:
            raise IllegalTransitionError(f"{self.job_id}: no attempt is running")
        self.attempts = (*self.attempts[:-1], replace(attempt, fingerprint=fingerprint))

    def end_attempt(
        self,
        now: datetime,
        failure_reason: FailureReason | None = None,
        error: Reason | None = None,
    ) -> None:
        """End the current attempt; without ``failure_reason`` it succeeded."""
        attempt = self.current_attempt
        if attempt is None:
            raise IllegalTransitionError(f"{self.job_id}: no attempt is running")
        ended = replace(attempt, finished_at=now, failure_reason=failure_reason, error=error)
        self.attempts = (*self.attempts[:-1], ended)

    def built(
        self, firmware_sha256: str, build_info: BuildInfo, fingerprint: str | None = None
    ) -> None:
        """Set the firmware to flash and what it was built from."""
        self._require(JobStatus.RUNNING)
        self.firmware_sha256 = firmware_sha256
        self.build_info = build_info
        self.fingerprint = fingerprint

    def flashed(self, now: datetime, replaced: BuildInfo | None = None) -> None:
        """Enter verifying: the device has accepted the firmware, and ran ``replaced`` before."""
        self._require(JobStatus.RUNNING)
        self.flashed_at = now
        self.replaced = replaced
        self._enter(Stage.VERIFYING, None)

    def advance(self, progress: int) -> bool:
        """Raise the progress; returns whether it changed."""
        self._require(JobStatus.RUNNING)
        if self.progress is not None and progress <= self.progress:
            return False
        self.progress = progress
        return True

    def requeue(self, now: datetime) -> None:
        """Return to the queue after a restart of Home Assistant; built firmware is kept.

        An attempt on another machine stays the current one: that machine was not restarted.
        """
        self._require(JobStatus.QUEUED, JobStatus.RUNNING)
        attempt = self.current_attempt
        elsewhere = attempt is not None and attempt.source is Source.REMOTE
        if attempt is not None and not elsewhere:
            stopped = Reason(ReasonKey.HOME_ASSISTANT_STOPPED)
            self.end_attempt(now, FailureReason.BUILDER_UNAVAILABLE, stopped)
        if self.firmware_sha256 is None and not elsewhere:
            self.routing = Routing()
        self.status = JobStatus.QUEUED
        self.stage = None
        self.waiting_for = None

    def complete(self, now: datetime, *, verified: bool | None) -> None:
        """End successfully; ``verified`` is None when nothing was flashed."""
        self._require(JobStatus.RUNNING)
        self._end(JobStatus.COMPLETED, now, Outcome(verified=verified, exit_code=0))
        self.progress = 100

    def fail(
        self,
        now: datetime,
        failure_reason: FailureReason,
        error: Reason,
        exit_code: int | None = None,
    ) -> None:
        """End without success."""
        self._require(JobStatus.QUEUED, JobStatus.RUNNING)
        unverified = (FailureReason.NOT_VERIFIED, FailureReason.ROLLED_BACK)
        verified = False if failure_reason in unverified else None
        self._end(JobStatus.FAILED, now, Outcome(error, failure_reason, exit_code, verified))

    def cancel(
        self, now: datetime, failure_reason: FailureReason = FailureReason.CANCELLED
    ) -> None:
        """End on request; ``failure_reason`` is cancelled or superseded."""
        self._require(JobStatus.QUEUED, JobStatus.RUNNING)
        if self.flashed_at is not None:
            device = {"device": self.request.device_name}
            self.unverified = Reason(ReasonKey.UNVERIFIED_CANCELLED, device)
        self._end(JobStatus.CANCELLED, now, Outcome(failure_reason=failure_reason))

    def _require(self, *allowed: JobStatus) -> None:
        if self.status not in allowed:
            raise IllegalTransitionError(f"{self.job_id}: not possible while {self.status}")

    def _enter(self, stage: Stage, waiting_for: Reason | None) -> None:
        self.stage = stage
        self.waiting_for = waiting_for

    def _end(self, status: JobStatus, now: datetime, outcome: Outcome) -> None:
        if self.current_attempt is not None:
            self.end_attempt(now, outcome.failure_reason, outcome.error)
        self.status = status
        self.finished_at = now
        self.outcome = outcome
        self.waiting_for = None
