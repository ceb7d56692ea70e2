"""Ledger: all jobs, and the one place that changes them."""

from collections.abc import Callable, Mapping
from itertools import islice

from ..build.model import BuildInfo
from ..clock import Time
from ..const import FailureReason, JobStatus, Stage
from ..job_log import OWN, JobLogs
from ..listeners import Listeners
from ..reason import Reason
from ..target import TargetId, moved
from ..text import one_line
from .model import (
    Attempt,
    FirmwareJob,
    JobEvent,
    Routing,
)
from .ports import Persistence
from .store import KEPT_JOBS
from .transition_log import TransitionLog

PROGRESS_EVERY = 1.0

type JobListener = Callable[[JobEvent, FirmwareJob], None]


class Ledger:
    """Applies a transition, stores it, logs it, notifies the listeners; always in this order."""

    def __init__(
        self, persistence: Persistence, logs: JobLogs, time: Time, on_event: JobListener
    ) -> None:
        """``on_event`` is called at every event, before the other listeners."""
        self._persistence = persistence
        self._logs = logs
        self._time = time
        self._transitions = TransitionLog(time)
        self._jobs: dict[str, FirmwareJob] = {}
        self._active: dict[TargetId, FirmwareJob] = {}
        self._doubled: set[TargetId] = set()
        self._last: dict[TargetId, FirmwareJob] = {}
        self._last_install: dict[TargetId, FirmwareJob] = {}
        self._listeners = Listeners[JobEvent, FirmwareJob]()
        self._listeners.subscribe(on_event)
        self._listeners_by_job: dict[str, Listeners[JobEvent, FirmwareJob]] = {}
        self._progress_timers: dict[str, Callable[[], None]] = {}
        self._unreported: set[str] = set()
        self._timed: dict[str, tuple[Stage | None, float]] = {}

    @property
    def jobs(self) -> Mapping[str, FirmwareJob]:
        """All jobs by id, oldest first."""
        return self._jobs

    def active(self, target: TargetId) -> FirmwareJob | None:
        """Return the job of a target that has not ended."""
        return self._active.get(target)

    def last(self, target: TargetId) -> FirmwareJob | None:
        """Return the newest job of a target that has ended."""
        return self._last.get(target)

    def last_install(self, target: TargetId) -> FirmwareJob | None:
        """Return the newest job of a target that was to flash it and has ended."""
        return self._last_install.get(target)

    def subscribe(self, job_id: str | None, listener: JobListener) -> Callable[[], None]:
        """Call ``listener`` on every event of one job, or of all (None); returns unsubscribe."""
        if job_id is None:
            return self._listeners.subscribe(listener)
        listeners = self._listeners_by_job.setdefault(job_id, Listeners())
        unsubscribe = listeners.subscribe(listener)

        def unsubscribe_from_job() -> None:
            unsubscribe()
            if not listeners and self._listeners_by_job.get(job_id) is listeners:
                del self._listeners_by_job[job_id]

        return unsubscribe_from_job

    def adopt(self, job: FirmwareJob) -> None:
        """Add a job of an earlier run, the oldest first; one that has not ended is queued again."""
        self._jobs[job.job_id] = job
        self._index(job)
        if not job.terminal:
            job.requeue(self._time.now())
            self._publish(job, JobEvent.CHANGED)

    def rename(self, old: TargetId, new: TargetId) -> None:
        """Move the jobs of a target, ended ones too, to another; see ``moved``."""
        changed = False
        for job in self._jobs.values():
            target = moved(job.request.target, old, new)
            if target == job.request.target:
                continue
            changed = True
            job.move(target)
            self._persistence.save_soon(job)
            if not job.terminal:
                self._publish(job, JobEvent.CHANGED, f"{old} is {new} from now on")
        if not changed:
            return
        self._active.clear()
        self._last.clear()
        self._last_install.clear()
        for job in self._jobs.values():
            self._index(job)

    def queue(self, job: FirmwareJob) -> None:
        """Add a new job."""
        self._jobs[job.job_id] = job
        self._index(job)
        self._publish(job, JobEvent.QUEUED)

    def wait_for_builder(self, job: FirmwareJob, reason: Reason) -> None:
        """Set what a job without a builder waits for."""
        if job.status is JobStatus.QUEUED:
            changed = job.wait_in_queue(reason)
        else:
            changed = job.enter(Stage.WAITING_BUILDER, reason)
        if changed:
            self._publish(job, JobEvent.CHANGED)

    def seconds_in(self, job: FirmwareJob, stage: Stage) -> float:
        """Return the seconds that a job has been in a stage, also before a restart."""
        self.add_time(job)
        return job.stage_seconds.get(stage, 0.0)

    def add_time(self, job: FirmwareJob) -> None:
        """Add the time since the last call to the stage that a job has been in."""
        now = self._time.monotonic()
        stage, since = self._timed.pop(job.job_id, (None, now))
        if stage is not None:
            job.spend(stage, now - since)
        if not job.terminal:
            self._timed[job.job_id] = job.timed_stage, now

    def save_time(self, job: FirmwareJob) -> None:
        """Store how long a job has been in its stage: a crash would begin the wait again."""
        self.add_time(job)
        self._persistence.save_soon(job)

    def start(self, job: FirmwareJob) -> None:
        """Leave the queue without a builder; after a restart this is only a change."""
        self._publish(job, self._leave_queue(job))

    def start_attempt(self, job: FirmwareJob, attempt: Attempt, routing: Routing) -> None:
        """Bind a job to a builder; a queued one leaves the queue."""
        event = self._leave_queue(job)
        job.start_attempt(attempt, routing)
        self._logs.append(job.job_id, _routing_lines(routing))
        self._publish(job, event)

    def reuse(self, job: FirmwareJob, routing: Routing) -> None:
        """Leave the queue with kept firmware, without an attempt."""
        event = self._leave_queue(job)
        job.reuse(routing)
        self._logs.append(job.job_id, (f"{OWN}{routing.source_label}: {routing.reason}",))
        self._publish(job, event)

    def resume_attempt(self, job: FirmwareJob) -> None:
        """Continue the current attempt at its builder."""
        self._publish(job, self._leave_queue(job))

    def set_fingerprint(self, job: FirmwareJob, fingerprint: str) -> None:
        """Set what the current attempt is built from; listeners are not notified."""
        job.set_fingerprint(fingerprint)
        self._persistence.save_soon(job)

    def set_built_from(self, job: FirmwareJob, fingerprint: str) -> None:
        """Set what the firmware was built from: the same files, of which more is known now."""
        job.fingerprint = fingerprint
        self._persistence.save_soon(job)

    def end_attempt(self, job: FirmwareJob, failure_reason: FailureReason, error: Reason) -> None:
        """End the current attempt without success."""
        label = job.current_attempt.label if job.current_attempt is not None else ""
        job.end_attempt(self._time.now(), failure_reason, error)
        self._publish(
            job, JobEvent.CHANGED, f"attempt on {label} failed ({failure_reason}): {error}"
        )

    def enter(self, job: FirmwareJob, stage: Stage, waiting_for: Reason | None = None) -> None:
        """Enter a stage."""
        if job.enter(stage, waiting_for):
            self._publish(job, JobEvent.CHANGED)

    def built(
        self, job: FirmwareJob, sha256: str, build_info: BuildInfo, fingerprint: str | None
    ) -> None:
        """Set the firmware to flash; a current attempt ends successfully."""
        if job.current_attempt is not None:
            job.end_attempt(self._time.now())
        job.built(sha256, build_info, fingerprint)
        version = one_line(build_info.esphome_version, 64)
        built_at = one_line(build_info.build_time, 64)
        note = f"firmware {sha256[:12]}, ESPHome {version}, built {built_at}"
        self._publish(job, JobEvent.CHANGED, note)

    def flashed(self, job: FirmwareJob, replaced: BuildInfo | None = None) -> None:
        """Enter verifying: the device has accepted the firmware, and ran ``replaced`` before."""
        job.flashed(self._time.now(), replaced)
        self._publish(job, JobEvent.CHANGED)

    def unverified(self, job: FirmwareJob, why: Reason) -> None:
        """Set why it cannot be known what the device runs."""
        job.unverified = why
        self._publish(job, JobEvent.CHANGED, str(why))

    def advance(self, job: FirmwareJob, progress: int) -> None:
        """Raise the progress; listeners are notified at most once a second, and of the last."""
        if not job.advance(progress):
            return
        if job.job_id in self._progress_timers:
            self._unreported.add(job.job_id)
        else:
            self._notify_progress(job)

    def complete(self, job: FirmwareJob, *, verified: bool | None) -> None:
        """End a job successfully."""
        job.complete(self._time.now(), verified=verified)
        self._publish(job, JobEvent.COMPLETED)

    def fail(
        self,
        job: FirmwareJob,
        failure_reason: FailureReason,
        error: Reason,
        exit_code: int | None = None,
    ) -> None:
        """End a job without success."""
        job.fail(self._time.now(), failure_reason, error, exit_code)
        self._publish(job, JobEvent.FAILED)

    def cancel(self, job: FirmwareJob, failure_reason: FailureReason) -> None:
        """End a job on request."""
        job.cancel(self._time.now(), failure_reason)
        self._publish(job, JobEvent.CANCELLED)

    async def flush(self) -> None:
        """Return when all transitions so far are on disk, or cannot be stored now."""
        await self._persistence.flush()

    async def close(self) -> None:
        """Store all jobs as they stand."""
        for cancel in self._progress_timers.values():
            cancel()
        self._progress_timers.clear()
        self._transitions.close()
        for job in self._jobs.values():
            if not job.terminal:
                self.save_time(job)
        await self._persistence.aclose()

    def _leave_queue(self, job: FirmwareJob) -> JobEvent:
        """Start to prepare, from the queue or after a wait; return the event to publish."""
        event = JobEvent.STARTED if job.started_at is None else JobEvent.CHANGED
        if job.status is JobStatus.QUEUED:
            job.start(self._time.now())
        else:
            job.enter(Stage.PREPARING)
        return event

    def _publish(self, job: FirmwareJob, event: JobEvent, note: str | None = None) -> None:
        self.add_time(job)
        if job.terminal:
            self._index(job)
            self._stop_progress(job)
            self._drop_old()
        if event is not JobEvent.PROGRESS:
            self._persistence.save_soon(job)
            text = note or _summary(job)
            self._transitions.add(event, job, text)
            self._logs.append(job.job_id, (f"{OWN}{text}",))
        if job.terminal:
            self._logs.finish(job.job_id)
        self._listeners.notify(event, job)
        if (listeners := self._listeners_by_job.get(job.job_id)) is not None:
            listeners.notify(event, job)

    def _index(self, job: FirmwareJob) -> None:
        """Find a job by its target from now on, instead of the one before."""
        target = job.request.target
        if not job.terminal:
            other = self._active.get(target, job)
            if other is not job and not other.terminal:
                self._doubled.add(target)
            self._active[target] = job
            return
        if self._active.get(target) is job:
            del self._active[target]
            # Another one stays where two came together by a new name.
            for other in self._jobs.values() if target in self._doubled else ():
                if not other.terminal and other.request.target == target:
                    self._active[target] = other
        # Neither ids nor times say which is newer: they go back where a clock is set back.
        self._last[target] = job
        if job.request.operation.flashes:
            self._last_install[target] = job

    def _notify_progress(self, job: FirmwareJob) -> None:
        def over() -> None:
            del self._progress_timers[job.job_id]
            if job.job_id in self._unreported:
                self._unreported.remove(job.job_id)
                self._notify_progress(job)

        self._progress_timers[job.job_id] = self._time.call_later(PROGRESS_EVERY, over)
        self._publish(job, JobEvent.PROGRESS)

    def _stop_progress(self, job: FirmwareJob) -> None:
        self._unreported.discard(job.job_id)
        if cancel := self._progress_timers.pop(job.job_id, None):
            cancel()

    def _drop_old(self) -> None:
        # Oldest first. The newest of each target is never among them, the newest that was to flash it
        # may be.
        too_many = max(0, len(self._jobs) - KEPT_JOBS)
        dropped = [
            job.job_id
            for job in islice(self._jobs.values(), too_many)
            if job.terminal and self._last.get(job.request.target) is not job
        ]
        for job_id in dropped:
            job = self._jobs.pop(job_id)
            if self._last_install.get(job.request.target) is job:
                del self._last_install[job.request.target]
        self._logs.forget(dropped)


def attempt_line(label: str) -> str:
    """Return the start of the line that is logged once per attempt, when it starts."""
    return f"{OWN}Building on {label}: "


def _routing_lines(routing: Routing) -> list[str]:
    others = (f"{OWN}Not on {label}: {why}" for label, why in routing.why_not.items())
    return [f"{attempt_line(routing.source_label or '')}{routing.reason}", *others]


def _summary(job: FirmwareJob) -> str:
    """Return in a few words the state of a job, for logs."""
    text = str(job.pending_reason or job.status)
    if not job.pending and job.status is JobStatus.RUNNING and job.stage is not None:
        text = str(job.stage).replace("_", " ")
        if job.current_attempt is not None:
            text = f"{text} on {job.current_attempt.label}"
    if job.waiting_for is not None:
        text = f"{text}, waits for: {job.waiting_for}"
    reason = job.outcome.failure_reason
    # A cancelled job says why only when it is another reason.
    if reason is not None and reason != text:
        text = f"{text} ({reason})"
    if job.status is JobStatus.CANCELLED and job.unverified is not None:
        text = f"{text}: {job.unverified}"
    if job.outcome.error is not None:
        text = f"{text}: {job.outcome.error}"
    return text
