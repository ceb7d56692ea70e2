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
from custom_components.esphome_offload.engine.jobs.refusal import JobRefused, RefusalReason
from custom_components.esphome_offload.engine.reason import Reason, ReasonKey

from .fakes import Block, request, settle
from .queue_harness import QueueHarness


async def test_a_second_install_while_one_runs_is_refused(harness: QueueHarness) -> None:
    block = Block()
    harness.builder.script = [block]
    first = await harness.run()
    with pytest.raises(JobRefused) as refusal:
        harness.submit(operation=Operation.CLEAN)
    assert refusal.value.reason is RefusalReason.ALREADY_RUNNING
    assert refusal.value.job is first
    block.release.set()
    await settle()
    assert first.status is JobStatus.COMPLETED


async def test_a_queued_job_is_replaced(harness: QueueHarness) -> None:
    block = Block()
    harness.builder.script = [block]
    await harness.run("other.yaml")
    old = await harness.run()
    assert (old.status, old.waiting_for) == (
        JobStatus.QUEUED,
        Reason(ReasonKey.WAITS_FOR_SLOT, {"labels": "This machine"}),
    )
    new = await harness.run(esphome_version="2026.10.1")

    assert old.status is JobStatus.CANCELLED
    assert old.outcome.failure_reason is FailureReason.SUPERSEDED
    ended = harness.events.index((JobEvent.CANCELLED, old.job_id))
    assert ended < harness.events.index((JobEvent.QUEUED, new.job_id))
    block.release.set()
    await settle()
    assert new.status is JobStatus.COMPLETED
    assert [r.esphome_version for r in harness.builder.requests] == ["2026.10.0", "2026.10.1"]


async def test_a_waiting_job_is_replaced(harness: QueueHarness) -> None:
    harness.devices.state["lamp"] = Presence.OFFLINE
    old = await harness.run()
    assert old.stage is Stage.WAITING_DEVICE
    new = await harness.run(operation=Operation.UPLOAD)
    assert old.outcome.failure_reason is FailureReason.SUPERSEDED
    assert new.stage is Stage.WAITING_DEVICE

    harness.devices.become("lamp", Presence.ONLINE)
    await settle()
    assert new.status is JobStatus.COMPLETED
    assert [r.job_id for r in harness.flasher.requests] == [new.job_id]


@pytest.mark.parametrize("online", [True, False])
async def test_the_same_request_joins_the_job_that_waits(
    harness: QueueHarness, online: bool
) -> None:
    if online:
        harness.builder.script = [Block()]
        await harness.run("other.yaml")
    else:
        harness.devices.state["lamp"] = Presence.OFFLINE
    job = await harness.run(user_id="admin")
    assert job.waiting
    for minute in range(3):
        assert await harness.run(user_id=None, from_version=f"2026.9.{minute}") is job
    assert job.waiting
    assert harness.events_of(job).count(JobEvent.QUEUED) == 1
    assert len(harness.queue.jobs()) == (2 if online else 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"operation": Operation.COMPILE},
        {"esphome_version": "2026.10.1"},
        {"requested_source": "local"},
        {"clean": True},
        {"address": "192.0.2.7"},
        {"device_name": "lamp-2"},
    ],
    ids=lambda changes: next(iter(changes)),
)
async def test_another_request_replaces_the_job_that_waits(
    harness: QueueHarness, changes: dict[str, object]
) -> None:
    harness.devices.state |= dict.fromkeys(("lamp", "lamp-2"), Presence.OFFLINE)
    old = await harness.run()
    new = await harness.run(**changes)
    assert new is not old
    assert old.outcome.failure_reason is FailureReason.SUPERSEDED


async def test_a_job_that_is_replaced_just_as_its_slot_comes_free_gives_the_slot_back(
    harness: QueueHarness,
) -> None:
    block = Block()
    harness.builder.script = [block]
    await harness.run("other.yaml")
    old = await harness.run()
    harness.builder.become(BuilderStatus(available=True, slots=2))  # granted, but not yet taken
    new = harness.submit(clean=True)
    block.release.set()
    await settle()
    assert old.status is JobStatus.CANCELLED
    assert new.status is JobStatus.COMPLETED
    assert (await harness.run("third.yaml")).status is JobStatus.COMPLETED


async def test_a_job_that_is_being_cancelled_is_not_replaced(harness: QueueHarness) -> None:
    harness.devices.state["lamp"] = Presence.OFFLINE
    job = await harness.run()
    cancelling = asyncio.create_task(harness.queue.cancel(job.job_id))
    await asyncio.sleep(0)
    with pytest.raises(JobRefused):
        harness.submit()
    assert (await cancelling).status is JobStatus.CANCELLED


async def test_builds_wait_for_a_slot_first_come_first_served(harness: QueueHarness) -> None:
    harness.builder.become(BuilderStatus(available=True, slots=2))
    blocks = [Block() for _ in range(5)]
    harness.builder.script = list(blocks)
    jobs = [harness.submit(f"d{n}.yaml") for n in range(5)]
    await settle()
    assert harness.builder.running == 2
    for block in blocks:
        block.release.set()
    await settle()
    assert harness.builder.most == 2
    assert [r.configuration for r in harness.builder.requests] == [f"d{n}.yaml" for n in range(5)]
    assert {job.status for job in jobs} == {JobStatus.COMPLETED}


async def test_an_additional_slot_is_used_at_once(harness: QueueHarness) -> None:
    blocks = [Block(), Block()]
    harness.builder.script = list(blocks)
    await harness.run("a.yaml")
    second = await harness.run("b.yaml")
    assert second.status is JobStatus.QUEUED
    harness.builder.become(BuilderStatus(available=True, slots=2))
    await settle()
    assert second.status is JobStatus.RUNNING
    for block in blocks:
        block.release.set()


async def test_uploads_are_limited_by_the_present_option(harness: QueueHarness) -> None:
    blocks = [Block() for _ in range(4)]
    harness.flasher.script = list(blocks)
    harness.set(parallel_uploads=1)
    jobs = [await harness.run(f"d{n}.yaml") for n in range(4)]
    assert harness.flasher.running.total() == 1
    assert (jobs[1].stage, jobs[1].waiting_for) == (
        Stage.UPLOADING,
        Reason(ReasonKey.WAITS_FOR_UPLOAD_SLOT),
    )
    harness.set(parallel_uploads=3)
    harness.queue.kick()
    await settle()
    assert harness.flasher.running.total() == 3
    for block in blocks:
        block.release.set()
    await settle()
    assert {job.status for job in jobs} == {JobStatus.COMPLETED}


async def test_verifying_takes_no_upload_slot(harness: QueueHarness) -> None:
    harness.set(parallel_uploads=1)
    harness.devices.confirm_gate = asyncio.Event()
    first, second = await harness.run("a.yaml"), await harness.run("b.yaml")
    assert (first.stage, second.stage) == (Stage.VERIFYING, Stage.VERIFYING)
    harness.devices.confirm_gate.set()
    await settle()


async def test_two_configurations_of_one_device_are_flashed_one_after_the_other(
    harness: QueueHarness,
) -> None:
    harness.devices.confirm_gate = asyncio.Event()
    first = await harness.run("lamp.yaml")
    second = await harness.run("lamp-new.yaml", device_name="lamp")
    assert first.stage is Stage.VERIFYING
    assert (second.stage, second.waiting_for) == (
        Stage.UPLOADING,
        Reason(ReasonKey.WAITS_FOR_OTHER_JOB),
    )
    harness.devices.confirm_gate.set()
    await settle()
    assert second.status is JobStatus.COMPLETED
    assert harness.flasher.most_of_one_device == 1


async def test_while_held_nothing_starts_and_what_runs_goes_on(harness: QueueHarness) -> None:
    build = Block()
    harness.builder.script = [build]
    running = await harness.run("running.yaml")
    harness.queue.hold()
    build.release.set()
    queued = await harness.run()
    cleaning = await harness.run("clean.yaml", operation=Operation.CLEAN)
    assert (running.stage, harness.flasher.requests) == (Stage.UPLOADING, [])
    assert queued.status is cleaning.status is JobStatus.QUEUED
    harness.queue.release()
    await settle()
    assert {job.status for job in (running, queued, cleaning)} == {JobStatus.COMPLETED}


async def test_a_job_waits_when_the_queue_is_held_again_at_once(harness: QueueHarness) -> None:
    harness.queue.hold()
    job = await harness.run(operation=Operation.CLEAN)
    harness.queue.release()
    harness.queue.hold()
    await settle()
    assert job.status is JobStatus.QUEUED


async def test_waiting_for_a_job_ends_with_the_job(harness: QueueHarness) -> None:
    block = Block()
    harness.builder.script = [block]
    job = await harness.run()
    waiting = asyncio.create_task(harness.queue.wait(job.job_id))
    await settle()
    assert not waiting.done()
    block.release.set()
    assert (await waiting).status is JobStatus.COMPLETED
    assert await harness.queue.wait(job.job_id) is job


async def test_waiting_for_a_job_ends_when_the_job_waits_for_its_device(
    harness: QueueHarness,
) -> None:
    harness.devices.state["lamp"] = Presence.OFFLINE
    job = harness.submit()
    assert (await harness.queue.wait(job.job_id)).stage is Stage.WAITING_DEVICE
    assert not job.in_progress


async def test_stopping_ends_every_wait_for_a_job(harness: QueueHarness) -> None:
    harness.builder.script = [Block()]
    job = await harness.run()
    waiting = asyncio.create_task(harness.queue.wait(job.job_id))
    await settle()
    await harness.queue.stop()
    assert (await waiting).status is JobStatus.RUNNING


async def test_the_queue_refuses_requests_before_start_and_after_stop(
    harness: QueueHarness,
) -> None:
    await harness.stop_and_remake()
    with pytest.raises(JobRefused) as refusal:
        harness.submit()
    assert refusal.value.reason is RefusalReason.NOT_RUNNING
    await harness.queue.start()
    await harness.queue.stop()
    with pytest.raises(JobRefused):
        harness.queue.submit(request())


async def test_the_active_and_the_last_job_of_a_configuration_are_known(
    harness: QueueHarness,
) -> None:
    assert harness.queue.active("lamp.yaml") is harness.queue.last("lamp.yaml") is None
    first = await harness.run()
    harness.devices.state["lamp"] = Presence.OFFLINE
    second = await harness.run()
    assert harness.queue.active("lamp.yaml") is second
    assert harness.queue.last("lamp.yaml") is first
    assert harness.queue.jobs() == [first, second]
    assert harness.queue.get(second.job_id) is second
    assert first.job_id < second.job_id


async def test_a_slot_that_comes_free_is_not_given_to_a_job_that_was_just_replaced(
    harness: QueueHarness,
) -> None:
    blocks = [Block(), Block()]
    harness.builder.script = list(blocks)
    await harness.run("other.yaml")
    old = await harness.run()
    new = harness.submit(clean=True)
    harness.builder.become(BuilderStatus(available=True, slots=2))
    await settle()
    assert old.status is JobStatus.CANCELLED
    assert [each.job_id for each in harness.builder.requests[1:]] == [new.job_id]
    for block in blocks:
        block.release.set()
