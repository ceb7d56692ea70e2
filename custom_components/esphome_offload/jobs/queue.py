"""JobQueue: takes requests, owns every job's task, answers questions about jobs."""

from collections.abc import Awaitable, Callable
from enum import StrEnum

from ..const import FailureReason
from .log import JobLogs
from .model import FirmwareJob, JobEvent, JobRequest
from .pool import BuilderPool
from .ports import (
    ConfigurationSource,
    DeviceLink,
    FirmwareKeeper,
    Flasher,
    Persistence,
    QueueSettings,
    Time,
)

type JobListener = Callable[[JobEvent, FirmwareJob], None]


class RefusalReason(StrEnum):
    """Why the queue did not do what it was asked to."""

    ALREADY_RUNNING = "already_running"
    NOTHING_TO_CANCEL = "nothing_to_cancel"
    UNKNOWN_JOB = "unknown_job"
    NOT_RUNNING = "not_running"


class JobRefused(Exception):  # noqa: N818 - a refusal is an answer
    """The queue says no; ``job`` is the one in the way, or the one that has ended already."""

    def __init__(self, reason: RefusalReason, job: FirmwareJob | None = None) -> None:
        """Say why."""
        super().__init__(reason.value)
        self.reason = reason
        self.job = job


class JobQueue:
    """All jobs, at most one active per configuration. Use it on the event loop only."""

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
        end_leftovers: Callable[[], Awaitable[object]] | None = None,
        time: Time | None = None,
    ) -> None:
        """Do nothing before ``start``; ``on_event`` hears everything, before other listeners.

        ``end_leftovers`` ends what an earlier Home Assistant left running; it is awaited before
        the first dispatch.
        """
        raise NotImplementedError

    async def start(self) -> None:
        """Load the stored jobs, take up those that had not ended, begin to dispatch."""
        raise NotImplementedError

    async def stop(self) -> None:
        """Stop every job as it is and store it, so that the next start takes it up.

        Returns when nothing runs any more. Whoever waits for a job gets it as it stands.
        """
        raise NotImplementedError

    def submit(self, request: JobRequest) -> FirmwareJob:
        """Queue a job, in place of a queued or waiting one of the same configuration.

        Raises JobRefused (already_running with the job in the way, not_running).
        """
        raise NotImplementedError

    async def cancel(
        self, job_id: str, reason: FailureReason = FailureReason.CANCELLED
    ) -> FirmwareJob:
        """Cancel a job and return it when all of it has ended.

        Raises JobRefused (unknown_job, nothing_to_cancel).
        """
        raise NotImplementedError

    async def cancel_all(self) -> None:
        """Cancel every job that has not ended."""
        raise NotImplementedError

    def hold(self) -> None:
        """Start no builds and no uploads until ``release``; running ones go on."""
        raise NotImplementedError

    def release(self) -> None:
        """Dispatch again."""
        raise NotImplementedError

    def kick(self) -> None:
        """Look again at what waits: options or something else outside changed."""
        raise NotImplementedError

    def jobs(self) -> list[FirmwareJob]:
        """Return all jobs, oldest first."""
        raise NotImplementedError

    def get(self, job_id: str) -> FirmwareJob | None:
        """Return one job."""
        raise NotImplementedError

    def active(self, configuration: str) -> FirmwareJob | None:
        """Return the job of a configuration that has not ended."""
        raise NotImplementedError

    def last(self, configuration: str) -> FirmwareJob | None:
        """Return the job of a configuration that ended last."""
        raise NotImplementedError

    def subscribe(self, job_id: str | None, listener: JobListener) -> Callable[[], None]:
        """Call ``listener`` on every event of one job, or of all (None); returns unsubscribe."""
        raise NotImplementedError

    async def wait(self, job_id: str) -> FirmwareJob:
        """Return the job once it is terminal, waits for its device, or the queue is stopped.

        Raises JobRefused (unknown_job).
        """
        raise NotImplementedError
