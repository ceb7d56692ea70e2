"""The entry of a peer is reloaded while the peer builds."""

from custom_components.esphome_offload.engine.const import FailureReason, JobStatus, Operation
from custom_components.esphome_offload.engine.jobs.router import GRACE
from custom_components.esphome_offload.engine.reason import Reason, ReasonKey

from ...host.builder import printing, then, until
from ...jobs.fakes import Block
from ...jobs.queue_harness import QueueHarness
from .peer import Peer


async def test_the_job_goes_on_with_the_same_build(harness: QueueHarness, attic: Peer) -> None:
    end = Block()
    attic.remote.script = [then(printing("== Making it", "one"), end, printing("two"))]
    job = harness.submit(operation=Operation.COMPILE)
    attached = attic.remote.commands
    await until(lambda: end.entered.is_set() and attached["build/attach"] == 1)
    for times in (2, 3):
        await attic.unload()
        await attic.load()
        await until(lambda times=times: attached["build/attach"] == times)  # type: ignore[misc]
    end.release.set()
    await until(lambda: job.terminal)
    assert job.status is JobStatus.COMPLETED
    assert [each.failure_reason for each in job.attempts] == [None]
    assert attic.built == ["lamp.yaml"]
    lines = (await harness.logs.read(job.job_id)).lines
    said = {"== attic says: Making it", "one", "two"}
    assert [line for line in lines if line in said] == [
        "== attic says: Making it",
        "one",
        "two",
    ]


async def test_a_peer_whose_entry_stays_unloaded_is_replaced_and_stops_at_the_next_connect(
    harness: QueueHarness, attic: Peer
) -> None:
    (block,) = attic.hold(1)
    job = harness.submit(operation=Operation.COMPILE)
    await until(block.entered.is_set)
    await attic.unload()
    await until(
        lambda: job.waiting_for == Reason(ReasonKey.WAITS_FOR_ITS_BUILDER, {"label": "attic"})
    )
    await harness.time.go(GRACE)
    assert job.status is JobStatus.COMPLETED
    assert [(each.label, each.failure_reason) for each in job.attempts] == [
        ("attic", FailureReason.BUILDER_UNAVAILABLE),
        ("This machine", None),
    ]
    await attic.load()
    await until(lambda: block.cancelled)
