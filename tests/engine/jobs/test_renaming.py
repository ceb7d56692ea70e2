"""The file of a configuration gets another name."""

from custom_components.esphome_offload.engine.const import FailureReason, JobStatus, Operation
from custom_components.esphome_offload.engine.jobs.model import JobEvent

from .fakes import Block, settle
from .queue_harness import QueueHarness


async def test_jobs_are_found_under_the_new_name_also_after_a_restart(
    harness: QueueHarness,
) -> None:
    job = await harness.run("lamp.yaml")
    other = await harness.run("fan.yaml")
    harness.queue.rename("lamp.yaml", "desk.yaml")
    assert harness.queue.last("lamp.yaml") is None
    assert harness.queue.last("desk.yaml") is job
    await harness.restart()
    last = harness.queue.last("desk.yaml")
    assert last is not None
    assert (last.job_id, last.status) == (job.job_id, JobStatus.COMPLETED)
    assert harness.queue.last("fan.yaml") is not None
    assert other.request.configuration == "fan.yaml"


async def test_a_running_job_continues_and_the_new_name_gets_no_second_one(
    harness: QueueHarness,
) -> None:
    block = Block()
    harness.builder.script = [block]
    job = await harness.run("lamp.yaml")
    harness.queue.rename("lamp.yaml", "desk.yaml")
    assert harness.queue.active("desk.yaml") is job
    assert harness.events_of(job)[-1] is JobEvent.CHANGED
    block.release.set()
    await settle()
    assert job.status is JobStatus.COMPLETED
    # The file of the old name is not there any more.
    assert harness.flasher.requests[0].configuration == "desk.yaml"
    assert "== lamp.yaml is desk.yaml from now on" in (await harness.logs.read(job.job_id)).lines


async def test_a_job_that_waits_builds_the_new_file(harness: QueueHarness) -> None:
    block = Block()
    harness.builder.script = [block]
    first = await harness.run("fan.yaml", operation=Operation.COMPILE)
    waiting = await harness.run("lamp.yaml", operation=Operation.COMPILE)
    harness.queue.rename("lamp.yaml", "desk.yaml")
    newer = harness.submit("desk.yaml", operation=Operation.COMPILE)
    assert waiting.outcome.failure_reason is FailureReason.SUPERSEDED
    block.release.set()
    await settle()
    assert [first.status, newer.status] == [JobStatus.COMPLETED] * 2
    assert [each.configuration for each in harness.builder.requests] == ["fan.yaml", "desk.yaml"]
