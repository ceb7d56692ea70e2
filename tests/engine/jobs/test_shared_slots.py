"""This machine's own jobs and its guests' builds take from the same slots."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import override

import pytest

from custom_components.esphome_offload.engine.build.model import BuilderStatus
from custom_components.esphome_offload.engine.build.slots import Slots
from custom_components.esphome_offload.engine.const import JobStatus
from custom_components.esphome_offload.engine.jobs.model import FirmwareJob
from custom_components.esphome_offload.engine.reason import Reason, ReasonKey

from ..build.test_slots import ATTIC, CELLAR, Guest
from .fakes import Block, ScriptedBuilder, settle
from .queue_harness import QueueHarness


class SharedBuilder(ScriptedBuilder):
    """Takes its numbers from the slots, as the real one does."""

    slots: Slots

    @override
    def status(self) -> BuilderStatus:
        return replace(self.state, slots=self.slots.count, busy=self.slots.busy)

    @override
    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        return self.slots.subscribe(listener)


@pytest.fixture
def builder(harness: QueueHarness) -> SharedBuilder:
    builder = SharedBuilder(keeper=harness.keeper)
    builder.slots = Slots(1)
    harness.builders.register(builder)
    return builder


@pytest.fixture
async def guest(builder: SharedBuilder) -> AsyncIterator[Guest]:
    guest = Guest(builder.slots, ATTIC, [])
    yield guest
    for name in guest.tasks:
        await guest.end(name)


async def test_a_job_waits_while_a_guest_s_build_has_the_slot(
    harness: QueueHarness, builder: SharedBuilder, guest: Guest
) -> None:
    await guest.submit("a1")
    job = await harness.run()
    assert job.status is JobStatus.QUEUED
    assert job.waiting_for == Reason(ReasonKey.WAITS_FOR_SLOT, {"labels": "This machine"})
    assert builder.slots.waiting == 1
    await guest.end("a1")
    assert job.status is JobStatus.COMPLETED
    assert (builder.slots.busy, builder.slots.waiting) == (0, 0)


async def test_a_guest_s_build_waits_while_a_job_has_the_slot(
    harness: QueueHarness, builder: SharedBuilder, guest: Guest
) -> None:
    block = Block()
    builder.script = [block]
    job = await harness.run()
    await guest.submit("a1")
    assert (guest.order, guest.ahead["a1"]) == ([], [0])
    block.release.set()
    await settle()
    assert (job.status, guest.order) == (JobStatus.COMPLETED, ["a1"])


async def test_jobs_and_a_guest_s_builds_take_turns(
    harness: QueueHarness, builder: SharedBuilder, guest: Guest
) -> None:
    blocks = [Block() for _ in range(3)]
    builder.script = list(blocks)
    for name in ("a.yaml", "b.yaml", "c.yaml"):
        await harness.run(name)
    await guest.submit("a1", "a2")
    assert guest.ahead["a2"] == [2]
    blocks[0].release.set()
    await settle()
    assert (len(builder.requests), guest.order) == (1, ["a1"])
    await guest.end("a1")
    assert (len(builder.requests), guest.order) == (2, ["a1"])
    blocks[1].release.set()
    await settle()
    assert (len(builder.requests), guest.order) == (2, ["a1", "a2"])
    await guest.end("a2")
    assert [request.configuration for request in builder.requests] == ["a.yaml", "b.yaml", "c.yaml"]
    blocks[2].release.set()


async def test_more_slots_go_to_both(
    harness: QueueHarness, builder: SharedBuilder, guest: Guest
) -> None:
    blocks = [Block(), Block()]
    builder.script = list(blocks)
    await harness.run("a.yaml")
    await harness.run("b.yaml")
    await guest.submit("a1")
    builder.slots.set_count(3)
    await settle()
    assert (len(builder.requests), guest.order, builder.slots.busy) == (2, ["a1"], 3)
    for block in blocks:
        block.release.set()


async def test_a_job_that_is_cancelled_while_it_waits_leaves_the_queue(
    harness: QueueHarness, builder: SharedBuilder, guest: Guest
) -> None:
    await guest.submit("a1")
    job = await harness.run()
    await harness.queue.cancel(job.job_id)
    assert builder.slots.waiting == 0


async def test_guests_get_all_slots_while_jobs_are_held(
    harness: QueueHarness, builder: SharedBuilder, guest: Guest
) -> None:
    await guest.submit("a1", "a2", "a3")
    job = await harness.run()
    harness.queue.hold()
    await guest.end("a1")
    await guest.end("a2")
    assert guest.order == ["a1", "a2", "a3"]
    harness.queue.release()
    await guest.end("a3")
    assert job.status is JobStatus.COMPLETED


async def test_guests_get_all_slots_of_a_stopped_queue(
    harness: QueueHarness, builder: SharedBuilder, guest: Guest
) -> None:
    builder.script = [Block()]
    await harness.run("a.yaml")
    await harness.run("b.yaml")
    await guest.submit("a1")
    await harness.stop_and_remake()
    await settle()
    assert (guest.order, builder.slots.busy, builder.slots.waiting) == (["a1"], 1, 0)


async def test_a_job_does_not_take_a_slot_in_a_guest_s_turn(
    harness: QueueHarness, builder: SharedBuilder
) -> None:
    jobs: list[FirmwareJob] = []
    started: list[int] = []

    def turn() -> None:
        jobs.append(harness.submit())
        harness.queue.kick()
        started.append(len(builder.requests) + builder.slots.busy)
        builder.slots.want(ATTIC, 0, turn)

    async with AsyncExitStack() as stack:
        await stack.enter_async_context(builder.slots.slot(ATTIC, print))
        builder.slots.want(ATTIC, 1, turn)
    await settle()
    # The guest let its turn go by, so the job came next.
    assert started == [0]
    assert [job.status for job in jobs] == [JobStatus.COMPLETED]


async def test_a_job_that_waits_takes_no_slot_in_a_guest_s_turn(
    harness: QueueHarness, builder: SharedBuilder
) -> None:
    started: list[int] = []

    def turn() -> None:
        harness.queue.kick()
        started.append(len(builder.requests) + builder.slots.busy)
        builder.slots.want(CELLAR, 0, turn)

    async with builder.slots.slot(ATTIC, print):
        builder.slots.want(CELLAR, 1, turn)
        jobs = [await harness.run(name) for name in ("a.yaml", "b.yaml")]
        assert builder.slots.waiting == 3
    await settle()
    assert started == [0]
    assert [job.status for job in jobs] == [JobStatus.COMPLETED] * 2
