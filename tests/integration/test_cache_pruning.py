"""When the cache is pruned, and which configurations are kept."""

import asyncio
from collections.abc import Collection
from pathlib import Path

import pytest

from custom_components.esphome_offload.coordinator import OffloadCoordinator
from custom_components.esphome_offload.engine.const import Operation

from .conftest import Stage


async def pruned(coordinator: OffloadCoordinator) -> None:
    """Wait for the pruning that goes on."""
    await coordinator._pruning._tasks.wait()


async def test_the_cache_is_pruned_after_a_build_and_not_after_an_upload(
    coordinator: OffloadCoordinator, stage: Stage
) -> None:
    for operation in (Operation.COMPILE, Operation.UPLOAD):
        job = await coordinator.async_submit("lamp.yaml", operation)
        await coordinator.async_wait(job)
        await pruned(coordinator)
        assert stage.prunings == [{"lamp.yaml"}]


async def test_a_removed_configuration_is_kept_while_a_job_uses_it(
    coordinator: OffloadCoordinator, stage: Stage, config_dir: Path
) -> None:
    (config_dir / "fan.yaml").write_text("esphome:\n  name: fan\nhost:\n")
    await coordinator.inventory.async_rescan()
    job, block = await stage.start_blocked(coordinator, Operation.COMPILE)
    (config_dir / "lamp.yaml").unlink()
    await coordinator.inventory.async_rescan()
    coordinator._pruning.request()
    await pruned(coordinator)
    block.release.set()
    await coordinator.async_wait(job)
    await pruned(coordinator)
    assert stage.prunings == [{"lamp.yaml", "fan.yaml"}, {"fan.yaml"}]


async def test_an_empty_folder_does_not_mean_that_all_configurations_were_removed(
    coordinator: OffloadCoordinator, stage: Stage, config_dir: Path
) -> None:
    (config_dir / "lamp.yaml").unlink()
    await coordinator.inventory.async_rescan()
    coordinator._pruning.request()
    await pruned(coordinator)
    assert stage.prunings == [None]


async def test_a_cache_that_cannot_be_pruned_is_logged(
    coordinator: OffloadCoordinator, caplog: pytest.LogCaptureFixture
) -> None:
    async def full(_known: Collection[str] | None) -> None:
        raise OSError("read-only file system")

    coordinator.build_services.make_room = full
    coordinator._pruning.request()
    await pruned(coordinator)
    assert "The cache cannot be pruned: read-only file system" in caplog.text


async def test_stopping_the_coordinator_stops_the_pruning_that_goes_on_and_later_ones(
    coordinator: OffloadCoordinator, stage: Stage
) -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    async def endless(_known: Collection[str] | None) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    coordinator.build_services.make_room = endless
    coordinator._pruning.request()
    await started.wait()
    await coordinator.async_stop()
    assert ended.is_set()
    started.clear()
    coordinator._pruning.request()
    await pruned(coordinator)
    assert not started.is_set()
