"""Diagnostics and system health."""

import json
from pathlib import Path

from homeassistant.core import HomeAssistant
from homeassistant.setup import async_setup_component
import pytest
from pytest_homeassistant_custom_component.common import (
    MockConfigEntry,
    get_system_health_info,
)

from custom_components.esphome_offload.const import DOMAIN
from custom_components.esphome_offload.coordinator import OffloadCoordinator
from custom_components.esphome_offload.diagnostics import async_get_config_entry_diagnostics
from custom_components.esphome_offload.engine.build.model import BuilderStatus
from custom_components.esphome_offload.engine.const import FailureReason, Operation
from custom_components.esphome_offload.engine.device_access import DeviceAccess, OtaPlatform
from custom_components.esphome_offload.engine.devices.answers import Answer
from custom_components.esphome_offload.engine.reason import Reason, ReasonKey
from custom_components.esphome_offload.engine.target import TargetId

from ..engine.jobs.fakes import failing
from .conftest import LAMP, NEWEST, Pass, Stage
from .guest_client import OffloaderClient


async def test_diagnostics_have_the_state_without_secrets_and_addresses(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    entry: MockConfigEntry,
    stage: Stage,
    config_dir: Path,
) -> None:
    stage.builder.script = [failing(FailureReason.CONFIG_INVALID, "password: hunter2 is too short")]
    job = await coordinator.async_submit(
        "lamp.yaml", Operation.INSTALL, address="192.168.1.20", user_id="somebody"
    )
    await coordinator.async_wait(job)

    diagnostics = await async_get_config_entry_diagnostics(hass, entry)

    text = json.dumps(diagnostics)
    for secret in ("hunter2", "192.168.1.20", "somebody", str(config_dir)):
        assert secret not in text
    assert diagnostics["latest_version"] == NEWEST
    assert diagnostics["toolchains"] == [NEWEST]
    assert diagnostics["options"]["version_channel"] == "stable"
    assert diagnostics["builders"][0]["available"] is True
    assert diagnostics["devices"][0]["configuration"] == "lamp.yaml"
    assert diagnostics["devices"][0]["known_to_esphome"] is False
    assert diagnostics["jobs"][0]["failure_reason"] == "config_invalid"
    assert diagnostics["jobs"][0]["attempts"][0]["failure"] == "config_invalid"


async def test_diagnostics_have_the_state_of_lending_without_code_and_whole_pins(
    hass: HomeAssistant,
    lent: OffloadCoordinator,
    entry: MockConfigEntry,
    offloader: OffloaderClient,
) -> None:
    window = lent.lender.open_window()
    lent.lender.accept_builds(accept=False)

    async with offloader.connected():
        diagnostics = await async_get_config_entry_diagnostics(hass, entry)

    text = json.dumps(diagnostics)
    (guest,) = lent.lender.guests.all()
    for secret in (window.code, guest.pin_sha256):
        assert secret not in text
    lending = diagnostics["lending"]
    assert (lending["state"], lending["accepts_builds"]) == ("draining", False)
    assert lending["containment"]["degree"] == "contained"
    assert (lending["slots"], lending["builds"], lending["window_open"]) == (2, 0, False)
    assert [each["pin"] for each in lending["guests"]] == [guest.pin_sha256[:16]]
    assert lending["guests"][0]["connected"] is True


async def test_diagnostics_of_a_machine_that_is_not_lent(
    hass: HomeAssistant, coordinator: OffloadCoordinator, entry: MockConfigEntry
) -> None:
    lending = (await async_get_config_entry_diagnostics(hass, entry))["lending"]
    assert (lending["state"], lending["window_open"], lending["guests"]) == ("off", False, [])


@pytest.mark.parametrize(
    ("status", "shown"),
    [
        (BuilderStatus(available=True), "Available"),
        (
            BuilderStatus(available=False, why_not=Reason(ReasonKey.NOT_GLIBC)),
            ReasonKey.NOT_GLIBC.text,
        ),
    ],
)
async def test_system_health_counts_jobs_and_shows_whether_this_machine_builds(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    stage: Stage,
    status: BuilderStatus,
    shown: str,
) -> None:
    assert await async_setup_component(hass, "system_health", {})
    await hass.async_block_till_done()
    job, block = await stage.start_blocked(coordinator, Operation.COMPILE)
    stage.builder.become(status)

    info = await get_system_health_info(hass, DOMAIN)

    assert info == {
        "devices": 1,
        "jobs_running": 1,
        "jobs_waiting": 0,
        "latest_version": NEWEST,
        "toolchains": NEWEST,
        "local_builder": shown,
        "peers": "None",
    }
    block.release.set()
    await coordinator.async_wait(job)


async def test_diagnostics_say_what_esphome_says_of_a_device_and_no_address(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    entry: MockConfigEntry,
    stage: Stage,
    config_dir: Path,
    pass_time: Pass,
) -> None:
    access = DeviceAccess(
        (OtaPlatform("web_server", 80),), "192.168.1.9", address_given=True, api=False
    )
    stage.inspector.answers["lamp.yaml"] = Answer(
        "lamp.yaml", node_name="lamp", platform="esp32", access=access, reads=("lamp.yaml",)
    )
    (config_dir / "lamp.yaml").write_text(f"{LAMP}# changed")
    await pass_time(31)

    shown = await async_get_config_entry_diagnostics(hass, entry)

    (device,) = shown["devices"]
    assert (device["platform"], device["ota"], device["api"]) == ("esp32", ["web_server"], False)
    assert device["address_given"] is True
    assert "192.168.1.9" not in str(shown)


async def test_diagnostics_say_what_is_set_for_a_device(
    hass: HomeAssistant, coordinator: OffloadCoordinator, entry: MockConfigEntry
) -> None:
    await coordinator.versions.async_choose(TargetId("lamp.yaml"), "2026.8.1")
    shown = await async_get_config_entry_diagnostics(hass, entry)
    (device,) = shown["devices"]
    assert device["wanted_version"] == "2026.8.1"
    assert device["settings"] == {"version": "2026.8.1"}
