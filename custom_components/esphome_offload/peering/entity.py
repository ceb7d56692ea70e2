"""The base of all entities of a peer."""

from typing import Final, override

from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import device_registry as dr
from homeassistant.helpers.update_coordinator import BaseCoordinatorEntity

from ..const import DOMAIN
from ..engine.protocol.hello import Introduction, Program
from .entry import Peer

# Names of products, which need no translation; a model cannot have any.
_MODELS: Final = {
    Program.HOME_ASSISTANT: "Home Assistant",
    Program.STANDALONE_BUILDER: "ESPHome Offload Builder",
}


class PeerEntity(BaseCoordinatorEntity[Peer]):
    """An entity on the device that stands for a peer."""

    _attr_has_entity_name = True

    def __init__(self, peer: Peer, key: str) -> None:
        """``key`` names the entity; the entry's id does too, since a peer may get another pin."""
        super().__init__(peer)
        entry_id = peer.entry.entry_id
        self._attr_unique_id = f"peer_{entry_id}_{key}"
        self._attr_device_info = dr.DeviceInfo(
            identifiers={_identifier(entry_id)},
            entry_type=dr.DeviceEntryType.SERVICE,
            name=peer.settings.label,
            configuration_url=peer.settings.url,
        )
        if (introduction := peer.link.introduction) is not None:
            model, version = _program(introduction)
            self._attr_device_info.update({"model": model, "sw_version": version})

    @override
    async def async_update(self) -> None:
        """Fetch nothing: the link has the current state."""


@callback
def async_update_device(hass: HomeAssistant, peer: Peer) -> None:
    """Show on the device of a peer where it is, what it is and its version."""
    registry = dr.async_get(hass)
    entry_id = peer.entry.entry_id
    device = registry.async_get_device_by_identifier(_identifier(entry_id), entry_id)
    if device is None:
        return
    registry.async_update_device(device.id, configuration_url=peer.settings.url)
    if (introduction := peer.link.introduction) is not None:
        model, version = _program(introduction)
        registry.async_update_device(device.id, model=model, sw_version=version)


def _program(introduction: Introduction) -> tuple[str, str]:
    return _MODELS[introduction.program], introduction.offer.version


def _identifier(entry_id: str) -> tuple[str, str]:
    return DOMAIN, f"peer_{entry_id}"
