"""The switch of a device: whether it takes part, and who may say so."""

from pathlib import Path

from homeassistant.core import HomeAssistant
from homeassistant.exceptions import Unauthorized
import pytest
from pytest_homeassistant_custom_component.common import MockUser

from custom_components.esphome_offload.engine.const import JobStatus
from custom_components.esphome_offload.engine.target import TargetId

from ...conftest import NEWEST, Pass
from .home import LAMP_FILE, Home, files


async def test_nothing_is_updated_until_somebody_wants_it(home: Home) -> None:
    home.runs()
    assert home.state() == "off"
    await home.at("2026-12-01 02:00")
    assert home.jobs == []

    await home.switch("turn_on")
    assert home.state() == "on"
    await home.at("2026-12-01 02:05")
    jobs = await home.ended()
    assert [(job.status, job.request.esphome_version) for job in jobs] == [
        (JobStatus.COMPLETED, NEWEST)
    ]
    assert home.coordinator.job_details(jobs[0])["automatic"] is True


async def test_all_take_part_except_those_that_are_switched_off(fleet: Home) -> None:
    assert fleet.state() == "on"
    await fleet.switch("turn_off", entity_id="switch.desk_plug_automatic_updates")
    await fleet.at("2026-12-01 02:00")
    assert sorted(files(await fleet.ended())) == ["fan.yaml", "lamp.yaml"]


async def test_it_is_unavailable_while_no_device_is_updated_and_keeps_its_state(home: Home) -> None:
    await home.switch("turn_on")
    await home.set_options(automatic_updates="off")
    assert home.state() == "unavailable"
    await home.set_options(automatic_updates="chosen")
    assert home.state() == "on"


async def test_it_goes_with_the_device_when_its_file_is_renamed(
    home: Home, config_dir: Path, pass_time: Pass
) -> None:
    await home.switch("turn_on")
    (config_dir / "lamp.yaml").rename(config_dir / "desk.yaml")
    await pass_time(31)
    assert home.coordinator.device_settings.get(TargetId("desk.yaml")).automatic is True
    assert home.state() == "on"


async def test_only_an_administrator_switches_it(hass: HomeAssistant, home: Home) -> None:
    member = MockUser(name="Member").add_to_hass(hass)
    member.mock_policy({"entities": True})
    for action in ("turn_on", "turn_off"):
        with pytest.raises(Unauthorized):
            await home.switch(action, member.id)
    assert home.coordinator.device_settings.get(LAMP_FILE).automatic is None
