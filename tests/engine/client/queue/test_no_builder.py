"""No peer can take a job: the option says what becomes of it, and each peer why."""

import pytest

from custom_components.esphome_offload.engine.const import FailureReason, JobStatus, Operation
from custom_components.esphome_offload.engine.host.lending import Lending
from custom_components.esphome_offload.engine.jobs.model import FirmwareJob
from custom_components.esphome_offload.engine.reason import Reason, ReasonKey

from ...host.builder import until
from ...jobs.fakes import settle
from ...jobs.queue_harness import QueueHarness
from .peer import Peer


@pytest.fixture
async def unavailable(harness: QueueHarness, attic: Peer, shed: Peer) -> dict[str, Reason]:
    """Have the attic paused and the shed away; return the reasons by label."""
    await attic.remote.host.lend(Lending.DRAINING)
    await attic.until(lambda: not attic.builder.status().available)
    await shed.proxy.cut()
    await shed.until(lambda: shed.link.why == Reason(ReasonKey.PEER_AWAY))
    reason = shed.builder.status().why_not
    assert reason
    return {"attic": Reason(ReasonKey.ACCEPTS_NO_BUILDS), "shed": reason}


async def compile_lamp(harness: QueueHarness) -> FirmwareJob:
    job = harness.submit(operation=Operation.COMPILE)
    await settle()
    return job


async def test_this_machine_builds_and_the_job_keeps_each_reason(
    harness: QueueHarness, unavailable: dict[str, Reason]
) -> None:
    job = await compile_lamp(harness)
    assert job.status is JobStatus.COMPLETED
    assert job.routing.source_label == "This machine"
    assert job.routing.why_not == unavailable
    lines = (await harness.logs.read(job.job_id)).lines
    assert {f"== Not on {label}: {why}" for label, why in unavailable.items()} <= set(lines)


async def test_the_job_fails_with_each_reason(
    harness: QueueHarness, unavailable: dict[str, Reason]
) -> None:
    harness.set(fall_back_to_local=False)
    job = await compile_lamp(harness)
    assert job.outcome.failure_reason is FailureReason.NO_BUILDER
    for label, why in unavailable.items():
        assert f"{label}: {why}" in str(job.outcome.error)
    assert not harness.builder.requests


@pytest.mark.parametrize(("falls_back", "label"), [(True, "This machine"), (False, None)])
async def test_the_job_waits_visibly_and_then_is_built_here_or_fails(
    harness: QueueHarness, unavailable: dict[str, Reason], falls_back: bool, label: str | None
) -> None:
    harness.set(fall_back_to_local=falls_back, wait_for_builder=300.0)
    job = await compile_lamp(harness)
    assert job.status is JobStatus.QUEUED
    for each, why in unavailable.items():
        assert f"{each}: {why}" in str(job.waiting_for)
    await harness.time.go(299)
    assert not job.terminal
    await harness.time.go(1)
    assert job.terminal
    assert job.routing.source_label == label


async def test_a_peer_that_comes_back_while_the_job_waits_builds_it(
    harness: QueueHarness, attic: Peer, unavailable: dict[str, Reason]
) -> None:
    harness.set(wait_for_builder=300.0)
    job = await compile_lamp(harness)
    await attic.remote.host.lend(Lending.ON)
    await until(lambda: job.terminal)
    assert (job.status, job.routing.source_label) == (JobStatus.COMPLETED, "attic")


async def test_a_peer_that_is_paused_before_the_bundle_arrives_is_left_for_the_next(
    harness: QueueHarness, attic: Peer, shed: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive = attic.remote.host.receive

    async def too_late(*arguments: object) -> None:
        await attic.remote.host.lend(Lending.DRAINING)
        await receive(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(attic.remote.host, "receive", too_late)
    job = harness.submit(operation=Operation.COMPILE)
    await until(lambda: job.terminal)
    assert job.status is JobStatus.COMPLETED
    assert [(each.label, each.failure_reason) for each in job.attempts] == [
        ("attic", FailureReason.BUILDER_UNAVAILABLE),
        ("shed", None),
    ]
    assert job.attempts[0].error == Reason(ReasonKey.PEER_NOT_LENDING, {"label": "attic"})
