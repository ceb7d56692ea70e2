"""Taking requests: one active job per device, slots, cancelling, holding, stopping."""

import asyncio
from collections.abc import Callable

import pytest

from custom_components.esphome_offload.builders.model import (
    BuildError,
    BuilderStatus,
    BuildRequest,
    BuildSink,
)
from custom_components.esphome_offload.const import (
    FailureReason,
    JobStatus,
    Operation,
    Stage,
)
from custom_components.esphome_offload.jobs import queue as queue_module
from custom_components.esphome_offload.jobs.model import JobEvent
from custom_components.esphome_offload.jobs.ports import Presence, Verdict
from custom_components.esphome_offload.jobs.queue import JobRefused, RefusalReason

from .fakes import Block, House, failing, flash_failing, request, settle


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


async def test_a_cancelled_build_never_flashes(house: House) -> None:
    block = Block()
    house.builder.script = [block]
    job = await house.run()
    cancelled = await house.queue.cancel(job.job_id)
    assert cancelled is job
    assert job.status is JobStatus.CANCELLED
    assert job.outcome.failure_reason is FailureReason.CANCELLED
    assert job.attempts[0].failure is FailureReason.CANCELLED
    assert block.cancelled
    await settle()
    assert house.flasher.requests == []


@pytest.mark.parametrize("ending", ["success", "failure"])
async def test_a_builder_that_hides_the_cancelling_does_not_get_its_way(
    house: House, ending: str
) -> None:
    async def stubborn(request: BuildRequest, sink: BuildSink) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if ending == "failure":
                raise BuildError(FailureReason.COMPILE_FAILED, "killed") from None

    house.builder.script = [stubborn]
    job = await house.run()
    await house.queue.cancel(job.job_id)
    await settle()
    assert job.status is JobStatus.CANCELLED
    assert house.flasher.requests == []


async def test_a_flash_that_hides_the_cancelling_is_cancelled_too(house: House) -> None:
    async def stubborn(_request: object, _sink: BuildSink) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise BuildError(FailureReason.UPLOAD_FAILED, "cut off") from None

    house.flasher.script = [stubborn]
    job = await house.run()
    await house.queue.cancel(job.job_id)
    assert job.status is JobStatus.CANCELLED
    assert len(house.flasher.requests) == 1


async def test_a_builder_that_does_not_stop_does_not_keep_the_job_from_ending(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_module, "STOP_TIMEOUT", 0.01)
    release = asyncio.Event()

    async def stuck(_request: BuildRequest, _sink: BuildSink) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await release.wait()
            raise

    house.builder.script = [stuck]
    job = await house.run()
    await house.queue.cancel(job.job_id)
    assert job.status is JobStatus.CANCELLED
    release.set()
    await settle()
    assert house.terminal_events_of(job) == [JobEvent.CANCELLED]


async def test_a_job_is_cancelled_before_it_could_begin(house: House) -> None:
    job = house.submit()
    await house.queue.cancel(job.job_id)
    assert job.status is JobStatus.CANCELLED
    assert house.builder.requests == []


@pytest.mark.parametrize("stage", [Stage.UPLOADING, Stage.VERIFYING, Stage.WAITING_DEVICE])
async def test_a_job_is_cancelled_in_any_stage_and_leaves_its_slots(
    house: House, stage: Stage
) -> None:
    house.set(parallel_uploads=1)
    if stage is Stage.UPLOADING:
        house.flasher.script = [Block()]
    elif stage is Stage.VERIFYING:
        house.devices.confirm_gate = asyncio.Event()
    else:
        house.devices.state["lamp"] = Presence.OFFLINE
    job = await house.run()
    assert job.stage is stage
    await house.queue.cancel(job.job_id)
    assert job.status is JobStatus.CANCELLED

    house.devices.confirm_gate = None
    house.devices.state.clear()
    assert (await house.run()).status is JobStatus.COMPLETED
    assert house.devices.listeners == []


async def test_who_cancels_and_goes_away_has_cancelled(house: House) -> None:
    release = asyncio.Event()

    async def slow_to_stop(_request: BuildRequest, _sink: BuildSink) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await release.wait()

    house.builder.script = [slow_to_stop]
    job = await house.run()
    caller = asyncio.create_task(house.queue.cancel(job.job_id))
    await settle()
    caller.cancel()
    again = asyncio.create_task(house.queue.cancel(job.job_id))
    await settle()
    release.set()
    await settle()
    assert job.status is JobStatus.CANCELLED
    assert again.result() is job


async def test_there_is_nothing_to_cancel_at_a_job_that_ended(house: House) -> None:
    job = await house.run()
    with pytest.raises(JobRefused) as refusal:
        await house.queue.cancel(job.job_id)
    assert (refusal.value.reason, refusal.value.job) == (RefusalReason.NOTHING_TO_CANCEL, job)


async def test_an_unknown_job_can_neither_be_cancelled_nor_waited_for(house: House) -> None:
    for answer in (house.queue.cancel("0" * 32), house.queue.wait("0" * 32)):
        with pytest.raises(JobRefused) as refusal:
            await answer
        assert refusal.value.reason is RefusalReason.UNKNOWN_JOB


async def test_cancelling_all_leaves_nothing_active(house: House) -> None:
    house.builder.script = [Block()]
    jobs = [await house.run(f"d{n}.yaml") for n in range(3)]
    await house.queue.cancel_all()
    assert {job.status for job in jobs} == {JobStatus.CANCELLED}


async def broken(_request: object, _sink: BuildSink) -> None:
    raise RuntimeError("a defect")


def offline(house: House) -> None:
    house.devices.state["lamp"] = Presence.OFFLINE


ENDINGS: dict[str, Callable[[House], object]] = {
    "completed": lambda house: None,
    "config_invalid": lambda house: setattr(
        house.builder, "script", [failing(FailureReason.CONFIG_INVALID)]
    ),
    "upload_refused": lambda house: setattr(
        house.flasher, "script", [flash_failing(FailureReason.UPLOAD_REFUSED)]
    ),
    "broken_builder": lambda house: setattr(house.builder, "script", [broken]),
    "broken_flasher": lambda house: setattr(house.flasher, "script", [broken]),
    "not_verified": lambda house: setattr(house.devices, "verdict", Verdict.NOT_BACK),
    "task_cancelled_by_nobody": lambda house: setattr(house.builder, "script", [Block()]),
    "cancelled_queued": lambda house: house.queue.hold(),
    "cancelled_compiling": lambda house: setattr(house.builder, "script", [Block()]),
    "cancelled_uploading": lambda house: setattr(house.flasher, "script", [Block()]),
    "cancelled_waiting": offline,
    "superseded": offline,
    "no_builder": lambda house: house.builder.become(BuilderStatus(available=False)),
    "gone": lambda house: house.configurations.fingerprints.update({"lamp.yaml": None}),
}


@pytest.mark.parametrize("ending", ENDINGS)
async def test_exactly_one_terminal_event_for_every_way_a_job_can_end(
    house: House, ending: str
) -> None:
    ENDINGS[ending](house)
    job = await house.run()
    if ending == "task_cancelled_by_nobody":
        house.queue._tasks[job.job_id].cancel()
    elif ending == "superseded":
        house.submit()
    elif ending.startswith("cancelled"):
        await house.queue.cancel(job.job_id)
    await settle()

    assert job.terminal
    assert house.terminal_events_of(job) == [JobEvent(job.status)]
    assert house.events_of(job)[-1] is JobEvent(job.status)
    assert house.events_of(job).count(JobEvent.QUEUED) == 1


async def test_a_defect_ends_the_job_as_internal(house: House) -> None:
    house.builder.script = [broken]
    job = await house.run()
    assert job.outcome.failure_reason is FailureReason.INTERNAL
    assert "a defect" in (job.outcome.error or "")


async def test_a_listener_that_breaks_does_not_break_the_job(house: House) -> None:
    def listen(_event: object, _job: object) -> None:
        raise RuntimeError

    house.queue.subscribe(None, listen)
    assert (await house.run()).status is JobStatus.COMPLETED


async def test_a_listener_hears_of_its_job_until_it_unsubscribes(house: House) -> None:
    block = Block()
    house.builder.script = [block]
    job = await house.run()
    heard: list[str] = []
    unsubscribe = house.queue.subscribe(job.job_id, lambda _e, each: heard.append(each.job_id))
    house.builder.sinks[0].progress(50)
    unsubscribe()
    unsubscribe()
    await house.run("other.yaml")
    block.release.set()
    await settle()
    assert heard == [job.job_id]


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


async def test_progress_is_told_at_most_once_a_second_and_the_last_is_told(house: House) -> None:
    block = Block()
    house.builder.script = [block]
    job = await house.run()
    told: list[int | None] = []

    def listen(event: JobEvent, each: object) -> None:
        if event is JobEvent.PROGRESS:
            told.append(job.progress)

    house.queue.subscribe(job.job_id, listen)
    for percent in range(51):
        house.builder.sinks[0].progress(percent)
        house.builder.sinks[0].progress(percent + 0.1)
    assert told == [5]
    await house.time.go(1)
    assert told == [5, 42]
    await house.time.go(5)
    assert told == [5, 42]
    house.builder.sinks[0].progress(60)
    house.builder.sinks[0].progress(70)
    block.release.set()
    await settle()
    await house.time.go(5)
    assert told == [5, 42, 50]
    assert house.events_of(job)[-1] is JobEvent.COMPLETED


async def test_progress_is_not_stored(house: House) -> None:
    house.builder.script = [block := Block()]
    await house.run()
    saves = house.persistence.saves
    house.builder.sinks[0].progress(50)
    assert house.persistence.saves == saves
    block.release.set()
    await settle()
    assert house.persistence.saves > saves


async def test_what_a_listener_submits_is_served(house: House) -> None:
    block = Block()
    house.builder.script = [block]
    await house.run("first.yaml")
    submitted = []

    def listen(event: JobEvent, job: object) -> None:
        if event is JobEvent.CHANGED and not submitted:
            submitted.append(house.submit("third.yaml"))

    house.queue.subscribe(None, listen)
    await house.run("second.yaml")
    assert submitted
    block.release.set()
    await settle()
    assert submitted[0].status is JobStatus.COMPLETED


async def test_a_listener_may_have_the_queue_look_again(house: House) -> None:
    house.builder.script = [block := Block()]
    await house.run("first.yaml")
    house.queue.subscribe(None, lambda _event, _job: house.queue.kick())
    job = await house.run()
    assert job.status is JobStatus.QUEUED
    block.release.set()
    await settle()
    assert job.status is JobStatus.COMPLETED


async def test_a_job_that_waits_for_an_upload_slot_is_cancelled(house: House) -> None:
    house.set(parallel_uploads=1)
    block = Block()
    house.flasher.script = [block]
    await house.run("other.yaml")
    job = await house.run()
    assert job.waiting_for == "a free upload slot"
    cancelling = asyncio.create_task(house.queue.cancel(job.job_id))
    await asyncio.sleep(0)
    block.release.set()
    assert (await cancelling).status is JobStatus.CANCELLED
    await settle()
    assert len(house.flasher.requests) == 1


async def test_cleaning_that_cannot_be_interrupted_is_completed(house: House) -> None:
    release = asyncio.Event()

    async def clean(_configuration: str) -> None:
        try:
            await release.wait()
        except asyncio.CancelledError:
            return

    house.builder.clean = clean  # type: ignore[method-assign]
    job = await house.run(operation=Operation.CLEAN)
    with pytest.raises(JobRefused) as refusal:
        await house.queue.cancel(job.job_id)
    assert refusal.value.reason is RefusalReason.NOTHING_TO_CANCEL
    assert job.status is JobStatus.COMPLETED
