"""A builder that could not be used just now may be used again, as long as the job may wait."""

import errno

from custom_components.esphome_offload.engine.const import (
    FailureReason,
    JobStatus,
    Operation,
    Source,
)
from custom_components.esphome_offload.engine.reason import Reason, ReasonKey

from .fakes import ScriptedBuilder, because, failing, settle
from .queue_harness import QueueHarness

PAUSED = "paused by its owner"


def with_a_peer(harness: QueueHarness, *troubles: FailureReason) -> ScriptedBuilder:
    harness.set(wait_for_builder=3600.0, fall_back_to_local=False)
    peer = harness.add_peer("a" * 64, "Attic")
    peer.script = [failing(trouble, PAUSED) for trouble in troubles]
    return peer


async def test_a_builder_that_was_just_paused_is_waited_for(
    harness: QueueHarness,
) -> None:
    peer = with_a_peer(harness, FailureReason.BUILDER_UNAVAILABLE)
    job = await harness.run(operation=Operation.COMPILE)
    assert not job.terminal
    assert PAUSED in str(job.waiting_for)
    await harness.time.go(9)
    assert len(peer.requests) == 1
    await harness.time.go(2)
    assert job.status is JobStatus.COMPLETED
    assert job.routing.source is Source.REMOTE
    assert [attempt.failure_reason for attempt in job.attempts] == [
        FailureReason.BUILDER_UNAVAILABLE,
        None,
    ]


async def test_a_builder_that_refuses_repeatedly_counts_as_failed(harness: QueueHarness) -> None:
    peer = with_a_peer(harness, *[FailureReason.BUILDER_UNAVAILABLE] * 9)
    job = await harness.run(operation=Operation.COMPILE)
    await harness.time.go(100)
    assert job.outcome.failure_reason is FailureReason.BUILDER_UNAVAILABLE
    assert len(peer.requests) == 4


async def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


async def test_a_job_goes_on_at_another_builder_when_the_disk_is_full(
    harness: QueueHarness,
) -> None:
    peer = harness.add_peer("a" * 64, "Attic")
    peer.script, harness.builder.script = [full_disk], [full_disk]
    job = await harness.run(operation=Operation.COMPILE)
    assert [attempt.failure_reason for attempt in job.attempts] == [
        FailureReason.BUILDER_ENVIRONMENT,
        FailureReason.BUILDER_ENVIRONMENT,
    ]
    assert job.outcome.error == Reason(ReasonKey.DISK_UNUSABLE, line="No space left on device")


async def test_a_device_is_flashed_later_when_the_disk_is_full(harness: QueueHarness) -> None:
    harness.flasher.script = [full_disk]
    job = await harness.run()
    assert not job.terminal
    await harness.time.go(31)
    assert job.status is JobStatus.COMPLETED


async def test_without_waiting_the_job_fails_at_once(harness: QueueHarness) -> None:
    peer = with_a_peer(harness, FailureReason.BUILDER_UNAVAILABLE)
    harness.set(wait_for_builder=0.0, fall_back_to_local=False)
    job = await harness.run(operation=Operation.COMPILE)
    assert job.outcome.error == because(PAUSED)
    assert len(peer.requests) == 1


async def test_a_permanent_failure_is_not_waited_for(harness: QueueHarness) -> None:
    with_a_peer(harness, FailureReason.VERSION_UNAVAILABLE)
    job = await harness.run(operation=Operation.COMPILE)
    assert job.outcome.failure_reason is FailureReason.VERSION_UNAVAILABLE


async def test_another_builder_takes_over_at_once(harness: QueueHarness) -> None:
    with_a_peer(harness, FailureReason.BUILDER_UNAVAILABLE)
    harness.add_peer("b" * 64, "Cellar")
    job = await harness.run(operation=Operation.COMPILE)
    await settle()
    assert job.routing.source_label == "Cellar"
    assert job.routing.why_not["Attic"] == because(PAUSED)
