"""Sensors of devices (the installation), of this instance and its guests, and of peers."""

from typing import Any, Final, override

from homeassistant.components.sensor import SensorDeviceClass, SensorEntity
from homeassistant.const import EntityCategory
from homeassistant.core import HomeAssistant
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .coordinator import AnyConfigEntry, OffloadCoordinator
from .engine.const import JobStatus, Stage
from .engine.jobs.model import FirmwareJob
from .entity import OffloadEntity, async_add_to_targets
from .inventory.tracker import OffloadDevice
from .lending.entity import async_add_to_guests
from .lending.sensors import guest_sensors, instance_sensors
from .peering.entry import is_peer
from .peering.sensors import async_add_peer_sensors
from .texts.reasons import outcome_text, plain_text, reason_text

# Everything is pushed.
PARALLEL_UPDATES = 0

_IDLE: Final = "idle"


async def async_setup_entry(
    hass: HomeAssistant,
    entry: AnyConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Add the sensors of a peer, or of every device and guest that is there or comes."""
    if is_peer(entry):
        async_add_peer_sensors(entry.runtime_data, async_add_entities)
        return
    await async_add_to_targets(entry, async_add_entities, InstallationSensor)
    lender = entry.runtime_data.lender
    if lender.why_cannot_build is None:
        async_add_entities(instance_sensors(lender))
    entry.async_on_unload(async_add_to_guests(lender, async_add_entities, guest_sensors))


class InstallationSensor(OffloadEntity, SensorEntity):
    """What a job does to the device, or that the last installation failed.

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
        """The job that goes on or waits, else the last one that was to flash, if it failed."""
        queue = self.coordinator.queue
        if (job := queue.active(self.target)) is not None:
            return job
        last = queue.last_install(self.target)
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
            return dict.fromkeys(("builder", "job_id", "operation", "reason", "version"))
        reason: str | None = None
        if job.terminal:
            reason = outcome_text(self.hass, job)
        elif job.waiting_for is not None:
            reason = reason_text(self.hass, job.waiting_for)
        return {
            "builder": plain_text(job.routing.source_label),
            "job_id": job.job_id,
            "operation": job.request.operation.value,
            "reason": plain_text(reason),
            "version": job.request.esphome_version,
        }
