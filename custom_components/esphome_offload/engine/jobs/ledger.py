"""Ledger: all jobs, and the one place through which every change of a job passes."""

from collections.abc import Callable, Mapping
import logging

from ..build.model import BuildInfo
from ..clock import Time
from ..const import FailureReason, JobStatus, Stage
from ..job_log import JobLogs
from .model import (
    Attempt,
    FirmwareJob,
    JobEvent,
    Routing,
)
from .ports import Persistence
from .replay import beginning
from .store import encode, to_drop

_LOGGER = logging.getLogger(__name__)

PROGRESS_EVERY = 1.0

type JobListener = Callable[[JobEvent, FirmwareJob], None]

_LEVELS: Mapping[JobEvent, int] = {
    JobEvent.QUEUED: logging.INFO,
    JobEvent.STARTED: logging.INFO,
    JobEvent.CHANGED: logging.DEBUG,
    JobEvent.COMPLETED: logging.INFO,
    JobEvent.FAILED: logging.WARNING,
    JobEvent.CANCELLED: logging.INFO,
}


class Ledger:
    """Applies a transition, stores it, logs it, tells the listeners: in this order, always."""

    def __init__(
        self, persistence: Persistence, logs: JobLogs, time: Time, on_event: JobListener
    ) -> None:
        """``on_event`` hears everything, before the other listeners."""
        self._persistence = persistence
        self._logs = logs
        self._time = time
        self._on_event = on_event
        self._jobs: dict[str, FirmwareJob] = {}
        self._records: dict[str, dict[str, object]] = {}
        self._listeners: list[tuple[str | None, JobListener]] = []
        self._quiet: dict[str, Callable[[], None]] = {}
        self._unseen: set[str] = set()

    @property
    def jobs(self) -> Mapping[str, FirmwareJob]:
        """All jobs by id, oldest first."""
        return self._jobs

    def active(self, configuration: str) -> FirmwareJob | None:
        """Return the job of a configuration that has not ended."""
        for job in reversed(self._jobs.values()):
            if job.request.configuration == configuration and not job.terminal:
                return job
        return None

    def last(self, configuration: str) -> FirmwareJob | None:
        """Return the newest job of a configuration that has ended."""
        for job in reversed(self._jobs.values()):
            if job.request.configuration == configuration and job.terminal:
                return job
        return None

    def subscribe(self, job_id: str | None, listener: JobListener) -> Callable[[], None]:
        """Call ``listener`` on every event of one job, or of all (None); returns unsubscribe."""
        entry = (job_id, listener)
        self._listeners.append(entry)

        def unsubscribe() -> None:
            if entry in self._listeners:
                self._listeners.remove(entry)

        return unsubscribe

    def records(self) -> list[dict[str, object]]:
        """Return the stored form of all jobs, oldest first."""
        return [self._record(job) for job in self._jobs.values()]

    def adopt(self, job: FirmwareJob) -> None:
        """Take in a job of an earlier run; one that had not ended is queued again."""
        self._jobs[job.job_id] = job
        if not job.terminal:
            job.requeue(self._time.now())
            self._publish(job, JobEvent.CHANGED)

    def rename(self, old: str, new: str) -> None:
        """Hand the jobs of a configuration on to its new name, also those that have ended."""
        for job in self._jobs.values():
            if job.request.configuration != old:
                continue
            job.rename(new)
            self._records.pop(job.job_id, None)
            if not job.terminal:
                self._publish(job, JobEvent.CHANGED, f"{old} is {new} from now on")
        self._persistence.save_soon(self.records)

    def queue(self, job: FirmwareJob) -> None:
        """Take in a new job."""
        self._jobs[job.job_id] = job
        self._publish(job, JobEvent.QUEUED)

    def wait_for_builder(self, job: FirmwareJob, why: str) -> None:
        """Show what a job waits for that has no builder."""
        if job.status is JobStatus.QUEUED:
            changed = job.wait_in_queue(why)
        else:
            changed = job.enter(Stage.WAITING_BUILDER, self._time.now(), why)
        if changed:
            self._publish(job, JobEvent.CHANGED)

    def start(self, job: FirmwareJob) -> None:
        """Leave the queue without a builder; after a restart this is only a change."""
        first = job.started_at is None
        job.start(self._time.now())
        self._publish(job, JobEvent.STARTED if first else JobEvent.CHANGED)

    def begin_attempt(self, job: FirmwareJob, attempt: Attempt, routing: Routing) -> None:
        """Bind a job to a builder; one that is queued leaves the queue with that."""
        first = job.started_at is None
        if job.status is JobStatus.QUEUED:
            job.start(self._time.now())
        else:
            job.enter(Stage.PREPARING, self._time.now())
        job.begin_attempt(attempt, routing)
        self._logs.append(job.job_id, explain(routing))
        self._publish(job, JobEvent.STARTED if first else JobEvent.CHANGED)

    def resume_attempt(self, job: FirmwareJob) -> None:
        """Go back to the builder that the job is bound to since before."""
        first = job.started_at is None
        if job.status is JobStatus.QUEUED:
            job.start(self._time.now())
        else:
            job.enter(Stage.PREPARING, self._time.now())
        self._publish(job, JobEvent.STARTED if first else JobEvent.CHANGED)

    def note_fingerprint(self, job: FirmwareJob, fingerprint: str) -> None:
        """Note what the current attempt is built from; nobody has to hear of that."""
        job.note_fingerprint(fingerprint)
        self._persistence.save_soon(self.records)

    def end_attempt(
        self, job: FirmwareJob, failure: FailureReason | None = None, detail: str | None = None
    ) -> None:
        """Note how the current attempt went."""
        label = job.current_attempt.label if job.current_attempt is not None else ""
        job.end_attempt(self._time.now(), failure, detail)
        how = "done" if failure is None else f"{failure}: {detail}"
        self._publish(job, JobEvent.CHANGED, f"attempt on {label}: {how}")

    def enter(self, job: FirmwareJob, stage: Stage, waiting_for: str | None = None) -> None:
        """Enter a stage."""
        if job.enter(stage, self._time.now(), waiting_for):
            self._publish(job, JobEvent.CHANGED)

    def built(
        self, job: FirmwareJob, sha256: str, build_info: BuildInfo, fingerprint: str | None
    ) -> None:
        """Note which firmware is to be flashed; a current attempt has gone well."""
        if job.current_attempt is not None:
            job.end_attempt(self._time.now())
        job.built(sha256, build_info, fingerprint)
        what = f"firmware {sha256[:12]}, ESPHome {build_info.esphome_version}"
        self._publish(job, JobEvent.CHANGED, f"{what}, built {build_info.build_time}")

    def flashed(self, job: FirmwareJob) -> None:
        """Note that the device has taken the firmware."""
        job.flashed(self._time.now())
        self._publish(job, JobEvent.CHANGED)

    def advance(self, job: FirmwareJob, progress: int) -> None:
        """Show progress; listeners hear of it at most once a second, and always of the last."""
        if not job.advance(progress):
            return
        if job.job_id in self._quiet:
            self._unseen.add(job.job_id)
        else:
            self._tell_progress(job)

    def complete(self, job: FirmwareJob, *, verified: bool | None) -> None:
        """End well."""
        job.complete(self._time.now(), verified=verified)
        self._publish(job, JobEvent.COMPLETED)

    def fail(
        self, job: FirmwareJob, reason: FailureReason, error: str, exit_code: int | None = None
    ) -> None:
        """End badly."""
        job.fail(self._time.now(), reason, error, exit_code)
        self._publish(job, JobEvent.FAILED)

    def cancel(self, job: FirmwareJob, reason: FailureReason) -> None:
        """End because somebody wanted so."""
        job.cancel(self._time.now(), reason)
        self._publish(job, JobEvent.CANCELLED)

    async def close(self) -> None:
        """Store all jobs as they stand."""
        for cancel in self._quiet.values():
            cancel()
        self._quiet.clear()
        for job in self._jobs.values():
            if not job.terminal:
                job.suspend(self._time.now())
        await self._persistence.save_now(self.records())

    def _publish(self, job: FirmwareJob, event: JobEvent, note: str | None = None) -> None:
        if job.terminal:
            self._silence(job)
            self._drop_old()
        if event is not JobEvent.PROGRESS:
            self._persistence.save_soon(self.records)
            text = note or describe(job)
            _LOGGER.log(
                _LEVELS[event], "Job %s (%s): %s", job.job_id, job.request.configuration, text
            )
            self._logs.append(job.job_id, (f"== {text}",))
        if job.terminal:
            self._logs.finish(job.job_id)
        self._call(self._on_event, event, job)
        for job_id, listener in tuple(self._listeners):
            if job_id is None or job_id == job.job_id:
                self._call(listener, event, job)

    def _call(self, listener: JobListener, event: JobEvent, job: FirmwareJob) -> None:
        try:
            listener(event, job)
        except Exception:
            # Whoever listens must not be able to keep a job from going on, or from ending.
            _LOGGER.exception("A listener failed on %s of job %s", event, job.job_id)

    def _tell_progress(self, job: FirmwareJob) -> None:
        def over() -> None:
            del self._quiet[job.job_id]
            if job.job_id in self._unseen:
                self._unseen.remove(job.job_id)
                self._tell_progress(job)

        self._quiet[job.job_id] = self._time.call_later(PROGRESS_EVERY, over)
        self._publish(job, JobEvent.PROGRESS)

    def _silence(self, job: FirmwareJob) -> None:
        self._unseen.discard(job.job_id)
        if cancel := self._quiet.pop(job.job_id, None):
            cancel()

    def _drop_old(self) -> None:
        dropped = [job.job_id for job in to_drop(self._jobs.values())]
        for job_id in dropped:
            del self._jobs[job_id]
            self._records.pop(job_id, None)
        self._logs.forget(dropped)

    def _record(self, job: FirmwareJob) -> dict[str, object]:
        record = self._records.get(job.job_id)
        if record is None:
            record = encode(job)
            if job.terminal:
                # Nothing of it changes any more.
                self._records[job.job_id] = record
        return record


def explain(routing: Routing) -> list[str]:
    """Return the lines that say who builds and why, and why not each of the others."""
    others = (f"== Not on {label}: {why}" for label, why in routing.why_not.items())
    return [f"{beginning(routing.source_label or '')}{routing.reason}", *others]


def describe(job: FirmwareJob) -> str:
    """Return in a few words where a job stands."""
    text = str(job.status)
    if job.status is JobStatus.RUNNING and job.stage is not None:
        text = str(job.stage).replace("_", " ")
        if job.current_attempt is not None:
            text = f"{text} on {job.current_attempt.label}"
    if job.waiting_for:
        text = f"{text}, waits for {job.waiting_for}"
    if job.status is JobStatus.CANCELLED and job.outcome.failure_reason is not None:
        text = f"{text} ({job.outcome.failure_reason})"
    if job.outcome.error:
        text = f"{text} ({job.outcome.failure_reason}): {job.outcome.error}"
    return text
