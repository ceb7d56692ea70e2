"""When room is made in the cache, and what is said to be there."""

import asyncio
from collections.abc import Collection
from pathlib import Path

from homeassistant.core import HomeAssistant

from custom_components.esphome_offload.cache_pruner import CachePruner
from custom_components.esphome_offload.coordinator import OffloadCoordinator
from custom_components.esphome_offload.engine.const import Operation

from ..engine.jobs.fakes import Block
from .conftest import Stage


async def test_room_is_made_after_a_build_and_not_after_an_upload(
    hass: HomeAssistant, coordinator: OffloadCoordinator, stage: Stage
) -> None:
    for operation in (Operation.COMPILE, Operation.UPLOAD):
        job = await coordinator.async_submit("lamp.yaml", operation)
        await coordinator.async_wait(job)
        await hass.async_block_till_done(wait_background_tasks=True)
        assert stage.rooms_made == [{"lamp.yaml"}]


async def test_a_configuration_that_is_gone_counts_as_there_while_a_job_uses_it(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    stage: Stage,
    config_dir: Path,
) -> None:
    (config_dir / "fan.yaml").write_text("esphome:\n  name: fan\n")
    await coordinator._tracker.async_rescan()
    block = Block()
    stage.builder.script = [block]
    job = await coordinator.async_submit("lamp.yaml", Operation.COMPILE)
    await block.entered.wait()
    (config_dir / "lamp.yaml").unlink()
    await coordinator._tracker.async_rescan()
    coordinator._housekeeping.soon()
    await hass.async_block_till_done()
    block.release.set()
    await coordinator.async_wait(job)
    await hass.async_block_till_done(wait_background_tasks=True)
    assert stage.rooms_made == [{"lamp.yaml", "fan.yaml"}, {"fan.yaml"}]


async def test_an_empty_folder_says_nothing_about_what_is_gone(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    stage: Stage,
    config_dir: Path,
) -> None:
    (config_dir / "lamp.yaml").unlink()
    await coordinator._tracker.async_rescan()
    coordinator._housekeeping.soon()
    await hass.async_block_till_done(wait_background_tasks=True)
    assert stage.rooms_made == [None]


async def test_no_room_is_made_any_more_once_all_has_stopped(
    hass: HomeAssistant, coordinator: OffloadCoordinator, stage: Stage
) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def long(known: Collection[str] | None) -> None:
        stage.rooms_made.append(known)
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    housekeeping = CachePruner(hass, long, lambda: ())
    housekeeping.soon()
    await begun.wait()
    await housekeeping.async_stop()
    assert ended.is_set()
    housekeeping.soon()
    await hass.async_block_till_done(wait_background_tasks=True)
    assert len(stage.rooms_made) == 1


async def test_the_end_of_the_coordinator_is_the_end_of_housekeeping(
    hass: HomeAssistant, coordinator: OffloadCoordinator, stage: Stage
) -> None:
    await coordinator.async_stop()
    coordinator._housekeeping.soon()
    await hass.async_block_till_done(wait_background_tasks=True)
    assert stage.rooms_made == []


async def test_room_is_made_once_for_all_that_end_at_a_time_and_once_more_for_later_ones(
    hass: HomeAssistant, coordinator: OffloadCoordinator, stage: Stage
) -> None:
    async def make_room(known: Collection[str] | None) -> None:
        stage.rooms_made.append(known)
        if len(stage.rooms_made) == 1:
            housekeeping.soon()
            housekeeping.soon()

    housekeeping = CachePruner(hass, make_room, lambda: ())
    housekeeping.soon()
    housekeeping.soon()
    await hass.async_block_till_done(wait_background_tasks=True)
    assert len(stage.rooms_made) == 2
