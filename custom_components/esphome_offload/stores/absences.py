"""Absences: since when others are away, also over restarts of Home Assistant."""

from collections.abc import Collection
from datetime import datetime
from typing import Final

from homeassistant.core import HomeAssistant
from homeassistant.util import dt as dt_util

from .storage import StatePersistence

_AWAY_SINCE: Final = "away_since"


class Absences:
    """The times at which builders or devices, each with a key, were seen to be away."""

    def __init__(self, hass: HomeAssistant, name: str) -> None:
        """``name`` is that of the store."""
        self._store = StatePersistence(hass, name)
        self._since: dict[str, datetime] = {}

    async def async_load(self) -> None:
        """Load what is known from before a restart."""
        stored = (await self._store.load() or {}).get(_AWAY_SINCE)
        for key, value in stored.items() if isinstance(stored, dict) else ():
            since = dt_util.parse_datetime(value) if isinstance(value, str) else None
            if since is not None and since.tzinfo is not None:
                self._since[key] = since

    def since(self, key: str) -> datetime:
        """Return since when one is away: from now on if that is new."""
        if key not in self._since:
            self._since[key] = dt_util.utcnow()
            self._store.save_soon(self._content)
        return self._since[key]

    def end(self, key: str) -> None:
        """Forget that one was away."""
        if self._since.pop(key, None) is not None:
            self._store.save_soon(self._content)

    def keep_only(self, keys: Collection[str]) -> None:
        """Forget all others."""
        for key in self._since.keys() - keys:
            self.end(key)

    def _content(self) -> dict[str, object]:
        return {_AWAY_SINCE: {key: since.isoformat() for key, since in self._since.items()}}
