"""When automatic updates start, and that each device is tried once in a window."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import patch

from homeassistant.const import EVENT_HOMEASSISTANT_STARTED
from homeassistant.core import CoreState, HomeAssistant
import pytest

from custom_components.esphome_offload.engine.const import FailureReason, JobStatus
from custom_components.esphome_offload.stores.storage import StatePersistence

from ....engine.jobs.fakes import Block, failing
from ...conftest import LAMP, NEWEST, Pass, Stage
from .home import LAMP_FILE, Home, files


async def test_all_devices_are_updated_one_after_another_where_one_builds_at_a_time(
    fleet: Home, stage: Stage
) -> None:
    block = Block()
    stage.builder.script = [block]
    await fleet.at("2026-12-01 01:55")
    assert fleet.jobs == []
    await fleet.at("2026-12-01 02:00")
    await block.entered.wait()
    assert len(fleet.jobs) == 1
    block.release.set()
    jobs = await fleet.ended()
    assert sorted(files(jobs)) == ["fan.yaml", "lamp.yaml", "plug.yaml"]
    assert all(job.status is JobStatus.COMPLETED for job in jobs)
    await fleet.at("2026-12-02 02:00")
    assert len(fleet.jobs) == 3


async def test_what_runs_at_the_end_of_the_window_goes_on_and_nothing_else_starts(
    fleet: Home, stage: Stage
) -> None:
    block = Block()
    stage.builder.script = [block]
    await fleet.at("2026-12-01 04:55")
    await block.entered.wait()
    await fleet.at("2026-12-01 05:00")
    block.release.set()
    jobs = await fleet.ended()
    assert [job.status for job in jobs] == [JobStatus.COMPLETED]


async def test_an_attempt_is_on_disk_before_it_starts(
    fleet: Home, stage: Stage, hass_storage: dict
) -> None:
    block = Block()
    stage.builder.script = [block]
    await fleet.at("2026-12-01 02:00")
    await block.entered.wait()
    stored = hass_storage["esphome_offload.device_settings"]["data"]
    attempted = [
        name for name, each in stored.items() if name != "number" and each.get("attempted_at")
    ]
    assert attempted == files(fleet.jobs)
    block.release.set()
    await fleet.ended()


async def test_what_failed_is_tried_again_in_the_next_window_only_if_it_may_go_well(
    lamp: Home, stage: Stage, config_dir: Path, pass_time: Pass
) -> None:
    stage.builder.script = [
        failing(FailureReason.OUT_OF_MEMORY, "no"),
        failing(FailureReason.COMPILE_FAILED, "no"),
    ]
    await lamp.at("2026-12-01 02:00")
    assert len(await lamp.ended()) == 1
    await lamp.at("2026-12-01 02:05")
    await lamp.at("2026-12-01 04:55")
    assert len(lamp.jobs) == 1
    assert lamp.issue("install_failed_lamp.yaml")
    await lamp.at("2026-12-02 02:00")
    assert len(await lamp.ended()) == 2
    await lamp.at("2026-12-03 02:00")
    assert len(lamp.jobs) == 2
    (config_dir / "lamp.yaml").write_text(f"{LAMP}# mended\n")
    await pass_time(31)
    await lamp.at("2026-12-04 02:00")
    assert len(await lamp.ended()) == 3


async def test_what_went_back_to_its_former_firmware_is_not_flashed_every_night(
    lamp: Home, stage: Stage
) -> None:
    stage.flasher.script = [failing(FailureReason.ROLLED_BACK, "no")]
    await lamp.at("2026-12-01 02:00")
    assert len(await lamp.ended()) == 1
    await lamp.at("2026-12-02 02:00")
    assert len(lamp.jobs) == 1


async def test_nothing_is_replaced_by_an_older_version_that_nobody_chose(
    hass: HomeAssistant, home: Home
) -> None:
    home.runs(version="2026.12.0b1")
    await home.set_options()
    hass.states.async_set("update.desk_lamp_esphome", "on")  # its configuration changed
    await home.at("2026-12-01 02:00")
    assert home.jobs == []

    await home.coordinator.versions.async_choose(LAMP_FILE, NEWEST)
    await home.at("2026-12-01 02:05")
    assert len(await home.ended()) == 1


async def test_another_window_holds_at_once(fleet: Home) -> None:
    await fleet.at("2026-12-01 12:01")
    assert fleet.jobs == []
    await fleet.set_options(automatic_start="12:00:00", automatic_end="13:00:00")
    assert len(await fleet.ended()) == 3


async def test_after_a_restart_in_the_window_nothing_is_tried_a_second_time(
    hass: HomeAssistant, lamp: Home, stage: Stage
) -> None:
    stage.builder.script = [failing(FailureReason.COMPILE_FAILED, "no")]
    await lamp.at("2026-12-01 02:00")
    await lamp.ended()
    lamp.coordinator.device_settings.records.clear()
    await lamp.coordinator.device_settings.async_load()
    assert await hass.config_entries.async_reload(lamp.entry.entry_id)
    await lamp.at("2026-12-01 02:05")
    assert len(lamp.jobs) == 1


async def test_it_waits_until_home_assistant_has_started(hass: HomeAssistant, lamp: Home) -> None:
    await hass.config_entries.async_unload(lamp.entry.entry_id)
    hass.set_state(CoreState.starting)
    await hass.config_entries.async_setup(lamp.entry.entry_id)
    await lamp.at("2026-12-01 02:00")
    assert lamp.jobs == []
    hass.set_state(CoreState.running)
    hass.bus.async_fire(EVENT_HOMEASSISTANT_STARTED)
    await hass.async_block_till_done(wait_background_tasks=True)
    assert len(await lamp.ended()) == 1


async def test_nothing_starts_when_the_attempt_cannot_be_written(
    fleet: Home, caplog: pytest.LogCaptureFixture
) -> None:
    with patch.object(StatePersistence, "save_durably", side_effect=OSError("disk full")):
        await fleet.at("2026-12-01 02:00")
    assert fleet.jobs == []
    assert caplog.text.count("Nothing is updated automatically: disk full") == 1
    await fleet.at("2026-12-01 02:05")
    assert len(await fleet.ended()) == 3


async def test_nothing_starts_after_the_entry_was_unloaded(
    hass: HomeAssistant, fleet: Home
) -> None:
    await hass.config_entries.async_unload(fleet.entry.entry_id)
    await fleet.at("2026-12-01 02:00")
    assert fleet.jobs == []


async def test_another_time_zone_moves_the_window(hass: HomeAssistant, fleet: Home) -> None:
    await hass.config.async_set_time_zone("Asia/Tokyo")
    await fleet.at("2026-12-01 02:00")
    assert fleet.jobs == []
    await fleet.at("2026-12-01 18:00")  # 02:00 in Tokyo
    assert len(await fleet.ended()) == 3


async def test_the_hour_that_comes_twice_makes_no_second_attempt(lamp: Home, stage: Stage) -> None:
    stage.builder.script = [failing(FailureReason.COMPILE_FAILED, "no")] * 5
    for minutes in range(0, 240, 15):
        now = datetime(2027, 10, 31, 0, tzinfo=UTC) + timedelta(minutes=minutes)
        await lamp.move_to(now)
    assert len(await lamp.ended()) == 1
