"""What an installation writes into the recorder's database."""

import asyncio

from homeassistant.components.recorder import Recorder
from homeassistant.components.recorder.db_schema import States, StatesMeta
from homeassistant.components.recorder.util import session_scope
from homeassistant.core import HomeAssistant
import pytest
from pytest_homeassistant_custom_component.components.recorder.common import (
    async_wait_recording_done,
)
from sqlalchemy import select

from custom_components.esphome_offload.coordinator import OffloadCoordinator
from custom_components.esphome_offload.engine.build.model import BuildRequest, BuildSink
from custom_components.esphome_offload.engine.const import JobStatus, Operation, Stage
from custom_components.esphome_offload.engine.jobs import ledger
from custom_components.esphome_offload.engine.jobs.ports import FlashRequest

from .conftest import Stage as Scripted, until_waiting

UPDATE = "update.desk_lamp_esphome"
INSTALLATION = "sensor.desk_lamp_installation"


@pytest.fixture(autouse=True)
def _custom_integrations(recorder_mock: Recorder, enable_custom_integrations: None) -> None:
    """Let the recorder be there before everything else."""


async def rows(hass: HomeAssistant, recorder: Recorder, entity_id: str) -> list[str]:
    """Return the states of an entity in the database, oldest first."""
    await async_wait_recording_done(hass)

    def read() -> list[str]:
        query = (
            select(States.state)
            .join(StatesMeta, States.metadata_id == StatesMeta.metadata_id)
            .where(StatesMeta.entity_id == entity_id)
            .order_by(States.state_id)
        )
        with session_scope(hass=hass, read_only=True) as session:
            return list(session.scalars(query))

    return await recorder.async_add_executor_job(read)


async def talk(sink: BuildSink) -> None:
    """Report each percent, each time with an event."""
    for percent in range(101):
        sink.progress(percent)
        await asyncio.sleep(0)
        await asyncio.sleep(0)


async def test_an_installation_takes_few_rows_however_much_it_reports(
    hass: HomeAssistant,
    recorder_mock: Recorder,
    coordinator: OffloadCoordinator,
    stage: Scripted,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ledger, "PROGRESS_EVERY", 0.0)
    percents: set[int] = set()

    async def build(_request: BuildRequest, sink: BuildSink) -> None:
        for step in (Stage.DOWNLOADING, Stage.COMPILING, Stage.FETCHING):
            sink.stage(step)
            await talk(sink)

    async def flash(_request: FlashRequest, sink: BuildSink) -> None:
        await talk(sink)

    coordinator.queue.subscribe(None, lambda _event, job: percents.add(job.progress or 0))
    stage.builder.script = [build]
    stage.flasher.script = [flash]
    before = {each: len(await rows(hass, recorder_mock, each)) for each in (UPDATE, INSTALLATION)}

    slot = stage.builder.slots.take("guest")
    assert slot is not None
    job = await coordinator.async_submit("lamp.yaml", Operation.INSTALL)
    await until_waiting(coordinator, job)
    slot.release()
    job = await coordinator.async_wait(job)
    await hass.async_block_till_done()

    assert job.status is JobStatus.COMPLETED
    assert len(percents) > 80, "every percent was announced"
    update = await rows(hass, recorder_mock, UPDATE)
    installation = await rows(hass, recorder_mock, INSTALLATION)
    assert len(update) - before[UPDATE] <= 12, "three more are for what it may wait for"
    assert installation[before[INSTALLATION] :] == [
        "queued",
        "queued",  # with a reason
        "preparing",
        "compiling",
        "downloading",
        "compiling",
        "fetching",
        "uploading",
        "verifying",
        "idle",
    ]
