"""The reach of ESPHome in the background, where it runs code of the configurations unasked.

It reads what a configuration may be made of, and writes nothing but its own data and temporary
files. Where the kernel has no Landlock, nothing of that is enforced.
"""

from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import replace
import logging
import os
from pathlib import Path
from typing import Final

from ..launcher import landlock, seccomp
from .containment import Rules
from .processes import Command, LaunchError, NoProcessError, TreeLockedError

_LOGGER = logging.getLogger(__name__)

_PRIVATE: Final = frozenset({".storage", ".cloud", ".cache", ".ssh"})
_PRIVATE_SUFFIXES: Final = (".db", ".db-shm", ".db-wal", ".log", ".log.1", ".log.fault")
"""Of Home Assistant's folder; an ESPHome configuration is made of none of these."""
_KERNEL: Final = ("dev", "proc", "run", "sys")
"""In the root folder: no files, but ways to other processes and devices."""
_OF_THE_KERNEL: Final = ("/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/run/systemd/resolve")
_DEVICES: Final = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")


def can_contain() -> bool:
    """Return whether the kernel can enforce rules here."""
    try:
        return seccomp.supported() and landlock.abi() > 0
    except OSError:
        return False


async def run_within[T](run: Callable[[Command], Awaitable[T]], command: Command) -> T:
    """Run a command with its rules, or without if they cannot be kept: nothing of it ran yet."""
    try:
        return await run(command)
    except TreeLockedError, NoProcessError:
        raise
    except LaunchError as error:
        if command.rules is None:
            raise
        _LOGGER.warning("ESPHome in the background cannot be contained: %s", error)
        return await run(replace(command, rules=None))


def reach(home: Path | None, *, needed: Collection[Path], write: Collection[Path]) -> Rules | None:
    """Return the rules: to read and run all but what is private in ``home``, and ``needed``.

    ``home`` is Home Assistant's configuration folder. What is in ``write`` must exist. None where
    nothing can enforce them. Blocks for a moment.
    """
    if not can_contain():
        return None
    way = [] if home is None else [home.resolve(), *home.resolve().parents]
    run = [
        *_visible(Path("/"), way),
        # Only what is needed of what is not visible, and nothing that holds all of it.
        *(path for path in needed if path not in way),
        *map(Path, _OF_THE_KERNEL),
    ]
    return Rules(write=tuple(write), run=tuple(run), devices=tuple(map(Path, _DEVICES)))


def _visible(folder: Path, way: list[Path]) -> Iterator[Path]:
    """Yield what is in a folder on the way to the private one, or in that itself."""
    is_home = bool(way) and folder == way[0]
    # A folder that cannot be listed: what is needed in it is named. Nothing in it is looked at,
    # which may be a share that does not answer.
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda each: each.name):
            path = Path(entry.path)
            if entry.is_symlink() or (folder == Path("/") and entry.name in _KERNEL):
                # What a link leads to is there under its own name, or private.
                continue
            if is_home and (entry.name in _PRIVATE or entry.name.endswith(_PRIVATE_SUFFIXES)):
                continue
            if path in way:
                yield from _visible(path, way)
            else:
                yield path
