"""JobQueue: accepts requests, owns the task of each job, looks up jobs."""

import asyncio
from collections.abc import Awaitable, Callable
import logging

from ..clock import SystemTime, Time
from ..const import FailureReason, Stage
from ..job_log import JobLogs
from ..target import TargetId, moved
from .build_lane import BuildLane
from .build_times import BuildTimes
from .building import Building
from .flashing import Flashing
from .forecast import Forecast, Forecasts
from .ids import new_id
from .job_tasks import JobTasks
from .lanes import DispatchGate, UploadLane
from .ledger import JobListener, Ledger
from .model import FirmwareJob, JobEvent, JobRequest
from .order import QueueOrder
from .pool import BuilderPool
from .ports import (
    ConfigurationHashes,
    ConfigurationSource,
    DeviceLink,
    FirmwareKeeper,
    Flasher,
    OriginKeeper,
    Persistence,
    QueueSettings,
)
from .refusal import JobRefused, RefusalReason
from .router import Bind, Fail, Wait
from .runner import JobRunner
from .unchanged import UnchangedBuilds

_LOGGER = logging.getLogger(__name__)


class JobQueue:
    """All jobs, at most one active per target. Use it on the event loop only."""

    def __init__(
        self,
        *,
        persistence: Persistence,
        logs: JobLogs,
        builders: BuilderPool,
        flasher: Flasher,
        firmware: FirmwareKeeper,
        devices: DeviceLink,
        configurations: ConfigurationSource,
        settings: Callable[[], QueueSettings],
        on_event: JobListener,
        origins: OriginKeeper,
        hashes: ConfigurationHashes,
        end_leftovers: Callable[[], Awaitable[object]] | None = None,
        time: Time | None = None,
    ) -> None:
        """Connect the parts; ``on_event`` is called at every event, before other listeners.

        ``end_leftovers`` ends what an earlier run of Home Assistant left running; it is awaited
        before the first dispatch.
        """
        time = time or SystemTime()
        self._persistence = persistence
        self._logs = logs
        self._end_leftovers = end_leftovers
        self._time = time
        self._builders = builders
        self._gate = DispatchGate()
        self._times = BuildTimes()
        self._ledger = Ledger(persistence, logs, time, on_event)
        self._order = QueueOrder(self._times)
        self._ledger.subscribe(None, self._note_end)
        self._builds = BuildLane(
            builders=builders,
            ledger=self._ledger,
            gate=self._gate,
            settings=settings,
            order=self._order,
            times=self._times,
            time=time,
        )
        self._uploads = UploadLane(self._gate, settings)
        self._flashing = Flashing(
            lane=self._uploads,
            ledger=self._ledger,
            logs=logs,
            flasher=flasher,
            devices=devices,
            configurations=configurations,
            settings=settings,
            time=time,
        )
        runner = JobRunner(
            ledger=self._ledger,
            gate=self._gate,
            building=Building(
                lane=self._builds,
                ledger=self._ledger,
                logs=logs,
                builders=builders,
                firmware=firmware,
                configurations=configurations,
                settings=settings,
                times=self._times,
                time=time,
                unchanged=UnchangedBuilds(
                    origins=origins,
                    hashes=hashes,
                    firmware=firmware,
                    configurations=configurations,
                    builders=builders,
                    settings=settings,
                ),
            ),
            flashing=self._flashing,
        )
        self._tasks = JobTasks(runner, self._ledger)
        self._forecasts = Forecasts(self._builds, self._ledger, self._times, settings)
        self._waiters: set[asyncio.Event] = set()
        self._started = False
        self._stopping = False
        self._held = False
        self._unsubscribe: Callable[[], None] | None = None

    async def start(self) -> None:
        """Load the stored jobs, resume those that had not ended, start to dispatch."""
        jobs = await self._persistence.load()
        await self._logs.prune([job.job_id for job in jobs])
        for job in jobs:
            if not job.terminal:
                await self._logs.resume(job.job_id)
        if self._end_leftovers is not None:
            try:
                await self._end_leftovers()
            except Exception:
                # Whatever it was, the jobs can continue: a build tree in use is locked.
                _LOGGER.exception("The processes of an earlier run could not be ended")
        self._times.learn_all(jobs)
        active: dict[TargetId, FirmwareJob] = {}
        for job in jobs:
            self._ledger.adopt(job)
            if not job.terminal:
                if earlier := active.get(job.request.target):
                    self._ledger.cancel(earlier, FailureReason.SUPERSEDED)
                active[job.request.target] = job
        self._order.ask_all(jobs)
        self._started = True
        self._unsubscribe = self._builders.subscribe(self._builds.serve)
        for job in active.values():
            self._tasks.launch(job, recovered=True)
        self._set_gate()

    async def stop(self) -> None:
        """Stop all jobs and store them, to be resumed at the next start.

        Returns when nothing runs any more. Pending ``wait`` calls return.
        """
        self._stopping = True
        self._set_gate()
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
        self._builders.leave()
        try:
            await self._tasks.stop()
            self._builds.close()
            if self._started:
                await self._ledger.close()
            await self._logs.aclose()
        finally:
            for waiter in self._waiters:
                waiter.set()

    def submit(self, request: JobRequest) -> FirmwareJob:
        """Queue a job, in place of a queued or waiting one of the same target.

        The same request again joins the one that waits, and returns it. Raises JobRefused
        (already_running with the job in the way, not_running).
        """
        if not self._started or self._stopping:
            raise JobRefused(RefusalReason.NOT_RUNNING)
        if earlier := self.active(request.target):
            if not earlier.waiting or self._tasks.is_cancelling(earlier):
                raise JobRefused(RefusalReason.ALREADY_RUNNING, earlier)
            if earlier.request.same_work(request):
                self._builds.reorder(self._order.ask(earlier, request))
                return earlier
            self._tasks.supersede(earlier)
        job = FirmwareJob(job_id=new_id(), request=request, created_at=self._time.now())
        self._logs.open(job.job_id)
        self._builds.reorder(self._order.ask(job, request))
        self._ledger.queue(job)
        self._tasks.launch(job, recovered=False)
        return job

    async def cancel(
        self, job_id: str, reason: FailureReason = FailureReason.CANCELLED
    ) -> FirmwareJob:
        """Cancel a job and return it when all of it has ended, and that is on disk.

        Raises JobRefused (unknown_job, nothing_to_cancel).
        """
        job = self._known(job_id)
        await self._tasks.cancel(job, reason)
        await self.flush()
        return job

    async def flush(self) -> None:
        """Return when all that has happened is on disk: a crash does not undo it any more."""
        await self._ledger.flush()

    async def cancel_all(self) -> None:
        """Cancel every job that has not ended."""
        active = [job.job_id for job in self.jobs() if not job.terminal]
        await asyncio.gather(*map(self.cancel, active), return_exceptions=True)

    def rename(self, old: TargetId, new: TargetId) -> None:
        """Move the jobs of a target to another, as of a file that was renamed.

        Where that has an active job already, the moved one is superseded, unless only that is at
        work.
        """
        for job in self.jobs():
            target = moved(job.request.target, old, new)
            other = self.active(target)
            if job.terminal or target == job.request.target or other is None:
                continue
            self._tasks.supersede(other if other.waiting and not job.waiting else job)
        self._ledger.rename(old, new)

    def hold(self) -> None:
        """Start no builds and no uploads until ``release``; running ones go on."""
        self._held = True
        self._set_gate()

    def release(self) -> None:
        """Dispatch again."""
        self._held = False
        self._set_gate()

    def kick(self) -> None:
        """Check again what can start, after options or something else outside changed."""
        self._builds.serve()
        self._uploads.serve()
        self._flashing.look_again()

    def jobs(self) -> list[FirmwareJob]:
        """Return all jobs, oldest first."""
        return list(self._ledger.jobs.values())

    def get(self, job_id: str) -> FirmwareJob | None:
        """Return one job."""
        return self._ledger.jobs.get(job_id)

    def active(self, target: TargetId) -> FirmwareJob | None:
        """Return the job of a target that has not ended."""
        return self._ledger.active(target)

    def is_running(self, target: TargetId) -> bool:
        """Whether a job of a target is at work, so that it cannot be replaced."""
        job = self.active(target)
        return job is not None and not job.waiting

    def uses(self, configuration: str) -> bool:
        """Whether a job of any device of a configuration is at work."""
        return any(
            job.request.configuration == configuration
            for job in self.jobs()
            if not (job.terminal or job.waiting)
        )

    def firmware_in_use(self) -> frozenset[str]:
        """Return the digests of the firmware of all jobs that have not ended."""
        digests = (job.firmware_sha256 for job in self.jobs() if not job.terminal)
        return frozenset(sha256 for sha256 in digests if sha256 is not None)

    def last(self, target: TargetId) -> FirmwareJob | None:
        """Return the newest job of a target that has ended."""
        return self._ledger.last(target)

    def last_install(self, target: TargetId) -> FirmwareJob | None:
        """Return the newest job of a target that was to flash it and has ended."""
        return self._ledger.last_install(target)

    def outlook(self, configuration: str) -> Bind | Wait | Fail:
        """Return which builder would be chosen for a configuration now, or why none."""
        return self._builds.outlook(configuration)

    def forecast(self, job: FirmwareJob) -> Forecast:
        """Return the place of a job in the queue, and when it is expected to end."""
        return self._forecasts.of(job)

    def wanted_attempts(self, builder_id: str) -> tuple[str, ...]:
        """Return the attempts at a builder that are still of use, also from before a restart.

        Only once the queue is started.
        """
        current = (job.current_attempt for job in self.jobs() if not job.terminal)
        return tuple(
            attempt.attempt_id
            for attempt in current
            if attempt is not None and attempt.builder_id == builder_id
        )

    def watch(self, job_id: str) -> Callable[[], None]:
        """Put a job first while somebody looks at it; returns the end of that."""
        return self._order.watch(job_id, self._builds.reorder)

    def subscribe(self, job_id: str | None, listener: JobListener) -> Callable[[], None]:
        """Call ``listener`` on every event of one job, or of all (None); returns unsubscribe."""
        return self._ledger.subscribe(job_id, listener)

    async def wait(self, job_id: str) -> FirmwareJob:
        """Return the job once it is terminal, waits for its device, or the queue is stopped.

        Raises JobRefused (unknown_job).
        """
        job = self._known(job_id)
        settled = asyncio.Event()

        def look() -> None:
            if job.terminal or job.stage is Stage.WAITING_DEVICE or self._stopping:
                settled.set()

        unsubscribe = self.subscribe(job_id, lambda _event, _job: look())
        self._waiters.add(settled)
        try:
            look()
            await settled.wait()
        finally:
            self._waiters.discard(settled)
            unsubscribe()
        return job

    def _note_end(self, _event: JobEvent, job: FirmwareJob) -> None:
        if job.terminal:
            self._times.learn_flash(job)
            self._order.end(job.job_id)

    def _known(self, job_id: str) -> FirmwareJob:
        job = self.get(job_id)
        if job is None:
            raise JobRefused(RefusalReason.UNKNOWN_JOB)
        return job

    def _set_gate(self) -> None:
        self._gate.set(is_open=self._started and not self._held and not self._stopping)
        self.kick()
