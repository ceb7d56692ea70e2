"""Installing an unchanged configuration again."""

from dataclasses import replace
from pathlib import Path

from homeassistant.core import HomeAssistant
import pytest
from pytest_homeassistant_custom_component.common import async_capture_events

from custom_components.esphome_offload.coordinator import OffloadCoordinator
from custom_components.esphome_offload.engine.const import Operation
from custom_components.esphome_offload.engine.devices import plain
from custom_components.esphome_offload.engine.reason import Reason, ReasonKey

from .conftest import LAMP, NEWEST, Stage


@pytest.fixture(autouse=True)
def _all_is_known(stage: Stage) -> None:
    """ESPHome says that it knows all of the lamp's files."""
    answer = replace(plain.read("lamp.yaml", LAMP.encode()), complete=True, platform="esp32")
    stage.inspector.answers["lamp.yaml"] = answer


async def run(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    operation: Operation = Operation.INSTALL,
) -> None:
    job = await coordinator.async_submit("lamp.yaml", operation)
    await coordinator.queue.wait(job.job_id)
    await hass.async_block_till_done(wait_background_tasks=True)


async def test_nothing_is_built_and_the_job_says_so(
    hass: HomeAssistant, coordinator: OffloadCoordinator, stage: Stage
) -> None:
    await run(hass, coordinator)
    completed = async_capture_events(hass, "esphome_offload_job_completed")

    await run(hass, coordinator)

    assert len(stage.builder.requests) == 1
    assert len(stage.flasher.requests) == 2
    (event,) = completed
    assert event.data["source"] == "local"
    job = coordinator.queue.jobs()[-1]
    assert job.routing.reason == Reason(ReasonKey.CHOSEN_KEPT)
    assert stage.config_hashes.asked == [], "the build has told it"


async def test_it_is_built_nevertheless_if_that_was_asked_for(
    hass: HomeAssistant, coordinator: OffloadCoordinator, stage: Stage
) -> None:
    await run(hass, coordinator)
    job = await coordinator.async_submit("lamp.yaml", Operation.INSTALL, rebuild=True)
    await coordinator.queue.wait(job.job_id)
    await hass.async_block_till_done(wait_background_tasks=True)
    assert [request.clean for request in stage.builder.requests] == [False, False]


async def test_hash_is_asked_for_once_where_no_build_has_told_it(
    hass: HomeAssistant, coordinator: OffloadCoordinator, stage: Stage
) -> None:
    for _ in range(3):
        await run(hass, coordinator, Operation.COMPILE)

    assert len(stage.builder.requests) == 1
    assert stage.config_hashes.asked == [("lamp.yaml", NEWEST)]


async def test_hash_of_files_that_change_meanwhile_is_not_kept(
    hass: HomeAssistant, coordinator: OffloadCoordinator, config_dir: Path, stage: Stage
) -> None:
    def edit() -> None:
        with (config_dir / "lamp.yaml").open("a") as file:
            file.write("# edited\n")

    await run(hass, coordinator, Operation.COMPILE)
    stage.config_hashes.while_asked = edit

    await run(hass, coordinator, Operation.COMPILE)

    assert coordinator.firmware.present("lamp.yaml") is None


async def test_an_edited_configuration_is_built(
    hass: HomeAssistant, coordinator: OffloadCoordinator, config_dir: Path, stage: Stage
) -> None:
    await run(hass, coordinator)
    (config_dir / "lamp.yaml").write_text(f"{LAMP}\n# edited\n")
    await run(hass, coordinator)
    assert len(stage.builder.requests) == 2
