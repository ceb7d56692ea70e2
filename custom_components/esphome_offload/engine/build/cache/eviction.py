"""How much disk a kind of folder may take, and which of them go when it is too much."""

from collections.abc import Iterable
from dataclasses import dataclass
import os
from pathlib import Path
import threading
import time
from typing import Final, Protocol

from ...threads import in_thread

_GIB: Final = 1024**3
TOOLCHAINS_BUDGET: Final = 4 * _GIB
"""Some fifteen versions; whoever tries more of them does not go back to all."""
TREES_BUDGET: Final = 20 * _GIB
"""A tree takes 0.2 to 0.5 GiB on ESP-IDF, so that fifty devices stay incremental. Bundles, and what
ESPHome fetches to make them, count as well."""

IN_USE: Final = 4 * 3600.0
"""Seconds; longer than any build or upload may take, so what was used before is used no more."""


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """A folder that goes as a whole; ``size`` in bytes, ``used`` in Unix time."""

    path: Path
    size: int
    used: float


class CacheFolder(Protocol):
    """Folders of one kind, each of which goes as a whole."""

    @property
    def folder(self) -> Path:
        """Where they are."""

    async def discard(self, key: str) -> None:
        """Remove the folder with this name, unless it is in use."""


async def make_room(shelves: Iterable[CacheFolder], budget: int) -> None:
    """Remove folders until those of all shelves together take no more than ``budget`` bytes."""
    shelf_of = {shelf.folder: shelf for shelf in shelves}

    def measure(stop: threading.Event) -> list[CacheEntry]:
        return [each for folder in shelf_of for each in occupants(folder, stop)]

    for going in select_for_eviction(await in_thread(measure), budget, time.time()):
        await shelf_of[going.path.parent].discard(going.path.name)


def select_for_eviction(
    occupants: Iterable[CacheEntry], budget: int, now: float
) -> list[CacheEntry]:
    """Return what has to go, least recently used first, never what may be in use."""
    by_use = sorted(occupants, key=lambda occupant: occupant.used)
    over = sum(occupant.size for occupant in by_use) - budget
    going: list[CacheEntry] = []
    for occupant in by_use:
        if over <= 0 or now - occupant.used < IN_USE:
            break
        going.append(occupant)
        over -= occupant.size
    return going


def occupants(parent: Path, stop: threading.Event, mark: str = ".") -> list[CacheEntry]:
    """Measure the folders in ``parent``; ``mark`` is the file whose time says when it was used.

    One without its mark was never finished and counts as unused for ever. Blocks; when ``stop``
    is set it returns at once.
    """
    found: list[CacheEntry] = []
    if not parent.is_dir():
        return found
    for path in parent.iterdir():
        if path.is_dir() and not path.is_symlink():
            try:
                used = (path / mark).stat().st_mtime
            except FileNotFoundError:
                used = 0.0
            found.append(CacheEntry(path, disk_usage(path, stop), used))
    return found


def disk_usage(path: Path, stop: threading.Event) -> int:
    """Return the bytes that a folder takes on disk; follows no links.

    Blocks; when ``stop`` is set it returns at once, with too little.
    """
    total = 0
    for folder, _, names in os.walk(path):
        if stop.is_set():
            break
        for name in names:
            try:
                total += os.lstat(os.path.join(folder, name)).st_blocks * 512  # noqa: PTH118 - much faster than Path, and there may be 100,000
            except OSError:
                continue  # gone meanwhile
    return total
