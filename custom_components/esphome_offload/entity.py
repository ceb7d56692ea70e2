"""What all entities of a device have in common."""

from typing import override

from homeassistant.core import callback
from homeassistant.helpers import device_registry as dr
from homeassistant.helpers.entity import Entity

from .coordinator import OffloadCoordinator
from .inventory.tracker import OffloadDevice
from .registry import own_device_info


class OffloadEntity(Entity):
    """Hangs on the device that core's esphome has, else on one of our own."""

    _attr_has_entity_name = True
    _attr_should_poll = False

    def __init__(self, coordinator: OffloadCoordinator, device: OffloadDevice) -> None:
        """Take the device as it is now; ``registry.async_relink`` keeps the link true."""
        self.coordinator = coordinator
        self._shown = (device, coordinator.latest_version)
        self.configuration = device.configuration.file_name
        self._attr_unique_id = self.configuration
        core = device.core
        if core is not None and core.device_id is not None:
            self.device_entry = dr.async_get(coordinator.hass).async_get(core.device_id)
        if self.device_entry is None:
            self._attr_device_info = own_device_info(device)

    @override
    async def async_added_to_hass(self) -> None:
        await super().async_added_to_hass()
        self.async_on_remove(self.coordinator.async_add_listener(self._device_changed))
        self.async_on_remove(self.coordinator.async_subscribe_jobs(self._job_changed))

    @override
    @callback
    def async_registry_entry_updated(self) -> None:
        if self.registry_entry is not None:
            # The configuration file was renamed.
            self._attr_unique_id = self.configuration = self.registry_entry.unique_id

    @callback
    def _device_changed(self) -> None:
        device = self.coordinator.devices.get(self.configuration)
        if device is None:
            return
        # Of a hundred devices one changes: the others need not look through all jobs for that.
        if (shown := (device, self.coordinator.latest_version)) != self._shown:
            self._shown = shown
            self.async_write_ha_state()

    @callback
    def _job_changed(self, configuration: str) -> None:
        if configuration == self.configuration:
            self.async_write_ha_state()
