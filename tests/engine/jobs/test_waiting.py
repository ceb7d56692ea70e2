"""Firmware that waits for its device."""

import asyncio

from custom_components.esphome_offload.engine.build.model import BuildSink
from custom_components.esphome_offload.engine.const import (
    FailureReason,
    JobStatus,
    Operation,
    Stage,
)
from custom_components.esphome_offload.engine.jobs.ports import Presence

from .fakes import Block, flash_failing, settle
from .house import House


async def test_firmware_waits_for_a_device_that_is_offline_and_holds_no_slot(house: House) -> None:
    house.set(parallel_uploads=1)
    house.devices.state["lamp"] = Presence.OFFLINE
    job = await house.run()
    assert (job.stage, job.waiting_for) == (Stage.WAITING_DEVICE, "lamp to be reachable")
    assert job.waiting
    assert (await house.run("other.yaml")).status is JobStatus.COMPLETED

    house.devices.become("lamp", Presence.ONLINE)
    await settle()
    assert job.status is JobStatus.COMPLETED
    assert len(house.builder.requests) == 2
    assert house.devices.listeners == []


async def test_news_of_other_devices_change_nothing(house: House) -> None:
    house.devices.state["lamp"] = Presence.OFFLINE
    job = await house.run()
    events = len(house.events)
    house.devices.become("other", Presence.ONLINE)
    await settle()
    assert job.stage is Stage.WAITING_DEVICE
    assert len(house.events) == events


async def test_a_device_that_somebody_else_updates_is_left_alone(house: House) -> None:
    house.devices.state["lamp"] = Presence.BUSY
    job = await house.run()
    assert "being updated" in (job.waiting_for or "")
    assert house.flasher.requests == []
    house.devices.become("lamp", Presence.ONLINE)
    await settle()
    assert job.status is JobStatus.COMPLETED


async def test_a_changed_configuration_is_built_again_before_it_is_flashed(house: House) -> None:
    house.devices.state["lamp"] = Presence.OFFLINE
    job = await house.run(clean=True)
    first = job.firmware_sha256
    house.configurations.fingerprints["lamp.yaml"] = "another secret"
    house.devices.become("lamp", Presence.ONLINE)
    await settle()

    assert job.status is JobStatus.COMPLETED
    assert [r.clean for r in house.builder.requests] == [True, False]
    assert len(house.flasher.requests) == 1
    assert house.flasher.requests[0].firmware.sha256 == job.firmware_sha256 != first


async def test_an_upload_stays_with_its_firmware_when_the_configuration_changed(
    house: House,
) -> None:
    await house.run(operation=Operation.COMPILE)
    house.devices.state["lamp"] = Presence.OFFLINE
    job = await house.run(operation=Operation.UPLOAD)
    house.configurations.fingerprints["lamp.yaml"] = "changed"
    house.devices.become("lamp", Presence.ONLINE)
    await settle()
    assert job.status is JobStatus.COMPLETED
    assert len(house.builder.requests) == 1


async def test_a_configuration_that_went_away_while_waiting_is_not_flashed(house: House) -> None:
    house.devices.state["lamp"] = Presence.OFFLINE
    job = await house.run()
    house.configurations.fingerprints["lamp.yaml"] = None
    house.devices.become("lamp", Presence.ONLINE)
    await settle()
    assert job.outcome.failure_reason is FailureReason.CONFIG_INVALID
    assert house.flasher.requests == []


async def test_without_waiting_a_device_that_is_offline_fails(house: House) -> None:
    house.set(wait_for_device=0.0)
    house.devices.state["lamp"] = Presence.OFFLINE
    job = await house.run()
    assert job.outcome.failure_reason is FailureReason.DEVICE_OFFLINE
    assert "lamp" in (job.outcome.error or "")
    assert job.firmware_sha256 is not None


async def test_waiting_ends_after_the_set_time(house: House) -> None:
    house.set(wait_for_device=3600.0)
    house.devices.state["lamp"] = Presence.OFFLINE
    job = await house.run()
    await house.time.go(3599)
    assert job.stage is Stage.WAITING_DEVICE
    await house.time.go(1)
    assert job.outcome.failure_reason is FailureReason.DEVICE_OFFLINE


async def test_a_shorter_waiting_time_applies_at_once(house: House) -> None:
    house.devices.state["lamp"] = Presence.OFFLINE
    job = await house.run()
    await house.time.go(100)
    house.set(wait_for_device=60.0)
    house.queue.kick()
    await settle()
    assert job.outcome.failure_reason is FailureReason.DEVICE_OFFLINE


async def test_a_device_that_home_assistant_does_not_know_is_tried_once_a_minute(
    house: House,
) -> None:
    house.devices.state["lamp"] = Presence.UNKNOWN
    house.flasher.script = [flash_failing(FailureReason.DEVICE_OFFLINE) for _ in range(10)]
    job = await house.run()
    assert (job.stage, len(house.flasher.requests)) == (Stage.WAITING_DEVICE, 1)
    await house.time.go(59)
    assert len(house.flasher.requests) == 1
    await house.time.go(1)
    assert len(house.flasher.requests) == 2
    await house.time.go(600)
    assert job.status is JobStatus.COMPLETED
    assert len(house.flasher.requests) == 11


async def test_a_known_device_that_does_not_answer_goes_back_to_waiting_five_times(
    house: House,
) -> None:
    house.flasher.script = [flash_failing(FailureReason.DEVICE_OFFLINE, "no route")] * 10
    job = await house.run()
    for tries in range(1, 6):
        assert (job.stage, len(house.flasher.requests)) == (Stage.WAITING_DEVICE, tries)
        house.devices.become("lamp", Presence.OFFLINE)
        await settle()
        house.devices.become("lamp", Presence.ONLINE)
        await settle()
    assert len(house.flasher.requests) == 6
    assert job.outcome.failure_reason is FailureReason.DEVICE_OFFLINE
    assert job.outcome.error == "no route"


async def test_a_device_that_stays_online_without_answering_is_tried_again_after_a_minute(
    house: House,
) -> None:
    house.flasher.script = [flash_failing(FailureReason.DEVICE_OFFLINE)]
    job = await house.run()
    house.devices.become("lamp", Presence.ONLINE)
    await settle()
    assert len(house.flasher.requests) == 1
    await house.time.go(60)
    assert job.status is JobStatus.COMPLETED


async def test_a_device_that_falls_asleep_before_its_turn_is_waited_for(house: House) -> None:
    house.set(parallel_uploads=1)
    block = Block()
    house.flasher.script = [block]
    await house.run("other.yaml")
    job = await house.run()
    assert job.stage is Stage.UPLOADING
    house.devices.become("lamp", Presence.OFFLINE)
    block.release.set()
    await settle()
    assert job.stage is Stage.WAITING_DEVICE
    assert len(house.flasher.requests) == 1


async def test_a_cut_off_upload_is_tried_twice_more_without_building_again(house: House) -> None:
    house.flasher.script = [flash_failing(FailureReason.UPLOAD_FAILED)] * 3
    job = await house.run()
    assert job.waiting_for == "another try in 10 s"
    other = await house.run("other.yaml")
    assert other.waiting_for is not None
    await house.time.go(10)
    assert job.waiting_for == "another try in 30 s"
    await house.time.go(30)
    assert job.status is JobStatus.COMPLETED
    assert len(house.builder.requests) == 2


async def test_the_third_cut_off_upload_fails(house: House) -> None:
    house.flasher.script = [flash_failing(FailureReason.UPLOAD_FAILED, "cut off")] * 3
    job = await house.run()
    await house.time.go(40)
    assert job.outcome.failure_reason is FailureReason.UPLOAD_FAILED
    assert job.outcome.error == "cut off"
    assert "== cut off" in (await house.logs.read(job.job_id)).lines


async def test_during_the_back_off_others_may_upload(house: House) -> None:
    house.set(parallel_uploads=1)
    house.flasher.script = [flash_failing(FailureReason.UPLOAD_FAILED)]
    await house.run()
    assert (await house.run("other.yaml")).status is JobStatus.COMPLETED
    await house.time.go(10)


async def test_a_refused_upload_fails_at_once(house: House) -> None:
    house.flasher.script = [flash_failing(FailureReason.UPLOAD_REFUSED, "wrong password")]
    job = await house.run()
    assert job.outcome.failure_reason is FailureReason.UPLOAD_REFUSED
    assert job.outcome.error == "wrong password"


async def test_firmware_that_was_altered_is_never_flashed(house: House) -> None:
    house.flasher.script = [flash_failing(FailureReason.INTEGRITY)]
    job = await house.run()
    assert job.outcome.failure_reason is FailureReason.INTEGRITY


async def test_a_flasher_that_is_stopped_by_somebody_else_does_not_cancel_the_job(
    house: House,
) -> None:
    async def stopped(_request: object, _sink: BuildSink) -> None:
        raise asyncio.CancelledError

    house.flasher.script = [stopped]
    job = await house.run()
    assert job.outcome.failure_reason is FailureReason.BUILDER_UNAVAILABLE
