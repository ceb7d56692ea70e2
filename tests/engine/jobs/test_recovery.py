"""Home Assistant stops, or is killed, and starts again."""

import asyncio
import time

import pytest

from custom_components.esphome_offload.engine.build.model import Node
from custom_components.esphome_offload.engine.const import (
    FailureReason,
    JobStatus,
    Operation,
    Source,
    Stage,
)
from custom_components.esphome_offload.engine.jobs import ids, job_tasks, ledger
from custom_components.esphome_offload.engine.jobs.model import JobEvent
from custom_components.esphome_offload.engine.jobs.ports import Presence, Verdict
from custom_components.esphome_offload.engine.jobs.router import Bind
from custom_components.esphome_offload.engine.reason import Reason, ReasonKey

from .fakes import Block, Stuck, flash_failing, settle
from .queue_harness import QueueHarness


async def test_a_queued_job_queues_again(harness: QueueHarness) -> None:
    harness.queue.hold()
    job = await harness.run()
    await harness.restart()
    again = harness.queue.get(job.job_id)
    assert again is not None
    assert again is not job
    assert again.status is JobStatus.COMPLETED
    assert harness.events_of(job).count(JobEvent.QUEUED) == 1


async def test_stopping_stops_the_build_and_leaves_the_job_to_the_next_start(
    harness: QueueHarness,
) -> None:
    block = Block()
    harness.builder.script = [block]
    job = await harness.run()
    await harness.time.go(5)
    await harness.queue.stop()
    assert block.cancelled
    assert harness.terminal_events_of(job) == []
    stored = harness.persistence.stored[0]
    assert (stored["status"], stored["stage"]) == ("running", "compiling")
    assert stored["stage_seconds"] == {"preparing": 0.0, "compiling": 5.0}

    await harness.restart()
    again = harness.queue.get(job.job_id)
    assert again is not None
    assert again.status is JobStatus.COMPLETED
    assert [a.failure_reason for a in again.attempts] == [FailureReason.BUILDER_UNAVAILABLE, None]
    assert harness.events_of(job).count(JobEvent.STARTED) == 1
    assert harness.terminal_events_of(job) == [JobEvent.COMPLETED]


async def test_a_job_completes_after_home_assistant_was_killed(
    harness: QueueHarness,
) -> None:
    harness.builder.script = [Block()]
    job = await harness.run()
    killed = harness.persistence.stored  # what a kill leaves behind: no stop, no last save
    await harness.queue.stop()
    harness.persistence.stored = killed
    harness.queue = harness._make()
    await harness.queue.start()
    await settle()
    again = harness.queue.get(job.job_id)
    assert again is not None
    assert again.status is JobStatus.COMPLETED
    assert harness.leftovers_ended == 2


@pytest.mark.parametrize("stage", [Stage.WAITING_DEVICE, Stage.UPLOADING, Stage.VERIFYING])
async def test_kept_firmware_is_flashed_without_building_again(
    harness: QueueHarness, stage: Stage
) -> None:
    if stage is Stage.WAITING_DEVICE:
        harness.devices.state["lamp"] = Presence.OFFLINE
    elif stage is Stage.UPLOADING:
        harness.flasher.script = [Block()]
    else:
        harness.devices.confirm_gate = asyncio.Event()
    job = await harness.run()
    assert job.stage is stage
    await harness.stop_and_remake()
    harness.devices.state.clear()
    harness.devices.confirm_gate = None
    await harness.queue.start()
    await settle()

    again = harness.queue.get(job.job_id)
    assert again is not None
    assert again.status is JobStatus.COMPLETED
    assert len(harness.builder.requests) == 1
    assert harness.flasher.requests[-1].firmware.sha256 == job.firmware_sha256
    assert again.routing.source is Source.LOCAL
    assert "INFO Compiling" in (await harness.logs.read(job.job_id)).lines


async def _waiting_then(harness: QueueHarness, operation: Operation = Operation.INSTALL) -> str:
    harness.devices.state["lamp"] = Presence.OFFLINE
    job = await harness.run(operation=operation)
    assert job.stage is Stage.WAITING_DEVICE
    await harness.stop_and_remake()
    harness.devices.state.clear()
    return job.job_id


@pytest.mark.parametrize("what", ["gone", "altered", "outdated"])
async def test_kept_firmware_that_is_missing_or_altered_is_built_again(
    harness: QueueHarness, what: str
) -> None:
    job_id = await _waiting_then(harness)
    if what == "gone":
        harness.keeper.kept.clear()
    harness.keeper.altered = what == "altered"
    if what == "outdated":
        harness.configurations.fingerprints["lamp.yaml"] = "edited while stopped"
    await harness.queue.start()
    await settle()
    job = harness.queue.get(job_id)
    assert job is not None
    assert job.status is JobStatus.COMPLETED
    assert len(harness.builder.requests) == 2


async def test_firmware_is_not_built_again_because_more_of_its_files_is_known(
    harness: QueueHarness,
) -> None:
    job_id = await _waiting_then(harness)
    harness.configurations.fingerprints["lamp.yaml"] = "all of its files"
    harness.configurations.same.add("as it was")
    await harness.queue.start()
    await settle()
    job = harness.queue.get(job_id)
    assert job is not None
    assert job.status is JobStatus.COMPLETED
    assert job.fingerprint == "all of its files"
    assert len(harness.builder.requests) == 1


async def test_an_upload_flashes_the_very_firmware_that_it_had_chosen(
    harness: QueueHarness,
) -> None:
    await harness.run(operation=Operation.COMPILE)
    job_id = await _waiting_then(harness, Operation.UPLOAD)
    await harness.queue.start()
    await settle()
    job = harness.queue.get(job_id)
    assert job is not None
    assert job.status is JobStatus.COMPLETED


async def test_an_upload_whose_firmware_is_gone_fails(harness: QueueHarness) -> None:
    await harness.run(operation=Operation.COMPILE)
    job_id = await _waiting_then(harness, Operation.UPLOAD)
    harness.keeper.kept.clear()
    await harness.queue.start()
    await settle()
    job = harness.queue.get(job_id)
    assert job is not None
    assert job.outcome.failure_reason is FailureReason.NO_FIRMWARE


@pytest.mark.parametrize(
    ("operation", "end", "builds"),
    [(Operation.INSTALL, JobStatus.COMPLETED, 2), (Operation.UPLOAD, JobStatus.FAILED, 1)],
)
async def test_firmware_that_is_gone_when_it_is_sent_is_built_again_by_an_installation(
    harness: QueueHarness, operation: Operation, end: JobStatus, builds: int
) -> None:
    if operation is Operation.UPLOAD:
        await harness.run(operation=Operation.COMPILE)
    harness.flasher.script = [flash_failing(FailureReason.NO_FIRMWARE)]
    job = await harness.run(operation=operation)
    assert job.status is end
    assert len(harness.builder.requests) == builds


async def test_firmware_is_in_use_until_its_job_has_ended(harness: QueueHarness) -> None:
    harness.devices.state["lamp"] = Presence.OFFLINE
    job = await harness.run()
    assert harness.queue.firmware_in_use() == {job.firmware_sha256}
    await harness.queue.cancel(job.job_id)
    assert harness.queue.firmware_in_use() == frozenset()


async def test_a_recovered_job_of_a_removed_configuration_fails_and_names_it(
    harness: QueueHarness,
) -> None:
    job_id = await _waiting_then(harness)
    harness.configurations.fingerprints["lamp.yaml"] = None
    harness.devices.state["lamp"] = Presence.OFFLINE
    await harness.queue.start()
    await settle()
    job = harness.queue.get(job_id)
    assert job is not None
    assert job.outcome.failure_reason is FailureReason.CONFIG_INVALID
    assert "lamp.yaml" in str(job.outcome.error)


async def test_cleaning_needs_no_configuration(harness: QueueHarness) -> None:
    harness.queue.hold()
    job = await harness.run(operation=Operation.CLEAN)
    await harness.stop_and_remake()
    harness.configurations.fingerprints["lamp.yaml"] = None
    await harness.queue.start()
    await settle()
    again = harness.queue.get(job.job_id)
    assert again is not None
    assert again.status is JobStatus.COMPLETED


async def test_the_other_jobs_are_recovered_when_a_stored_one_is_corrupt(
    harness: QueueHarness,
) -> None:
    harness.queue.hold()
    job = await harness.run()
    await harness.stop_and_remake()
    harness.persistence.stored.insert(0, {"job_id": "broken"})
    await harness.queue.start()
    await settle()
    assert [each.job_id for each in harness.queue.jobs()] == [job.job_id]


async def test_of_two_active_jobs_of_one_device_the_newer_stays(harness: QueueHarness) -> None:
    harness.queue.hold()
    old = await harness.run("a.yaml")
    new = await harness.run("b.yaml")
    await harness.stop_and_remake()
    for record in harness.persistence.stored:
        assert isinstance(record["request"], dict)
        record["request"]["configuration"] = "lamp.yaml"
    await harness.queue.start()
    await settle()
    statuses = {job.job_id: job.status for job in harness.queue.jobs()}
    assert statuses == {
        old.job_id: JobStatus.CANCELLED,
        new.job_id: JobStatus.COMPLETED,
    }
    assert harness.terminal_events_of(old) == [JobEvent.CANCELLED]


async def test_the_queue_starts_although_leftovers_cannot_be_ended(
    harness: QueueHarness, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken() -> None:
        raise OSError("no permission")

    await harness.stop_and_remake()
    harness.queue._end_leftovers = broken
    await harness.queue.start()
    assert (await harness.run()).status is JobStatus.COMPLETED
    assert "could not be ended" in caplog.text


async def test_while_held_a_recovered_job_waits(harness: QueueHarness) -> None:
    job_id = await _waiting_then(harness)
    harness.queue.hold()
    await harness.queue.start()
    await settle()
    job = harness.queue.get(job_id)
    assert job is not None
    assert job.status is JobStatus.QUEUED
    harness.queue.release()
    await settle()
    assert job.status is JobStatus.COMPLETED


async def test_a_cancellation_that_is_running_at_stop_is_finished(harness: QueueHarness) -> None:
    harness.builder.script = [Block()]
    job = await harness.run()
    cancelling = asyncio.create_task(harness.queue.cancel(job.job_id))
    await asyncio.sleep(0)
    await harness.queue.stop()
    assert (await cancelling).status is JobStatus.CANCELLED


async def test_a_queue_that_was_never_started_stores_nothing(harness: QueueHarness) -> None:
    await harness.run()
    await harness.stop_and_remake()
    stored = list(harness.persistence.stored)
    await harness.queue.stop()
    assert harness.persistence.stored == stored
    assert len(stored) == 1


async def test_stopping_has_a_time_limit_for_tasks_that_do_not_stop(
    harness: QueueHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_tasks, "STOP_TIMEOUT", 0.01)
    stuck = Stuck()
    harness.builder.script = [stuck]
    job = await harness.run()
    await harness.queue.stop()
    assert job.status is JobStatus.RUNNING
    stuck.release.set()
    await settle()
    assert harness.persistence.stored[0]["status"] == "running"


async def test_old_jobs_and_their_logs_are_dropped(
    harness: QueueHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "KEPT_JOBS", 2)
    jobs = [await harness.run() for _ in range(4)]
    assert harness.queue.jobs() == jobs[2:]
    await harness.queue.stop()
    kept = {path.stem for path in (harness.folder / "logs").iterdir()}
    assert kept == {job.job_id for job in jobs[2:]}


async def test_after_a_start_a_job_waits_for_peers_to_connect_and_no_longer(
    harness: QueueHarness,
) -> None:
    harness.set(peers_expected=20.0)
    job = await harness.run()
    assert (job.status, job.waiting_for) == (
        JobStatus.QUEUED,
        Reason(ReasonKey.WAITS_FOR_CONNECTIONS),
    )
    harness.set(peers_expected=0.0)
    await harness.time.go(20)
    assert job.status is JobStatus.COMPLETED
    assert job.routing.source is Source.LOCAL


async def test_after_a_start_a_peer_that_connects_gets_the_job(harness: QueueHarness) -> None:
    harness.set(peers_expected=20.0)
    job = await harness.run()
    harness.add_peer("aa", "Attic")
    await settle()
    assert job.status is JobStatus.COMPLETED
    assert job.routing.source_label == "Attic"


async def test_the_outlook_is_the_choice_for_the_next_job(harness: QueueHarness) -> None:
    outlook = harness.queue.outlook("lamp.yaml")
    assert outlook == Bind("local", Reason(ReasonKey.CHOSEN_IDLE), {})
    peer = harness.add_peer("aa", "Attic")
    outlook = harness.queue.outlook("lamp.yaml")
    assert isinstance(outlook, Bind)
    assert outlook.builder_id == "aa"
    job = await harness.run()
    assert job.routing.source_label == peer.label


@pytest.mark.parametrize(
    ("runs", "flashes"), [(Verdict.CONFIRMED, 1), (Verdict.UNKNOWN, 2), (Verdict.ANOTHER_BUILD, 2)]
)
async def test_a_device_whose_firmware_does_not_count_as_good_yet_is_not_flashed_again(
    harness: QueueHarness, runs: Verdict, flashes: int
) -> None:
    harness.keeper.node = Node("lamp", good_after=60.0)
    harness.devices.confirm_gate = asyncio.Event()
    job = await harness.run()
    assert job.stage is Stage.VERIFYING
    harness.devices.confirm_gate = None
    harness.devices.stays = [runs]
    await harness.restart()
    (job,) = harness.queue.jobs()
    assert job.status is JobStatus.COMPLETED
    assert job.outcome.verified is True
    assert len(harness.flasher.requests) == flashes


@pytest.mark.parametrize(("runs", "flashes"), [(Verdict.CONFIRMED, 1), (Verdict.ANOTHER_BUILD, 2)])
async def test_a_device_that_sleeps_since_a_restart_is_compared_when_it_is_back(
    harness: QueueHarness, runs: Verdict, flashes: int
) -> None:
    harness.keeper.node = Node("lamp", good_after=60.0)
    harness.devices.confirm_gate = asyncio.Event()
    await harness.run()
    harness.devices.confirm_gate = None
    harness.devices.state["lamp"] = Presence.OFFLINE
    harness.devices.stays = [Verdict.NOT_BACK, runs]
    await harness.restart()
    (job,) = harness.queue.jobs()
    assert job.stage is Stage.WAITING_DEVICE
    assert len(harness.flasher.requests) == 1

    harness.devices.become("lamp", Presence.ONLINE)
    await settle()
    assert job.status is JobStatus.COMPLETED
    assert job.outcome.verified is True
    assert len(harness.flasher.requests) == flashes


async def test_a_device_that_is_back_while_files_are_compared_is_compared_first(
    harness: QueueHarness,
) -> None:
    harness.keeper.node = Node("lamp", good_after=60.0)
    harness.devices.confirm_gate = asyncio.Event()
    await harness.run()
    harness.devices.confirm_gate = None
    harness.devices.stays = [Verdict.NOT_BACK, Verdict.CONFIRMED]
    await harness.restart()
    (job,) = harness.queue.jobs()
    assert job.status is JobStatus.COMPLETED
    assert len(harness.flasher.requests) == 1


async def test_a_device_that_only_takes_firmware_since_a_restart_is_flashed(
    harness: QueueHarness,
) -> None:
    harness.keeper.node = Node("lamp", good_after=60.0, ota_port=3232)
    harness.devices.confirm_gate = asyncio.Event()
    await harness.run()
    harness.devices.confirm_gate = None
    harness.devices.state["lamp"] = Presence.OFFLINE
    harness.devices.listening = {3232}
    harness.devices.stays = [Verdict.NOT_BACK, Verdict.NOT_BACK]
    await harness.restart()
    (job,) = harness.queue.jobs()
    assert job.status is JobStatus.COMPLETED
    assert len(harness.flasher.requests) == 2


async def test_a_device_at_a_given_address_is_not_compared_for_ever(harness: QueueHarness) -> None:
    """Home Assistant looks for it elsewhere, so that it does not come back there."""
    harness.keeper.node = Node("lamp", good_after=60.0)
    harness.devices.confirm_gate = asyncio.Event()
    await harness.run(address="192.0.2.7")
    harness.devices.confirm_gate = None
    harness.devices.state["lamp"] = Presence.OFFLINE
    harness.devices.later = Verdict.NOT_BACK
    harness.set(wait_for_good_boot=False)
    await harness.restart()
    (job,) = harness.queue.jobs()
    assert job.status is JobStatus.COMPLETED
    assert len(harness.flasher.requests) == 2


async def test_what_ended_last_is_the_last_also_after_the_clock_was_set_back(
    harness: QueueHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ids, "_last_time", 0)
    monkeypatch.setattr(time, "time_ns", lambda: int(harness.time.now().timestamp() * 1e9))
    harness.flasher.script = [flash_failing(FailureReason.UPLOAD_REFUSED)]
    failed = await harness.run()
    assert failed.status is JobStatus.FAILED
    harness.time.jump(hours=-1)
    completed = await harness.run()
    assert completed.job_id < failed.job_id
    assert harness.queue.last("lamp.yaml") is completed
    assert harness.queue.last_install("lamp.yaml") is completed
    await harness.restart()
    last = harness.queue.last_install("lamp.yaml")
    assert last is harness.queue.last("lamp.yaml") is harness.queue.get(completed.job_id)
    harness.queue.rename("lamp.yaml", "desk.yaml")
    assert harness.queue.last_install("desk.yaml") is last
