"""The version that each device is to run, for administrators to choose."""

from typing import Final, override

from homeassistant.components.select import ATTR_OPTIONS, SelectEntity
from homeassistant.const import EntityCategory
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .coordinator import OffloadConfigEntry, OffloadCoordinator
from .entity import OffloadEntity, async_add_to_targets, async_require_admin
from .inventory.tracker import OffloadDevice
from .inventory.versions import CHANNELS, newest_first
from .texts.errors import validation_error

# Everything is pushed.
PARALLEL_UPDATES = 0

_AS_ALL: Final = "as_all"


async def async_setup_entry(
    hass: HomeAssistant,
    entry: OffloadConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Add the entity of every target that is there or appears."""
    await async_add_to_targets(entry, async_add_entities, VersionSelect)


class VersionSelect(OffloadEntity, SelectEntity):
    """The channel that the device follows, or the version that it is to have."""

    _attr_entity_category = EntityCategory.CONFIG
    _attr_translation_key = "version"

    def __init__(self, coordinator: OffloadCoordinator, device: OffloadDevice) -> None:
        super().__init__(coordinator, device, "version")

    @property
    def _choice(self) -> str | None:
        return self.coordinator.device_settings.get(self.target).version

    @property
    @override
    def current_option(self) -> str:
        return self._choice or _AS_ALL

    @property
    @override
    def options(self) -> list[str]:
        """The channels, the versions that are known, the device's own, and what was chosen."""
        own = (self._choice, self.coordinator.installed_version(self.target))
        versions = newest_first(
            [*self.coordinator.versions.known, *(each for each in own if each is not None)]
        )
        return [_AS_ALL, *CHANNELS, *versions]

    @override
    @callback
    def _handle_coordinator_update(self) -> None:
        """Write no state for what happens to the device otherwise."""
        state = self.hass.states.get(self.entity_id)
        shown = state and (state.state, state.attributes.get(ATTR_OPTIONS))
        if shown != (self.current_option, self.options):
            super()._handle_coordinator_update()

    @override
    async def async_select_option(self, option: str) -> None:
        await async_require_admin(self)
        choice = None if option == _AS_ALL else option
        choice = await self.coordinator.versions.async_check_choice(choice, self._device.name)
        # The file may have been renamed or removed during the check.
        await self.coordinator.versions.async_choose(self._device.target, choice)

    @property
    def _device(self) -> OffloadDevice:
        if (device := self.coordinator.devices.get(self.target)) is None:
            raise validation_error("unknown_configuration", configuration=self.target)
        return device
