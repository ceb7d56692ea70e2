"""WarmPythons: toolchains' Pythons that have ESPHome imported; see ``launcher.warm``."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
import logging
import os
from pathlib import Path
import socket
from typing import Final, Protocol

_LOGGER = logging.getLogger(__name__)

_PROGRAM: Final = "import sys; sys.path.append(sys.argv[1]); from launcher.warm import main; main()"
_START_TIMEOUT: Final = 60.0
"""Seconds to import ESPHome; three on a small board."""
_IDLE: Final = 300.0
"""Seconds without a call after which it ends: it holds 45 MiB."""
_END_TIMEOUT: Final = 2.0
_MOST: Final = 2
"""Toolchains at a time; when a new version comes out, devices are asked by two of them."""


type Python = tuple[str, ...]


class Started(Protocol):
    """A launcher as a process."""

    @property
    def pid(self) -> int:
        """Its id."""

    async def wait(self) -> int:
        """Return its exit code, negative when a signal ended it."""

    def kill(self) -> None:
        """Kill it."""


@dataclass(frozen=True, slots=True)
class Pipes:
    """Our ends of the three pipes of a launcher, as descriptors."""

    control: int
    output: int
    report: int


@dataclass(slots=True, eq=False)
class _Launcher:
    """A launcher that a warm Python forked."""

    pid: int
    ended: asyncio.Future[int]

    async def wait(self) -> int:
        return await asyncio.shield(self.ended)

    def kill(self) -> None:
        if not self.ended.done():
            # It may have ended a moment ago; a pid is not given out again so soon.
            os.kill(self.pid, 9)


@dataclass(slots=True, eq=False)
class _Warm:
    """A running warm Python."""

    process: asyncio.subprocess.Process
    socket: socket.socket
    identity: object
    running: dict[int, asyncio.Future[int]] = field(default_factory=dict)
    starting: dict[int, asyncio.Future[_Launcher]] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=count)
    idle: asyncio.TimerHandle | None = None
    closed: bool = False

    @property
    def busy(self) -> bool:
        """Whether calls run in it, or start."""
        return bool(self.running or self.starting)


class WarmPythons:
    """Starts launchers in warm Pythons, one for each toolchain, which end when they are idle.

    Only for calls of our own: what one call has left in memory, no guest may meet.
    """

    def __init__(self, idle: float = _IDLE) -> None:
        """``idle``: seconds after which an idle one ends."""
        self._idle = idle
        self._warm: dict[Python, _Warm] = {}
        self._lock = asyncio.Lock()
        self._failed: dict[Python, object] = {}

    async def start(self, python: Python) -> tuple[Started, Pipes] | None:
        """Start a launcher with this Python; None when that is not possible.

        ``python`` is the beginning of a command line, its program first.
        """
        try:
            identity = await asyncio.to_thread(_identity, python[0])
            if self._failed.get(python) == identity:
                return None
            async with self._lock:
                warm = await self._get(python, identity)
            return await self._fork(python, warm)
        except (OSError, EOFError) as error:  # TimeoutError is an OSError
            _LOGGER.debug("No warm ESPHome of %s: %r", python, error)
            return None

    async def aclose(self) -> None:
        """End all; what they have started must have ended before."""
        async with self._lock:
            while self._warm:
                await self._end(next(iter(self._warm)))

    async def _get(self, python: Python, identity: object) -> _Warm:
        warm = self._warm.get(python)
        if warm is not None and (warm.identity != identity or warm.process.returncode is not None):
            self._retire(python, warm)
            warm = None
        if warm is None:
            for other in [each for each, known in self._warm.items() if not known.busy]:
                if len(self._warm) >= _MOST:
                    await self._end(other)
            try:
                warm = self._warm[python] = await self._start(python, identity)
            except EOFError:
                # A Python that cannot is not asked again until it is another one.
                self._failed[python] = identity
                raise
        return warm

    async def _start(self, python: Python, identity: object) -> _Warm:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            ours.setblocking(False)
            process = await asyncio.create_subprocess_exec(
                *python,
                "-c",
                _PROGRAM,
                str(Path(__file__).parents[1]),
                str(theirs.fileno()),
                str(len(python)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                env=_environment(),
            )
        loop = asyncio.get_running_loop()
        said = b""
        try:
            async with asyncio.timeout(_START_TIMEOUT):
                said = await loop.sock_recv(ours, 64)
        finally:
            if said != b"ready":
                ours.close()
                if process.returncode is None:
                    process.kill()
        if said != b"ready":
            raise EOFError("it ended at once")
        warm = _Warm(process, ours, identity)
        loop.add_reader(ours, self._heard, python, warm)
        return warm

    async def _fork(self, python: Python, warm: _Warm) -> tuple[Started, Pipes]:
        # Nothing is awaited until it counts as busy, so that nobody ends it before.
        theirs, mine = _pipes()
        number = next(warm.numbers)
        starting = warm.starting[number] = asyncio.get_running_loop().create_future()
        try:
            socket.send_fds(warm.socket, [str(number).encode()], theirs)
            async with asyncio.timeout(_START_TIMEOUT):
                return await starting, mine
        except BaseException:
            for pipe in (mine.control, mine.output, mine.report):
                # The end of its control pipe ends a launcher that was started after all.
                os.close(pipe)
            raise
        finally:
            del warm.starting[number]
            for pipe in theirs:
                os.close(pipe)
            self._rest(python, warm)

    def _heard(self, python: Python, warm: _Warm) -> None:
        """Take what a warm Python says; it may have ended."""
        message = ""
        with suppress(OSError):  # reset by one that was killed
            message = warm.socket.recv(64).decode("ascii")
        if not message:
            self._lost(python, warm)
            return
        kind, *numbers = message.split()
        first, second = map(int, numbers)
        if kind == "started":
            ended = warm.running[second] = asyncio.get_running_loop().create_future()
            # Of one that was given up meanwhile only the end is awaited.
            if (starting := warm.starting.get(first)) is not None and not starting.done():
                starting.set_result(_Launcher(second, ended))
        else:
            warm.running.pop(first).set_result(second)
            self._rest(python, warm)

    def _rest(self, python: Python, warm: _Warm) -> None:
        """End a warm Python that has nothing to do: after a while, or now if it was replaced."""
        if warm.closed or warm.busy:
            return
        if self._warm.get(python) is not warm:
            self._lost(python, warm)
            return
        if warm.idle is not None:
            warm.idle.cancel()
        warm.idle = asyncio.get_running_loop().call_later(self._idle, self._idle_over, python, warm)

    def _idle_over(self, python: Python, warm: _Warm) -> None:
        if not warm.busy:
            self._lost(python, warm)

    def _retire(self, python: Python, warm: _Warm) -> None:
        """Give a warm Python no more calls; those that run in it go on."""
        del self._warm[python]
        self._rest(python, warm)

    def _lost(self, python: Python, warm: _Warm) -> None:
        """Forget a warm Python; closing its socket ends it, if it has not ended."""
        if warm.closed:
            return
        warm.closed = True
        if self._warm.get(python) is warm:
            del self._warm[python]
        if warm.idle is not None:
            warm.idle.cancel()
        asyncio.get_running_loop().remove_reader(warm.socket)
        warm.socket.close()
        for starting in warm.starting.values():
            if not starting.done():
                starting.set_exception(EOFError("it has ended"))
        for ended in warm.running.values():
            if not ended.done():
                # Its launchers notice that it has ended, and end what they run.
                ended.set_result(-9)
        warm.running.clear()

    async def _end(self, python: Python) -> None:
        warm = self._warm[python]
        self._lost(python, warm)
        try:
            async with asyncio.timeout(_END_TIMEOUT):
                await warm.process.wait()
        except TimeoutError:
            warm.process.kill()


def _identity(python: str) -> object:
    """Return what is another when a toolchain was made anew."""
    found = (Path(python).parents[1] / "pyvenv.cfg").stat()
    return found.st_ino, found.st_mtime_ns


def _environment() -> dict[str, str]:
    """Return what a Python reads at its start; all else each call brings."""
    taken = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH")
    passed = {name: os.environ[name] for name in taken if name in os.environ}
    return {"LANG": "C.UTF-8", **passed, "PYTHONUTF8": "1"}


def _pipes() -> tuple[list[int], Pipes]:
    """Return the ends of the launcher in the order of its standard descriptors, and ours."""
    opened: list[int] = []
    try:
        for _ in range(3):
            opened.extend(os.pipe())
    except OSError:
        for pipe in opened:
            os.close(pipe)
        raise
    control, our_control, our_output, output, our_report, report = opened
    return [control, output, report], Pipes(our_control, our_output, our_report)
