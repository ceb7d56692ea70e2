"""States of the engine, each in a JSON file of the data folder."""

import asyncio
from collections.abc import Callable
import json
import logging
from pathlib import Path
from typing import Final, override

from .engine.host.ports import StateStore
from .engine.private_file import write_private
from .engine.tasks import CoalescedTask, uninterrupted

_LOGGER = logging.getLogger(__name__)

_COALESCE_SECONDS: Final = 0.1
"""The changes of one moment make one write."""


class FileStore(StateStore):
    """One state in one file, with mode 0600."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pending: Callable[[], dict[str, object]] | None = None
        self._writer = CoalescedTask(self._write_pending, f"store {path.name}")
        self._turn = asyncio.Lock()

    @override
    async def load(self) -> dict[str, object] | None:
        """Return what was stored last; a damaged file is put aside."""
        return await asyncio.to_thread(self._load)

    @override
    def save_soon(self, state: Callable[[], dict[str, object]]) -> None:
        self._pending = state
        self._writer.request()

    @override
    async def save_now(self, state: dict[str, object]) -> None:
        try:
            await self.save_durably(state)
        except OSError as err:
            _LOGGER.warning("%s cannot be written: %s", self._path, err.strerror)

    @override
    async def save_durably(self, state: dict[str, object]) -> None:
        self._pending = None
        content = json.dumps(state).encode()
        async with self._turn:
            # The thread goes on when this is cancelled: the next write has to wait for it.
            await uninterrupted(asyncio.to_thread(write_private, self._path, content))

    async def close(self) -> None:
        """Write what is not written yet."""
        await self._writer.stop()
        if self._pending is not None:
            await self.save_now(self._pending())

    async def _write_pending(self) -> None:
        await asyncio.sleep(_COALESCE_SECONDS)
        if self._pending is not None:
            await self.save_now(self._pending())

    def _load(self) -> dict[str, object] | None:
        try:
            state = json.loads(self._path.read_bytes())
        except FileNotFoundError:
            return None
        except ValueError:
            state = None
        if isinstance(state, dict):
            return state
        aside = self._path.with_suffix(".damaged")
        self._path.replace(aside)
        _LOGGER.error("%s is damaged and was put aside as %s", self._path, aside.name)
        return None
