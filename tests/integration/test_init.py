"""Setting up, reloading, disabling, removing, stopping."""

import asyncio
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from homeassistant.config_entries import ConfigEntryDisabler, ConfigEntryState
from homeassistant.core import HomeAssistant
from homeassistant.util import dt as dt_util
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.esphome_offload.const import DOMAIN
from custom_components.esphome_offload.coordinator import DATA_COORDINATOR, OffloadCoordinator
from custom_components.esphome_offload.engine.codec import encode
from custom_components.esphome_offload.engine.const import JobStatus, Operation
from custom_components.esphome_offload.engine.host.guests import Guest
from custom_components.esphome_offload.engine.jobs import journal as journal_module
from custom_components.esphome_offload.engine.protocol.identity import Identity
from custom_components.esphome_offload.stores.storage import job_journal

from ..engine.jobs.fakes import Block
from .conftest import LAMP, NEWEST, Stage

ENTITY = "update.desk_lamp_esphome"


async def test_every_entity_has_a_live_state_after_setup_reload_and_another_setup(
    hass: HomeAssistant, coordinator: OffloadCoordinator, entry: MockConfigEntry
) -> None:
    def live() -> bool:
        state = hass.states.get(ENTITY)
        return state is not None and state.attributes["latest_version"] == NEWEST

    assert live()
    assert await hass.config_entries.async_reload(entry.entry_id)
    assert live()
    assert await hass.config_entries.async_unload(entry.entry_id)
    assert hass.states.get(ENTITY).state == "unavailable"
    assert await hass.config_entries.async_setup(entry.entry_id)
    assert live()


async def test_a_reload_leaves_a_running_build_alone_and_starts_none(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    entry: MockConfigEntry,
    stage: Stage,
    config_dir: Path,
) -> None:
    (config_dir / "plug.yaml").write_text(LAMP.replace("lamp", "plug"))
    assert await hass.config_entries.async_reload(entry.entry_id)
    job, block = await stage.start_blocked(coordinator)
    other = await coordinator.async_submit("plug.yaml", Operation.INSTALL)

    assert await hass.config_entries.async_unload(entry.entry_id)
    block.release.set()
    await hass.async_block_till_done()
    assert not block.cancelled
    assert len(stage.builder.requests) == 1
    assert other.status is JobStatus.QUEUED

    assert await hass.config_entries.async_setup(entry.entry_id)
    await coordinator.async_wait(job)
    await coordinator.async_wait(other)
    assert (job.status, other.status) == (JobStatus.COMPLETED, JobStatus.COMPLETED)


async def test_disabling_the_entry_cancels_its_jobs(
    hass: HomeAssistant, coordinator: OffloadCoordinator, entry: MockConfigEntry, stage: Stage
) -> None:
    job, block = await stage.start_blocked(coordinator)

    await hass.config_entries.async_set_disabled_by(entry.entry_id, ConfigEntryDisabler.USER)

    assert block.cancelled
    assert job.status is JobStatus.CANCELLED


async def test_removing_the_entry_cancels_its_jobs(
    hass: HomeAssistant, coordinator: OffloadCoordinator, entry: MockConfigEntry, stage: Stage
) -> None:
    job, block = await stage.start_blocked(coordinator)

    await hass.config_entries.async_remove(entry.entry_id)

    assert block.cancelled
    assert job.status is JobStatus.CANCELLED
    assert hass.states.get(ENTITY) is None


async def test_changed_options_count_at_once_and_leave_a_running_build_alone(
    hass: HomeAssistant, coordinator: OffloadCoordinator, entry: MockConfigEntry, stage: Stage
) -> None:
    job, block = await stage.start_blocked(coordinator)

    hass.config_entries.async_update_entry(
        entry,
        options={"version_channel": "fixed", "fixed_version": "2026.9.1", "parallel_builds": 3},
    )
    await hass.async_block_till_done()

    assert stage.builder.slots.count == 3
    assert hass.states.get(ENTITY).attributes["latest_version"] == "2026.9.1"
    assert not block.cancelled
    block.release.set()
    assert (await coordinator.async_wait(job)).status is JobStatus.COMPLETED


async def test_another_folder_counts_at_once(
    hass: HomeAssistant, coordinator: OffloadCoordinator, entry: MockConfigEntry, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "plug.yaml").write_text(LAMP.replace("lamp", "plug"))

    hass.config_entries.async_update_entry(
        entry, data={"kind": "instance", "config_dir": str(other)}
    )
    await hass.async_block_till_done()

    assert set(coordinator.devices) == {"plug.yaml"}
    assert hass.states.get(ENTITY) is None
    assert hass.states.get("update.desk_plug_esphome") is not None


async def test_an_instance_without_a_folder_has_no_devices(
    hass: HomeAssistant, stage: Stage, entry: MockConfigEntry
) -> None:
    hass.config_entries.async_update_entry(entry, data={"kind": "instance", "config_dir": ""})
    assert await hass.config_entries.async_setup(entry.entry_id)
    assert entry.state is ConfigEntryState.LOADED
    assert not hass.data[DATA_COORDINATOR].devices


async def test_a_removed_folder_can_be_set_again(
    hass: HomeAssistant, coordinator: OffloadCoordinator, entry: MockConfigEntry
) -> None:
    before = entry.data
    hass.config_entries.async_update_entry(entry, data={"kind": "instance", "config_dir": ""})
    await hass.async_block_till_done()
    assert not coordinator.devices
    assert hass.states.get(ENTITY) is None

    hass.config_entries.async_update_entry(entry, data=before)
    await hass.async_block_till_done()

    assert set(coordinator.devices) == {"lamp.yaml"}
    assert hass.states.get(ENTITY) is not None


async def test_stopping_home_assistant_stops_jobs_and_keeps_them(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    stage: Stage,
) -> None:
    job, block = await stage.start_blocked(coordinator)

    await hass.async_stop(force=True)

    assert block.cancelled
    assert stage.closed == 1
    assert not job.terminal
    assert [each.job_id for each in await job_journal(hass).load()] == [job.job_id]


async def test_what_was_answered_is_on_disk(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    stage: Stage,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Else a crash would forget an install, or go on with one that was cancelled.
    monkeypatch.setattr(journal_module, "WRITE_AFTER", 3600.0)
    stage.builder.script = [Block()]

    async def answer(action: str) -> list[JobStatus]:
        await hass.services.async_call(DOMAIN, action, {"entity_id": ENTITY}, blocking=True)
        return [job.status for job in await job_journal(hass).load()]

    assert await answer("compile") in ([JobStatus.QUEUED], [JobStatus.RUNNING])
    assert await answer("cancel") == [JobStatus.CANCELLED]


async def test_stopping_one_part_waits_for_no_other_and_a_failure_keeps_none_from_stopping(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    stage: Stage,
    caplog: pytest.LogCaptureFixture,
) -> None:
    stopping: set[str] = set()
    all_stopping = asyncio.Event()

    async def stop(part: str) -> None:
        stopping.add(part)
        if len(stopping) == 3:
            all_stopping.set()
        async with asyncio.timeout(30):
            await all_stopping.wait()
        if part == "lender":
            raise RuntimeError("the disk is gone")

    with (
        patch.object(coordinator.queue, "stop", partial(stop, "queue")),
        patch.object(coordinator.lender, "async_stop", partial(stop, "lender")),
        patch.object(coordinator.peering, "async_stop", partial(stop, "peering")),
    ):
        await coordinator.async_stop()

    assert stopping == {"queue", "lender", "peering"}
    assert stage.closed == 1
    assert "the disk is gone" in caplog.text


async def test_an_entry_whose_platforms_cannot_be_unloaded_stays_attached(
    hass: HomeAssistant, coordinator: OffloadCoordinator, entry: MockConfigEntry
) -> None:
    with patch.object(hass.config_entries, "async_unload_platforms", return_value=False):
        assert not await hass.config_entries.async_unload(entry.entry_id)
    assert entry.state is ConfigEntryState.FAILED_UNLOAD
    assert coordinator.options is not None
    entry.mock_state(hass, ConfigEntryState.LOADED)


async def test_guests_go_with_an_entry_that_was_disabled_at_the_start(
    hass: HomeAssistant, stage: Stage, entry: MockConfigEntry, hass_storage: dict[str, Any]
) -> None:
    """Nothing was set up then, and yet they may not build here once it is added again."""
    guest = encode(Guest(Identity.generate().public, "offloader", dt_util.utcnow()))
    hass_storage["esphome_offload.guests"] = {"version": 1, "data": {"guests": [guest]}}
    await hass.config_entries.async_remove(entry.entry_id)
    assert not hass.config_entries.async_entries(DOMAIN)
    coordinator = hass.data[DATA_COORDINATOR]
    assert coordinator.lender.guests.all() == ()
    await hass.async_block_till_done(wait_background_tasks=True)
    assert hass_storage["esphome_offload.guests"]["data"]["guests"] == []
