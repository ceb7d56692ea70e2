"""The base of all entities of a device."""

from typing import override

from homeassistant.core import callback
from homeassistant.helpers import device_registry as dr
from homeassistant.helpers.update_coordinator import BaseCoordinatorEntity

from .coordinator import OffloadCoordinator
from .engine.target import TargetId
from .inventory.tracker import OffloadDevice
from .registry import own_device_info


class OffloadEntity(BaseCoordinatorEntity[OffloadCoordinator]):
    """An entity on the device that core's esphome has, else on one of our own.

    ``registry.async_relink`` moves it when core's device is added or removed.
    """

    _attr_has_entity_name = True

    def __init__(self, coordinator: OffloadCoordinator, device: OffloadDevice) -> None:
        self.target = device.target
        super().__init__(coordinator, lambda: self.target)
        self._attr_unique_id = self.target
        core = device.core
        if core is not None and core.device_id is not None:
            self.device_entry = dr.async_get(coordinator.hass).async_get(core.device_id)
        if self.device_entry is None:
            self._attr_device_info = own_device_info(device)

    @override
    async def async_update(self) -> None:
        """Fetch nothing: the coordinator has the current state."""

    @override
    @callback
    def async_registry_entry_updated(self) -> None:
        if self.registry_entry is not None:
            # The configuration file was renamed, or its device became known.
            self.target = TargetId(self.registry_entry.unique_id)
            self._attr_unique_id = self.target

    @override
    @callback
    def _handle_coordinator_update(self) -> None:
        if self.target in self.coordinator.devices:
            super()._handle_coordinator_update()
