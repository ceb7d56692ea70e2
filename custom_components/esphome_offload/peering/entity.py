"""What all entities of a peer have in common."""

from abc import abstractmethod
from typing import override

from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import device_registry as dr
from homeassistant.helpers.entity import Entity

from ..const import DOMAIN
from .entry import Peer


class PeerEntity(Entity):
    """Hangs on the device that stands for the peer."""

    _attr_has_entity_name = True
    _attr_should_poll = False

    def __init__(self, peer: Peer, key: str) -> None:
        """Take the entry's id for the entity's: a peer may get another pin when paired again."""
        self.peer = peer
        entry_id = peer.entry.entry_id
        self._attr_unique_id = f"peer_{entry_id}_{key}"
        self._attr_device_info = dr.DeviceInfo(
            identifiers={_identifier(entry_id)},
            entry_type=dr.DeviceEntryType.SERVICE,
            name=peer.settings.label,
            configuration_url=peer.settings.url,
        )
        self._read()

    @override
    async def async_added_to_hass(self) -> None:
        await super().async_added_to_hass()
        self.async_on_remove(self.peer.link.subscribe(self._changed))
        self._read()

    @callback
    def async_entity_id_changed(self, old_entity_id: str) -> None:
        """Change nothing: with this, Home Assistant 2026.11 renames the entity in place."""

    @abstractmethod
    def _read(self) -> None:
        """Take over what the peer says now."""

    @callback
    def _changed(self) -> None:
        self._read()
        self.async_write_ha_state()


@callback
def async_follow_address(hass: HomeAssistant, peer: Peer) -> None:
    """Have the link on the peer's device lead to where the peer is now."""
    registry = dr.async_get(hass)
    entry_id = peer.entry.entry_id
    device = registry.async_get_device_by_identifier(_identifier(entry_id), entry_id)
    if device is not None:
        registry.async_update_device(device.id, configuration_url=peer.settings.url)


def _identifier(entry_id: str) -> tuple[str, str]:
    return DOMAIN, f"peer_{entry_id}"
