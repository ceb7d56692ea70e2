"""A lamp that core knows, and a plug that it does not."""

from pathlib import Path

from homeassistant.core import HomeAssistant
from homeassistant.helpers import (
    area_registry as ar,
    device_registry as dr,
    entity_registry as er,
    floor_registry as fr,
    label_registry as lr,
)
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.esphome_offload.coordinator import OffloadCoordinator

from ..conftest import LAMP
from .calling import MAC


@pytest.fixture
def core_device(hass: HomeAssistant) -> dr.DeviceEntry:
    """The lamp as core's esphome integration has it, with a light, in the office upstairs."""
    entry = MockConfigEntry(
        domain="esphome", unique_id=MAC, title="Desk lamp", data={"device_name": "lamp"}
    )
    entry.add_to_hass(hass)
    device = dr.async_get(hass).async_get_or_create(
        config_entry_id=entry.entry_id,
        connections={(dr.CONNECTION_NETWORK_MAC, MAC)},
        name="Desk lamp",
    )
    er.async_get(hass).async_get_or_create(
        "light",
        "esphome",
        MAC,
        config_entry=entry,
        device_id=device.id,
        suggested_object_id="desk_lamp",
    )
    upstairs = fr.async_get(hass).async_create("Upstairs")
    office = ar.async_get(hass).async_create("Office", floor_id=upstairs.floor_id)
    lr.async_get(hass).async_create("Nightly")
    updated = dr.async_get(hass).async_update_device(device.id, area_id=office.id)
    assert updated is not None
    return updated


@pytest.fixture
def configs(config_dir: Path, core_device: dr.DeviceEntry) -> None:
    """A lamp that core knows, and a plug that it does not."""
    (config_dir / "plug.yaml").write_text(LAMP.replace("lamp", "plug"))


@pytest.fixture
async def home(configs: None, coordinator: OffloadCoordinator) -> OffloadCoordinator:
    """Both devices, set up."""
    return coordinator
