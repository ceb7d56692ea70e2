"""Several peers build what several jobs want, and a job is bound when somebody is free."""

from dataclasses import replace

from custom_components.esphome_offload.engine.const import JobStatus, Operation, Source
from custom_components.esphome_offload.engine.jobs.model import FirmwareJob
from custom_components.esphome_offload.engine.reason import Reason, ReasonKey

from ...host.builder import until
from ...jobs.queue_harness import QueueHarness
from .peer import Peer


def submit(harness: QueueHarness, *names: str) -> list[FirmwareJob]:
    return [harness.submit(f"{name}.yaml", operation=Operation.COMPILE) for name in names]


async def completed(*jobs: FirmwareJob) -> None:
    await until(lambda: all(job.terminal for job in jobs))
    assert [job.status for job in jobs] == [JobStatus.COMPLETED] * len(jobs)


async def test_a_job_in_the_queue_is_bound_to_whoever_is_free_first(
    harness: QueueHarness, attic: Peer, shed: Peer
) -> None:
    (here,), (there,) = attic.hold(1), shed.hold(1)
    jobs = submit(harness, "lamp", "fan", "door")
    await until(lambda: here.entered.is_set() and there.entered.is_set())
    waiting = jobs[2]
    assert (waiting.status, waiting.routing.source) == (JobStatus.QUEUED, Source.PENDING)
    assert waiting.waiting_for == Reason(ReasonKey.WAITS_FOR_SLOT, {"labels": "attic, shed"})
    assert not waiting.attempts
    there.release.set()
    await completed(waiting)
    assert waiting.routing.source_label == "shed"
    assert shed.built[-1] == "door.yaml"
    here.release.set()
    await completed(*jobs)


async def test_each_peer_builds_as_many_at_once_as_it_has_slots(
    harness: QueueHarness, attic: Peer, shed: Peer
) -> None:
    attic.remote.slots.set_count(2)
    await attic.until(lambda: attic.builder.status().slots == 2)
    blocks = [*attic.hold(2), *shed.hold(1)]
    jobs = submit(harness, "lamp", "fan", "door", "gate", "bell")
    await until(lambda: all(block.entered.is_set() for block in blocks))
    assert (len(attic.built), len(shed.built)) == (2, 1)
    assert [job.status for job in jobs].count(JobStatus.QUEUED) == 2
    for block in blocks:
        block.release.set()
    await completed(*jobs)
    assert sorted(attic.built + shed.built) == sorted(job.request.configuration for job in jobs)
    assert not harness.builder.requests


async def test_a_job_that_is_cancelled_in_the_queue_is_known_to_no_peer(
    harness: QueueHarness, attic: Peer
) -> None:
    (block,) = attic.hold(1)
    first, second = submit(harness, "lamp", "fan")
    await until(block.entered.is_set)
    await harness.queue.cancel(second.job_id)
    block.release.set()
    await completed(first)
    assert attic.remote.commands["build/submit"] == 2  # before and after the bundle was sent
    assert attic.built == ["lamp.yaml"]


async def test_a_device_goes_back_to_the_peer_that_has_built_it(
    harness: QueueHarness, attic: Peer, shed: Peer
) -> None:
    (block,) = attic.hold(1)
    first, second = submit(harness, "lamp", "fan")
    await until(block.entered.is_set)
    await completed(second)
    assert second.routing.source_label == "shed"
    block.release.set()
    await completed(first)
    (there,) = shed.remote.builders.values()
    there.become(replace(there.state, warm=frozenset({"fan.yaml"})))
    await shed.until(lambda: "fan.yaml" in shed.builder.status().warm)
    (again,) = submit(harness, "fan")
    await completed(again)
    assert (again.routing.source_label, again.routing.reason) == (
        "shed",
        Reason(ReasonKey.CHOSEN_WARM),
    )
