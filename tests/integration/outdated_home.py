"""A home of devices that core's esphome is connected to, each with a version of its own."""

from pathlib import Path

from homeassistant.config_entries import ConfigEntryState
from homeassistant.core import HomeAssistant
from homeassistant.helpers import device_registry as dr
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.esphome_offload.engine.build.model import Firmware

from .conftest import LAMP, NEWEST, Stage
from .live_lamp import LiveLamp

VERSIONS = {"attic": "2026.9.1", "cellar": "2026.8.0", "hall": NEWEST, "porch": "2026.9.0"}
"""The devices; all but the hall's have an update."""


def update_entity(name: str) -> str:
    return f"update.{name}_esphome"


def furnish(hass: HomeAssistant, config_dir: Path, stage: Stage) -> dict[str, LiveLamp]:
    """Have these devices and no other, before the integration is set up; return their live data."""
    (config_dir / "lamp.yaml").unlink()
    devices: dict[str, LiveLamp] = {}
    for number, (name, version) in enumerate(VERSIONS.items(), 1):
        (config_dir / f"{name}.yaml").write_text(
            LAMP.replace("Desk lamp", name.title()).replace("lamp", name)
        )
        mac = f"aa:bb:cc:00:00:{number:02x}"
        devices[name] = device = LiveLamp(True, name, mac)
        device.runs(version, "2026-09-20 10:00:00 +0000")
        entry = MockConfigEntry(
            domain="esphome", unique_id=mac, title=name, data={"device_name": name}
        )
        entry.add_to_hass(hass)
        entry.runtime_data = device
        entry.mock_state(hass, ConfigEntryState.LOADED)
        dr.async_get(hass).async_get_or_create(
            config_entry_id=entry.entry_id,
            connections={(dr.CONNECTION_NETWORK_MAC, mac)},
            name=name.title(),
        )

    def flashed(firmware: Firmware) -> None:
        build = firmware.build_info
        devices[firmware.device_name].runs(build.esphome_version, build.build_time)

    stage.flasher.flashed = flashed
    return devices
