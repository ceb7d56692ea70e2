"""Updating what is outdated: which devices, in which order, within which limits."""

from datetime import timedelta
from pathlib import Path
from typing import Any

from homeassistant.core import Context, HomeAssistant
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers.translation import async_load_integrations
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.esphome_offload.batch.outdated import Limits, OutdatedRun, Wanted, Why
from custom_components.esphome_offload.const import DOMAIN
from custom_components.esphome_offload.coordinator import OffloadCoordinator
from custom_components.esphome_offload.engine.build.toolchain.versions import VersionError
from custom_components.esphome_offload.engine.const import FailureReason, JobStatus
from custom_components.esphome_offload.engine.reason import Reason, ReasonKey
from custom_components.esphome_offload.engine.target import TargetId

from ...engine.jobs.fakes import Block, VirtualTime, because, failing, settle
from ..conftest import NEWEST, Stage
from ..live_lamp import LiveLamp
from ..outdated_home import furnish, update_entity
from .calling import Response, call, configurations, refused


@pytest.fixture
def devices(hass: HomeAssistant, config_dir: Path, stage: Stage) -> dict[str, LiveLamp]:
    return furnish(hass, config_dir, stage)


@pytest.fixture
async def home(devices: dict[str, LiveLamp], coordinator: OffloadCoordinator) -> OffloadCoordinator:
    return coordinator


async def update(hass: HomeAssistant, **data: Any) -> Response:
    return await call(hass, "update_outdated", raise_on_failure=False, **data)


async def skip(hass: HomeAssistant, name: str) -> None:
    await hass.services.async_call(
        "update", "skip", {"entity_id": update_entity(name)}, blocking=True
    )


def left_out(response: Response) -> dict[str, str]:
    return {each["device_name"]: each["reason"] for each in response["left_out"]}


async def test_devices_with_an_update_are_updated_the_most_outdated_first(
    hass: HomeAssistant, home: OffloadCoordinator, stage: Stage
) -> None:
    response = await update(hass)
    assert configurations(response) == ["cellar.yaml", "porch.yaml", "attic.yaml"]
    assert stage.builder.most == 1
    assert {key: response[key] for key in ("succeeded", "completed", "failed", "waiting")} == {
        "succeeded": True,
        "completed": 3,
        "failed": 0,
        "waiting": 0,
    }
    assert response["summary"] == "- Updated: Cellar, Porch, Attic"
    again = await update(hass)
    assert (again["jobs"], again["succeeded"]) == ([], True)
    assert again["summary"] == "No device has an update."


async def test_a_target_narrows_it_down(hass: HomeAssistant, home: OffloadCoordinator) -> None:
    targets = [update_entity("hall"), update_entity("attic")]
    response = await update(hass, entity_id=targets)
    assert configurations(response) == ["attic.yaml"]


async def test_what_is_skipped_or_runs_the_wanted_version_is_not_outdated(
    hass: HomeAssistant, home: OffloadCoordinator
) -> None:
    await skip(hass, "cellar")
    response = await update(hass, version="2026.9.1")
    assert configurations(response) == ["porch.yaml"]
    assert not response["left_out"]


@pytest.mark.parametrize("wanted", [{}, {"version": NEWEST}], ids=["any", "one"])
async def test_a_device_whose_version_is_unknown_is_outdated(
    hass: HomeAssistant, coordinator: OffloadCoordinator, wanted: dict[str, str]
) -> None:
    assert coordinator.installed_version(TargetId("lamp.yaml")) is None
    assert configurations(await update(hass, **wanted)) == ["lamp.yaml"]


async def test_a_version_downgrades_nothing(hass: HomeAssistant, home: OffloadCoordinator) -> None:
    response = await update(hass, version="2026.9.0")
    assert configurations(response) == ["cellar.yaml"]
    assert left_out(response) == {"Attic": "it runs a newer version already"}


async def test_a_version_overrides_no_version_or_channel_of_a_device(
    hass: HomeAssistant, home: OffloadCoordinator, stage: Stage
) -> None:
    stage.versions.newest_prerelease = "2026.11.0b1"
    for name, choice in (("cellar", "2026.9.0"), ("porch", "prerelease"), ("attic", "2026.9.2")):
        await home.versions.async_choose(TargetId(f"{name}.yaml"), choice)
    await home.versions.async_refresh()
    await hass.async_block_till_done()
    response = await update(hass, version="2026.9.2")
    assert configurations(response) == ["attic.yaml"]
    reason = "it is to have another version"
    assert left_out(response) == {"Cellar": reason, "Porch": reason}


async def test_several_are_updated_at_once(
    hass: HomeAssistant, home: OffloadCoordinator, stage: Stage
) -> None:
    first = Block()
    stage.builder.script = [first]
    running = hass.async_create_task(update(hass, at_once=2))
    await first.entered.wait()
    await settle()
    assert [job.request.configuration for job in home.queue.jobs()] == [
        "cellar.yaml",
        "porch.yaml",
    ]
    first.release.set()
    assert len((await running)["jobs"]) == 3


async def test_after_too_many_failures_no_more_are_started(
    hass: HomeAssistant, home: OffloadCoordinator, stage: Stage
) -> None:
    stage.builder.script = [failing(FailureReason.COMPILE_FAILED, "cellar.cpp:3: error: no")]
    response = await update(hass, stop_after_failures=1)
    assert configurations(response) == ["cellar.yaml"]
    assert not response["succeeded"]
    assert response["failed"] == 1
    reason = "too many others had failed before"
    assert left_out(response) == {"Porch": reason, "Attic": reason}
    assert response["summary"].splitlines() == [
        f"- Failed: Cellar. {because('cellar.cpp:3: error: no')}",
        f"- Left out: Porch, Attic ({reason})",
    ]


async def test_without_a_limit_it_goes_on_after_failures_and_raises_them_at_the_end(
    hass: HomeAssistant, home: OffloadCoordinator, stage: Stage
) -> None:
    stage.builder.script = [failing(FailureReason.COMPILE_FAILED, "no")]
    with pytest.raises(HomeAssistantError, match="cellar"):
        await hass.services.async_call(
            "esphome_offload", "update_outdated", {"stop_after_failures": 0}, blocking=True
        )
    assert [job.status for job in home.queue.jobs()] == [
        JobStatus.FAILED,
        JobStatus.COMPLETED,
        JobStatus.COMPLETED,
    ]


async def test_jobs_that_were_cancelled_are_no_failures(
    hass: HomeAssistant, home: OffloadCoordinator, stage: Stage
) -> None:
    block = Block()
    stage.builder.script = [block]
    running = hass.async_create_task(update(hass, stop_after_failures=1))
    await block.entered.wait()
    await call(hass, "cancel", entity_id=update_entity("cellar"))
    block.release.set()
    assert configurations(await running) == ["cellar.yaml", "porch.yaml", "attic.yaml"]


async def test_within_no_time_nothing_is_started(
    hass: HomeAssistant, home: OffloadCoordinator
) -> None:
    assert not (await update(hass, start_within=0))["jobs"]


async def test_what_home_assistant_never_knew_is_offline(
    hass: HomeAssistant, home: OffloadCoordinator
) -> None:
    await hass.config_entries.async_remove(
        next(each.entry_id for each in hass.config_entries.async_entries("esphome"))
    )
    home.inventory.match_now()
    await hass.async_block_till_done()
    response = await update(hass, skip_offline=True)
    assert configurations(response) == ["cellar.yaml", "porch.yaml"]
    assert left_out(response) == {"Attic": "not connected"}


async def test_what_is_asleep_is_left_out_only_if_wanted(
    hass: HomeAssistant, devices: dict[str, LiveLamp], home: OffloadCoordinator
) -> None:
    devices["porch"].sleep()
    home.inventory.match_now()
    response = await update(hass, skip_offline=True)
    assert configurations(response) == ["cellar.yaml", "attic.yaml"]
    assert left_out(response) == {"Porch": "not connected"}
    assert response["left_out"][0]["entity_id"] == update_entity("porch")
    assert not response["succeeded"]

    response = await update(hass)
    assert (response["waiting"], response["succeeded"]) == (1, False)
    assert response["summary"] == "- Built, and installed as soon as they are back: Porch"

    response = await update(hass)
    assert response["jobs"] == []
    assert left_out(response) == {"Porch": "its firmware is built already and waits for it"}
    await call(hass, "cancel", entity_id=update_entity("porch"))


async def test_with_build_only_nothing_is_flashed(
    hass: HomeAssistant, home: OffloadCoordinator, stage: Stage
) -> None:
    response = await update(hass, build_only=True)
    assert {job["operation"] for job in response["jobs"]} == {"compile"}
    assert response["summary"] == "- Built: Cellar, Porch, Attic"
    assert not stage.flasher.requests


async def test_a_device_that_cannot_be_updated_is_left_out_and_the_others_are_updated(
    hass: HomeAssistant, home: OffloadCoordinator, stage: Stage
) -> None:
    block = Block()
    stage.builder.script = [block]
    await call(hass, "install", entity_id=update_entity("porch"))
    await block.entered.wait()
    running = hass.async_create_task(update(hass, at_once=3))
    await settle()
    block.release.set()
    response = await running
    assert configurations(response) == ["cellar.yaml", "attic.yaml"]
    assert list(left_out(response)) == ["Porch"]
    assert "porch" in left_out(response)["Porch"]


async def test_a_device_that_has_no_update_any_more_at_its_turn_is_left_alone(
    hass: HomeAssistant, home: OffloadCoordinator, stage: Stage
) -> None:
    block = Block()
    stage.builder.script = [block]
    running = hass.async_create_task(update(hass))
    await block.entered.wait()
    await skip(hass, "attic")
    block.release.set()
    assert configurations(await running) == ["cellar.yaml", "porch.yaml"]


async def test_after_its_time_no_more_are_started(
    hass: HomeAssistant, home: OffloadCoordinator, stage: Stage
) -> None:
    time, block = VirtualTime(), Block()
    stage.builder.script = [block]
    limits = Limits(start_within=timedelta(hours=2))
    run = OutdatedRun(home, Wanted(), limits, Context(), time=time)
    running = hass.async_create_task(run.async_run(list(home.devices)))
    await block.entered.wait()
    await time.go(2 * 3600)
    block.release.set()
    await running
    assert [job.request.configuration for job in run.completed] == ["cellar.yaml"]
    assert set(run.left_out.values()) == {"the time was over before its turn"}
    assert limits.reached(5, 0) is None
    assert limits.reached(0, 7200) is Why.TIME


async def test_a_caller_that_goes_away_leaves_the_job_running_and_starts_no_more(
    hass: HomeAssistant, home: OffloadCoordinator, stage: Stage
) -> None:
    block = Block()
    stage.builder.script = [block]
    running = hass.async_create_task(update(hass))
    await block.entered.wait()
    running.cancel()
    await settle()
    block.release.set()
    (job,) = home.queue.jobs()
    assert (await home.async_wait(job)).status is JobStatus.COMPLETED
    await settle()
    assert len(home.queue.jobs()) == 1


async def test_without_a_folder_it_is_refused(
    hass: HomeAssistant, home: OffloadCoordinator, entry: MockConfigEntry
) -> None:
    hass.config_entries.async_update_entry(entry, data={**entry.data, "config_dir": None})
    await hass.async_block_till_done()
    assert (await refused(hass, "update_outdated")).translation_key == "no_config_folder"


async def test_the_answer_is_in_home_assistants_language(
    hass: HomeAssistant, home: OffloadCoordinator, stage: Stage
) -> None:
    await hass.config.async_update(language="de")
    await async_load_integrations(hass, {DOMAIN})
    stage.versions.unknown["2027.1.0"] = VersionError(Reason(ReasonKey.VERSION_UNKNOWN))
    refused = await update(hass, version="2027.1.0")
    assert refused["summary"].startswith("- Ausgelassen: Cellar, Porch, Attic (")
    assert "2027.1.0" in left_out(refused)["Cellar"]
    assert (await update(hass))["summary"] == "- Aktualisiert: Cellar, Porch, Attic"
