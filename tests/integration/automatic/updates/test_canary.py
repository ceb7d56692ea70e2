"""The canary device: the others follow when it has run the version for long enough."""

from pathlib import Path
from typing import Any

from homeassistant.config_entries import ConfigEntryDisabler
from homeassistant.core import HomeAssistant
from homeassistant.helpers import entity_registry as er
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.esphome_offload.engine.build.model import FlashRequest
from custom_components.esphome_offload.engine.const import FailureReason, Operation

from ....engine.jobs.fakes import failing
from ...conftest import NEWEST, Pass, Stage
from ...live_lamp import core_device
from .home import LAMP_FILE, Home, files


@pytest.fixture
async def live(hass: HomeAssistant, fleet: Home, stage: Stage, pass_time: Pass) -> MockConfigEntry:
    """Connect Home Assistant to the lamp, which restarts when it is flashed."""
    live, _ = core_device(hass, available=True)
    await pass_time(1)

    async def restart(request: FlashRequest, _sink: object) -> None:
        build = request.firmware.build_info
        live.runtime_data.runs(build.esphome_version, build.build_time)

    stage.flasher.script = [restart]
    return live


@pytest.fixture
def canary(hass: HomeAssistant, live: MockConfigEntry) -> str:
    """Return the id of the lamp's update entity."""
    entity = er.async_get(hass).async_get("update.desk_lamp_esphome")
    assert entity is not None
    return entity.id


async def test_the_others_follow_when_it_has_run_the_version_for_long_enough(
    fleet: Home, canary: str
) -> None:
    await fleet.set_options(automatic_canary=canary, automatic_canary_hours=24)
    await fleet.at("2026-12-01 02:00")
    assert files(await fleet.ended()) == ["lamp.yaml"]
    await fleet.at("2026-12-01 04:55")
    await fleet.at("2026-12-02 01:55")
    assert len(fleet.jobs) == 1
    await fleet.at("2026-12-02 02:05")
    assert sorted(files(await fleet.ended())[1:]) == ["fan.yaml", "plug.yaml"]


async def test_it_may_be_updated_by_hand(fleet: Home, canary: str) -> None:
    await fleet.switch("turn_off")
    await fleet.set_options(automatic_canary=canary, automatic_canary_hours=1)
    await fleet.at("2026-12-01 02:00")
    assert fleet.jobs == []
    await fleet.coordinator.async_wait(
        await fleet.coordinator.async_submit(LAMP_FILE, Operation.INSTALL)
    )
    await fleet.at("2026-12-01 02:55")
    assert fleet.jobs == []
    await fleet.at("2026-12-01 03:05")
    assert sorted(files(await fleet.ended())) == ["fan.yaml", "plug.yaml"]


async def test_when_it_fails_the_others_wait(fleet: Home, stage: Stage, canary: str) -> None:
    await fleet.set_options(automatic_canary=canary, automatic_canary_hours=0)
    stage.builder.script = [failing(FailureReason.OUT_OF_MEMORY, "no")]
    await fleet.at("2026-12-01 02:00")
    await fleet.ended()
    await fleet.at("2026-12-01 02:05")
    assert files(fleet.jobs) == ["lamp.yaml"]
    await fleet.at("2026-12-02 02:00")
    assert files(await fleet.ended())[:2] == ["lamp.yaml", "lamp.yaml"]
    assert len(fleet.jobs) == 4


async def test_what_changes_on_it_afterwards_starts_the_time_again(
    fleet: Home, live: MockConfigEntry, canary: str, pass_time: Pass
) -> None:
    await fleet.set_options(automatic_canary=canary, automatic_canary_hours=1)
    await fleet.at("2026-12-01 02:00")
    await fleet.ended()
    await fleet.at("2026-12-01 02:50")
    live.runtime_data.runs("2026.9.1", "2026-09-20 10:00:00 +0000")
    await pass_time(1)
    await fleet.at("2026-12-01 02:55")
    live.runtime_data.runs(NEWEST, "2026-11-25 10:00:00 +0000")
    await pass_time(1)
    await fleet.at("2026-12-01 03:50")
    assert len(fleet.jobs) == 1
    await fleet.at("2026-12-01 04:00")
    assert len(await fleet.ended()) == 3


async def test_when_it_is_gone_nothing_starts_and_a_repair_says_so(
    fleet: Home, canary: str, config_dir: Path, pass_time: Pass
) -> None:
    await fleet.set_options(automatic_canary=canary)
    (config_dir / "lamp.yaml").unlink()
    await pass_time(31)
    await fleet.at("2026-12-01 02:00")
    assert fleet.jobs == []
    assert fleet.issue("canary_missing")
    await fleet.set_options()
    await fleet.at("2026-12-01 02:05")
    assert fleet.issue("canary_missing") is None
    assert len(await fleet.ended()) == 2


async def test_one_that_would_never_get_the_version_is_a_repair_with_the_reason(
    fleet: Home, canary: str
) -> None:
    def repair() -> str | None:
        issue = fleet.issue("canary_blocks")
        return None if issue is None else (issue.translation_placeholders or {})["reason"]

    await fleet.set_options(automatic_canary=canary)
    assert repair() is None
    await fleet.switch("turn_off")
    await fleet.at("2026-12-01 01:00")
    assert repair() == "Its switch Automatic updates is off: turn it on."
    await fleet.coordinator.versions.async_choose(LAMP_FILE, "2026.8.1")
    await fleet.at("2026-12-01 01:05")
    assert str(repair()).startswith("An older ESPHome version is set for it")
    await fleet.coordinator.versions.async_choose(LAMP_FILE, None)
    await fleet.switch("turn_on")
    await fleet.at("2026-12-01 01:10")
    assert repair() is None


async def test_one_that_is_away_for_a_day_is_a_repair(
    fleet: Home, live: MockConfigEntry, canary: str, pass_time: Pass
) -> None:
    await fleet.set_options(automatic_canary=canary)
    live.runtime_data.available = False
    await pass_time(1)
    await fleet.at("2026-12-01 12:55")
    assert fleet.issue("canary_blocks") is None
    await fleet.at("2026-12-01 13:05")
    assert fleet.issue("canary_blocks")
    assert fleet.jobs == []


async def test_the_day_for_which_one_is_away_goes_on_over_a_restart(
    fleet: Home, live: MockConfigEntry, canary: str, pass_time: Pass
) -> None:
    await fleet.set_options(automatic_canary=canary)
    live.runtime_data.available = False
    await pass_time(1)
    await fleet.restart("2026-12-01 09:00")
    await fleet.at("2026-12-01 12:55")
    assert fleet.issue("canary_blocks") is None
    await fleet.at("2026-12-01 13:05")
    assert fleet.issue("canary_blocks")


async def test_one_that_was_away_at_a_stop_has_time_to_come_back(
    fleet: Home, live: MockConfigEntry, canary: str, pass_time: Pass
) -> None:
    await fleet.set_options(automatic_canary=canary)
    live.runtime_data.available = False
    await pass_time(1)
    await fleet.restart("2026-12-04 13:00")
    assert fleet.issue("canary_blocks") is None
    live.runtime_data.available = True
    live.runtime_data.runs("2026.9.1", "2026-09-20 10:00:00 +0000")
    await pass_time(1)
    await fleet.at("2026-12-04 13:30")
    assert fleet.issue("canary_blocks") is None


async def test_a_repair_about_it_that_is_ignored_stays_so_over_a_reload(
    hass: HomeAssistant, fleet: Home, live: MockConfigEntry, canary: str, pass_time: Pass
) -> None:
    await fleet.set_options(automatic_canary=canary)
    live.runtime_data.available = False
    await pass_time(1)
    await fleet.at("2026-12-01 13:05")
    fleet.ignore("canary_blocks")
    await fleet.restart("2026-12-01 13:10")
    assert fleet.is_ignored("canary_blocks"), "it is not known yet whether it comes back"
    await fleet.at("2026-12-01 13:25")
    assert fleet.is_ignored("canary_blocks")

    er.async_get(hass).async_remove("update.desk_lamp_esphome")
    await fleet.at("2026-12-01 13:30")
    assert fleet.issue("canary_blocks") is None
    fleet.ignore("canary_missing")
    assert await hass.config_entries.async_unload(fleet.entry.entry_id)
    assert fleet.is_ignored("canary_missing")


@pytest.mark.parametrize("issue_id", ["canary_missing", "canary_blocks"])
@pytest.mark.parametrize("removed", [True, False])
async def test_a_repair_about_it_goes_with_the_entry(
    hass: HomeAssistant, fleet: Home, canary: str, issue_id: str, removed: bool
) -> None:
    await fleet.set_options(automatic_canary=canary)
    if issue_id == "canary_missing":
        er.async_get(hass).async_remove("update.desk_lamp_esphome")
    else:
        await fleet.switch("turn_off")
    await fleet.at("2026-12-01 13:05")
    assert fleet.issue(issue_id)
    entries, entry_id = hass.config_entries, fleet.entry.entry_id
    if removed:
        await entries.async_remove(entry_id)
    else:
        await entries.async_set_disabled_by(entry_id, ConfigEntryDisabler.USER)
    assert fleet.issue(issue_id) is None


async def test_the_absence_of_a_former_one_is_forgotten(
    fleet: Home,
    live: MockConfigEntry,
    canary: str,
    pass_time: Pass,
    hass_storage: dict[str, Any],
) -> None:
    def away() -> set[str]:
        return set(hass_storage["esphome_offload.canary"]["data"]["away_since"])

    await fleet.set_options(automatic_canary=canary)
    live.runtime_data.available = False
    await pass_time(1)
    await pass_time(2)
    assert away() == {LAMP_FILE}
    await fleet.set_options()
    await pass_time(3)
    assert away() == set()


async def test_one_that_is_away_lets_nobody_follow(
    fleet: Home, live: MockConfigEntry, canary: str, pass_time: Pass
) -> None:
    lamp = live.runtime_data
    lamp.runs(NEWEST, "2026-11-25 10:00:00 +0000")
    await pass_time(1)
    await fleet.set_options(automatic_canary=canary, automatic_canary_hours=1)
    await fleet.at("2026-12-01 01:00")
    for available, local in ((False, "2026-12-01 02:00"), (True, "2026-12-01 02:55")):
        lamp.available = available
        lamp.runs(NEWEST, "2026-11-25 10:00:00 +0000")
        await pass_time(1)
        await fleet.at(local)
        assert fleet.jobs == []
    await fleet.at("2026-12-01 03:05")
    assert sorted(files(await fleet.ended())) == ["fan.yaml", "plug.yaml"]
