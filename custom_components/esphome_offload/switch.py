"""The switch of this instance: whether builds of guests are accepted."""

from typing import Any, override

from homeassistant.components.switch import SwitchEntity
from homeassistant.const import EntityCategory
from homeassistant.core import HomeAssistant
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .coordinator import OffloadConfigEntry
from .entity import async_require_admin
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
    """Add the switch where something can be compiled."""
    lender = entry.runtime_data.lender
    if lender.why_cannot_build is None:
        async_add_entities([AcceptBuildsSwitch(lender)])
    else:
        async_remove_instance(hass, entry.entry_id)


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
