"""The switch that pauses lending at once."""

from typing import Any, override

from homeassistant.components.switch import SwitchEntity
from homeassistant.const import EntityCategory
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .coordinator import OffloadConfigEntry
from .engine.host.lending import Lending
from .lending.guest_devices import async_remove_instance, instance_device_info
from .lending.lender import Lender

# Everything is pushed.
PARALLEL_UPDATES = 0

_UNIQUE_ID = "lending"


async def async_setup_entry(
    hass: HomeAssistant,
    entry: OffloadConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Have the switch for as long as the options allow lending."""
    lender = entry.runtime_data.lender
    there = False

    @callback
    def follow() -> None:
        nonlocal there
        lent = lender.lending is not Lending.OFF
        if lent and not there:
            async_add_entities([LendingSwitch(lender)])
        elif not lent:
            async_remove_instance(hass, entry.entry_id)
        there = lent

    entry.async_on_unload(lender.changed.subscribe(follow))
    follow()


class LendingSwitch(SwitchEntity):
    """On: guests may build here. Off: what they build goes on, nothing new begins."""

    _attr_has_entity_name = True
    _attr_should_poll = False
    _attr_translation_key = "lending"
    _attr_entity_category = EntityCategory.CONFIG
    _attr_unique_id = _UNIQUE_ID

    def __init__(self, lender: Lender) -> None:
        """Show what is now."""
        self._lender = lender
        self._attr_device_info = instance_device_info()
        self._attr_is_on = not lender.paused

    @override
    async def async_added_to_hass(self) -> None:
        await super().async_added_to_hass()
        self.async_on_remove(self._lender.changed.subscribe(self._changed))

    @override
    async def async_turn_on(self, **kwargs: Any) -> None:
        await self._lender.async_set_paused(paused=False)

    @override
    async def async_turn_off(self, **kwargs: Any) -> None:
        await self._lender.async_set_paused(paused=True)

    @callback
    def _changed(self) -> None:
        is_on = not self._lender.paused
        if is_on != self._attr_is_on:
            self._attr_is_on = is_on
            self.async_write_ha_state()
