"""JobLog: what a job printed, numbered, on disk, readable from any line."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
import logging
from pathlib import Path
import re

from .clock import SystemTime, Time
from .const import MIB
from .listeners import Listeners
from .numbered_lines import LogPage, NumberedLines, Run
from .tasks import BackgroundTasks

_LOGGER = logging.getLogger(__name__)

# On disk a log has at most 1 MiB: more than its kept lines, so that the file is rewritten once in a
# while and not at every line.
FILE_LIMIT = MIB
OWN = "== "
"""The prefix of the lines that we add to those of ESPHome."""
LINE_LIMIT = 4000
WRITE_EVERY = 2.0
RETRY_AFTER = 30.0
"""Seconds until a disk that took nothing is tried again."""
_UNWRITTEN = 20
"""Logs that have ended and are not on disk yet; the oldest of more are given up."""
_CLOSE_TIMEOUT = 5.0
"""Seconds for the last lines of all logs to reach the disk when Home Assistant stops."""

_NUMBER = re.compile(r"[0-9]{1,9}")


def _text(run: Run) -> bytes:
    numbered = enumerate(run.lines, run.first)
    return "".join(f"{number}\t{line}\n" for number, line in numbered).encode(errors="replace")


def _append(path: Path, run: Run) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(_text(run))
        return file.tell()


def _rewrite(path: Path, runs: Iterable[Run]) -> int:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    text = b"".join(map(_text, runs))
    try:
        fresh.write_bytes(text)
        fresh.replace(path)
    except OSError:
        # On a full disk a part of it would take the room of what is tried next.
        with suppress(OSError):
            fresh.unlink()
        raise
    return len(text)


def _load(path: Path) -> NumberedLines:
    """Read a log; a last line without its end (written when the machine stopped) is left out."""
    lines = NumberedLines()
    try:
        text = path.read_bytes().decode(errors="replace")
    except FileNotFoundError:
        return lines
    for entry in text.split("\n")[:-1]:
        number, separator, line = entry.partition("\t")
        if separator and _NUMBER.fullmatch(number) and int(number) >= lines.total:
            lines.add(int(number), line)
    return lines


@dataclass(slots=True, eq=False)
class _Live:
    """The log of a job that has not ended."""

    job_id: str
    path: Path
    lines: NumberedLines = field(default_factory=NumberedLines)
    # Not a pair of number and line each: the garbage collector counts those, and with enough of
    # them it looks at all of Home Assistant's memory, which takes a tenth of a second.
    pending: list[str] = field(default_factory=list)
    pending_first: int = 0
    pending_bytes: int = 0
    file_bytes: int = 0
    rewrite: bool = False
    ended: bool = False
    timer: Callable[[], None] | None = None
    writer: asyncio.Task[None] | None = None


class JobLogs:
    """The logs of all jobs, one file each in ``folder``."""

    def __init__(self, folder: Path, time: Time | None = None) -> None:
        self._folder = folder
        self._time = time or SystemTime()
        self._live: dict[str, _Live] = {}
        self._listeners: dict[str, Listeners[[]]] = {}
        self._tasks = BackgroundTasks()
        self._failing = False

    def open(self, job_id: str) -> None:
        """Start the log of a new job."""
        self._live[job_id] = _Live(job_id, self._path(job_id))

    async def resume(self, job_id: str) -> None:
        """Continue the log of an earlier run."""
        live = _Live(job_id, self._path(job_id))
        live.lines = await asyncio.to_thread(_load, live.path)
        # The file may end in half a line.
        live.rewrite = True
        self._live[job_id] = live

    def subscribe(self, job_id: str, listener: Callable[[], None]) -> Callable[[], None]:
        """Call ``listener`` when lines were added or the log ended; returns unsubscribe."""
        listeners = self._listeners.setdefault(job_id, Listeners())
        unsubscribe = listeners.subscribe(listener)

        def unsubscribe_and_forget() -> None:
            unsubscribe()
            if not listeners and self._listeners.get(job_id) is listeners:
                del self._listeners[job_id]

        return unsubscribe_and_forget

    def append(self, job_id: str, lines: Sequence[str]) -> None:
        """Add lines; cheap, they reach the disk within two seconds or so.

        Lines for a log that has ended, or that was never opened, are dropped.
        """
        live = self._live.get(job_id)
        if live is None or live.ended or not lines:
            return
        if not live.pending:
            live.pending_first = live.lines.total
        for line in lines:
            clean = " ".join(line[:LINE_LIMIT].splitlines()) if line else line
            live.pending_bytes += live.lines.add(live.lines.total, clean)
            live.pending.append(clean)
        if live.pending_bytes > FILE_LIMIT:
            # All that is kept is in ``lines``.
            live.pending.clear()
            live.pending_bytes = 0
            live.rewrite = True
        self._notify(job_id)
        self._schedule(live)

    def finish(self, job_id: str) -> None:
        """End a log; what is in memory is written out soon."""
        live = self._live.get(job_id)
        if live is None or live.ended:
            return
        live.ended = True
        self._notify(job_id)
        self._write_now(live)

    async def read(self, job_id: str, from_line: int = 0, limit: int = 1000) -> LogPage:
        """Return at most ``limit`` lines; an unknown job has none."""
        live = self._live.get(job_id)
        lines = live.lines if live else await asyncio.to_thread(_load, self._path(job_id))
        return lines.page(from_line, limit)

    async def follow(
        self,
        job_id: str,
        from_line: int,
        *,
        woken: asyncio.Event,
        ended: Callable[[], bool],
        limit: int,
        size: int | None = None,
        pause: Callable[[], Awaitable[None]] | None = None,
    ) -> AsyncGenerator[LogPage]:
        """Yield a log page by page, from a line on, until it ends.

        The first page comes at once, another whenever ``woken`` is set, without lines if there
        are no new ones. ``ended`` says that no line will be added; the page that then reaches the
        end is ``last``. ``limit`` and ``size`` bound a page in lines and bytes. ``pause`` is awaited
        before each page but the first: what comes meanwhile is in that page, too. A slow reader
        delays nothing: it gets what is still kept.
        """
        lines: NumberedLines | None = None
        while True:
            woken.clear()
            no_more = ended()  # asked before the lines are read
            if (live := self._live.get(job_id)) is not None:
                lines = live.lines
            elif lines is None:
                lines = await asyncio.to_thread(_load, self._path(job_id))
            page = lines.page(from_line, limit, size)
            from_line = page.next_line
            if from_line < page.total:
                yield page
            else:
                yield replace(page, last=no_more)
                if no_more:
                    return
                await woken.wait()
            if pause is not None:
                await pause()

    def forget(self, job_ids: Iterable[str]) -> None:
        """Delete logs."""
        gone = tuple(job_ids)
        if gone:
            self._tasks.start(self._forget(gone), "delete job logs")

    async def prune(self, keep: Iterable[str]) -> None:
        """Delete the logs of all other jobs."""
        names = {self._path(job_id).name for job_id in keep}

        def others() -> None:
            if self._folder.is_dir():
                _delete([path for path in self._folder.iterdir() if path.name not in names])

        await asyncio.to_thread(others)

    async def aclose(self) -> None:
        """End all logs and return when they are on disk, or the disk does not take them."""
        for live in tuple(self._live.values()):
            self.finish(live.job_id)
            self._write_now(live)
        if not await self._tasks.wait(_CLOSE_TIMEOUT):
            _LOGGER.warning("The last lines of the job logs are not written yet")
        for live in tuple(self._live.values()):
            self._drop(live)

    def _path(self, job_id: str) -> Path:
        return self._folder / f"{job_id}.log"

    def _schedule(self, live: _Live, seconds: float = WRITE_EVERY) -> None:
        if live.timer is None and live.writer is None:
            live.timer = self._time.call_later(seconds, lambda: self._write_now(live))

    def _stop_timer(self, live: _Live) -> None:
        if live.timer is not None:
            live.timer()
            live.timer = None

    def _write_now(self, live: _Live) -> None:
        self._stop_timer(live)
        if live.writer is None:
            live.writer = self._tasks.start(self._write(live), f"write log {live.job_id}")

    async def _write(self, live: _Live) -> None:
        failed = False
        try:
            await self._write_pending(live)
            if live.ended:
                await self._write_pending(live)
        except OSError as err:
            failed = live.rewrite = True
            if not self._failing:
                _LOGGER.warning(
                    "The log %s cannot be written, it is tried again: %s", live.path, err
                )
            self._failing = True
        finally:
            live.writer = None
        if failed and live.job_id in self._live:
            self._schedule(live, RETRY_AFTER)
            for given_up in [each for each in self._live.values() if each.ended][:-_UNWRITTEN]:
                self._drop(given_up)
        elif live.ended:
            self._drop(live)
        elif live.pending or live.rewrite:
            self._schedule(live)

    def _drop(self, live: _Live) -> None:
        self._stop_timer(live)
        if self._live.get(live.job_id) is live:
            del self._live[live.job_id]

    async def _write_pending(self, live: _Live) -> None:
        run = Run(live.pending_first, live.pending)
        if not run.lines and not live.rewrite:
            return
        size = live.pending_bytes
        live.pending = []
        live.pending_bytes = 0
        if live.rewrite or live.file_bytes + size > FILE_LIMIT:
            live.rewrite = False
            live.file_bytes = await asyncio.to_thread(_rewrite, live.path, live.lines.runs())
        else:
            live.file_bytes = await asyncio.to_thread(_append, live.path, run)
        self._failing = False

    async def _forget(self, job_ids: Sequence[str]) -> None:
        lives = [live for job_id in job_ids if (live := self._live.get(job_id)) is not None]
        # What is written, or is to be, would come back after it was deleted.
        if writers := [live.writer for live in lives if live.writer]:
            await asyncio.wait(writers)
        for live in lives:
            self._drop(live)
        await asyncio.to_thread(_delete, [self._path(job_id) for job_id in job_ids])

    def _notify(self, job_id: str) -> None:
        if (listeners := self._listeners.get(job_id)) is not None:
            listeners.notify()


def _delete(paths: Iterable[Path]) -> None:
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as err:
            _LOGGER.warning("The log %s cannot be deleted: %s", path, err)
