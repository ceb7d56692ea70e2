"""What listeners hear: one terminal event for each job, progress in moderation."""

from collections.abc import Callable

import pytest

from custom_components.esphome_offload.engine.build.model import BuilderStatus, BuildSink
from custom_components.esphome_offload.engine.const import FailureReason, JobStatus
from custom_components.esphome_offload.engine.jobs.model import JobEvent
from custom_components.esphome_offload.engine.jobs.ports import Presence, Verdict
from custom_components.esphome_offload.engine.reason import Reason, ReasonKey

from .fakes import (
    Block,
    failing,
    flash_failing,
    settle,
)
from .queue_harness import QueueHarness


async def broken(_request: object, _sink: BuildSink) -> None:
    raise RuntimeError("a defect")


def offline(harness: QueueHarness) -> None:
    harness.devices.state["lamp"] = Presence.OFFLINE


ENDINGS: dict[str, Callable[[QueueHarness], object]] = {
    "completed": lambda harness: None,
    "config_invalid": lambda harness: setattr(
        harness.builder, "script", [failing(FailureReason.CONFIG_INVALID)]
    ),
    "upload_refused": lambda harness: setattr(
        harness.flasher, "script", [flash_failing(FailureReason.UPLOAD_REFUSED)]
    ),
    "broken_builder": lambda harness: setattr(harness.builder, "script", [broken]),
    "broken_flasher": lambda harness: setattr(harness.flasher, "script", [broken]),
    "not_verified": lambda harness: setattr(harness.devices, "verdict", Verdict.NOT_BACK),
    "task_cancelled_by_nobody": lambda harness: setattr(harness.builder, "script", [Block()]),
    "cancelled_queued": lambda harness: harness.queue.hold(),
    "cancelled_compiling": lambda harness: setattr(harness.builder, "script", [Block()]),
    "cancelled_uploading": lambda harness: setattr(harness.flasher, "script", [Block()]),
    "cancelled_waiting": offline,
    "superseded": offline,
    "no_builder": lambda harness: harness.builder.become(BuilderStatus(available=False)),
    "gone": lambda harness: harness.configurations.fingerprints.update({"lamp.yaml": None}),
}


@pytest.mark.parametrize("ending", ENDINGS)
async def test_exactly_one_terminal_event_for_every_way_a_job_can_end(
    harness: QueueHarness, ending: str
) -> None:
    ENDINGS[ending](harness)
    job = await harness.run()
    if ending == "task_cancelled_by_nobody":
        harness.queue._tasks._tasks[job.job_id].cancel()
    elif ending == "superseded":
        harness.submit(clean=True)
    elif ending.startswith("cancelled"):
        await harness.queue.cancel(job.job_id)
    await settle()

    assert job.terminal
    assert harness.terminal_events_of(job) == [JobEvent(job.status)]
    assert harness.events_of(job)[-1] is JobEvent(job.status)
    assert harness.events_of(job).count(JobEvent.QUEUED) == 1


async def test_a_defect_ends_the_job_as_internal(
    harness: QueueHarness, caplog: pytest.LogCaptureFixture
) -> None:
    harness.builder.script = [broken]
    job = await harness.run()
    assert job.outcome.failure_reason is FailureReason.INTERNAL
    assert job.outcome.error == Reason(ReasonKey.UNEXPECTED)
    assert "a defect" in caplog.text


async def test_a_job_continues_after_an_error_in_a_listener(harness: QueueHarness) -> None:
    def listen(_event: object, _job: object) -> None:
        raise RuntimeError

    harness.queue.subscribe(None, listen)
    assert (await harness.run()).status is JobStatus.COMPLETED


async def test_a_listener_is_notified_of_its_job_until_it_unsubscribes(
    harness: QueueHarness,
) -> None:
    block = Block()
    harness.builder.script = [block]
    job = await harness.run()
    heard: list[str] = []
    unsubscribe = harness.queue.subscribe(job.job_id, lambda _e, each: heard.append(each.job_id))
    harness.builder.sinks[0].progress(50)
    unsubscribe()
    unsubscribe()
    await harness.run("other.yaml")
    block.release.set()
    await settle()
    assert heard == [job.job_id]


async def test_progress_is_notified_at_most_once_a_second_and_the_last_always(
    harness: QueueHarness,
) -> None:
    block = Block()
    harness.builder.script = [block]
    job = await harness.run()
    told: list[int | None] = []

    def listen(event: JobEvent, each: object) -> None:
        if event is JobEvent.PROGRESS:
            told.append(job.progress)

    harness.queue.subscribe(job.job_id, listen)
    for percent in range(51):
        harness.builder.sinks[0].progress(percent)
        harness.builder.sinks[0].progress(percent + 0.1)
    assert told == [5]
    await harness.time.go(1)
    assert told == [5, 42]
    await harness.time.go(5)
    assert told == [5, 42]
    harness.builder.sinks[0].progress(60)
    harness.builder.sinks[0].progress(70)
    block.release.set()
    await settle()
    await harness.time.go(5)
    assert told == [5, 42, 50]
    assert harness.events_of(job)[-1] is JobEvent.COMPLETED


async def test_progress_is_not_stored(harness: QueueHarness) -> None:
    harness.builder.script = [block := Block()]
    await harness.run()
    saves = harness.persistence.saves
    harness.builder.sinks[0].progress(50)
    assert harness.persistence.saves == saves
    block.release.set()
    await settle()
    assert harness.persistence.saves > saves


async def test_a_job_that_a_listener_submits_runs(harness: QueueHarness) -> None:
    block = Block()
    harness.builder.script = [block]
    await harness.run("first.yaml")
    submitted = []

    def listen(event: JobEvent, job: object) -> None:
        if event is JobEvent.CHANGED and not submitted:
            submitted.append(harness.submit("third.yaml"))

    harness.queue.subscribe(None, listen)
    await harness.run("second.yaml")
    assert submitted
    block.release.set()
    await settle()
    assert submitted[0].status is JobStatus.COMPLETED


async def test_a_listener_may_kick_the_queue(harness: QueueHarness) -> None:
    harness.builder.script = [block := Block()]
    await harness.run("first.yaml")
    harness.queue.subscribe(None, lambda _event, _job: harness.queue.kick())
    job = await harness.run()
    assert job.status is JobStatus.QUEUED
    block.release.set()
    await settle()
    assert job.status is JobStatus.COMPLETED
