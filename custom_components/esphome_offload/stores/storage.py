"""Stores in Home Assistant's storage folder."""

import asyncio
from collections.abc import Callable, Mapping
import errno
from pathlib import Path
from typing import override

from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers.storage import STORAGE_DIR, Store

from ..const import DOMAIN
from ..engine.codec import Json
from ..engine.host.ports import StateStore
from ..engine.jobs.journal import JobJournal

_STORAGE_VERSION = 1

# Long enough that the transitions of one moment make one write, short enough that a job is on
# disk well within a second of its submission.
_COALESCE_SECONDS = 0.1

_NUMBER = "number"


class _SoonStore[T: Mapping[str, object]]:
    """A Store that saves within a time limit of the first request.

    Each request restarts the delay of Store's own delayed save, so that steady changes would
    never be written.
    """

    def __init__(self, hass: HomeAssistant, name: str) -> None:
        self._hass = hass
        self._name = name
        self._store = Store[T](
            hass,
            _STORAGE_VERSION,
            f"{DOMAIN}.{name}",
            private=True,
            atomic_writes=True,
            serialize_in_event_loop=False,
        )
        self._pending: Callable[[], T] | None = None
        self._writer: asyncio.Task[None] | None = None

    async def load(self) -> T | None:
        return await self._store.async_load()

    def save_soon(self, content: Callable[[], T]) -> None:
        self._pending = content
        if self._writer is None or self._writer.done():
            self._writer = self._hass.async_create_background_task(
                self._write(), f"{DOMAIN} {self._name} store", eager_start=False
            )

    async def save_now(self, content: T) -> None:
        self._pending = None
        await self._store.async_save(content)

    async def _write(self) -> None:
        while self._pending is not None:
            await asyncio.sleep(_COALESCE_SECONDS)
            pending, self._pending = self._pending, None
            if pending is None:  # save_now came in between
                return
            await self._store.async_save(pending())


class StatePersistence(_SoonStore[dict[str, object]], StateStore):
    """Stores one state in ``.storage/esphome_offload.<name>``, with file mode 0600.

    Store only logs that it could not write. Each save has a number, by which a durable one is
    looked for on disk.
    """

    _number = 0

    @override
    async def load(self) -> dict[str, object] | None:
        stored = await super().load()
        if stored is None:
            return None
        number = stored.get(_NUMBER)
        self._number = number if isinstance(number, int) else 0
        return {key: value for key, value in stored.items() if key != _NUMBER}

    @override
    def save_soon(self, content: Callable[[], dict[str, object]]) -> None:
        super().save_soon(lambda: self._numbered(content()))

    @override
    async def save_now(self, content: dict[str, object]) -> None:
        await super().save_now(self._numbered(content))

    @override
    async def save_durably(self, content: dict[str, object]) -> None:
        numbered = self._numbered(content)
        number = self._number
        await super().save_now(numbered)
        try:
            stored = await super().load() or {}
        except HomeAssistantError:
            stored = {}
        kept = stored.get(_NUMBER)
        if not isinstance(kept, int) or kept < number:
            raise OSError(errno.EIO, "Home Assistant could not write it; its log says why")

    def _numbered(self, content: dict[str, object]) -> dict[str, object]:
        self._number += 1
        return {**content, _NUMBER: self._number}


def version_store(hass: HomeAssistant) -> Store[Json]:
    """Return the store of the newest known ESPHome versions."""
    return Store[Json](hass, _STORAGE_VERSION, f"{DOMAIN}.versions")


def job_journal(hass: HomeAssistant) -> JobJournal:
    """Return the store of the jobs; beside Home Assistant's own, so that backups have it."""
    return JobJournal(Path(hass.config.path(STORAGE_DIR, f"{DOMAIN}.jobs.jsonl")))
