"""AttemptSink: what one attempt, to build or to flash, reports about its job."""

import asyncio
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import override

from ..build.model import BuildError, BuildSink, disk_errors
from ..const import FailureReason, Stage
from ..job_log import OWN, JobLogs
from ..reason import Reason, ReasonKey
from .ledger import Ledger, attempt_line
from .model import FirmwareJob
from .progress import overall


class ReplayFilter:
    """Leaves out the lines of a resumed attempt that are in the log already.

    Its output comes again from the first line; it is compared with the log until they differ.
    """

    def __init__(self, logged: Sequence[str], label: str) -> None:
        """Take the log of the whole job and the label of the builder."""
        start = attempt_line(label)
        starts = [index for index, line in enumerate(logged) if line.startswith(start)]
        self._known = deque(logged[starts[-1] + 1 :] if starts else ())

    def new_lines(self, lines: Sequence[str]) -> Sequence[str]:
        """Return those lines that are not in the log yet."""
        for index, line in enumerate(lines):
            while self._known and self._known[0] != line and self._known[0].startswith(OWN):
                self._known.popleft()
            if not self._known or self._known[0] != line:
                # From the first difference on all is new.
                self._known.clear()
                return lines[index:]
            self._known.popleft()
        return ()


class AttemptSink(BuildSink):
    """Passes on what a builder or the flasher reports, until the attempt is over."""

    def __init__(
        self, ledger: Ledger, logs: JobLogs, job: FirmwareJob, replay: ReplayFilter | None = None
    ) -> None:
        """``replay`` is for an attempt that is resumed."""
        self._replay = replay
        self._ledger = ledger
        self._logs = logs
        self._job = job
        self._open = True

    def close(self) -> None:
        """Drop all further reports; the job may be at another attempt already."""
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
        whole = overall(
            self._job.request.operation,
            self._job.stage,
            percent,
            downloaded=Stage.DOWNLOADING in self._job.stage_seconds,
        )
        if whole is not None:
            self._ledger.advance(self._job, whole)

    @override
    def lines(self, lines: Sequence[str]) -> None:
        """Add to the job's log."""
        if self._live():
            news = lines if self._replay is None else self._replay.new_lines(lines)
            self._logs.append(self._job.job_id, news)

    @override
    def place(self, ahead: int) -> None:
        """Show that the job waits for a slot at its builder, and for how many others."""
        if self._live():
            attempt = self._job.current_attempt
            key = ReasonKey.WAITS_NEXT_IN_LINE if ahead == 0 else ReasonKey.WAITS_IN_LINE
            label = "" if attempt is None else attempt.label
            waits_for = Reason(key, {"label": label, "ahead": str(ahead)})
            self._ledger.enter(self._job, Stage.WAITING_BUILDER, waits_for)

    def _live(self) -> bool:
        return self._open and not self._job.terminal


def stop_if_cancelled() -> None:
    """Raise CancelledError when the running task was cancelled, even if that was swallowed."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


@contextmanager
def attempt_boundary(sink: AttemptSink, stopped: Reason) -> Iterator[None]:
    """Isolate the job from how a builder or flasher handles cancellation.

    Afterwards the sink is closed. A cancelled job leaves with CancelledError, even if the builder
    turned that into a failure or a success; work that was cancelled from elsewhere leaves with
    BuildError (builder_unavailable, ``stopped``), and a disk that cannot be used as ``disk_errors``.
    """
    try:
        with disk_errors():
            yield
    except asyncio.CancelledError:
        raise BuildError(FailureReason.BUILDER_UNAVAILABLE, stopped) from None
    finally:
        sink.close()
        # A cancelled job stays cancelled, whatever its work returned or raised meanwhile.
        stop_if_cancelled()
