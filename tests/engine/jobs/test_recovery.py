"""Home Assistant stops, or is killed, and starts again."""

import asyncio

import pytest

from custom_components.esphome_offload.engine.const import (
    FailureReason,
    JobStatus,
    Operation,
    Source,
    Stage,
)
from custom_components.esphome_offload.engine.jobs import ledger, queue as queue_module
from custom_components.esphome_offload.engine.jobs.model import JobEvent
from custom_components.esphome_offload.engine.jobs.ports import Presence
from custom_components.esphome_offload.engine.jobs.router import Bind
from custom_components.esphome_offload.engine.jobs.store import to_drop

from .fakes import Block, settle
from .house import House


async def test_a_queued_job_queues_again(house: House) -> None:
    house.queue.hold()
    job = await house.run()
    await house.restart()
    again = house.queue.get(job.job_id)
    assert again is not None
    assert again is not job
    assert again.status is JobStatus.COMPLETED
    assert house.events_of(job).count(JobEvent.QUEUED) == 1


async def test_stopping_stops_the_build_and_leaves_the_job_to_the_next_start(
    house: House,
) -> None:
    block = Block()
    house.builder.script = [block]
    job = await house.run()
    await house.time.go(5)
    await house.queue.stop()
    assert block.cancelled
    assert house.terminal_events_of(job) == []
    stored = house.persistence.stored[0]
    assert (stored["status"], stored["stage"]) == ("running", "compiling")
    assert stored["stage_seconds"] == {"preparing": 0.0, "compiling": 5.0}

    await house.restart()
    again = house.queue.get(job.job_id)
    assert again is not None
    assert again.status is JobStatus.COMPLETED
    assert [a.failure for a in again.attempts] == [FailureReason.BUILDER_UNAVAILABLE, None]
    assert house.events_of(job).count(JobEvent.STARTED) == 1
    assert house.terminal_events_of(job) == [JobEvent.COMPLETED]


async def test_after_a_kill_the_job_ends_well_without_being_asked_again(house: House) -> None:
    house.builder.script = [Block()]
    job = await house.run()
    killed = house.persistence.stored  # what a kill leaves behind: no stop, no last save
    await house.queue.stop()
    house.persistence.stored = killed
    house.queue = house._make()
    await house.queue.start()
    await settle()
    again = house.queue.get(job.job_id)
    assert again is not None
    assert again.status is JobStatus.COMPLETED
    assert house.leftovers_ended == 2


@pytest.mark.parametrize("stage", [Stage.WAITING_DEVICE, Stage.UPLOADING, Stage.VERIFYING])
async def test_kept_firmware_is_flashed_without_building_again(house: House, stage: Stage) -> None:
    if stage is Stage.WAITING_DEVICE:
        house.devices.state["lamp"] = Presence.OFFLINE
    elif stage is Stage.UPLOADING:
        house.flasher.script = [Block()]
    else:
        house.devices.confirm_gate = asyncio.Event()
    job = await house.run()
    assert job.stage is stage
    await house.stop_and_make_anew()
    house.devices.state.clear()
    house.devices.confirm_gate = None
    await house.queue.start()
    await settle()

    again = house.queue.get(job.job_id)
    assert again is not None
    assert again.status is JobStatus.COMPLETED
    assert len(house.builder.requests) == 1
    assert house.flasher.requests[-1].firmware.sha256 == job.firmware_sha256
    assert again.routing.source is Source.LOCAL
    assert "INFO Compiling" in (await house.logs.read(job.job_id)).lines


async def _waiting_then(house: House, operation: Operation = Operation.INSTALL) -> str:
    house.devices.state["lamp"] = Presence.OFFLINE
    job = await house.run(operation=operation)
    assert job.stage is Stage.WAITING_DEVICE
    await house.stop_and_make_anew()
    house.devices.state.clear()
    return job.job_id


@pytest.mark.parametrize("what", ["gone", "altered", "outdated"])
async def test_kept_firmware_that_is_no_good_is_built_again(house: House, what: str) -> None:
    job_id = await _waiting_then(house)
    if what == "gone":
        house.keeper.kept.clear()
    house.keeper.altered = what == "altered"
    if what == "outdated":
        house.configurations.fingerprints["lamp.yaml"] = "edited while stopped"
    await house.queue.start()
    await settle()
    job = house.queue.get(job_id)
    assert job is not None
    assert job.status is JobStatus.COMPLETED
    assert len(house.builder.requests) == 2


async def test_an_upload_flashes_the_very_firmware_that_it_had_chosen(house: House) -> None:
    await house.run(operation=Operation.COMPILE)
    job_id = await _waiting_then(house, Operation.UPLOAD)
    await house.queue.start()
    await settle()
    job = house.queue.get(job_id)
    assert job is not None
    assert job.status is JobStatus.COMPLETED


async def test_an_upload_whose_firmware_is_gone_fails(house: House) -> None:
    await house.run(operation=Operation.COMPILE)
    job_id = await _waiting_then(house, Operation.UPLOAD)
    house.keeper.kept.clear()
    await house.queue.start()
    await settle()
    job = house.queue.get(job_id)
    assert job is not None
    assert job.outcome.failure_reason is FailureReason.NO_FIRMWARE


async def test_a_job_of_a_vanished_configuration_fails_by_name(house: House) -> None:
    job_id = await _waiting_then(house)
    house.configurations.fingerprints["lamp.yaml"] = None
    house.devices.state["lamp"] = Presence.OFFLINE
    await house.queue.start()
    await settle()
    job = house.queue.get(job_id)
    assert job is not None
    assert job.outcome.failure_reason is FailureReason.CONFIG_INVALID
    assert "lamp.yaml" in (job.outcome.error or "")


async def test_cleaning_needs_no_configuration(house: House) -> None:
    house.queue.hold()
    job = await house.run(operation=Operation.CLEAN)
    await house.stop_and_make_anew()
    house.configurations.fingerprints["lamp.yaml"] = None
    await house.queue.start()
    await settle()
    again = house.queue.get(job.job_id)
    assert again is not None
    assert again.status is JobStatus.COMPLETED


async def test_a_corrupt_stored_job_does_not_keep_the_others_from_going_on(house: House) -> None:
    house.queue.hold()
    job = await house.run()
    await house.stop_and_make_anew()
    house.persistence.stored.insert(0, {"job_id": "broken"})
    await house.queue.start()
    await settle()
    assert [each.job_id for each in house.queue.jobs()] == [job.job_id]


async def test_of_two_active_jobs_of_one_device_the_newer_stays(house: House) -> None:
    house.queue.hold()
    old = await house.run("a.yaml")
    new = await house.run("b.yaml")
    await house.stop_and_make_anew()
    for record in house.persistence.stored:
        assert isinstance(record["request"], dict)
        record["request"]["configuration"] = "lamp.yaml"
    await house.queue.start()
    await settle()
    statuses = {job.job_id: job.status for job in house.queue.jobs()}
    assert statuses == {
        old.job_id: JobStatus.CANCELLED,
        new.job_id: JobStatus.COMPLETED,
    }
    assert house.terminal_events_of(old) == [JobEvent.CANCELLED]


async def test_leftovers_that_cannot_be_ended_do_not_keep_the_queue_from_starting(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken() -> None:
        raise OSError("no permission")

    await house.stop_and_make_anew()
    house.queue._end_leftovers = broken
    await house.queue.start()
    assert (await house.run()).status is JobStatus.COMPLETED
    assert "could not be ended" in caplog.text


async def test_while_held_a_recovered_job_waits(house: House) -> None:
    job_id = await _waiting_then(house)
    house.queue.hold()
    await house.queue.start()
    await settle()
    job = house.queue.get(job_id)
    assert job is not None
    assert job.status is JobStatus.QUEUED
    house.queue.release()
    await settle()
    assert job.status is JobStatus.COMPLETED


async def test_a_cancel_under_way_at_stop_is_finished(house: House) -> None:
    house.builder.script = [Block()]
    job = await house.run()
    cancelling = asyncio.create_task(house.queue.cancel(job.job_id))
    await asyncio.sleep(0)
    await house.queue.stop()
    assert (await cancelling).status is JobStatus.CANCELLED


async def test_a_queue_that_was_never_started_stores_nothing(house: House) -> None:
    await house.run()
    await house.stop_and_make_anew()
    stored = list(house.persistence.stored)
    await house.queue.stop()
    assert house.persistence.stored == stored
    assert len(stored) == 1


async def test_a_task_that_does_not_stop_does_not_keep_home_assistant_from_stopping(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_module, "STOP_TIMEOUT", 0.01)
    release = asyncio.Event()

    async def stuck(_request: object, _sink: object) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await release.wait()
            raise

    house.builder.script = [stuck]
    job = await house.run()
    await house.queue.stop()
    assert job.status is JobStatus.RUNNING
    release.set()
    await settle()
    assert house.persistence.stored[0]["status"] == "running"


async def test_old_jobs_and_their_logs_are_dropped(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "to_drop", lambda jobs: to_drop(jobs, limit=2))
    jobs = [await house.run() for _ in range(4)]
    assert house.queue.jobs() == jobs[2:]
    assert len(house.persistence.stored) == 2
    await house.queue.stop()
    kept = {path.stem for path in (house.folder / "logs").iterdir()}
    assert kept == {job.job_id for job in jobs[2:]}


async def test_after_a_start_a_job_waits_for_peers_to_connect_and_no_longer(house: House) -> None:
    house.set(peers_expected=20.0)
    job = await house.run()
    assert (job.status, job.waiting_for) == (JobStatus.QUEUED, "builders to connect")
    house.set(peers_expected=0.0)
    await house.time.go(20)
    assert job.status is JobStatus.COMPLETED
    assert job.routing.source is Source.LOCAL


async def test_after_a_start_a_peer_that_connects_gets_the_job(house: House) -> None:
    house.set(peers_expected=20.0)
    job = await house.run()
    house.add_peer("aa", "Attic")
    await settle()
    assert job.status is JobStatus.COMPLETED
    assert job.routing.source_label == "Attic"


async def test_the_outlook_is_what_then_happens(house: House) -> None:
    outlook = house.queue.outlook("lamp.yaml")
    assert outlook == Bind("local", "idle", {})
    peer = house.add_peer("aa", "Attic")
    outlook = house.queue.outlook("lamp.yaml")
    assert isinstance(outlook, Bind)
    assert outlook.builder_id == "aa"
    job = await house.run()
    assert job.routing.source_label == peer.label
