"""What listeners hear: one terminal event for each job, progress in moderation."""

from collections.abc import Callable

import pytest

from custom_components.esphome_offload.engine.build.model import BuilderStatus, BuildSink
from custom_components.esphome_offload.engine.const import FailureReason, JobStatus
from custom_components.esphome_offload.engine.jobs.model import JobEvent
from custom_components.esphome_offload.engine.jobs.ports import Presence, Verdict

from .fakes import (
    Block,
    failing,
    flash_failing,
    settle,
)
from .house import House


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
