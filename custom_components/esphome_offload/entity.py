"""The base of all entities of a device."""

import asyncio
from collections.abc import Callable
from itertools import batched
from typing import override

from homeassistant.core import callback
from homeassistant.exceptions import Unauthorized, UnknownUser
from homeassistant.helpers import device_registry as dr
from homeassistant.helpers.entity import Entity
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback
from homeassistant.helpers.update_coordinator import BaseCoordinatorEntity

from .const import DOMAIN
from .coordinator import OffloadConfigEntry, OffloadCoordinator
from .inventory.tracker import OffloadDevice
from .registry import entity_unique_id, own_device_info, target_of

# Home Assistant adds those of one call without a pause.
_AT_ONCE = 25


class OffloadEntity(BaseCoordinatorEntity[OffloadCoordinator]):
    """An entity on the device that core's esphome has, else on one of our own.

    ``registry.async_relink`` moves it when core's device is added or removed.
    """

    _attr_has_entity_name = True

    def __init__(
        self, coordinator: OffloadCoordinator, device: OffloadDevice, key: str | None = None
    ) -> None:
        """``key`` tells it from the other entities of the target; the update entity has none."""
        self.target = device.target
        super().__init__(coordinator, lambda: self.target)
        self._attr_unique_id = entity_unique_id(self.target, key)
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
            self._attr_unique_id = self.registry_entry.unique_id
            before, self.target = self.target, target_of(self._attr_unique_id)
            if self.target != before:
                self.coordinator.listeners.moved(before)

    @override
    @callback
    def _handle_coordinator_update(self) -> None:
        if self.target in self.coordinator.devices:
            super()._handle_coordinator_update()


async def async_add_to_targets(
    entry: OffloadConfigEntry,
    add: AddConfigEntryEntitiesCallback,
    *make: Callable[[OffloadCoordinator, OffloadDevice], OffloadEntity],
) -> None:
    """Add entities to every target that is there or appears: one with each of ``make``."""
    coordinator = entry.runtime_data
    entities: list[OffloadEntity] = []

    def take_new() -> list[OffloadEntity]:
        nonlocal entities
        devices = coordinator.devices
        # A target that was renamed took its entities with it.
        entities = [entity for entity in entities if entity.target in devices]
        known = {entity.target for entity in entities}
        new = [
            each(coordinator, device)
            for target, device in devices.items()
            if target not in known
            for each in make
        ]
        entities += new
        return new

    async def add_new(new: list[OffloadEntity]) -> None:
        for some in batched(new, _AT_ONCE, strict=False):
            add([entity for entity in some if entity.target in coordinator.devices])
            await asyncio.sleep(0)

    @callback
    def follow() -> None:
        if new := take_new():
            entry.async_create_task(coordinator.hass, add_new(new), f"{DOMAIN} new devices")

    entry.async_on_unload(coordinator.listeners.of_list.subscribe(follow))
    await add_new(take_new())


async def async_require_admin(entity: Entity) -> None:
    """Raise Unauthorized when a user who is no administrator asks an entity for something.

    The services of entities are for everybody who may control the entity. As in those that
    are for administrators only, a call without a user is Home Assistant's own.
    """
    if (context := entity._context) is None or context.user_id is None:  # noqa: SLF001
        return
    user = await entity.hass.auth.async_get_user(context.user_id)
    if user is None:
        raise UnknownUser(context=context, entity_id=entity.entity_id)
    if not user.is_admin:
        raise Unauthorized(context=context, entity_id=entity.entity_id)
