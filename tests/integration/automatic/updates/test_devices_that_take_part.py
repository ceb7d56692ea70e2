"""Which devices are updated, and which are left to a person."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import patch

from homeassistant.core import HomeAssistant

from custom_components.esphome_offload.engine.const import Operation
from custom_components.esphome_offload.engine.device_access import DeviceAccess
from custom_components.esphome_offload.engine.devices.answers import Answer

from ...conftest import LAMP, Pass, Stage
from ...live_lamp import core_device
from .home import LAMP_FILE, Home, files


async def test_a_version_that_a_person_skipped_is_left_alone(
    hass: HomeAssistant, fleet: Home
) -> None:
    await hass.services.async_call(
        "update", "skip", {"entity_id": "update.desk_lamp_esphome"}, blocking=True
    )
    await fleet.at("2026-12-01 02:00")
    assert "lamp.yaml" not in files(await fleet.ended())


async def test_a_device_that_was_never_heard_of_is_left_to_a_person(home: Home) -> None:
    await home.set_options()
    await home.at("2026-12-01 02:00")
    assert home.jobs == []


async def test_one_that_cannot_be_flashed_is_left_to_a_person_without_a_repair(
    fleet: Home, stage: Stage, config_dir: Path, pass_time: Pass
) -> None:
    stage.inspector.answers["lamp.yaml"] = Answer(
        "lamp.yaml",
        node_name="lamp",
        platform="host",
        access=DeviceAccess(ota=()),
        reads=("lamp.yaml",),
    )
    (config_dir / "lamp.yaml").write_text(f"{LAMP}# changed")
    await pass_time(31)
    await fleet.at("2026-12-01 02:00")
    assert sorted(files(await fleet.ended())) == ["fan.yaml", "plug.yaml"]
    assert fleet.issue("not_updated_lamp.yaml") is None


async def test_a_device_with_a_job_keeps_it(fleet: Home, stage: Stage) -> None:
    job, block = await stage.start_blocked(fleet.coordinator, Operation.COMPILE)
    await fleet.at("2026-12-01 02:00")
    assert "lamp.yaml" not in files(fleet.jobs)
    block.release.set()
    await fleet.coordinator.async_wait(job)
    await fleet.at("2026-12-01 02:05")
    assert "lamp.yaml" in files(await fleet.ended())


async def test_one_that_is_offline_is_left_out_until_it_is_back(
    hass: HomeAssistant, home: Home, pass_time: Pass
) -> None:
    live, _ = core_device(hass, available=False)
    await pass_time(1)
    await home.set_options()
    await home.at("2026-12-01 02:00")
    assert home.jobs == []
    live.runtime_data.available = True
    live.runtime_data.runs("2026.9.1", "2026-09-20 10:00:00 +0000")
    await pass_time(1)
    await home.at("2026-12-01 02:05")
    assert len(home.jobs) == 1
    await home.coordinator.queue.cancel_all()


async def test_a_version_waits_for_the_days_after_its_release(home: Home, stage: Stage) -> None:
    stage.versions.newest_stable = "2026.10.1"
    stage.versions.uploaded_at["2026.10.1"] = datetime(2026, 11, 29, 12, tzinfo=UTC)
    await home.coordinator.versions.async_refresh()
    home.runs()
    await home.set_options(automatic_delay_days=2)
    await home.at("2026-12-01 02:00")
    assert home.jobs == []
    await home.at("2026-12-02 02:00")
    (job,) = await home.ended()
    assert job.request.esphome_version == "2026.10.1"


async def test_a_version_that_a_person_chose_for_it_is_installed_at_once(home: Home) -> None:
    home.runs()
    await home.set_options(automatic_delay_days=30)
    await home.coordinator.versions.async_choose(LAMP_FILE, "2026.8.1")
    await home.at("2026-12-01 02:00")
    (job,) = await home.ended()
    assert job.request.esphome_version == "2026.8.1"


async def test_nothing_is_tried_while_nobody_can_build(fleet: Home, stage: Stage) -> None:
    able = stage.builder.state
    stage.builder.become(replace(able, available=False))
    await fleet.at("2026-12-01 02:00")
    assert fleet.jobs == []
    stage.builder.become(able)
    await fleet.at("2026-12-01 02:05")
    assert len(await fleet.ended()) == 3


async def test_what_was_skipped_while_it_was_prepared_is_not_started(lamp: Home) -> None:
    prepare = lamp.coordinator.async_prepare

    async def prepare_slowly(*args: object, **options: object) -> object:
        request = await prepare(*args, **options)  # type: ignore[arg-type]
        await lamp.switch("turn_off")
        return request

    with patch.object(lamp.coordinator, "async_prepare", prepare_slowly):
        await lamp.at("2026-12-01 02:00")
    assert lamp.jobs == []
