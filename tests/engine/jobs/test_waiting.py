"""Firmware that waits for its device."""

import asyncio

import pytest

from custom_components.esphome_offload.engine.build.model import (
    BuilderStatus,
    BuildRequest,
    BuildSink,
)
from custom_components.esphome_offload.engine.const import (
    FailureReason,
    JobStatus,
    Operation,
    Stage,
)
from custom_components.esphome_offload.engine.jobs.ports import Presence
from custom_components.esphome_offload.engine.reason import Reason, ReasonKey

from .fakes import Block, because, failing, flash_failing, settle
from .queue_harness import QueueHarness


async def test_firmware_waits_for_a_device_that_is_offline_and_holds_no_slot(
    harness: QueueHarness,
) -> None:
    harness.set(parallel_uploads=1)
    harness.devices.state["lamp"] = Presence.OFFLINE
    job = await harness.run()
    assert (job.stage, job.waiting_for) == (
        Stage.WAITING_DEVICE,
        Reason(ReasonKey.WAITS_FOR_DEVICE, {"device": "lamp"}),
    )
    assert job.waiting
    assert (await harness.run("other.yaml")).status is JobStatus.COMPLETED

    harness.devices.become("lamp", Presence.ONLINE)
    await settle()
    assert job.status is JobStatus.COMPLETED
    assert len(harness.builder.requests) == 2
    assert harness.devices.listeners == []


async def test_a_change_of_another_device_changes_nothing(harness: QueueHarness) -> None:
    harness.devices.state["lamp"] = Presence.OFFLINE
    job = await harness.run()
    events = len(harness.events)
    harness.devices.become("other", Presence.ONLINE)
    await settle()
    assert job.stage is Stage.WAITING_DEVICE
    assert len(harness.events) == events


async def test_a_device_that_somebody_else_updates_is_left_alone(harness: QueueHarness) -> None:
    harness.devices.state["lamp"] = Presence.BUSY
    job = await harness.run()
    assert "being updated" in str(job.waiting_for)
    assert harness.flasher.requests == []
    harness.devices.become("lamp", Presence.ONLINE)
    await settle()
    assert job.status is JobStatus.COMPLETED


async def test_a_changed_configuration_is_built_again_before_it_is_flashed(
    harness: QueueHarness,
) -> None:
    harness.devices.state["lamp"] = Presence.OFFLINE
    job = await harness.run(clean=True)
    first = job.firmware_sha256
    harness.configurations.fingerprints["lamp.yaml"] = "another secret"
    harness.devices.become("lamp", Presence.ONLINE)
    await settle()

    assert job.status is JobStatus.COMPLETED
    assert [r.clean for r in harness.builder.requests] == [True, False]
    assert len(harness.flasher.requests) == 1
    assert harness.flasher.requests[0].firmware.sha256 == job.firmware_sha256 != first


async def test_what_is_saved_during_the_compile_is_built_before_anything_is_flashed(
    harness: QueueHarness,
) -> None:
    async def saved(_request: object, _sink: BuildSink) -> None:
        harness.configurations.fingerprints["lamp.yaml"] = "saved meanwhile"

    harness.builder.script = [saved]
    job = await harness.run()
    assert job.status is JobStatus.COMPLETED
    assert len(harness.builder.requests) == 2
    assert [each.firmware.sha256 for each in harness.flasher.requests] == [job.firmware_sha256]
    assert job.fingerprint == "saved meanwhile"


async def test_a_configuration_that_is_saved_all_the_time_is_flashed_in_the_end(
    harness: QueueHarness,
) -> None:
    async def saved(request: BuildRequest, _sink: BuildSink) -> None:
        harness.configurations.fingerprints["lamp.yaml"] = request.attempt_id

    harness.builder.script = [saved] * 9
    job = await harness.run()
    assert job.status is JobStatus.COMPLETED
    assert len(harness.builder.requests) == 5


async def test_an_upload_stays_with_its_firmware_when_the_configuration_changed(
    harness: QueueHarness,
) -> None:
    await harness.run(operation=Operation.COMPILE)
    harness.devices.state["lamp"] = Presence.OFFLINE
    job = await harness.run(operation=Operation.UPLOAD)
    harness.configurations.fingerprints["lamp.yaml"] = "changed"
    harness.devices.become("lamp", Presence.ONLINE)
    await settle()
    assert job.status is JobStatus.COMPLETED
    assert len(harness.builder.requests) == 1


async def test_a_configuration_that_was_removed_while_waiting_is_not_flashed(
    harness: QueueHarness,
) -> None:
    harness.devices.state["lamp"] = Presence.OFFLINE
    job = await harness.run()
    harness.configurations.fingerprints["lamp.yaml"] = None
    harness.devices.become("lamp", Presence.ONLINE)
    await settle()
    assert job.outcome.failure_reason is FailureReason.CONFIG_INVALID
    assert harness.flasher.requests == []


async def test_without_waiting_a_device_that_is_offline_fails(harness: QueueHarness) -> None:
    harness.set(wait_for_device=0.0)
    harness.devices.state["lamp"] = Presence.OFFLINE
    job = await harness.run()
    assert job.outcome.failure_reason is FailureReason.DEVICE_OFFLINE
    assert "lamp" in str(job.outcome.error)
    assert job.firmware_sha256 is not None


async def test_waiting_ends_after_the_set_time(harness: QueueHarness) -> None:
    harness.set(wait_for_device=3600.0)
    harness.devices.state["lamp"] = Presence.OFFLINE
    job = await harness.run()
    await harness.time.go(3599)
    assert job.stage is Stage.WAITING_DEVICE
    await harness.time.go(1)
    assert job.outcome.failure_reason is FailureReason.DEVICE_OFFLINE


async def test_a_shorter_waiting_time_applies_at_once(harness: QueueHarness) -> None:
    harness.devices.state["lamp"] = Presence.OFFLINE
    job = await harness.run()
    await harness.time.go(100)
    harness.set(wait_for_device=60.0)
    harness.queue.kick()
    await settle()
    assert job.outcome.failure_reason is FailureReason.DEVICE_OFFLINE


async def test_a_device_that_home_assistant_does_not_know_is_tried_once_a_minute(
    harness: QueueHarness,
) -> None:
    harness.devices.state["lamp"] = Presence.UNKNOWN
    harness.flasher.script = [flash_failing(FailureReason.DEVICE_OFFLINE) for _ in range(10)]
    job = await harness.run()
    assert (job.stage, len(harness.flasher.requests)) == (Stage.WAITING_DEVICE, 1)
    await harness.time.go(59)
    assert len(harness.flasher.requests) == 1
    await harness.time.go(1)
    assert len(harness.flasher.requests) == 2
    await harness.time.go(600)
    assert job.status is JobStatus.COMPLETED
    assert len(harness.flasher.requests) == 11


async def test_a_known_device_that_does_not_answer_goes_back_to_waiting_five_times(
    harness: QueueHarness,
) -> None:
    harness.flasher.script = [flash_failing(FailureReason.DEVICE_OFFLINE, "no route")] * 10
    job = await harness.run()
    for tries in range(1, 6):
        assert (job.stage, len(harness.flasher.requests)) == (Stage.WAITING_DEVICE, tries)
        harness.devices.become("lamp", Presence.OFFLINE)
        await settle()
        harness.devices.become("lamp", Presence.ONLINE)
        await settle()
    assert len(harness.flasher.requests) == 6
    assert job.outcome.failure_reason is FailureReason.DEVICE_OFFLINE
    assert job.outcome.error == because("no route")


async def test_a_device_that_stays_online_without_answering_is_tried_again_after_a_minute(
    harness: QueueHarness,
) -> None:
    harness.flasher.script = [flash_failing(FailureReason.DEVICE_OFFLINE)]
    job = await harness.run()
    harness.devices.become("lamp", Presence.ONLINE)
    await settle()
    assert len(harness.flasher.requests) == 1
    await harness.time.go(60)
    assert job.status is JobStatus.COMPLETED


async def test_a_device_that_falls_asleep_before_its_turn_is_waited_for(
    harness: QueueHarness,
) -> None:
    harness.set(parallel_uploads=1)
    block = Block()
    harness.flasher.script = [block]
    await harness.run("other.yaml")
    job = await harness.run()
    assert job.stage is Stage.UPLOADING
    harness.devices.become("lamp", Presence.OFFLINE)
    block.release.set()
    await settle()
    assert job.stage is Stage.WAITING_DEVICE
    assert len(harness.flasher.requests) == 1


async def test_a_cut_off_upload_is_tried_twice_more_without_building_again(
    harness: QueueHarness,
) -> None:
    harness.flasher.script = [flash_failing(FailureReason.UPLOAD_FAILED)] * 3
    job = await harness.run()
    assert job.waiting_for == Reason(ReasonKey.WAITS_FOR_RETRY, {"seconds": "10"})
    other = await harness.run("other.yaml")
    assert other.waiting_for is not None
    await harness.time.go(10)
    assert job.waiting_for == Reason(ReasonKey.WAITS_FOR_RETRY, {"seconds": "30"})
    await harness.time.go(30)
    assert job.status is JobStatus.COMPLETED
    assert len(harness.builder.requests) == 2


async def test_the_third_cut_off_upload_fails(harness: QueueHarness) -> None:
    harness.flasher.script = [flash_failing(FailureReason.UPLOAD_FAILED, "cut off")] * 3
    job = await harness.run()
    await harness.time.go(40)
    assert job.outcome.failure_reason is FailureReason.UPLOAD_FAILED
    assert job.outcome.error == because("cut off")
    assert f"== {because('cut off')}" in (await harness.logs.read(job.job_id)).lines


async def test_during_the_back_off_others_may_upload(harness: QueueHarness) -> None:
    harness.set(parallel_uploads=1)
    harness.flasher.script = [flash_failing(FailureReason.UPLOAD_FAILED)]
    await harness.run()
    assert (await harness.run("other.yaml")).status is JobStatus.COMPLETED
    await harness.time.go(10)


async def test_a_refused_upload_fails_at_once(harness: QueueHarness) -> None:
    harness.flasher.script = [flash_failing(FailureReason.UPLOAD_REFUSED, "wrong password")]
    job = await harness.run()
    assert job.outcome.failure_reason is FailureReason.UPLOAD_REFUSED
    assert job.outcome.error == because("wrong password")


async def test_firmware_that_was_altered_is_never_flashed(harness: QueueHarness) -> None:
    harness.flasher.script = [flash_failing(FailureReason.INTEGRITY)]
    job = await harness.run()
    assert job.outcome.failure_reason is FailureReason.INTEGRITY


async def test_a_flasher_that_is_cancelled_from_outside_fails_the_job(
    harness: QueueHarness,
) -> None:
    async def stopped(_request: object, _sink: BuildSink) -> None:
        raise asyncio.CancelledError

    harness.flasher.script = [stopped]
    job = await harness.run()
    assert job.outcome.failure_reason is FailureReason.BUILDER_UNAVAILABLE


JUMPS = pytest.mark.parametrize("hours", [20, -6])


@JUMPS
async def test_a_wait_for_a_device_is_as_long_after_a_jump_of_the_clock(
    harness: QueueHarness, hours: int
) -> None:
    harness.set(wait_for_device=12 * 3600.0)
    harness.devices.state["lamp"] = Presence.OFFLINE
    job = await harness.run()
    await harness.time.go(3600)
    harness.time.jump(hours)
    await harness.time.go(11 * 3600 - 1)
    assert job.stage is Stage.WAITING_DEVICE
    await harness.time.go(1)
    assert job.outcome.failure_reason is FailureReason.DEVICE_OFFLINE
    assert job.stage_seconds[Stage.WAITING_DEVICE] == 12 * 3600


@JUMPS
async def test_a_device_is_tried_again_after_a_minute_whatever_the_clock_says(
    harness: QueueHarness, hours: int
) -> None:
    harness.flasher.script = [flash_failing(FailureReason.DEVICE_OFFLINE)]
    job = await harness.run()
    harness.time.jump(hours)
    harness.queue.kick()
    await harness.time.go(59)
    assert len(harness.flasher.requests) == 1
    await harness.time.go(1)
    assert job.status is JobStatus.COMPLETED


@JUMPS
@pytest.mark.parametrize("killed", [False, True])
async def test_after_a_restart_a_device_is_waited_for_as_long_as_was_left(
    harness: QueueHarness, hours: int, killed: bool
) -> None:
    harness.set(wait_for_device=12 * 3600.0)
    harness.devices.state["lamp"] = Presence.OFFLINE
    await harness.run()
    await harness.time.go(3600)
    stored = harness.persistence.stored
    await harness.stop_and_remake()
    if killed:
        harness.persistence.stored = stored
    harness.time.jump(hours)
    await harness.queue.start()
    await settle()
    [job] = harness.queue.jobs()
    await harness.time.go(11 * 3600 - 1)
    assert job.stage is Stage.WAITING_DEVICE
    await harness.time.go(1)
    assert job.outcome.failure_reason is FailureReason.DEVICE_OFFLINE


@JUMPS
async def test_a_wait_for_a_builder_is_as_long_after_a_restart_and_a_jump_of_the_clock(
    harness: QueueHarness, hours: int
) -> None:
    harness.set(wait_for_builder=1800.0)
    peer = harness.add_peer("pin", "Workshop")
    peer.become(BuilderStatus(available=False, why_not=because("paused")))
    await harness.run()
    await harness.time.go(600)
    harness.time.jump(hours)
    await harness.restart()
    [job] = harness.queue.jobs()
    await harness.time.go(1199)
    assert job.status is JobStatus.QUEUED
    await harness.time.go(1)
    assert (job.status, job.routing.source_label) == (JobStatus.COMPLETED, "This machine")


@JUMPS
async def test_a_builder_that_was_out_of_reach_is_tried_again_whatever_the_clock_says(
    harness: QueueHarness, hours: int
) -> None:
    harness.set(wait_for_builder=1800.0)
    harness.builder.become(BuilderStatus(available=False, why_not=because("no compiler")))
    peer = harness.add_peer("pin", "Workshop")
    peer.script = [failing(FailureReason.BUILDER_UNAVAILABLE)]
    job = await harness.run()
    harness.time.jump(hours)
    harness.queue.kick()
    await harness.time.go(9)
    assert len(peer.requests) == 1
    await harness.time.go(1)
    assert job.status is JobStatus.COMPLETED


@pytest.mark.parametrize("presence", [Presence.ONLINE, Presence.OFFLINE, Presence.UNKNOWN])
async def test_nothing_is_sent_while_another_device_is_where_this_one_should_be(
    harness: QueueHarness, presence: Presence
) -> None:
    harness.devices.state["lamp"] = presence
    harness.devices.displaced = {"lamp"}
    job = await harness.run()
    assert (job.stage, job.waiting_for) == (
        Stage.WAITING_DEVICE,
        Reason(ReasonKey.WAITS_FOR_ADDRESS, {"device": "lamp"}),
    )
    assert harness.flasher.requests == []

    harness.devices.displaced = set()
    harness.devices.become("lamp", Presence.ONLINE)
    await settle()
    assert job.status is JobStatus.COMPLETED


async def test_a_device_whose_place_stays_taken_is_said_so(harness: QueueHarness) -> None:
    harness.set(wait_for_device=0.0)
    harness.devices.displaced = {"lamp"}
    job = await harness.run()
    assert job.outcome.failure_reason is FailureReason.DEVICE_OFFLINE
    assert job.outcome.error == Reason(ReasonKey.DEVICE_DISPLACED, {"device": "lamp"})
    assert harness.flasher.requests == []


async def test_another_device_that_comes_just_before_the_flash_gets_nothing(
    harness: QueueHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def announced(_request: object) -> None:
        harness.devices.displaced = {"lamp"}

    monkeypatch.setattr(harness.devices, "announced", announced)
    harness.devices.state["lamp"] = Presence.UNKNOWN
    job = await harness.run()
    assert job.stage is Stage.WAITING_DEVICE
    assert harness.flasher.requests == []
