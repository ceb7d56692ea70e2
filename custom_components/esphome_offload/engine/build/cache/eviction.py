"""Limits of the disk that folders take, and eviction of the least recently used."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
import os
from pathlib import Path
import threading
from typing import ClassVar, Final, Protocol

from ...clock import SystemTime, Time
from ...const import GIB
from ...threads import in_thread
from .removal import open_folder

TOOLCHAINS_BUDGET: Final = 4 * GIB
"""Some fifteen versions; a person who tries more of them does not return to all."""
TREES_BUDGET: Final = 20 * GIB
"""A tree takes 0.2 to 0.5 GiB on ESP-IDF, so that fifty devices stay incremental. Bundles count as
well, the files that are kept with firmware, and all that ESPHome fetches to make them and to know
devices."""

IN_USE: Final = 4 * 3600.0
"""Seconds; longer than any build or upload may take, so what was used before is not in use."""


class RecentUse:
    """The keys that were used a short time ago, so that what they name may be in use.

    By a monotonic clock: after a jump of the machine's clock, files that are in use look old.
    Nothing is in use at a start.
    """

    def __init__(self, time: Time | None = None) -> None:
        self._time = time or SystemTime()
        self._used_at: dict[str, float] = {}

    def note(self, key: str) -> None:
        """Count a key as used from now on."""
        now = self._time.monotonic()
        recent = {each: at for each, at in self._used_at.items() if now - at < IN_USE}
        self._used_at = recent | {key: now}

    def __contains__(self, key: str) -> bool:
        """Return whether a key was used within ``IN_USE``."""
        used_at = self._used_at.get(key)
        return used_at is not None and self._time.monotonic() - used_at < IN_USE


UNMEASURABLE: Final = 1024**2 * GIB
"""The size of a folder that is too deep or has too many names to be measured; no build needs it."""
_DEEPEST: Final = 100
"""Levels, each of which has two descriptors open while it is measured."""
_MOST_NAMES: Final = 2_000_000
"""Tools of all platforms together have about 300,000."""


class Evictable(Protocol):
    """Something on disk that is removed as a whole; ``size`` in bytes, ``used`` in Unix time."""

    @property
    def size(self) -> int:
        """The bytes that it takes."""

    @property
    def used(self) -> float:
        """When it was used last; 0 if it was never finished."""


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """A folder that can be evicted."""

    path: Path
    size: int
    used: float


class CacheFolder(Protocol):
    """Folders of one kind, each of which is removed as a whole, or its ``parts`` are."""

    parts: ClassVar[str] = ""
    """What is removed, and counts, as a pattern below each folder; all of it without one."""

    @property
    def folder(self) -> Path:
        """Where they are."""

    async def discard(self, key: str) -> bool:
        """Remove the folder with this name, or its parts; returns False if it is in use."""


async def evict[E: Evictable](
    entries: Iterable[E],
    budget: int,
    discard: Callable[[E], Awaitable[bool]],
) -> int:
    """Remove entries until the rest takes at most ``budget`` bytes; returns what the rest takes.

    First those that are larger than the budget alone, then the least recently used. ``discard``
    returns False for one that is in use.
    """
    by_use = sorted(entries, key=lambda entry: entry.used)
    left = sum(entry.size for entry in by_use)
    # One that is too large by itself must not cost all others their place while it is in use.
    too_large = [entry for entry in by_use if entry.size > budget]
    others = [entry for entry in by_use if entry.size <= budget]
    over = sum(entry.size for entry in others) - budget
    for entry in (*too_large, *others):
        if entry.size <= budget and over <= 0:
            break
        if await discard(entry):
            left -= entry.size
            if entry.size <= budget:
                over -= entry.size
    return left


async def make_room(folders: Iterable[CacheFolder], budget: int) -> None:
    """Evict from folders of several kinds that share one budget, in bytes."""
    by_path = {each.folder: each for each in folders}

    def measure(stop: threading.Event) -> list[CacheEntry]:
        return [
            entry
            for path, each in by_path.items()
            for entry in cache_entries(path, stop, parts=each.parts)
        ]

    await evict(
        await in_thread(measure),
        budget,
        lambda entry: by_path[entry.path.parent].discard(entry.path.name),
    )


def cache_entries(
    parent: Path, stop: threading.Event, stamp: str = ".", parts: str = ""
) -> list[CacheEntry]:
    """Measure the folders in ``parent``; ``stamp`` is the file whose time says when it was used.

    ``parts`` as of ``CacheFolder``; a folder without any is left out.
    One without its stamp was never finished and counts as never used. Blocks; when ``stop`` is
    set it returns at once.
    """
    entries: list[CacheEntry] = []
    for path in folders(parent):
        try:
            used = (path / stamp).stat().st_mtime
        except FileNotFoundError:
            used = 0.0
        if measured := list(path.glob(parts)) if parts else [path]:
            size = sum(disk_usage(each, stop) for each in measured)
            entries.append(CacheEntry(path, size, used))
    return entries


def folders(parent: Path) -> list[Path]:
    """Return the folders in a folder, which may be missing, without links to any. Blocks."""
    try:
        return [path for path in parent.iterdir() if path.is_dir() and not path.is_symlink()]
    except FileNotFoundError:
        return []


def disk_usage(path: Path, stop: threading.Event) -> int:
    """Return the bytes that a folder takes on disk, its own included; follows no links.

    Names are handled one by one, so that memory stays bounded. ``UNMEASURABLE`` if it is too deep
    or has too many. Blocks; when ``stop`` is set it returns at once, with too little.
    """
    total = names = 0
    try:
        levels = [_Level(str(path), None)]
    except OSError:
        return 0
    try:
        while levels:
            level = levels[-1]
            if (entry := next(level.entries, None)) is None:
                levels.pop().close()
                total += level.size
                continue
            names += 1
            if names > _MOST_NAMES:
                return UNMEASURABLE
            if stop.is_set():
                break
            try:
                if not entry.is_dir(follow_symlinks=False):
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
                elif len(levels) == _DEEPEST:
                    return UNMEASURABLE
                else:
                    levels.append(_Level(entry.name, level.handle))
            except OSError:
                continue  # removed meanwhile, or closed to us
    finally:
        for level in levels:
            level.close()
    return total


class _Level:
    """A folder that is being read."""

    def __init__(self, name: str, parent: int | None) -> None:
        self.handle = open_folder(name, parent)
        try:
            self.size = os.fstat(self.handle).st_blocks * 512
            self.entries = os.scandir(self.handle)
        except OSError:
            os.close(self.handle)
            raise

    def close(self) -> None:
        self.entries.close()
        os.close(self.handle)
