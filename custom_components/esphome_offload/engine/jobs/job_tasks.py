"""JobTasks: the task that runs each job, and how it is made to end."""

import asyncio
import logging

from ..const import FailureReason
from ..reason import Reason, ReasonKey
from .ledger import Ledger
from .model import FirmwareJob
from .refusal import JobRefused, RefusalReason
from .runner import JobRunner

_LOGGER = logging.getLogger(__name__)

# Everything a job started is to be gone within 5 s; twice that, and something is stuck.
STOP_TIMEOUT = 10.0


class JobTasks:
    """One task per job that has not ended."""

    def __init__(self, runner: JobRunner, ledger: Ledger) -> None:
        """Run jobs by ``runner``; how they were made to end goes to ``ledger``."""
        self._runner = runner
        self._ledger = ledger
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._cancelling: dict[str, FailureReason] = {}
        self._stopping = False

    def is_cancelling(self, job: FirmwareJob) -> bool:
        """Return whether a job was told to end, and has not yet."""
        return job.job_id in self._cancelling

    def launch(self, job: FirmwareJob, *, recovered: bool) -> None:
        """Run a job; ``recovered``: it had begun before a restart."""
        task = asyncio.create_task(
            self._runner.run(job, recovered=recovered), name=f"esphome_offload job {job.job_id}"
        )
        self._tasks[job.job_id] = task
        task.add_done_callback(lambda done: self._ended(job, done))

    async def cancel(self, job: FirmwareJob, reason: FailureReason) -> None:
        """Cancel a job; returns when all of it has ended.

        Raises JobRefused (nothing_to_cancel).
        """
        task = self._tasks.get(job.job_id)
        if job.terminal or task is None or task.done():
            raise JobRefused(RefusalReason.NOTHING_TO_CANCEL, job)
        if not self.is_cancelling(job):
            self._cancelling[job.job_id] = reason
            task.cancel()
        _, stuck = await asyncio.wait([task], timeout=STOP_TIMEOUT)
        if stuck and not job.terminal:
            _LOGGER.error("Job %s does not stop; it counts as cancelled", job.job_id)
            self._ledger.cancel(job, reason)
        if job.outcome.failure_reason is not reason:
            raise JobRefused(RefusalReason.NOTHING_TO_CANCEL, job)

    def supersede(self, job: FirmwareJob) -> None:
        """End a job in favour of another one of its target; what is at work takes a moment."""
        task = self._tasks.get(job.job_id)
        if task is None or self.is_cancelling(job):
            return
        self._cancelling[job.job_id] = FailureReason.SUPERSEDED
        if job.waiting:
            # It holds nothing that somebody would have to wait for.
            self._ledger.cancel(job, FailureReason.SUPERSEDED)
        task.cancel()

    async def stop(self) -> None:
        """Stop all tasks without ending their jobs; returns when nothing runs any more."""
        self._stopping = True
        tasks = tuple(self._tasks.items())
        for job_id, task in tasks:
            if job_id not in self._cancelling:
                task.cancel()
        if tasks:
            _, stuck = await asyncio.wait([task for _, task in tasks], timeout=STOP_TIMEOUT)
            if stuck:
                _LOGGER.error("%d jobs could not be stopped in time", len(stuck))

    def _ended(self, job: FirmwareJob, task: asyncio.Task[None]) -> None:
        """End a job whose task has ended without ending it, except at shutdown."""
        del self._tasks[job.job_id]
        reason = self._cancelling.pop(job.job_id, None)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            _LOGGER.error("Unexpected error in job %s", job.job_id, exc_info=error)
        if job.terminal:
            return
        if reason is not None:
            self._ledger.cancel(job, reason)
        elif not (task.cancelled() and self._stopping):
            self._ledger.fail(job, FailureReason.INTERNAL, Reason(ReasonKey.UNEXPECTED))
