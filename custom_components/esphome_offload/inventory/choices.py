"""What a person chose where it was unclear which device a configuration is for."""

from collections.abc import Mapping

from homeassistant.core import HomeAssistant

from ..storage import StatePersistence

NO_DEVICE = "none"
"""The choice that a configuration is for none of the devices, as of a copy."""


class DeviceChoices:
    """The chosen devices, by file name of the configuration: MAC addresses, or ``NO_DEVICE``."""

    def __init__(self, hass: HomeAssistant) -> None:
        self._store = StatePersistence(hass, "chosen_devices")
        self._chosen: dict[str, str] = {}

    async def async_load(self) -> None:
        """Load what was chosen before a restart."""
        stored = await self._store.load() or {}
        self._chosen = {file: mac for file, mac in stored.items() if isinstance(mac, str)}

    def get(self, file: str) -> str | None:
        """Return the choice for a configuration."""
        return self._chosen.get(file)

    async def async_choose(self, file: str, choice: str) -> None:
        """Remember a choice."""
        self._chosen[file] = choice
        await self._store.save_now(dict(self._chosen))

    def rename(self, renamed: Mapping[str, str]) -> None:
        """Keep the choices of files that were renamed; ``renamed`` has old names by new ones."""
        for new, old in renamed.items():
            if (choice := self._chosen.pop(old, None)) is not None:
                self._chosen[new] = choice
                self._store.save_soon(lambda: dict(self._chosen))
