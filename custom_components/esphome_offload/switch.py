"""The switch that pauses lending at once."""

from typing import Any, override

from homeassistant.components.switch import SwitchEntity
from homeassistant.const import EntityCategory
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .coordinator import OffloadConfigEntry
from .engine.host.lending import Lending
from .entity import async_require_admin
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
    """Add the switch while the options allow lending."""
    lender = entry.runtime_data.lender
    added = False

    @callback
    def follow() -> None:
        nonlocal added
        lent = lender.lending is not Lending.OFF
        if lent and not added:
            async_add_entities([LendingSwitch(lender)])
        elif not lent:
            async_remove_instance(hass, entry.entry_id)
        added = lent

    entry.async_on_unload(lender.changed.subscribe(follow))
    follow()


class LendingSwitch(SwitchEntity):
    """On: guests may build here. Off: their running builds go on, no new one starts."""

    _attr_has_entity_name = True
    _attr_should_poll = False
    _attr_translation_key = "lending"
    _attr_entity_category = EntityCategory.CONFIG
    _attr_unique_id = _UNIQUE_ID

    def __init__(self, lender: Lender) -> None:
        self._lender = lender
        self._attr_device_info = instance_device_info()
        self._attr_is_on = not lender.paused

    @override
    async def async_added_to_hass(self) -> None:
        await super().async_added_to_hass()
        self.async_on_remove(self._lender.changed.subscribe(self._changed))

    @callback
    def async_entity_id_changed(self, old_entity_id: str) -> None:
        """Change nothing: with this, Home Assistant 2026.11 renames the entity in place."""

    @override
    async def async_turn_on(self, **kwargs: Any) -> None:
        await async_require_admin(self)
        await self._lender.async_set_paused(paused=False)

    @override
    async def async_turn_off(self, **kwargs: Any) -> None:
        await async_require_admin(self)
        await self._lender.async_set_paused(paused=True)

    @callback
    def _changed(self) -> None:
        is_on = not self._lender.paused
        if is_on != self._attr_is_on:
            self._attr_is_on = is_on
            self.async_write_ha_state()
