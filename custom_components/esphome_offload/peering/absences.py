"""Absences: since when builders are away, also over restarts of Home Assistant."""

from datetime import datetime
from typing import Final

from homeassistant.core import HomeAssistant
from homeassistant.util import dt as dt_util

from ..stores.storage import StatePersistence

_AWAY_SINCE: Final = "away_since"


class Absences:
    """The times at which builders, by their entries, were seen to be away."""

    def __init__(self, hass: HomeAssistant) -> None:
        self._store = StatePersistence(hass, "builders")
        self._since: dict[str, datetime] = {}

    async def async_load(self) -> None:
        """Load what is known from before a restart."""
        stored = (await self._store.load() or {}).get(_AWAY_SINCE)
        for entry_id, value in stored.items() if isinstance(stored, dict) else ():
            since = dt_util.parse_datetime(value) if isinstance(value, str) else None
            if since is not None and since.tzinfo is not None:
                self._since[entry_id] = since

    def since(self, entry_id: str) -> datetime:
        """Return since when a builder is away: from now on if that is new."""
        if entry_id not in self._since:
            self._since[entry_id] = dt_util.utcnow()
            self._store.save_soon(self._content)
        return self._since[entry_id]

    def end(self, entry_id: str) -> None:
        """Forget that a builder was away."""
        if self._since.pop(entry_id, None) is not None:
            self._store.save_soon(self._content)

    def _content(self) -> dict[str, object]:
        return {_AWAY_SINCE: {key: since.isoformat() for key, since in self._since.items()}}
