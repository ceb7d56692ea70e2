"""Cancelling: at any stage, whatever a builder makes of it."""

import asyncio

import pytest

from custom_components.esphome_offload.engine.build.model import BuildError, BuildRequest, BuildSink
from custom_components.esphome_offload.engine.const import (
    FailureReason,
    JobStatus,
    Operation,
    Stage,
)
from custom_components.esphome_offload.engine.jobs import job_tasks
from custom_components.esphome_offload.engine.jobs.model import JobEvent
from custom_components.esphome_offload.engine.jobs.ports import Presence
from custom_components.esphome_offload.engine.jobs.refusal import JobRefused, RefusalReason
from custom_components.esphome_offload.engine.reason import Reason, ReasonKey

from .fakes import Block, Stuck, because, settle
from .queue_harness import QueueHarness


async def test_a_cancelled_build_never_flashes(harness: QueueHarness) -> None:
    block = Block()
    harness.builder.script = [block]
    job = await harness.run()
    cancelled = await harness.queue.cancel(job.job_id)
    assert cancelled is job
    assert job.status is JobStatus.CANCELLED
    assert job.outcome.failure_reason is FailureReason.CANCELLED
    assert job.attempts[0].failure_reason is FailureReason.CANCELLED
    assert block.cancelled
    await settle()
    assert harness.flasher.requests == []


@pytest.mark.parametrize("ending", ["success", "failure"])
async def test_a_job_is_cancelled_although_its_builder_swallows_the_cancellation(
    harness: QueueHarness, ending: str
) -> None:
    async def stubborn(request: BuildRequest, sink: BuildSink) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if ending == "failure":
                raise BuildError(FailureReason.COMPILE_FAILED, because("killed")) from None

    harness.builder.script = [stubborn]
    job = await harness.run()
    await harness.queue.cancel(job.job_id)
    await settle()
    assert job.status is JobStatus.CANCELLED
    assert harness.flasher.requests == []


async def test_a_job_is_cancelled_although_its_flasher_swallows_the_cancellation(
    harness: QueueHarness,
) -> None:
    async def stubborn(_request: object, _sink: BuildSink) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise BuildError(FailureReason.UPLOAD_FAILED, because("cut off")) from None

    harness.flasher.script = [stubborn]
    job = await harness.run()
    await harness.queue.cancel(job.job_id)
    assert job.status is JobStatus.CANCELLED
    assert len(harness.flasher.requests) == 1


async def test_a_job_is_cancelled_although_its_builder_does_not_stop(
    harness: QueueHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_tasks, "STOP_TIMEOUT", 0.01)
    stuck = Stuck()
    harness.builder.script = [stuck]
    job = await harness.run()
    await harness.queue.cancel(job.job_id)
    assert job.status is JobStatus.CANCELLED
    stuck.release.set()
    await settle()
    assert harness.terminal_events_of(job) == [JobEvent.CANCELLED]


async def test_a_job_is_cancelled_before_its_task_has_started(harness: QueueHarness) -> None:
    job = harness.submit()
    await harness.queue.cancel(job.job_id)
    assert job.status is JobStatus.CANCELLED
    assert harness.builder.requests == []


@pytest.mark.parametrize("stage", [Stage.UPLOADING, Stage.VERIFYING, Stage.WAITING_DEVICE])
async def test_a_job_is_cancelled_in_any_stage_and_frees_its_slots(
    harness: QueueHarness, stage: Stage
) -> None:
    harness.set(parallel_uploads=1)
    if stage is Stage.UPLOADING:
        harness.flasher.script = [Block()]
    elif stage is Stage.VERIFYING:
        harness.devices.confirm_gate = asyncio.Event()
    else:
        harness.devices.state["lamp"] = Presence.OFFLINE
    job = await harness.run()
    assert job.stage is stage
    await harness.queue.cancel(job.job_id)
    assert job.status is JobStatus.CANCELLED

    harness.devices.confirm_gate = None
    harness.devices.state.clear()
    assert (await harness.run()).status is JobStatus.COMPLETED
    assert harness.devices.listeners == []


async def test_a_job_that_is_cancelled_after_the_flash_says_that_the_device_has_the_firmware(
    harness: QueueHarness,
) -> None:
    harness.devices.confirm_gate = asyncio.Event()
    job = await harness.run()
    await harness.queue.cancel(job.job_id)
    assert job.unverified == Reason(ReasonKey.UNVERIFIED_CANCELLED, {"device": "lamp"})
    lines = (await harness.logs.read(job.job_id)).lines
    assert lines[-1] == f"== cancelled: {job.unverified}"


async def test_the_log_of_a_cancelled_job_says_so_once(harness: QueueHarness) -> None:
    harness.builder.script = [Block()]
    job = await harness.run()
    await harness.queue.cancel(job.job_id)
    assert job.unverified is None
    lines = (await harness.logs.read(job.job_id)).lines
    assert lines[-1] == "== cancelled"


async def test_a_job_is_cancelled_although_the_caller_was_cancelled(harness: QueueHarness) -> None:
    release = asyncio.Event()

    async def slow_to_stop(_request: BuildRequest, _sink: BuildSink) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await release.wait()

    harness.builder.script = [slow_to_stop]
    job = await harness.run()
    caller = asyncio.create_task(harness.queue.cancel(job.job_id))
    await settle()
    caller.cancel()
    again = asyncio.create_task(harness.queue.cancel(job.job_id))
    await settle()
    release.set()
    await settle()
    assert job.status is JobStatus.CANCELLED
    assert again.result() is job


async def test_cancelling_a_job_that_has_ended_is_refused(harness: QueueHarness) -> None:
    job = await harness.run()
    with pytest.raises(JobRefused) as refusal:
        await harness.queue.cancel(job.job_id)
    assert (refusal.value.reason, refusal.value.job) == (RefusalReason.NOTHING_TO_CANCEL, job)


async def test_an_unknown_job_can_neither_be_cancelled_nor_waited_for(
    harness: QueueHarness,
) -> None:
    for answer in (harness.queue.cancel("0" * 32), harness.queue.wait("0" * 32)):
        with pytest.raises(JobRefused) as refusal:
            await answer
        assert refusal.value.reason is RefusalReason.UNKNOWN_JOB


async def test_cancelling_all_leaves_nothing_active(harness: QueueHarness) -> None:
    harness.builder.script = [Block()]
    jobs = [await harness.run(f"d{n}.yaml") for n in range(3)]
    await harness.queue.cancel_all()
    assert {job.status for job in jobs} == {JobStatus.CANCELLED}


async def test_a_job_that_waits_for_an_upload_slot_is_cancelled(harness: QueueHarness) -> None:
    harness.set(parallel_uploads=1)
    block = Block()
    harness.flasher.script = [block]
    await harness.run("other.yaml")
    job = await harness.run()
    assert job.waiting_for == Reason(ReasonKey.WAITS_FOR_UPLOAD_SLOT)
    cancelling = asyncio.create_task(harness.queue.cancel(job.job_id))
    await asyncio.sleep(0)
    block.release.set()
    assert (await cancelling).status is JobStatus.CANCELLED
    await settle()
    assert len(harness.flasher.requests) == 1


async def test_cleaning_that_cannot_be_interrupted_is_completed(harness: QueueHarness) -> None:
    release = asyncio.Event()

    async def clean(_configuration: str, *, tools: bool = False) -> None:
        try:
            await release.wait()
        except asyncio.CancelledError:
            return

    harness.builder.clean = clean  # type: ignore[method-assign]
    job = await harness.run(operation=Operation.CLEAN)
    with pytest.raises(JobRefused) as refusal:
        await harness.queue.cancel(job.job_id)
    assert refusal.value.reason is RefusalReason.NOTHING_TO_CANCEL
    assert job.status is JobStatus.COMPLETED


async def test_a_stop_does_not_cancel_a_cancelled_build_again(harness: QueueHarness) -> None:
    cleaned_up = []
    release = asyncio.Event()

    async def act(_request: BuildRequest, _sink: BuildSink) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await release.wait()
            cleaned_up.append(True)

    harness.builder.script = [act]
    job = await harness.run()
    cancelling = asyncio.create_task(harness.queue.cancel(job.job_id))
    await settle()
    stopping = asyncio.create_task(harness.queue.stop())
    await settle()
    release.set()
    await stopping
    assert (await cancelling).status is JobStatus.CANCELLED
    assert cleaned_up
