"""Taking requests: one active job per device, slots, holding, waiting, stopping."""

import asyncio

import pytest

from custom_components.esphome_offload.engine.build.model import BuilderStatus
from custom_components.esphome_offload.engine.const import (
    FailureReason,
    JobStatus,
    Operation,
    Stage,
)
from custom_components.esphome_offload.engine.jobs.model import JobEvent
from custom_components.esphome_offload.engine.jobs.ports import Presence
from custom_components.esphome_offload.engine.jobs.queue import JobRefused, RefusalReason

from .fakes import Block, request, settle
from .house import House


async def test_a_second_install_while_one_runs_is_refused(house: House) -> None:
    block = Block()
    house.builder.script = [block]
    first = await house.run()
    with pytest.raises(JobRefused) as refusal:
        house.submit(operation=Operation.CLEAN)
    assert refusal.value.reason is RefusalReason.ALREADY_RUNNING
    assert refusal.value.job is first
    block.release.set()
    await settle()
    assert first.status is JobStatus.COMPLETED


async def test_a_queued_job_is_replaced(house: House) -> None:
    block = Block()
    house.builder.script = [block]
    await house.run("other.yaml")
    old = await house.run()
    assert (old.status, old.waiting_for) == (JobStatus.QUEUED, "a free build slot (This machine)")
    new = await house.run(esphome_version="2026.10.1")

    assert old.status is JobStatus.CANCELLED
    assert old.outcome.failure_reason is FailureReason.SUPERSEDED
    ended = house.events.index((JobEvent.CANCELLED, old.job_id))
    assert ended < house.events.index((JobEvent.QUEUED, new.job_id))
    block.release.set()
    await settle()
    assert new.status is JobStatus.COMPLETED
    assert [r.esphome_version for r in house.builder.requests] == ["2026.10.0", "2026.10.1"]


async def test_a_waiting_job_is_replaced(house: House) -> None:
    house.devices.state["lamp"] = Presence.OFFLINE
    old = await house.run()
    assert old.stage is Stage.WAITING_DEVICE
    new = await house.run(operation=Operation.UPLOAD)
    assert old.outcome.failure_reason is FailureReason.SUPERSEDED
    assert new.stage is Stage.WAITING_DEVICE

    house.devices.become("lamp", Presence.ONLINE)
    await settle()
    assert new.status is JobStatus.COMPLETED
    assert [r.job_id for r in house.flasher.requests] == [new.job_id]


async def test_a_job_that_is_replaced_just_as_its_slot_comes_free_gives_the_slot_back(
    house: House,
) -> None:
    block = Block()
    house.builder.script = [block]
    await house.run("other.yaml")
    old = await house.run()
    house.builder.become(BuilderStatus(available=True, slots=2))  # granted, but not yet taken
    new = house.submit()
    block.release.set()
    await settle()
    assert old.status is JobStatus.CANCELLED
    assert new.status is JobStatus.COMPLETED
    assert (await house.run("third.yaml")).status is JobStatus.COMPLETED


async def test_a_job_that_is_being_cancelled_is_not_replaced(house: House) -> None:
    house.devices.state["lamp"] = Presence.OFFLINE
    job = await house.run()
    cancelling = asyncio.create_task(house.queue.cancel(job.job_id))
    await asyncio.sleep(0)
    with pytest.raises(JobRefused):
        house.submit()
    assert (await cancelling).status is JobStatus.CANCELLED


async def test_builds_wait_for_a_slot_first_come_first_served(house: House) -> None:
    house.builder.become(BuilderStatus(available=True, slots=2))
    blocks = [Block() for _ in range(5)]
    house.builder.script = list(blocks)
    jobs = [house.submit(f"d{n}.yaml") for n in range(5)]
    await settle()
    assert house.builder.running == 2
    for block in blocks:
        block.release.set()
    await settle()
    assert house.builder.most == 2
    assert [r.configuration for r in house.builder.requests] == [f"d{n}.yaml" for n in range(5)]
    assert {job.status for job in jobs} == {JobStatus.COMPLETED}


async def test_a_slot_more_is_used_at_once(house: House) -> None:
    blocks = [Block(), Block()]
    house.builder.script = list(blocks)
    await house.run("a.yaml")
    second = await house.run("b.yaml")
    assert second.status is JobStatus.QUEUED
    house.builder.become(BuilderStatus(available=True, slots=2))
    await settle()
    assert second.status is JobStatus.RUNNING
    for block in blocks:
        block.release.set()


async def test_uploads_are_limited_by_the_present_option(house: House) -> None:
    blocks = [Block() for _ in range(4)]
    house.flasher.script = list(blocks)
    house.set(parallel_uploads=1)
    jobs = [await house.run(f"d{n}.yaml") for n in range(4)]
    assert house.flasher.running.total() == 1
    assert (jobs[1].stage, jobs[1].waiting_for) == (Stage.UPLOADING, "a free upload slot")
    house.set(parallel_uploads=3)
    house.queue.kick()
    await settle()
    assert house.flasher.running.total() == 3
    for block in blocks:
        block.release.set()
    await settle()
    assert {job.status for job in jobs} == {JobStatus.COMPLETED}


async def test_verifying_takes_no_upload_slot(house: House) -> None:
    house.set(parallel_uploads=1)
    house.devices.confirm_gate = asyncio.Event()
    first, second = await house.run("a.yaml"), await house.run("b.yaml")
    assert (first.stage, second.stage) == (Stage.VERIFYING, Stage.VERIFYING)
    house.devices.confirm_gate.set()
    await settle()


async def test_two_configurations_of_one_device_are_flashed_one_after_the_other(
    house: House,
) -> None:
    house.devices.confirm_gate = asyncio.Event()
    first = await house.run("lamp.yaml")
    second = await house.run("lamp-new.yaml", device_name="lamp")
    assert first.stage is Stage.VERIFYING
    assert (second.stage, second.waiting_for) == (
        Stage.UPLOADING,
        "another job that flashes this device",
    )
    house.devices.confirm_gate.set()
    await settle()
    assert second.status is JobStatus.COMPLETED
    assert house.flasher.most_of_one_device == 1


async def test_while_held_nothing_starts_and_what_runs_goes_on(house: House) -> None:
    build = Block()
    house.builder.script = [build]
    running = await house.run("running.yaml")
    house.queue.hold()
    build.release.set()
    queued = await house.run()
    cleaning = await house.run("clean.yaml", operation=Operation.CLEAN)
    assert (running.stage, house.flasher.requests) == (Stage.UPLOADING, [])
    assert queued.status is cleaning.status is JobStatus.QUEUED
    house.queue.release()
    await settle()
    assert {job.status for job in (running, queued, cleaning)} == {JobStatus.COMPLETED}


async def test_held_again_before_anybody_could_pass_means_held(house: House) -> None:
    house.queue.hold()
    job = await house.run(operation=Operation.CLEAN)
    house.queue.release()
    house.queue.hold()
    await settle()
    assert job.status is JobStatus.QUEUED


async def test_waiting_for_a_job_ends_with_the_job(house: House) -> None:
    block = Block()
    house.builder.script = [block]
    job = await house.run()
    waiting = asyncio.create_task(house.queue.wait(job.job_id))
    await settle()
    assert not waiting.done()
    block.release.set()
    assert (await waiting).status is JobStatus.COMPLETED
    assert await house.queue.wait(job.job_id) is job


async def test_waiting_for_a_job_ends_when_the_job_waits_for_its_device(house: House) -> None:
    house.devices.state["lamp"] = Presence.OFFLINE
    job = house.submit()
    assert (await house.queue.wait(job.job_id)).stage is Stage.WAITING_DEVICE
    assert not job.in_progress


async def test_everybody_who_waits_is_released_by_stop(house: House) -> None:
    house.builder.script = [Block()]
    job = await house.run()
    waiting = asyncio.create_task(house.queue.wait(job.job_id))
    await settle()
    await house.queue.stop()
    assert (await waiting).status is JobStatus.RUNNING


async def test_the_queue_takes_nothing_before_start_and_after_stop(house: House) -> None:
    await house.stop_and_make_anew()
    with pytest.raises(JobRefused) as refusal:
        house.submit()
    assert refusal.value.reason is RefusalReason.NOT_RUNNING
    await house.queue.start()
    await house.queue.stop()
    with pytest.raises(JobRefused):
        house.queue.submit(request())


async def test_the_active_and_the_last_job_of_a_configuration_are_known(house: House) -> None:
    assert house.queue.active("lamp.yaml") is house.queue.last("lamp.yaml") is None
    first = await house.run()
    house.devices.state["lamp"] = Presence.OFFLINE
    second = await house.run()
    assert house.queue.active("lamp.yaml") is second
    assert house.queue.last("lamp.yaml") is first
    assert house.queue.jobs() == [first, second]
    assert house.queue.get(second.job_id) is second
    assert first.job_id < second.job_id


async def test_a_slot_that_comes_free_is_not_given_to_a_job_that_was_just_replaced(
    house: House,
) -> None:
    blocks = [Block(), Block()]
    house.builder.script = list(blocks)
    await house.run("other.yaml")
    old = await house.run()
    new = house.submit()
    house.builder.become(BuilderStatus(available=True, slots=2))
    await settle()
    assert old.status is JobStatus.CANCELLED
    assert [each.job_id for each in house.builder.requests[1:]] == [new.job_id]
    for block in blocks:
        block.release.set()
