"""Sensors of devices (the installation), of guests, and of peers."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, override

from homeassistant.components.sensor import (
    SensorDeviceClass,
    SensorEntity,
    SensorEntityDescription,
    SensorStateClass,
)
from homeassistant.const import EntityCategory
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .coordinator import AnyConfigEntry, OffloadCoordinator
from .engine.const import JobStatus, Stage
from .engine.host.guests import Guest
from .engine.jobs.model import FirmwareJob
from .entity import OffloadEntity, async_add_to_targets
from .inventory.tracker import OffloadDevice
from .lending.guest_devices import async_remove_former, guest_device_info
from .lending.lender import Lender
from .peering.entry import is_peer
from .peering.sensors import async_add_peer_sensors
from .reasons import outcome_text, reason_text

# Everything is pushed.
PARALLEL_UPDATES = 0


_IDLE: Final = "idle"


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
    """Add the sensors of a peer, or of every device and guest that is there or comes."""
    if is_peer(entry):
        async_add_peer_sensors(entry.runtime_data, async_add_entities)
        return
    async_add_to_targets(entry, async_add_entities, InstallationSensor)
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


class InstallationSensor(OffloadEntity, SensorEntity):
    """What a job does to the device, or that the last one failed.

    Its states are few, also for the recorder: there is no percentage among them.
    """

    _attr_device_class = SensorDeviceClass.ENUM
    _attr_entity_category = EntityCategory.DIAGNOSTIC
    _attr_translation_key = "installation"
    _unrecorded_attributes = frozenset({"job_id", "reason"})

    def __init__(self, coordinator: OffloadCoordinator, device: OffloadDevice) -> None:
        super().__init__(coordinator, device, "installation")
        self._attr_options = [_IDLE, JobStatus.QUEUED, *Stage, JobStatus.FAILED]

    @property
    def _job(self) -> FirmwareJob | None:
        """The job that goes on or waits, else the last one if it failed."""
        queue = self.coordinator.queue
        if (job := queue.active(self.target)) is not None:
            return job
        last = queue.last(self.target)
        return last if last is not None and last.status is JobStatus.FAILED else None

    @property
    @override
    def native_value(self) -> str:
        if (job := self._job) is None:
            return _IDLE
        return job.status if job.terminal or job.stage is None else job.stage

    @property
    @override
    def extra_state_attributes(self) -> dict[str, Any]:
        if (job := self._job) is None:
            return dict.fromkeys(("builder", "job_id", "reason", "version"))
        reason: str | None = None
        if job.terminal:
            reason = outcome_text(self.hass, job)
        elif job.waiting_for is not None:
            reason = reason_text(self.hass, job.waiting_for)
        return {
            "builder": job.routing.source_label,
            "job_id": job.job_id,
            "reason": reason,
            "version": job.request.esphome_version,
        }


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
