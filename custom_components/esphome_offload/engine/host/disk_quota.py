"""GuestDiskQuota: all guests together get so many bytes; what was used last stays."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from functools import partial
import logging
from pathlib import Path
import threading
from typing import Final

from ..build.cache.eviction import disk_usage, evict, folders
from ..build.cache.layout import CacheLayout
from ..build.cache.removal import remove
from ..clock import Time
from ..protocol.errors import ErrorCode, ProtocolError
from ..threads import in_thread

_LOGGER = logging.getLogger(__name__)

TOOLS: Final = ""
"""The key of a guest's tool caches, HOME and TMPDIR, beside the keys of its devices."""
_TOOLS_EVERY: Final = 3600.0
"""Seconds; compilers for one platform are a hundred thousand files, which hardly ever change."""


@dataclass(frozen=True, slots=True)
class Item:
    """Files that are removed as a whole: a device's tree, firmware and sources, or a guest's tools.

    ``guest`` is the name of the guest's folder, ``used`` Unix time in seconds, ``size`` in bytes.
    """

    guest: str
    key: str
    paths: tuple[Path, ...]
    used: float
    size: int = 0


type Hold = Callable[[str, str], AbstractAsyncContextManager[bool]]
"""Called with guest and key: keeps the item from being used meanwhile, or gives False: it is in use."""


class GuestDiskQuota:
    """Measures the folders of guests and evicts from them, in threads."""

    def __init__(
        self, layout: CacheLayout, time: Time, hold: Hold, waiting: Callable[[], int]
    ) -> None:
        """Measure nothing yet; ``waiting`` gives the bytes that were sent and are not unpacked."""
        self._layout = layout
        self._time = time
        self._hold = hold
        self._waiting = waiting
        self._sizes: dict[tuple[str, str], tuple[int, float]] = {}
        self._invalidated: set[tuple[str, str]] = set()
        self._turn = asyncio.Lock()
        self.limit: int | None = None
        """In bytes."""
        self.used = 0

    def check_waiting(self) -> None:
        """Raise ProtocolError NO_SPACE when what waits to be unpacked fills the limit already."""
        if self.limit is not None and self._waiting() > self.limit:
            raise ProtocolError(ErrorCode.NO_SPACE, "bundles of guests wait that fill their disk")

    def invalidate(self, guest: str, key: str) -> None:
        """Measure this item again next time: something was built there."""
        self._sizes.pop((guest, key), None)
        if self._turn.locked():  # what is being measured
            self._invalidated.add((guest, key))

    async def make_room(self, limit: int | None = None) -> None:
        """Delete what was used least recently until the rest keeps a limit in bytes, or the set one.

        What is in use stays, even if the limit is not kept then; so do bundles that wait.
        """
        async with self._turn:
            self._invalidated.clear()
            found = await asyncio.to_thread(_items, self._layout.guests)
            items = [replace(item, size=await self._size(item)) for item in found]
            # Tools count as used with the newest device; they go after it.
            items.sort(key=lambda item: item.key == TOOLS)
            waiting = self._waiting()
            self.used = waiting + sum(item.size for item in items)
            limit = self.limit if limit is None else limit
            if limit is not None:
                budget = max(0, limit - waiting)
                self.used = waiting + await evict(items, budget, self._evict)

    async def _evict(self, item: Item) -> bool:
        async with self._hold(item.guest, item.key) as free:
            if not free:
                return False
            _LOGGER.debug("%s of guest %s makes room", item.key or "tools", item.guest)
            doomed = await in_thread(lambda _stop: self._to_trash(item))
            self.invalidate(item.guest, item.key)
        # Takes long; what is used next has folders of its own by now.
        await in_thread(partial(_remove, doomed))
        return True

    async def _size(self, item: Item) -> int:
        now = self._time.monotonic()
        size, measured_at = self._sizes.get((item.guest, item.key), (None, 0.0))
        stale = item.key == TOOLS and now - measured_at > _TOOLS_EVERY
        if size is None or stale:
            size = await in_thread(lambda stop: sum(disk_usage(path, stop) for path in item.paths))
            # Unless something was built there since it was listed.
            if (item.guest, item.key) not in self._invalidated:
                self._sizes[item.guest, item.key] = (size, now)
        return size

    def _to_trash(self, item: Item) -> list[Path]:
        layout = CacheLayout(self._layout.guests / item.guest)
        if item.key != TOOLS:
            layout.source_digest(item.key).unlink(missing_ok=True)
        moved = (layout.to_trash(path) for path in item.paths)
        return [path for path in moved if path is not None]


def _remove(folders: list[Path], stop: threading.Event) -> None:
    for folder in folders:
        remove(folder, stop)


def _items(guests: Path) -> list[Item]:
    return [item for guest in folders(guests) for item in _items_of(CacheLayout(guest))]


def _items_of(layout: CacheLayout) -> list[Item]:
    parents = [layout.sources, layout.trees, layout.all_firmware]
    keys = sorted({folder.name for parent in parents for folder in folders(parent)})
    items = [
        Item(
            layout.root.name,
            key,
            tuple(path for parent in parents if (path := parent / key).is_dir()),
            _used(layout, key),
        )
        for key in keys
    ]
    tools_used = max((item.used for item in items), default=0.0)
    return [
        *items,
        Item(layout.root.name, TOOLS, (layout.tools, layout.home, layout.tmp), tools_used),
    ]


def _used(layout: CacheLayout, key: str) -> float:
    try:
        return layout.source_digest(key).stat().st_mtime
    except OSError:
        # Incomplete or cleaned.
        return 0.0
