"""Programs that behave badly, and how to see whether they still run."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count, islice
import os
from pathlib import Path
import resource
import sys

import pytest

from custom_components.esphome_offload.engine.build.process.processes import Command, ProcessResult

LONG = 600
"""Seconds that a program of these would run if nobody ended it."""

LEAVES_A_FAMILY = f"""
import os, signal, sys, time
folder = sys.argv[1]
def note(name):
    with open(f"{{folder}}/{{name}}.tmp", "w") as file:
        file.write(str(os.getpid()))
    os.rename(f"{{folder}}/{{name}}.tmp", f"{{folder}}/{{name}}")
if os.fork() == 0:
    note("child")
    time.sleep({LONG})
if "stubborn" in sys.argv and os.fork() == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    note("stubborn")
    while True:
        time.sleep({LONG})
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.setsid()
        note("daemon")
        time.sleep({LONG})
    os._exit(0)
note("main")
while not all(os.path.exists(f"{{folder}}/{{name}}") for name in ["child", "daemon", *sys.argv[2:]]):
    time.sleep(0.01)
print("family is there", flush=True)
"""
FAMILY = ("main", "child", "daemon")
"""An ordinary child, and one that forked twice and left the session."""
STUBBORN = "stubborn"
"""Given as second argument, there is one more: it ignores SIGTERM, so it takes 3 s to end (``impatient``: 1 s)."""

STAYS = f"time.sleep({LONG})"


def python(program: str, *arguments: str, cwd: Path, **options: object) -> Command:
    """Return a command that runs ``program`` in a bare Python."""
    return Command(
        argv=(sys.executable, "-I", "-S", "-c", program, *arguments),
        cwd=cwd,
        env={"PATH": "/usr/bin:/bin"},
        **options,  # type: ignore[arg-type]
    )


async def pids(folder: Path, names: tuple[str, ...] = FAMILY) -> list[int]:
    """Wait until each of the named programs noted its pid in ``folder``."""
    async with asyncio.timeout(30):  # a slow machine under load
        while not all((folder / name).exists() for name in names):  # noqa: ASYNC110 no event crosses
            await asyncio.sleep(0.01)
    return [int((folder / name).read_text()) for name in names]


def alive(pid: int) -> bool:
    """Return whether a process runs; one that only waits to be reaped does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError, ProcessLookupError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


async def gone(*processes: int) -> None:
    """Wait until none of these runs."""
    async with asyncio.timeout(30):
        while any(map(alive, processes)):  # noqa: ASYNC110 no event crosses
            await asyncio.sleep(0.01)


def shell(script: str, cwd: Path, **env: str) -> Command:
    return Command(argv=("/bin/sh", "-c", script), cwd=cwd, env={"PATH": "/usr/bin:/bin", **env})


async def cancel(task: asyncio.Task[ProcessResult]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def descriptors() -> set[int]:
    found = list(Path("/proc/self/fd").iterdir())
    # Without that of the list itself.
    return {int(each.name) for each in found if each.is_symlink()}


@contextmanager
def no_descriptors(but: int = 0) -> Iterator[None]:
    """Have no descriptors left for anything that is opened, but so many."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = descriptors()
    limit = next(islice((each for each in count() if each not in used), but, None))
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def our_children() -> list[int]:
    return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]
