"""What survives a restart of Home Assistant, in its own storage folder."""

import asyncio
from collections.abc import Callable
from typing import TypedDict, override

from homeassistant.core import HomeAssistant
from homeassistant.helpers.storage import Store

from .const import DOMAIN
from .jobs.ports import Persistence

_STORAGE_VERSION = 1

# Long enough that the transitions of one moment make one write, short enough that a job is on
# disk well within a second of its submission.
_COALESCE_SECONDS = 0.1


class _StoredJobs(TypedDict):
    jobs: list[dict[str, object]]


class StoredVersions(TypedDict):
    """The newest ESPHome versions seen, by version channel."""

    newest: dict[str, str]


class JobPersistence(Persistence):
    """Keeps the jobs in ``.storage/esphome_offload.jobs``.

    Store's own delayed save waits anew at each call, so that steady transitions would keep the
    jobs off the disk; here the first one starts the clock.
    """

    def __init__(self, hass: HomeAssistant) -> None:
        """Touch nothing yet."""
        self._hass = hass
        self._store = Store[_StoredJobs](
            hass,
            _STORAGE_VERSION,
            f"{DOMAIN}.jobs",
            private=True,
            atomic_writes=True,
            serialize_in_event_loop=False,
        )
        self._pending: Callable[[], list[dict[str, object]]] | None = None
        self._writer: asyncio.Task[None] | None = None

    @override
    async def load(self) -> list[dict[str, object]]:
        stored = await self._store.async_load()
        return [] if stored is None else stored["jobs"]

    @override
    def save_soon(self, jobs: Callable[[], list[dict[str, object]]]) -> None:
        self._pending = jobs
        if self._writer is None or self._writer.done():
            self._writer = self._hass.async_create_background_task(
                self._write(), f"{DOMAIN} job store", eager_start=False
            )

    @override
    async def save_now(self, jobs: list[dict[str, object]]) -> None:
        self._pending = None
        await self._store.async_save({"jobs": jobs})

    async def _write(self) -> None:
        while self._pending is not None:
            await asyncio.sleep(_COALESCE_SECONDS)
            pending, self._pending = self._pending, None
            if pending is None:  # save_now came in between
                return
            await self._store.async_save({"jobs": pending()})


def version_store(hass: HomeAssistant) -> Store[StoredVersions]:
    """Return the store of the newest known ESPHome versions."""
    return Store[StoredVersions](hass, _STORAGE_VERSION, f"{DOMAIN}.versions")
