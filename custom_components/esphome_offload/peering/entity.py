"""The base of all entities of a peer."""

from typing import override

from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import device_registry as dr
from homeassistant.helpers.update_coordinator import BaseCoordinatorEntity

from ..const import DOMAIN
from .entry import Peer


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

    @override
    async def async_update(self) -> None:
        """Fetch nothing: the link has the current state."""


@callback
def async_update_address(hass: HomeAssistant, peer: Peer) -> None:
    """Show the present address of a peer on its device."""
    registry = dr.async_get(hass)
    entry_id = peer.entry.entry_id
    device = registry.async_get_device_by_identifier(_identifier(entry_id), entry_id)
    if device is not None:
        registry.async_update_device(device.id, configuration_url=peer.settings.url)


def _identifier(entry_id: str) -> tuple[str, str]:
    return DOMAIN, f"peer_{entry_id}"
