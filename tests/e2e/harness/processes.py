"""Child processes that cannot outlive the tests, and the search for processes by what they mention."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
import ctypes
import os
from pathlib import Path
import signal
import time

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)
# Variables of the caller's shell that would change how a program of its own works.
_NOT_INHERITED = (
    "PYTHONDONTWRITEBYTECODE",
    "PYTHONPATH",
    "PYTHONHOME",
    "VIRTUAL_ENV",
    "COV_CORE_DATAFILE",
    "SUPERVISOR",
    "SUPERVISOR_TOKEN",
)


class ProcessFailedError(Exception):
    """A process ended or did not get ready; the message has its last output."""


def environment(**extra: str) -> dict[str, str]:
    """Return this process's environment without what would change how children work."""
    inherited = {key: value for key, value in os.environ.items() if key not in _NOT_INHERITED}
    return inherited | extra


def _die_with_parent() -> None:
    # Also works when this process is killed and can stop nothing itself.
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class Child:
    """One running process in a process group of its own; its output goes to ``log``."""

    def __init__(self, process: asyncio.subprocess.Process, name: str, log: Path) -> None:
        self._process = process
        self.name = name
        self.log = log

    @classmethod
    async def start(
        cls, name: str, argv: Sequence[str | Path], *, log: Path, cwd: Path, env: Mapping[str, str]
    ) -> Child:
        """Start ``argv`` with an empty log file."""
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *map(str, argv),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=cwd,
                env=dict(env),
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        return cls(process, name, log)

    @property
    def pid(self) -> int:
        """The process's id, also its group's."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.returncode is None

    def output(self) -> str:
        """Return its output so far."""
        return self.log.read_text(errors="replace")

    def tail(self, lines: int = 20) -> str:
        """Return its last output lines."""
        return "\n".join(self.output().splitlines()[-lines:])

    async def until(self, ready: Callable[[], bool], what: str, seconds: float) -> None:
        """Wait until ``ready()``; raises ProcessFailedError when it ends or takes longer."""
        deadline = time.monotonic() + seconds
        while not ready():
            if not self.running:
                code = self._process.returncode
                raise ProcessFailedError(
                    f"{self.name} ended ({code}) before {what}:\n{self.tail()}"
                )
            if time.monotonic() > deadline:
                raise ProcessFailedError(
                    f"{self.name}: {what} took over {seconds:.0f} s:\n{self.tail()}"
                )
            await asyncio.sleep(0.05)

    async def wait(self) -> int:
        """Return its exit code once it has ended."""
        return await self._process.wait()

    async def stop(self, grace: float = 20.0) -> None:
        """Terminate it, and kill its whole group after ``grace`` seconds."""
        if self.running:
            with suppress(ProcessLookupError):
                self._process.terminate()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._process.wait(), grace)
        await self.kill()

    async def kill(self) -> None:
        """Kill it and its group."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        await self._process.wait()


async def run(
    argv: Sequence[str | Path], *, cwd: Path, env: Mapping[str, str], seconds: float
) -> str:
    """Run a command to its end and return its output; raises ProcessFailedError with it."""
    process = await asyncio.create_subprocess_exec(
        *map(str, argv),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        cwd=cwd,
        env=dict(env),
        start_new_session=True,
        preexec_fn=_die_with_parent,
    )
    try:
        async with asyncio.timeout(seconds):
            output, _ = await process.communicate()
    finally:
        # Also on time-out and cancellation, and for what the command left behind.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    text = output.decode(errors="replace")
    if process.returncode != 0:
        tail = "\n".join(text.splitlines()[-20:])
        raise ProcessFailedError(f"{Path(argv[0]).name} ended with {process.returncode}:\n{tail}")
    return text


def mentioning(text: str) -> dict[int, str]:
    """Return the processes (id → command line) with ``text`` in command line, environment or cwd.

    This also finds what left its parent's session and process group.
    """
    needle = text.encode()
    found: dict[int, str] = {}
    for pid in _pids():
        if pid == os.getpid():
            continue
        with suppress(OSError):
            folder = Path(f"/proc/{pid}")
            command = (folder / "cmdline").read_bytes()
            if not command:
                continue  # a zombie or a kernel thread
            working_folder = os.fsencode((folder / "cwd").readlink())
            if needle in command or needle in working_folder or needle in _environ(folder):
                found[pid] = command.replace(b"\0", b" ").decode(errors="replace").strip()
    return found


def at_work(text: str) -> dict[int, str]:
    """Return those of ``mentioning`` that a job has, or something in the background.

    Not a Python that has ESPHome imported and waits for calls; its calls look the same.
    """
    found = mentioning(text)
    warm = [pid for pid, command in found.items() if "launcher.warm" in command]
    if len(warm) == 1:
        del found[warm[0]]
    return found


def _environ(folder: Path) -> bytes:
    try:
        return (folder / "environ").read_bytes()
    except OSError:
        return b""


def _pids() -> Iterator[int]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            yield int(folder.name)
