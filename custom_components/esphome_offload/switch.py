"""Switches: whether a device is updated automatically, whether builds of guests are accepted."""

from functools import partial
from typing import Any, override

from homeassistant.components.switch import SwitchEntity
from homeassistant.const import STATE_OFF, STATE_ON, EntityCategory
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .automatic.settings import AutomaticFor, AutomaticSettings
from .coordinator import OffloadConfigEntry, OffloadCoordinator
from .entity import OffloadEntity, async_add_to_targets, async_require_admin
from .inventory.tracker import OffloadDevice
from .lending.entity import InstanceEntity
from .lending.guest_devices import async_remove_instance
from .lending.lender import Lender

# Everything is pushed.
PARALLEL_UPDATES = 0


async def async_setup_entry(
    hass: HomeAssistant,
    entry: OffloadConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Add the switches of every device, and that of this instance where it can compile."""
    await async_add_to_targets(entry, async_add_entities, partial(AutomaticUpdatesSwitch, entry))
    lender = entry.runtime_data.lender
    if lender.why_cannot_build is None:
        async_add_entities([AcceptBuildsSwitch(lender)])
    else:
        async_remove_instance(hass, entry.entry_id)


class AutomaticUpdatesSwitch(OffloadEntity, SwitchEntity):
    """Whether the device is updated automatically; unavailable while that is off for all."""

    _attr_entity_category = EntityCategory.CONFIG
    _attr_translation_key = "automatic_updates"

    def __init__(
        self, entry: OffloadConfigEntry, coordinator: OffloadCoordinator, device: OffloadDevice
    ) -> None:
        super().__init__(coordinator, device, self._attr_translation_key)
        self._entry = entry

    @property
    def _settings(self) -> AutomaticSettings:
        return AutomaticSettings.from_options(self._entry.options)

    @property
    @override
    def available(self) -> bool:
        return self._settings.devices is not AutomaticFor.OFF

    @property
    @override
    def is_on(self) -> bool:
        chosen = self.coordinator.device_settings.get(self.target).automatic
        return self._settings.takes_part(chosen)

    @override
    @callback
    def _handle_coordinator_update(self) -> None:
        """Write no state for what happens to the device otherwise."""
        state = self.hass.states.get(self.entity_id)
        shown = None if state is None else {STATE_ON: True, STATE_OFF: False}.get(state.state)
        if shown is not (self.is_on if self.available else None):
            super()._handle_coordinator_update()

    @override
    async def async_turn_on(self, **kwargs: Any) -> None:
        await self._async_choose(automatic=True)

    @override
    async def async_turn_off(self, **kwargs: Any) -> None:
        await self._async_choose(automatic=False)

    async def _async_choose(self, *, automatic: bool) -> None:
        await async_require_admin(self)
        await self.coordinator.device_settings.async_set_automatic(self.target, automatic=automatic)


class AcceptBuildsSwitch(InstanceEntity, SwitchEntity):
    """The option of the same name. Off: builds that run go on, no new one starts."""

    _attr_entity_category = EntityCategory.CONFIG
    _attr_translation_key = "accept_builds"

    def __init__(self, lender: Lender) -> None:
        super().__init__(lender, self._attr_translation_key)

    @property
    @override
    def is_on(self) -> bool:
        return self.coordinator.accepts_builds

    @override
    async def async_turn_on(self, **kwargs: Any) -> None:
        await async_require_admin(self)
        self.coordinator.accept_builds(accept=True)

    @override
    async def async_turn_off(self, **kwargs: Any) -> None:
        await async_require_admin(self)
        self.coordinator.accept_builds(accept=False)
