"""The one place that runs a subprocess, always through the launcher."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
import fcntl
import json
import logging
from pathlib import Path
import threading
import time
from typing import TypedDict

from ...const import MIB
from ...tasks import BackgroundTasks, uninterrupted
from ...threads import in_thread
from .build_progress import BuildProgress
from .containment import Rules
from .launching import Launched, connect, start_launcher
from .output import OutputParser
from .warm import WarmPythons

_LOGGER = logging.getLogger(__name__)

_LAUNCHER = "import sys; sys.path.append(sys.argv[1]); from launcher.program import main; main()"
"""Imported, not run as a script, because only that uses the bytecode that is there already."""
_CHUNK = 16 * 1024
_LINES = 500
"""Bytes and lines handled in one turn of the event loop, at most: a few milliseconds."""
_END_TIMEOUT = 7.0
"""The launcher needs 3 s, 5 at most; one that takes longer is stuck and is killed."""
_KILL_TIMEOUT = 4.0
"""With it, 11 s until ``aclose`` returns; Home Assistant gives 20 s to all that stops."""
_LAST_OUTPUT_TIMEOUT = 2.0
"""All writers end before the launcher; only one that escaped it could hold the pipe open."""
_LEFTOVERS_TIMEOUT = 15.0
"""Launchers whose Home Assistant was killed end within 5 s; on a busy board a little later."""
_LEFTOVERS_POLL = 0.05


@dataclass(frozen=True, slots=True)
class Command:
    """A command to run. ``env`` is its whole environment.

    ``lock`` is a file: two commands with the same one never run at the same time, the second
    waits up to ``lock_timeout`` seconds. ``nice`` is added to ours; ``oom_score_adj`` is 0 to 1000.
    With ``rules`` it runs contained by them or not at all. ``warm`` is the beginning of ``argv`` that
    starts the Python of a toolchain; one that has ESPHome imported already may do the rest. Never
    for a call of a guest.
    """

    argv: tuple[str, ...]
    cwd: Path
    env: Mapping[str, str]
    lock: Path | None = None
    lock_timeout: float = 60.0
    nice: int = 10
    oom_score_adj: int = 800
    rules: Rules | None = None
    warm: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class ProcessResult:
    """The end of a command. ``exit_code`` is 128 + ``signal`` when a signal ended it.

    ``terminated``: we ended it. ``out_of_memory``: it failed and the kernel killed something
    for memory meanwhile.
    """

    exit_code: int
    signal: int | None = None
    out_of_memory: bool = False
    terminated: bool = False


class LaunchError(Exception):
    """The command was not started; ``str(error)`` says why."""


class TreeLockedError(LaunchError):
    """Another command held the lock all the time."""


class NoProcessError(LaunchError):
    """This machine has no memory, descriptor or process left for another command."""


class _Report(TypedDict, total=False):
    exit_code: int
    signal: int | None
    terminated: bool
    out_of_memory: bool
    error: str
    message: str


class Processes:
    """Runs commands and owns them until nothing of them is left.

    ``lease``: a file that no build can open, locked as long as anything of a command is left.
    """

    def __init__(self, lease: Path | None = None, warm: WarmPythons | None = None) -> None:
        """With ``warm``, calls of our own ESPHome do not wait for its start."""
        self._lease = lease
        self._warm = warm
        self._running: dict[asyncio.Task[ProcessResult], Launched] = {}
        self._endings = BackgroundTasks()

    async def wait_for_leftovers(self, timeout: float = _LEFTOVERS_TIMEOUT) -> bool:
        """Wait until nothing is left of the commands of a killed Home Assistant; before any other.

        Their launchers notice its death and end them. Returns False when ``timeout`` seconds pass
        first. Raises OSError.
        """
        if self._lease is None:
            return True
        lease = self._lease
        ended = await in_thread(lambda stop: _wait_for_lease(lease, timeout, stop))
        if not ended:
            _LOGGER.warning("Processes of an earlier run have not ended")
        return ended

    async def run(
        self,
        command: Command,
        on_output: Callable[[bytes], None] | None = None,
        *,
        timeout: float | None = None,
    ) -> ProcessResult:
        """Run a command to its end; output goes to ``on_output`` piece by piece as it comes.

        Cancelling ends every descendant first, within 5 s. Raises TimeoutError when ``timeout``
        seconds have passed, after the same; LaunchError when the command could not be started.
        An exception of ``on_output`` ends the command and is raised.
        """
        task = await self._start(command, on_output)
        try:
            await asyncio.wait({task}, timeout=timeout)
        except asyncio.CancelledError:
            await self._end_now(task)
            raise
        if not task.done():
            await self._end_now(task)
            raise TimeoutError(f"{command.argv[0]} took longer than {timeout:.0f} s")
        return task.result()

    async def run_lines(
        self,
        command: Command,
        sink_lines: Callable[[Sequence[str]], None],
        sink_progress: Callable[[float], None] | None = None,
        *,
        until: Callable[[str], bool] | None = None,
        timeout: float | None = None,
        progress: BuildProgress | None = None,
    ) -> ProcessResult:
        """Run a command and hand on its lines, in batches, and its progress (0 to 100).

        ``progress`` is what is known of builds like this one; it is up to date at each call.

        Batches and lines are bounded. When ``until`` accepts a line, this returns at once as if the
        command had ended well; it is ended in the background. Otherwise like ``run``.
        """
        lines = _Lines(sink_lines, sink_progress, until, progress or BuildProgress())
        task = await self._start(command, lines.feed)
        accepted = asyncio.create_task(lines.accepted.wait())
        try:
            await asyncio.wait(
                {task, accepted}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED
            )
        except asyncio.CancelledError:
            await self._end_now(task)
            raise
        finally:
            accepted.cancel()
        if task.done() and not task.exception():
            lines.finish()
        if lines.accepted.is_set():
            self._end_in_background(task)
            return ProcessResult(exit_code=0)
        if not task.done():
            await self._end_now(task)
            raise TimeoutError(f"{command.argv[0]} took longer than {timeout:.0f} s")
        return task.result()

    async def capture(
        self, command: Command, *, timeout: float, limit: int = MIB
    ) -> tuple[ProcessResult, str]:
        """Run a command and return its output, of a longer one the last ``limit`` bytes."""
        output = bytearray()

        def on_output(chunk: bytes) -> None:
            output.extend(chunk)
            del output[:-limit]

        result = await self.run(command, on_output, timeout=timeout)
        return result, output.decode(errors="replace")

    async def aclose(self) -> None:
        """End everything that still runs and wait for it, 11 s at most."""
        for task in self._running:
            self._end_in_background(task)
        await self._endings.wait()
        if self._warm is not None:
            await self._warm.aclose()

    async def _start(
        self, command: Command, on_output: Callable[[bytes], None] | None
    ) -> asyncio.Task[ProcessResult]:
        try:
            running = await self._start_warm(command) or await start_launcher(_LAUNCHER)
        except OSError as error:
            raise NoProcessError(f"no process can be started: {error.strerror}") from error
        # No await from here on: what was started must get an owner.
        spec = {
            "argv": command.argv,
            "cwd": str(command.cwd),
            "env": dict(command.env),
            "nice": command.nice,
            "oom_score_adj": command.oom_score_adj,
            "lock_path": None if command.lock is None else str(command.lock),
            "lock_timeout": command.lock_timeout,
            "lease_path": None if self._lease is None else str(self._lease),
            "containment": None if command.rules is None else command.rules.spec(),
        }
        running.control.write(json.dumps(spec).encode() + b"\n")
        task = asyncio.create_task(_supervise(command, running, on_output))
        self._running[task] = running
        task.add_done_callback(self._ended)
        return task

    async def _start_warm(self, command: Command) -> Launched | None:
        if self._warm is None or command.warm is None:
            return None
        started = await self._warm.start(command.warm)
        return None if started is None else await connect(*started)

    def _ended(self, task: asyncio.Task[ProcessResult]) -> None:
        del self._running[task]
        if not task.cancelled():
            # Read here, because of a command ended in the background it is read nowhere else.
            task.exception()

    def _end_in_background(self, task: asyncio.Task[ProcessResult]) -> asyncio.Task[None]:
        return self._endings.start(self._end(task), "end a command")

    async def _end_now(self, task: asyncio.Task[ProcessResult]) -> None:
        """Return when nothing is left; a cancellation meanwhile is raised only then."""
        await uninterrupted(self._end_in_background(task))

    async def _end(self, task: asyncio.Task[ProcessResult]) -> None:
        running = self._running.get(task)
        if running is None:
            return
        running.control.close()
        await asyncio.wait({task}, timeout=_END_TIMEOUT)
        if not task.done():
            _LOGGER.warning("Launcher %s did not end in time and is killed", running.process.pid)
            running.process.kill()
            await asyncio.wait({task}, timeout=_KILL_TIMEOUT)


class _Lines:
    """Hands lines on until one is accepted."""

    def __init__(
        self,
        sink_lines: Callable[[Sequence[str]], None],
        sink_progress: Callable[[float], None] | None,
        until: Callable[[str], bool] | None,
        progress: BuildProgress,
    ) -> None:
        self.accepted = asyncio.Event()
        self._progress = progress
        self._parser = OutputParser(progress)
        self._sink_lines = sink_lines
        self._sink_progress = sink_progress
        self._until = until

    def feed(self, chunk: bytes) -> None:
        if self.accepted.is_set():
            return
        before = self._progress.loading
        lines, percent = self._parser.feed(chunk)
        self._hand_on(lines)
        loading = self._progress.loading
        if self._sink_progress is not None and (percent is not None or loading != before):
            self._sink_progress((self._progress.percent or 0.0) if loading is None else loading)

    def finish(self) -> None:
        if not self.accepted.is_set():
            self._hand_on(self._parser.finish())

    def _hand_on(self, lines: list[str]) -> None:
        if self._until is not None:
            for index, line in enumerate(lines):
                if self._until(line):
                    self.accepted.set()
                    del lines[index + 1 :]
                    break
        if lines:
            self._sink_lines(lines)


async def _supervise(
    command: Command, running: Launched, on_output: Callable[[bytes], None] | None
) -> ProcessResult:
    """Hand output on until the launcher has ended; return how the command ended."""
    output = asyncio.create_task(_read(running.output, on_output))
    report = asyncio.create_task(running.report.read())
    ended = asyncio.create_task(running.process.wait())
    await asyncio.wait({output, ended}, return_when=asyncio.FIRST_COMPLETED)
    if output.done() and output.exception():
        running.control.close()
    code = await ended
    running.control.close()
    # Of two processes the first was killed: the other ends the command, and then the report.
    await asyncio.wait({report}, timeout=_LAST_OUTPUT_TIMEOUT if code >= 0 else _END_TIMEOUT)
    await asyncio.wait({output}, timeout=_LAST_OUTPUT_TIMEOUT)
    for task in (output, report):
        if not task.done():
            _LOGGER.warning("Something that %s started still holds its output", command.argv[0])
            task.cancel()
    await asyncio.wait({output, report})
    if not output.cancelled() and (error := output.exception()):
        raise error
    return _result(code, b"" if report.cancelled() else report.result())


async def _read(reader: asyncio.StreamReader, on_output: Callable[[bytes], None] | None) -> None:
    while chunk := await reader.read(_CHUNK):
        for piece in _pieces(chunk):
            if on_output is not None:
                on_output(piece)
            # A read of what is buffered already does not suspend; a flood would block the loop.
            await asyncio.sleep(0)


def _pieces(chunk: bytes) -> Iterator[bytes]:
    """Cut a chunk into pieces of at most ``_LINES`` lines."""
    while chunk:
        rest = chunk.split(b"\n", _LINES)[_LINES:]
        piece = chunk[: len(chunk) - len(rest[0])] if rest else chunk
        yield piece
        chunk = chunk[len(piece) :]


def _wait_for_lease(lease: Path, timeout: float, stop: threading.Event) -> bool:
    give_up = time.monotonic() + timeout
    if not lease.parent.exists():
        return True  # No command was ever started; the folder is not ours to make.
    with lease.open("ab") as file:
        while not stop.is_set():
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= give_up:
                    return False
                stop.wait(_LEFTOVERS_POLL)
            else:
                return True
    return False


def _result(code: int, text: bytes) -> ProcessResult:
    """Return what the launcher reports; ``code`` is its own, negative when a signal ended it."""
    if code < 0:
        return ProcessResult(exit_code=128 - code, signal=-code, terminated=True)
    try:
        report: _Report = json.loads(text)
    except ValueError as error:
        raise LaunchError(text.decode(errors="replace").strip()) from error
    if "error" in report:
        if report["error"] == "lock":
            raise TreeLockedError(report["message"])
        raise LaunchError(report["message"])
    return ProcessResult(
        exit_code=report["exit_code"],
        signal=report["signal"],
        out_of_memory=report["out_of_memory"],
        terminated=report["terminated"],
    )
