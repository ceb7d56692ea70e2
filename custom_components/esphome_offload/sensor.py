"""Sensors of guests (last connection, number of builds), and of peers."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import override

from homeassistant.components.sensor import (
    SensorDeviceClass,
    SensorEntity,
    SensorEntityDescription,
    SensorStateClass,
)
from homeassistant.const import EntityCategory
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .coordinator import AnyConfigEntry
from .engine.host.guests import Guest
from .lending.guest_devices import async_remove_former, guest_device_info
from .lending.lender import Lender
from .peering.entry import is_peer
from .peering.sensors import async_add_peer_sensors

# Everything is pushed.
PARALLEL_UPDATES = 0


@dataclass(frozen=True, kw_only=True)
class GuestSensorDescription(SensorEntityDescription):
    """A sensor and how its value is read from a guest."""

    value: Callable[[Guest], datetime | int | None]


_SENSORS = (
    GuestSensorDescription(
        key="last_seen",
        translation_key="last_seen",
        device_class=SensorDeviceClass.TIMESTAMP,
        entity_category=EntityCategory.DIAGNOSTIC,
        value=lambda guest: guest.last_seen,
    ),
    GuestSensorDescription(
        key="builds",
        translation_key="builds",
        state_class=SensorStateClass.TOTAL_INCREASING,
        entity_category=EntityCategory.DIAGNOSTIC,
        value=lambda guest: guest.builds,
    ),
)


async def async_setup_entry(
    hass: HomeAssistant,
    entry: AnyConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Add the sensors of a peer, or of every guest that is there or comes."""
    if is_peer(entry):
        async_add_peer_sensors(entry.runtime_data, async_add_entities)
        return
    lender = entry.runtime_data.lender
    known: set[str] = set()

    @callback
    def follow() -> None:
        guests = lender.guests.all()
        async_remove_former(hass, entry.entry_id, guests)
        known.intersection_update({guest.pin_sha256 for guest in guests})
        new = [guest for guest in guests if guest.pin_sha256 not in known]
        known.update(guest.pin_sha256 for guest in new)
        if new:
            async_add_entities(
                GuestSensor(lender, guest, description) for guest in new for description in _SENSORS
            )

    entry.async_on_unload(lender.guests.changed.subscribe(follow))
    follow()


class GuestSensor(SensorEntity):
    """A value of one guest."""

    _attr_has_entity_name = True
    _attr_should_poll = False
    entity_description: GuestSensorDescription

    def __init__(self, lender: Lender, guest: Guest, description: GuestSensorDescription) -> None:
        """Read the guest for the first time."""
        self.entity_description = description
        self._lender = lender
        self._pin_sha256 = guest.pin_sha256
        self._attr_unique_id = f"guest_{guest.pin_sha256}_{description.key}"
        self._attr_device_info = guest_device_info(guest)
        self._attr_native_value = description.value(guest)

    @override
    async def async_added_to_hass(self) -> None:
        await super().async_added_to_hass()
        self.async_on_remove(self._lender.guests.changed.subscribe(self._guests_changed))

    @callback
    def async_entity_id_changed(self, old_entity_id: str) -> None:
        """Change nothing: with this, Home Assistant 2026.11 renames the entity in place."""

    @callback
    def _guests_changed(self) -> None:
        guest = self._lender.guests.get(self._pin_sha256)
        if guest is None:
            return
        value = self.entity_description.value(guest)
        if value != self._attr_native_value:
            self._attr_native_value = value
            self.async_write_ha_state()
