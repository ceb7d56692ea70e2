"""What the page is sent, and when."""

from pathlib import Path

from homeassistant.core import HomeAssistant
from pytest_homeassistant_custom_component.common import MockConfigEntry, MockUser
from pytest_homeassistant_custom_component.typing import WebSocketGenerator

from custom_components.esphome_offload.coordinator import OffloadCoordinator
from custom_components.esphome_offload.engine.const import Operation
from custom_components.esphome_offload.engine.devices.answers import Answer
from custom_components.esphome_offload.engine.reason import Reason, ReasonKey

from ..conftest import Stage
from .following import SUBSCRIBE, Page


async def test_the_first_event_has_everything(shown: Page, entry: MockConfigEntry) -> None:
    assert shown.devices["lamp.yaml"] == {
        "id": "lamp.yaml",
        "configuration": "lamp.yaml",
        "name": "Desk lamp",
        "node_name": "lamp",
        "comment": None,
        "platform": "host",
        "device_id": shown.devices["lamp.yaml"]["device_id"],
        "online": None,
        "deep_sleep": False,
        "installed_version": None,
        "wanted_version": "2026.10.0",
        "pinned": False,
        "configuration_changed": None,
        "update": True,
        "over_the_air": True,
        "rivals": [],
    }
    overview = shown.overview
    assert (overview["set_up"], overview["folder"]) == (True, "esphome")
    assert overview["entry_id"] == entry.entry_id, "where the page leads to its settings"
    assert overview["builders"][0]["id"] == "local"
    assert overview["lending"] == {
        "accepts_builds": False,
        "why_not": None,
        "disk_used": 0,
        "code": None,
        "seconds_left": None,
        "guests": [],
    }


async def test_only_what_changed_is_sent_again(
    shown: Page, config_dir: Path, coordinator: OffloadCoordinator
) -> None:
    (config_dir / "kitchen.yaml").write_text("esphome:\n  name: kitchen\nhost:\n")
    await coordinator.inventory.async_rescan()
    event = await shown.event()
    assert list(event["devices"]) == ["kitchen.yaml"]
    assert "overview" not in event

    (config_dir / "kitchen.yaml").unlink()
    await coordinator.inventory.async_rescan()
    assert (await shown.event())["removed"] == ["kitchen.yaml"]


async def test_files_that_cannot_be_read_are_shown_with_their_reason(
    shown: Page, config_dir: Path, coordinator: OffloadCoordinator, stage: Stage
) -> None:
    (config_dir / "lamp.yaml").write_text("esphome: [\n")
    reason = Reason(ReasonKey.CONFIGURATION_SYNTAX, {"file": "lamp.yaml", "row": "1"})
    stage.inspector.answers["lamp.yaml"] = Answer(
        "lamp.yaml", broken=True, says_device=True, problem=reason, reads=("lamp.yaml",)
    )
    await coordinator.inventory.async_rescan()
    await shown.until(lambda shown: bool(shown.overview["unreadable"]))
    assert shown.overview["unreadable"] == {"lamp.yaml": "lamp.yaml is not valid YAML (line 1)"}
    assert shown.devices, "its device is kept"


async def test_it_is_for_administrators_only(
    coordinator: OffloadCoordinator,
    hass_ws_client: WebSocketGenerator,
    hass_admin_user: MockUser,
) -> None:
    client = await hass_ws_client()
    hass_admin_user.groups = []
    await client.send_json_auto_id({"type": SUBSCRIBE})
    answer = await client.receive_json()
    assert answer["error"]["code"] == "unauthorized"
    await client.send_json_auto_id({"type": "esphome_offload/pairing/open"})
    answer = await client.receive_json()
    assert answer["error"]["code"] == "unauthorized"


async def test_an_older_version_than_the_device_has_is_no_update(
    hass: HomeAssistant, coordinator: OffloadCoordinator, shown: Page, stage: Stage
) -> None:
    job = await coordinator.async_submit("lamp.yaml", Operation.INSTALL, version="2026.10.0")
    await coordinator.async_wait(job)
    await shown.until(lambda shown: shown.devices["lamp.yaml"]["installed_version"] == "2026.10.0")
    assert shown.devices["lamp.yaml"]["update"] is False
    stage.versions.newest_stable = "2026.9.0"
    await coordinator.versions.async_refresh()
    await shown.until(lambda shown: shown.devices["lamp.yaml"]["wanted_version"] == "2026.9.0")
    assert shown.devices["lamp.yaml"]["update"] is False
    stage.versions.newest_stable = "2026.12.0"
    await coordinator.versions.async_refresh()
    await shown.until(lambda shown: shown.devices["lamp.yaml"]["update"])
