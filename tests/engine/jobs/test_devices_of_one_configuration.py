"""Several devices of one configuration: each has jobs of its own."""

import pytest

from custom_components.esphome_offload.engine.build.model import BuilderStatus, Node
from custom_components.esphome_offload.engine.const import (
    FailureReason,
    JobStatus,
    Operation,
    Stage,
)
from custom_components.esphome_offload.engine.jobs.model import FirmwareJob
from custom_components.esphome_offload.engine.jobs.ports import Presence
from custom_components.esphome_offload.engine.reason import Reason, ReasonKey

from .fakes import Block, settle
from .queue_harness import QueueHarness

MACS = ("aa:bb:cc:00:11:22", "aa:bb:cc:00:33:44")
NAMES = ("lamp-001122", "lamp-003344")
ONE, TWO = (f"lamp.yaml@{mac}" for mac in MACS)


async def install(harness: QueueHarness, number: int, **changes: object) -> FirmwareJob:
    harness.keeper.node = Node("lamp", adds_mac_suffix=True)
    return await harness.run(mac=MACS[number], device_name=NAMES[number], **changes)


async def test_both_wait_for_their_devices_also_after_a_restart(harness: QueueHarness) -> None:
    for name in NAMES:
        harness.devices.state[name] = Presence.OFFLINE
    first, second = [await install(harness, number) for number in (0, 1)]
    assert (harness.queue.active(ONE), harness.queue.active(TWO)) == (first, second)
    assert harness.queue.active("lamp.yaml") is None
    # What is built is the same for both.
    assert {request.device_name for request in harness.builder.requests} == {"lamp"}
    await harness.restart()
    for name, target in zip(NAMES, (ONE, TWO), strict=True):
        job = harness.queue.active(target)
        assert job is not None
        assert job.stage is Stage.WAITING_DEVICE
        harness.devices.become(name, Presence.ONLINE)
        await settle()
        assert job.status is JobStatus.COMPLETED
    assert [request.mac for request in harness.flasher.requests] == list(MACS)
    assert [request.device_name for request in harness.flasher.requests] == list(NAMES)


async def test_a_new_request_replaces_only_the_job_of_its_device(harness: QueueHarness) -> None:
    for name in NAMES:
        harness.devices.state[name] = Presence.OFFLINE
    first, second = [await install(harness, number) for number in (0, 1)]
    newer = await install(harness, 0, esphome_version="2026.10.1")
    assert first.outcome.failure_reason is FailureReason.SUPERSEDED
    assert (newer.stage, second.stage) == (Stage.WAITING_DEVICE,) * 2


async def test_a_configuration_is_in_use_while_any_device_is_built_for(
    harness: QueueHarness,
) -> None:
    block = Block()
    harness.builder.script = [block]
    job = await install(harness, 0)
    waiting = await install(harness, 1)
    assert harness.queue.uses("lamp.yaml")
    assert harness.queue.is_running(ONE)
    assert not harness.queue.is_running(TWO)
    block.release.set()
    await settle()
    assert (job.status, waiting.status) == (JobStatus.COMPLETED,) * 2
    assert not harness.queue.uses("lamp.yaml")


@pytest.mark.parametrize("at_peer", [False, True])
async def test_a_job_that_waits_for_a_tree_holds_no_build_slot(
    harness: QueueHarness, at_peer: bool
) -> None:
    builder = harness.add_peer("aa", "Attic") if at_peer else harness.builder
    builder.become(BuilderStatus(available=True, slots=2))
    block = Block()
    builder.script = [block]
    first, second = [await install(harness, number) for number in (0, 1)]
    other = await harness.run("fan.yaml", operation=Operation.COMPILE)
    assert second.status is JobStatus.QUEUED
    assert second.waiting_for == Reason(ReasonKey.WAITS_FOR_SLOT, {"labels": builder.label})
    assert other.status is JobStatus.COMPLETED
    block.release.set()
    await settle()
    assert (first.status, second.status) == (JobStatus.COMPLETED,) * 2


async def test_another_builder_builds_for_the_second_device_meanwhile(
    harness: QueueHarness,
) -> None:
    blocks = [Block(), Block()]
    for builder_id, block in zip(("aa", "bb"), blocks, strict=True):
        peer = harness.add_peer(builder_id, builder_id)
        peer.script = [block]
        peer.become(BuilderStatus(available=True, slots=2))
    jobs = [await install(harness, number) for number in (0, 1)]
    assert [job.stage for job in jobs] == [Stage.COMPILING] * 2
    for block in blocks:
        block.release.set()
    await settle()
    assert [job.status for job in jobs] == [JobStatus.COMPLETED] * 2


async def test_jobs_go_with_the_file_and_to_the_device_that_becomes_known(
    harness: QueueHarness,
) -> None:
    built = await harness.run(operation=Operation.COMPILE)
    harness.queue.rename("lamp.yaml", ONE)
    assert harness.queue.last(ONE) is built
    assert (built.request.mac, built.request.device_name) == (MACS[0], NAMES[0])
    other = await install(harness, 1)
    harness.queue.rename("lamp.yaml", "desk.yaml")
    assert harness.queue.last(f"desk.yaml@{MACS[0]}") is built
    assert harness.queue.last(f"desk.yaml@{MACS[1]}") is other
    harness.queue.rename("lamp.yaml", "desk.yaml")
    assert harness.queue.last(f"desk.yaml@{MACS[1]}") is other


async def test_two_waiting_jobs_that_come_together_become_one(harness: QueueHarness) -> None:
    harness.devices.state |= {"lamp": Presence.OFFLINE, NAMES[0]: Presence.OFFLINE}
    moved = await harness.run()
    stays = await install(harness, 0)
    harness.queue.rename("lamp.yaml", ONE)
    assert moved.outcome.failure_reason is FailureReason.SUPERSEDED
    assert harness.queue.active(ONE) is stays
    await settle()
    assert stays.stage is Stage.WAITING_DEVICE
    assert harness.queue.last(ONE) is moved


async def test_of_two_jobs_that_come_together_the_one_at_work_goes_on(
    harness: QueueHarness,
) -> None:
    block = Block()
    harness.builder.script = [block]
    moved = await harness.run()
    waiting = await install(harness, 0)
    harness.queue.rename("lamp.yaml", ONE)
    assert waiting.outcome.failure_reason is FailureReason.SUPERSEDED
    assert harness.queue.active(ONE) is moved
    block.release.set()
    await settle()
    assert moved.status is JobStatus.COMPLETED


async def test_of_two_jobs_at_work_that_come_together_the_moved_one_is_ended(
    harness: QueueHarness,
) -> None:
    blocks = Block(), Block()
    harness.builder.script = [blocks[0]]
    harness.add_peer("aa", "Attic").script = [blocks[1]]
    stays = await install(harness, 0, requested_source="local")
    moved = await harness.run()
    harness.queue.rename("lamp.yaml", ONE)
    harness.queue.rename("lamp.yaml", ONE)
    await settle()
    assert blocks[1].cancelled
    assert (moved.status, moved.outcome.failure_reason) == (
        JobStatus.CANCELLED,
        FailureReason.SUPERSEDED,
    )
    assert harness.queue.active(ONE) is stays
    blocks[0].release.set()
    await settle()
    assert stays.status is JobStatus.COMPLETED


async def test_firmware_that_fits_another_device_is_for_one_only(harness: QueueHarness) -> None:
    harness.devices.intruders[NAMES[0]] = NAMES[1]
    job = await install(harness, 0)
    assert job.outcome.failure_reason is FailureReason.WRONG_DEVICE
    assert f"made for {NAMES[0]}, and not for {NAMES[1]}" in str(job.outcome.error)
    assert harness.flasher.requests == []
