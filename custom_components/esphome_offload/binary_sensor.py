"""Binary sensors of peers and of guests: whether they are connected."""

from typing import override

from homeassistant.components.binary_sensor import BinarySensorDeviceClass, BinarySensorEntity
from homeassistant.const import EntityCategory
from homeassistant.core import HomeAssistant
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .coordinator import AnyConfigEntry
from .engine.host.guests import Guest
from .lending.entity import GuestEntity, async_add_to_guests
from .lending.lender import Lender
from .peering.entity import PeerEntity
from .peering.entry import Peer, is_peer

# Everything is pushed.
PARALLEL_UPDATES = 0

_KEY = "connected"


async def async_setup_entry(
    hass: HomeAssistant,
    entry: AnyConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Add the sensor of a peer, or of every guest that is there or comes."""
    if is_peer(entry):
        async_add_entities([PeerConnected(entry.runtime_data)])
        return
    entry.async_on_unload(
        async_add_to_guests(
            entry.runtime_data.lender,
            async_add_entities,
            lambda lender, guest: [GuestConnected(lender, guest)],
        )
    )


class PeerConnected(PeerEntity, BinarySensorEntity):
    """On while a peer is connected, whether or not it takes builds."""

    _attr_device_class = BinarySensorDeviceClass.CONNECTIVITY
    _attr_entity_category = EntityCategory.DIAGNOSTIC

    def __init__(self, peer: Peer) -> None:
        super().__init__(peer, _KEY)

    @property
    @override
    def is_on(self) -> bool:
        return self.coordinator.link.connected


class GuestConnected(GuestEntity, BinarySensorEntity):
    """On while a guest is connected; its translation key tells it from the sensors of builders."""

    _attr_device_class = BinarySensorDeviceClass.CONNECTIVITY
    _attr_entity_category = EntityCategory.DIAGNOSTIC
    _attr_translation_key = "guest_connected"

    def __init__(self, lender: Lender, guest: Guest) -> None:
        super().__init__(lender, guest, _KEY)

    @property
    @override
    def is_on(self) -> bool:
        return self.coordinator.server.sessions.connected(self.pin_sha256)
