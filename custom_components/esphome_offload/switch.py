"""Switches: automatic updates of devices, builds of guests, the use of paired builders."""

from functools import partial
from typing import Any, override

from homeassistant.components.switch import SwitchEntity
from homeassistant.const import STATE_OFF, STATE_ON, EntityCategory
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .automatic.settings import AutomaticFor, AutomaticSettings
from .coordinator import AnyConfigEntry, OffloadConfigEntry, OffloadCoordinator
from .entity import OffloadEntity, async_add_to_targets, async_require_admin
from .inventory.tracker import OffloadDevice
from .lending.entity import InstanceEntity
from .lending.guest_devices import async_remove_instance
from .lending.lender import Lender
from .peering.entity import PeerEntity
from .peering.entry import Peer, PeerConfigEntry, async_use, is_peer, is_used

# Everything is pushed.
PARALLEL_UPDATES = 0


async def async_setup_entry(
    hass: HomeAssistant,
    entry: AnyConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Add that of a peer, or those of every device and of this instance where it can compile."""
    if is_peer(entry):
        async_add_entities([UseBuilderSwitch(entry.runtime_data)])
        return
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


class UseBuilderSwitch(PeerEntity, SwitchEntity):
    """Whether jobs use a builder that do not ask for it. Off: builds that it has go on."""

    _attr_entity_category = EntityCategory.CONFIG
    _attr_translation_key = "use_builder"

    def __init__(self, peer: Peer) -> None:
        super().__init__(peer, self._attr_translation_key)

    @property
    @override
    def is_on(self) -> bool:
        return is_used(self.coordinator.entry)

    @override
    async def async_added_to_hass(self) -> None:
        """Follow the option, which the page changes as well."""
        await super().async_added_to_hass()

        async def changed(_hass: HomeAssistant, _entry: PeerConfigEntry) -> None:
            self.async_write_ha_state()

        self.async_on_remove(self.coordinator.entry.add_update_listener(changed))

    @callback
    def async_entity_id_changed(self, old_entity_id: str) -> None:
        """Change nothing: with this, Home Assistant 2026.11 renames the entity in place."""

    @override
    async def async_turn_on(self, **kwargs: Any) -> None:
        await async_require_admin(self)
        async_use(self.hass, self.coordinator.entry, use=True)

    @override
    async def async_turn_off(self, **kwargs: Any) -> None:
        await async_require_admin(self)
        async_use(self.hass, self.coordinator.entry, use=False)
