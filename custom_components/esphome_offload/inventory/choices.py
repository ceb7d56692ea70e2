"""What a person chose where it was unclear which device a configuration is for."""

from collections.abc import Collection
from dataclasses import dataclass
import logging
from typing import Annotated

from homeassistant.core import HomeAssistant

from ..engine.codec import CodecError, Text, decode, encode
from ..engine.target import TargetId, configuration_of, moved
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
    """The choices by target."""

    def __init__(self, hass: HomeAssistant) -> None:
        self._store = StatePersistence(hass, "chosen_devices")
        self._chosen: dict[TargetId, _Choice] = {}

    async def async_load(self) -> None:
        """Load what was chosen before a restart."""
        for target, raw in (await self._store.load() or {}).items():
            try:
                self._chosen[TargetId(target)] = decode(_Choice, raw)
            except CodecError as err:
                _LOGGER.warning("What was chosen for %s is damaged: %s", target, err)

    def get(self, target: TargetId, node_name: str, macs: Collection[str]) -> str | None:
        """Return the choice for a target, a MAC address or ``NO_DEVICE``.

        One for a configuration that had another node name then is for another device, except for
        those that it had (``macs``).
        """
        choice = self._chosen.get(target)
        if choice is None or (choice.node_name != node_name and choice.device not in macs):
            return None
        return choice.device

    async def async_choose(self, target: TargetId, node_name: str, choice: str) -> None:
        """Remember a choice."""
        self._chosen[target] = _Choice(choice, node_name)
        await self._store.save_now(self._content())

    @property
    def targets(self) -> list[TargetId]:
        """The targets with a choice."""
        return sorted(self._chosen)

    async def async_forget(self, targets: Collection[TargetId]) -> None:
        """Forget choices."""
        for target in targets:
            self._chosen.pop(target, None)
        await self._store.save_now(self._content())

    def rename(self, old: TargetId, new: TargetId) -> None:
        """Move choices to another target; see ``moved``."""
        chosen = {moved(target, old, new): choice for target, choice in self._chosen.items()}
        if chosen != self._chosen:
            self._chosen = chosen
            self._store.save_soon(self._content)

    def keep_only(self, files: Collection[str]) -> None:
        """Forget the choices for configurations that do not exist any more."""
        gone = [target for target in self._chosen if configuration_of(target) not in files]
        for target in gone:
            del self._chosen[target]
        if gone:
            self._store.save_soon(self._content)

    def _content(self) -> dict[str, object]:
        return {target: encode(choice) for target, choice in self._chosen.items()}
