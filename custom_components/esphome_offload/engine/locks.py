"""Locks by key, where guests may think of any number of keys."""

import asyncio
from weakref import WeakValueDictionary


class Locks:
    """A lock per key. One that nobody holds, or waits for, is not kept."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def __len__(self) -> int:
        """Return how many are held or waited for."""
        return len(self._locks)

    def __getitem__(self, key: str) -> asyncio.Lock:
        """Return the lock of a key."""
        return self._locks.setdefault(key, asyncio.Lock())
