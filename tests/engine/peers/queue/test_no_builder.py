"""No peer can take a job: the option says what becomes of it, and each peer why."""

import pytest

from custom_components.esphome_offload.engine.const import FailureReason, JobStatus, Operation
from custom_components.esphome_offload.engine.host.admission import Lending
from custom_components.esphome_offload.engine.jobs.model import FirmwareJob

from ...jobs.fakes import settle
from ...jobs.house import House
from ..host.lender import until
from .peer import Peer


@pytest.fixture
async def nobody(house: House, workshop: Peer, attic: Peer) -> dict[str, str]:
    """Have the workshop paused and the attic away; return the reasons by label."""
    await workshop.lender.host.lend(Lending.PAUSED)
    await workshop.until(lambda: not workshop.builder.status().available)
    await attic.wire.cut()
    await attic.until(lambda: not attic.link.connected)
    reason = attic.builder.status().why_not
    assert reason
    return {"workshop": "paused by its owner", "attic": reason}


async def compile_lamp(house: House) -> FirmwareJob:
    job = house.submit(operation=Operation.COMPILE)
    await settle()
    return job


async def test_this_machine_builds_and_the_job_keeps_each_reason(
    house: House, nobody: dict[str, str]
) -> None:
    job = await compile_lamp(house)
    assert job.status is JobStatus.COMPLETED
    assert job.routing.source_label == "This machine"
    assert job.routing.why_not == nobody
    lines = (await house.logs.read(job.job_id)).lines
    assert {f"== Not on {label}: {why}" for label, why in nobody.items()} <= set(lines)


async def test_the_job_fails_with_each_reason(house: House, nobody: dict[str, str]) -> None:
    house.set(fall_back_to_local=False)
    job = await compile_lamp(house)
    assert job.outcome.failure_reason is FailureReason.NO_BUILDER
    for label, why in nobody.items():
        assert f"{label}: {why}" in (job.outcome.error or "")
    assert not house.builder.requests


@pytest.mark.parametrize(("falls_back", "label"), [(True, "This machine"), (False, None)])
async def test_the_job_waits_visibly_and_then_is_built_here_or_fails(
    house: House, nobody: dict[str, str], falls_back: bool, label: str | None
) -> None:
    house.set(fall_back_to_local=falls_back, wait_for_builder=300.0)
    job = await compile_lamp(house)
    assert job.status is JobStatus.QUEUED
    for each, why in nobody.items():
        assert f"{each}: {why}" in (job.waiting_for or "")
    await house.time.go(299)
    assert not job.terminal
    await house.time.go(1)
    assert job.terminal
    assert job.routing.source_label == label


async def test_a_peer_that_comes_back_while_the_job_waits_builds_it(
    house: House, workshop: Peer, nobody: dict[str, str]
) -> None:
    house.set(wait_for_builder=300.0)
    job = await compile_lamp(house)
    await workshop.lender.host.lend(Lending.ON)
    await until(lambda: job.terminal)
    assert (job.status, job.routing.source_label) == (JobStatus.COMPLETED, "workshop")


async def test_a_peer_that_is_paused_before_the_bundle_arrives_is_left_for_the_next(
    house: House, workshop: Peer, attic: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    receive = workshop.lender.host.receive

    async def too_late(*arguments: object) -> None:
        await workshop.lender.host.lend(Lending.PAUSED)
        await receive(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(workshop.lender.host, "receive", too_late)
    job = house.submit(operation=Operation.COMPILE)
    await until(lambda: job.terminal)
    assert job.status is JobStatus.COMPLETED
    assert [(each.label, each.failure) for each in job.attempts] == [
        ("workshop", FailureReason.BUILDER_UNAVAILABLE),
        ("attic", None),
    ]
    assert "paused by its owner" in (job.attempts[0].detail or "")
