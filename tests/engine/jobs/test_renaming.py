"""The file of a configuration gets another name."""

from custom_components.esphome_offload.engine.const import FailureReason, JobStatus, Operation
from custom_components.esphome_offload.engine.jobs.model import JobEvent

from .fakes import Block, settle
from .house import House


async def test_what_was_done_for_it_is_found_under_the_new_name_also_after_a_restart(
    house: House,
) -> None:
    job = await house.run("lamp.yaml")
    other = await house.run("fan.yaml")
    house.queue.rename("lamp.yaml", "desk.yaml")
    assert house.queue.last("lamp.yaml") is None
    assert house.queue.last("desk.yaml") is job
    await house.restart()
    last = house.queue.last("desk.yaml")
    assert last is not None
    assert (last.job_id, last.status) == (job.job_id, JobStatus.COMPLETED)
    assert house.queue.last("fan.yaml") is not None
    assert other.request.configuration == "fan.yaml"


async def test_a_job_that_runs_goes_on_and_the_new_name_gets_no_second_one(house: House) -> None:
    block = Block()
    house.builder.script = [block]
    job = await house.run("lamp.yaml")
    house.queue.rename("lamp.yaml", "desk.yaml")
    assert house.queue.active("desk.yaml") is job
    assert house.events_of(job)[-1] is JobEvent.CHANGED
    block.release.set()
    await settle()
    assert job.status is JobStatus.COMPLETED
    # The file of the old name is not there any more.
    assert house.flasher.requests[0].configuration == "desk.yaml"
    assert "== lamp.yaml is desk.yaml from now on" in (await house.logs.read(job.job_id)).lines


async def test_a_job_that_waits_builds_the_new_file(house: House) -> None:
    block = Block()
    house.builder.script = [block]
    first = await house.run("fan.yaml", operation=Operation.COMPILE)
    waiting = await house.run("lamp.yaml", operation=Operation.COMPILE)
    house.queue.rename("lamp.yaml", "desk.yaml")
    newer = house.submit("desk.yaml", operation=Operation.COMPILE)
    assert waiting.outcome.failure_reason is FailureReason.SUPERSEDED
    block.release.set()
    await settle()
    assert [first.status, newer.status] == [JobStatus.COMPLETED] * 2
    assert [each.configuration for each in house.builder.requests] == ["fan.yaml", "desk.yaml"]
