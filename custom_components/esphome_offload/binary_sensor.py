"""Binary sensors of peers and of guests: whether they are connected, and can take builds."""

from datetime import datetime
from typing import override

from homeassistant.components.binary_sensor import BinarySensorDeviceClass, BinarySensorEntity
from homeassistant.const import EntityCategory
from homeassistant.core import HassJob, HomeAssistant, callback
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback
from homeassistant.helpers.event import async_call_later

from .coordinator import AnyConfigEntry
from .engine.host.guests import Guest
from .lending.entity import GuestEntity, async_add_to_guests
from .lending.lender import Lender
from .peering.entity import PeerEntity
from .peering.entry import Peer, is_peer
from .peering.peers import START_GRACE

# Everything is pushed.
PARALLEL_UPDATES = 0

_KEY = "connected"


async def async_setup_entry(
    hass: HomeAssistant,
    entry: AnyConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Add the sensors of a peer, or the one of every guest that is there or comes."""
    if is_peer(entry):
        peer = entry.runtime_data
        async_add_entities([PeerConnected(peer), PeerReady(peer)])
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


class PeerReady(PeerEntity, BinarySensorEntity):
    """On while a peer can take builds: it is connected and accepts them.

    Unknown until the peer has said so, or had time to: what is found after a start of Home
    Assistant or a reload is not a change of the peer. Unknown again when Home Assistant stops.
    """

    _attr_device_class = BinarySensorDeviceClass.RUNNING
    _attr_entity_category = EntityCategory.DIAGNOSTIC
    _attr_translation_key = "ready"

    def __init__(self, peer: Peer) -> None:
        super().__init__(peer, "ready")
        self._settled = False

    @override
    async def async_added_to_hass(self) -> None:
        await super().async_added_to_hass()
        settle = HassJob(self._settle, cancel_on_shutdown=True)
        self.async_on_remove(async_call_later(self.hass, START_GRACE, settle))

    @callback
    def async_entity_id_changed(self, old_entity_id: str) -> None:
        """Change nothing: with this, Home Assistant 2026.11 renames the entity in place."""

    @property
    @override
    def is_on(self) -> bool | None:
        if self.coordinator.builder.status().available:
            return True
        return False if self._settled and not self.coordinator.stopped else None

    @callback
    @override
    def _handle_coordinator_update(self) -> None:
        if self.coordinator.link.status is not None:
            self._settled = True
        super()._handle_coordinator_update()

    @callback
    def _settle(self, _now: datetime) -> None:
        self._settled = True
        self.async_write_ha_state()


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
