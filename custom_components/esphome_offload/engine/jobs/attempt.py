"""What one attempt, to build or to flash, may tell about its job, and how it is stopped."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import override
import uuid

from ..build.model import BuildError, BuildSink
from ..const import FailureReason, Stage
from ..job_log import JobLogs
from .ledger import Ledger
from .model import FirmwareJob
from .progress import overall
from .replay import Replay


def new_id() -> str:
    """Return an id that is unique and sorts by the time at which it was made (32 hex digits)."""
    return uuid.uuid7().hex


class AttemptSink(BuildSink):
    """Passes on what a builder or the flasher reports, until the attempt is over."""

    def __init__(
        self, ledger: Ledger, logs: JobLogs, job: FirmwareJob, replay: Replay | None = None
    ) -> None:
        """Open. ``replay`` knows which lines of an attempt that is resumed are logged already."""
        self._replay = replay
        self._ledger = ledger
        self._logs = logs
        self._job = job
        self._open = True

    def close(self) -> None:
        """Let nothing through any more: the job may be at another attempt already."""
        self._open = False

    @override
    def stage(self, stage: Stage) -> None:
        """Enter a stage; the percentage moves along only where one is shown already."""
        if not self._live():
            return
        self._ledger.enter(self._job, stage)
        if self._job.progress is not None or stage is Stage.UPLOADING:
            self.progress(0.0)

    @override
    def progress(self, percent: float) -> None:
        """Show how far the job is, from how far its stage is."""
        if not self._live() or self._job.stage is None:
            return
        whole = overall(self._job.request.operation, self._job.stage, percent)
        if whole is not None:
            self._ledger.advance(self._job, whole)

    @override
    def lines(self, lines: Sequence[str]) -> None:
        """Add to the job's log."""
        if self._live():
            news = lines if self._replay is None else self._replay.news(lines)
            self._logs.append(self._job.job_id, news)

    @override
    def place(self, ahead: int) -> None:
        """Show that the job waits for a slot at its builder, and for how many others."""
        if self._live():
            attempt = self._job.current_attempt
            label = attempt.label if attempt is not None else "the builder"
            turn = "next in line" if ahead == 0 else f"{ahead} before it"
            waits_for = f"a free build slot ({label}, {turn})"
            self._ledger.enter(self._job, Stage.WAITING_BUILDER, waits_for)

    def _live(self) -> bool:
        return self._open and not self._job.terminal


def stop_if_cancelled() -> None:
    """Raise CancelledError when the running task was told to stop, whatever became of that."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


@contextmanager
def attempt_boundary(sink: AttemptSink, who: str) -> Iterator[None]:
    """Keep what happens inside a builder or flasher inside.

    Afterwards the sink is closed. A cancelled job leaves here with CancelledError, also when
    the builder turned that into a failure or a success; a builder that was stopped by somebody
    else leaves with BuildError (builder_unavailable).
    """
    try:
        yield
    except asyncio.CancelledError:
        stop_if_cancelled()
        raise BuildError(FailureReason.BUILDER_UNAVAILABLE, f"{who} stopped the work") from None
    except Exception:
        # Who was cancelled stays so, whatever its work died of meanwhile; all else goes on up.
        stop_if_cancelled()
        raise
    else:
        stop_if_cancelled()
    finally:
        sink.close()
