"""What a person chose where it was unclear which device a configuration is for."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
import logging
from typing import Annotated

from homeassistant.core import HomeAssistant

from ..engine.codec import CodecError, Text, decode, encode
from ..engine.devices.model import Configuration
from ..storage import StatePersistence

_LOGGER = logging.getLogger(__name__)

NO_DEVICE = "none"
"""The choice that a configuration is for none of the devices, as of a copy."""


@dataclass(frozen=True, slots=True)
class _Choice:
    """A MAC address or ``NO_DEVICE``, and the node name for which it was chosen."""

    device: Annotated[str, Text(64)]
    node_name: Annotated[str, Text(255)]


class DeviceChoices:
    """The choices by file name of the configuration."""

    def __init__(self, hass: HomeAssistant) -> None:
        self._store = StatePersistence(hass, "chosen_devices")
        self._chosen: dict[str, _Choice] = {}

    async def async_load(self) -> None:
        """Load what was chosen before a restart."""
        for file, raw in (await self._store.load() or {}).items():
            try:
                self._chosen[file] = decode(_Choice, raw)
            except CodecError as err:
                _LOGGER.warning("What was chosen for %s is damaged: %s", file, err)

    def get(self, configuration: Configuration, last_mac: str | None) -> str | None:
        """Return the choice for a configuration, a MAC address or ``NO_DEVICE``.

        One with another node name than then is for another device, except for the one that was
        renamed.
        """
        choice = self._chosen.get(configuration.file_name)
        if choice is None or (
            choice.node_name != configuration.node_name and choice.device != last_mac
        ):
            return None
        return choice.device

    async def async_choose(self, configuration: Configuration, choice: str) -> None:
        """Remember a choice."""
        self._chosen[configuration.file_name] = _Choice(choice, configuration.node_name)
        await self._store.save_now(self._content())

    @property
    def files(self) -> list[str]:
        """The configurations with a choice."""
        return sorted(self._chosen)

    async def async_forget(self, files: Collection[str]) -> None:
        """Forget choices."""
        for file in files:
            self._chosen.pop(file, None)
        await self._store.save_now(self._content())

    def rename(self, renamed: Mapping[str, str]) -> None:
        """Keep the choices of files that were renamed; ``renamed`` has old names by new ones."""
        for new, old in renamed.items():
            if (choice := self._chosen.pop(old, None)) is not None:
                self._chosen[new] = choice
                self._store.save_soon(self._content)

    def keep_only(self, files: Collection[str]) -> None:
        """Forget the choices for files that do not exist any more."""
        if gone := self._chosen.keys() - set(files):
            for file in gone:
                del self._chosen[file]
            self._store.save_soon(self._content)

    def _content(self) -> dict[str, object]:
        return {file: encode(choice) for file, choice in self._chosen.items()}
