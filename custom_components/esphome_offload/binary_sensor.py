"""Binary sensor of a peer: whether it is connected."""

from typing import override

from homeassistant.components.binary_sensor import BinarySensorDeviceClass, BinarySensorEntity
from homeassistant.const import EntityCategory
from homeassistant.core import HomeAssistant
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .peering.entity import PeerEntity
from .peering.entry import Peer, PeerConfigEntry

# Everything is pushed.
PARALLEL_UPDATES = 0


async def async_setup_entry(
    hass: HomeAssistant,
    entry: PeerConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Add the sensor of a peer."""
    async_add_entities([PeerConnected(entry.runtime_data)])


class PeerConnected(PeerEntity, BinarySensorEntity):
    """On while a peer is connected, whether or not it takes builds."""

    _attr_device_class = BinarySensorDeviceClass.CONNECTIVITY
    _attr_entity_category = EntityCategory.DIAGNOSTIC

    def __init__(self, peer: Peer) -> None:
        super().__init__(peer, "connected")

    @property
    @override
    def is_on(self) -> bool:
        return self.coordinator.link.connected
