"""What a job does when something goes wrong, builder by builder."""

import asyncio

import pytest

from custom_components.esphome_offload.engine.build.model import (
    BuilderStatus,
    BuildRequest,
    BuildSink,
)
from custom_components.esphome_offload.engine.const import (
    FailureReason,
    JobStatus,
    Source,
    Stage,
)
from custom_components.esphome_offload.engine.jobs.remedies import Action, FailureHistory, Step
from custom_components.esphome_offload.engine.reason import Reason, ReasonKey

from .fakes import (
    Block,
    ScriptedBuilder,
    because,
    failing,
    settle,
)
from .queue_harness import QueueHarness

NEXT = [
    FailureReason.BUNDLE_INCOMPLETE,
    FailureReason.BUILDER_UNAVAILABLE,
    FailureReason.BUILDER_ENVIRONMENT,
    FailureReason.VERSION_UNAVAILABLE,
    FailureReason.OUT_OF_MEMORY,
]
AT_ONCE = [
    FailureReason.CONFIG_INVALID,
    FailureReason.COMPILE_FAILED,
    FailureReason.INTEGRITY,
    FailureReason.INTERNAL,
]


@pytest.mark.parametrize("reason", AT_ONCE)
async def test_a_failure_of_the_configuration_fails_the_job_at_once(
    harness: QueueHarness, reason: FailureReason
) -> None:
    peer = harness.add_peer("aa", "Attic")
    peer.script = [failing(reason, "its own words", exit_code=2)]
    job = await harness.run()
    assert job.outcome.failure_reason is reason
    assert (job.outcome.error, job.outcome.exit_code) == (because("its own words"), 2)
    assert harness.builder.requests == []


@pytest.mark.parametrize("reason", NEXT)
async def test_the_next_builder_tries_and_then_this_machine(
    harness: QueueHarness, reason: FailureReason
) -> None:
    peer = harness.add_peer("aa", "Attic")
    peer.script = [failing(reason, "not here")]
    job = await harness.run()
    assert job.status is JobStatus.COMPLETED
    assert [(a.builder_id, a.failure_reason, a.error) for a in job.attempts] == [
        ("aa", reason, because("not here")),
        ("local", None, None),
    ]
    assert job.routing.source is Source.LOCAL
    assert job.routing.why_not == {"Attic": because("not here")}


@pytest.mark.parametrize("reason", NEXT)
async def test_a_job_without_a_builder_left_fails_with_its_last_error(
    harness: QueueHarness, reason: FailureReason
) -> None:
    harness.builder.script = [failing(reason, "too little of something")]
    job = await harness.run()
    assert job.outcome.failure_reason is reason
    assert job.outcome.error == because("too little of something")
    assert len(harness.builder.requests) == 1


async def test_out_of_memory_goes_to_one_more_builder_only(harness: QueueHarness) -> None:
    peers = [harness.add_peer(f"p{n}", f"Peer {n}") for n in range(3)]
    for peer in (*peers, harness.builder):
        peer.script = [failing(FailureReason.OUT_OF_MEMORY)]
    job = await harness.run()
    assert job.outcome.failure_reason is FailureReason.OUT_OF_MEMORY
    assert len(job.attempts) == 2


async def test_a_builder_that_is_cancelled_from_outside_counts_as_unavailable(
    harness: QueueHarness,
) -> None:
    async def stopped(_request: BuildRequest, _sink: BuildSink) -> None:
        raise asyncio.CancelledError

    peer = harness.add_peer("aa", "Attic")
    peer.script = [stopped]
    job = await harness.run()
    assert job.status is JobStatus.COMPLETED
    assert job.attempts[0].failure_reason is FailureReason.BUILDER_UNAVAILABLE


async def test_a_builder_that_fails_has_its_slot_free_again(harness: QueueHarness) -> None:
    harness.builder.script = [failing(FailureReason.COMPILE_FAILED)]
    await harness.run()
    assert (await harness.run()).status is JobStatus.COMPLETED


async def test_no_builder_lists_each_ones_reason(harness: QueueHarness) -> None:
    harness.builder.become(BuilderStatus(available=False, why_not=because("musl")))
    peer = harness.add_peer("aa", "Attic")
    peer.become(BuilderStatus(available=False, why_not=because("paused")))
    job = await harness.run()
    assert job.outcome.failure_reason is FailureReason.NO_BUILDER
    assert "log says more: paused" in str(job.outcome.error)
    assert "log says more: musl" in str(job.outcome.error)


async def test_without_any_builder_the_error_says_so(harness: QueueHarness) -> None:
    harness.set(wait_for_builder=5.0)
    job = await harness.run(requested_source="zz")
    assert job.waiting_for == Reason(ReasonKey.WAITS_FOR_BUILDER)
    await harness.time.go(5)
    assert "zz: There is no such builder" in str(job.outcome.error)


async def test_a_job_waits_visibly_for_a_builder_and_then_falls_back(harness: QueueHarness) -> None:
    harness.set(wait_for_builder=300.0)
    peer = harness.add_peer("aa", "Attic")
    peer.become(BuilderStatus(available=False, why_not=because("paused")))
    job = await harness.run()
    assert (job.status, job.waiting_for) == (
        JobStatus.QUEUED,
        Reason(ReasonKey.WAITS_FOR_BUILDER, causes={"Attic": because("paused")}),
    )
    await harness.time.go(299)
    assert job.status is JobStatus.QUEUED
    await harness.time.go(1)
    assert job.status is JobStatus.COMPLETED
    assert job.routing.source is Source.LOCAL


async def test_a_running_job_that_needs_another_builder_waits_without_a_slot(
    harness: QueueHarness,
) -> None:
    harness.set(wait_for_builder=None)
    attic, cellar = harness.add_peer("aa", "Attic"), harness.add_peer("cc", "Cellar")
    cellar.become(BuilderStatus(available=False, why_not=because("asleep")))
    attic.script = [failing(FailureReason.BUILDER_ENVIRONMENT, "disk full")]
    job = await harness.run()
    assert (job.status, job.stage) == (JobStatus.RUNNING, Stage.WAITING_BUILDER)
    assert job.waiting
    cellar.become(BuilderStatus(available=True))
    await settle()
    assert job.status is JobStatus.COMPLETED
    assert job.routing.source_label == "Cellar"


async def test_a_removed_peer_is_not_chosen_any_more(harness: QueueHarness) -> None:
    peer = ScriptedBuilder("aa", "Attic", Source.REMOTE, keeper=harness.keeper)
    leave = harness.builders.register(peer)
    again = harness.builders.register(peer)
    leave()
    again()
    leave()
    assert harness.builders.builders == (harness.builder,)
    assert (await harness.run()).routing.source is Source.LOCAL


async def test_a_job_continues_when_its_builder_is_removed_from_the_pool(
    harness: QueueHarness,
) -> None:
    peer = ScriptedBuilder("aa", "Attic", Source.REMOTE, keeper=harness.keeper)
    block = Block()
    peer.script = [block]
    leave = harness.builders.register(peer)
    job = await harness.run()
    leave()
    block.release.set()
    await settle()
    assert job.status is JobStatus.COMPLETED


def test_back_off_grows_and_ends() -> None:
    failures = FailureHistory()
    decisions = [failures.decide(Step.FLASH, FailureReason.UPLOAD_FAILED) for _ in range(3)]
    assert [(d.action, d.delay) for d in decisions] == [
        (Action.RETRY_UPLOAD, 10.0),
        (Action.RETRY_UPLOAD, 30.0),
        (Action.FAIL, 0.0),
    ]


@pytest.mark.parametrize("reason", list(FailureReason))
@pytest.mark.parametrize("step", list(Step))
def test_every_failure_of_a_known_device_ends_some_time_or_moves_to_another_builder(
    step: Step, reason: FailureReason
) -> None:
    failures = FailureHistory()
    actions = [failures.decide(step, reason).action for _ in range(10)]
    assert actions[-1] in {Action.FAIL, Action.NEXT_BUILDER, Action.BUILD_AGAIN}


@pytest.mark.parametrize(
    "reason",
    [
        FailureReason.BUILDER_ENVIRONMENT,
        FailureReason.VERSION_UNAVAILABLE,
        FailureReason.OUT_OF_MEMORY,
    ],
)
def test_built_firmware_is_flashed_later_where_the_tool_cannot_run_now(
    reason: FailureReason,
) -> None:
    history = FailureHistory()
    decisions = [history.decide(Step.FLASH, reason) for _ in range(6)]
    assert {each.action for each in decisions[:5]} == {Action.RETRY_UPLOAD}
    assert [each.delay for each in decisions] == [30.0, 60.0, 300.0, 900.0, 3600.0, 0.0]
    assert decisions[5].action is Action.FAIL
