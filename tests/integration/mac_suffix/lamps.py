"""Lamps with one configuration, and what is shown of them."""

from typing import Any

from homeassistant.config_entries import ConfigEntryState
from homeassistant.core import HomeAssistant
from homeassistant.helpers import device_registry as dr, entity_registry as er
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.esphome_offload.const import DOMAIN
from custom_components.esphome_offload.coordinator import OffloadCoordinator
from custom_components.esphome_offload.engine.build.model import FlashRequest
from custom_components.esphome_offload.engine.const import Operation
from custom_components.esphome_offload.engine.jobs.model import FirmwareJob

from ..conftest import LAMP
from ..live_lamp import LiveLamp

SUFFIXED = LAMP.replace("  name: lamp\n", "  name: lamp\n  name_add_mac_suffix: true\n")
FIRST, SECOND = "aa:bb:cc:00:11:22", "aa:bb:cc:00:33:44"
ONE, TWO = f"lamp.yaml@{FIRST}", f"lamp.yaml@{SECOND}"
OLD = "2026.9.1"


class Lamp:
    """A lamp in core's esphome."""

    def __init__(
        self, hass: HomeAssistant, mac: str, *, name: str | None = None, available: bool = True
    ) -> None:
        suffix = mac.replace(":", "")[-6:]
        self.name = name or f"lamp-{suffix}"
        self.host = f"192.168.1.{int(suffix[-2:], 16)}"
        self.live = LiveLamp(available, self.name, mac)
        self.entry = MockConfigEntry(
            domain="esphome",
            unique_id=mac,
            title=self.name,
            data={"host": self.host, "port": 6053, "device_name": self.name},
        )
        self.entry.add_to_hass(hass)
        self.entry.runtime_data = self.live
        self.device = dr.async_get(hass).async_get_or_create(
            config_entry_id=self.entry.entry_id,
            connections={(dr.CONNECTION_NETWORK_MAC, mac)},
            name=f"Desk lamp {suffix}",
        )
        self.entry.mock_state(hass, ConfigEntryState.LOADED)

    def flashed(self, request: FlashRequest) -> None:
        """Restart with what was sent."""
        build = request.firmware.build_info
        self.live.runs(build.esphome_version, build.build_time)


def entities(hass: HomeAssistant) -> dict[str, er.RegistryEntry]:
    """Return our update entities by target."""
    return {
        entity.unique_id: entity
        for entity in er.async_get(hass).entities.values()
        if entity.platform == DOMAIN and entity.domain == "update"
    }


def shown(hass: HomeAssistant, target: str) -> dict[str, Any]:
    """Return the attributes of the entity of a target."""
    state = hass.states.get(entities(hass)[target].entity_id)
    assert state is not None
    return dict(state.attributes)


async def install(coordinator: OffloadCoordinator, target: str, **options: str) -> FirmwareJob:
    job = await coordinator.async_submit(target, Operation.INSTALL, **options)
    return await coordinator.async_wait(job)
