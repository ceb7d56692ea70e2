"""What a person chose where it was unclear which device a configuration is for."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated

from homeassistant.core import HomeAssistant

from ..engine.codec import Text
from ..engine.target import TargetId
from .target_store import TargetStore

NO_DEVICE = "none"
"""The choice that a configuration is for none of the devices, as of a copy."""


@dataclass(frozen=True, slots=True)
class Choice:
    """A MAC address or ``NO_DEVICE``, and the node name for which it was chosen."""

    device: Annotated[str, Text(64)]
    node_name: Annotated[str, Text(255)]


class DeviceChoices(TargetStore[Choice]):
    """The choices by target."""

    def __init__(self, hass: HomeAssistant) -> None:
        super().__init__(hass, "chosen_devices", Choice)

    def get(self, target: TargetId, node_name: str, macs: Collection[str]) -> str | None:
        """Return the choice for a target, a MAC address or ``NO_DEVICE``.

        One for a configuration that had another node name then is for another device, except for
        those that it had (``macs``).
        """
        choice = self.records.get(target)
        if choice is None or (choice.node_name != node_name and choice.device not in macs):
            return None
        return choice.device

    async def async_forget(self, targets: Collection[TargetId]) -> None:
        """Forget choices."""
        for target in targets:
            await self.async_set(target, None)
