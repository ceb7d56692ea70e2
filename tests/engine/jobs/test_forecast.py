"""The place of a job in the queue, and when it is expected to end."""

from dataclasses import replace

from custom_components.esphome_offload.engine.build.model import BuildRequest, BuildSink
from custom_components.esphome_offload.engine.clock import sleep
from custom_components.esphome_offload.engine.const import JobStatus, Operation
from custom_components.esphome_offload.engine.jobs.forecast import Forecast
from custom_components.esphome_offload.engine.jobs.ports import Presence

from .fakes import Act, Block, VirtualTime
from .queue_harness import QueueHarness


def taking(time: VirtualTime, seconds: float) -> Act:
    async def act(_request: BuildRequest, _sink: BuildSink) -> None:
        await sleep(time, seconds)

    return act


async def built(harness: QueueHarness, configuration: str, seconds: float) -> None:
    """Build once, so that it is known how long that takes."""
    harness.builder.script = [taking(harness.time, seconds)]
    job = await harness.run(configuration, operation=Operation.COMPILE)
    await harness.time.go(seconds)
    assert job.status is JobStatus.COMPLETED


async def test_nothing_is_expected_before_anything_was_measured(harness: QueueHarness) -> None:
    harness.builder.script = [Block()]
    running, waiting = await harness.run("a.yaml"), await harness.run("b.yaml")
    assert harness.queue.forecast(running) == Forecast()
    assert harness.queue.forecast(waiting) == Forecast(place=1)


async def test_a_running_build_ends_when_one_of_that_kind_did(harness: QueueHarness) -> None:
    await built(harness, "lamp.yaml", 100)
    harness.builder.state = replace(harness.builder.state, warm=frozenset({"lamp.yaml"}))
    harness.builder.script = [taking(harness.time, 100)]
    job = await harness.run("lamp.yaml", operation=Operation.COMPILE)
    await harness.time.go(5)
    # Its tree is warm by now, of which nothing was measured yet.
    assert harness.queue.forecast(job) == Forecast(seconds=25)
    await harness.time.go(55)
    # It takes longer than that.
    assert harness.queue.forecast(job) == Forecast(seconds=30)


async def test_another_version_compiles_everything(harness: QueueHarness) -> None:
    await built(harness, "lamp.yaml", 100)
    harness.builder.script = [Block()]
    job = await harness.run("lamp.yaml", esphome_version="2026.11.0")
    assert harness.queue.forecast(job) == Forecast(seconds=100)


async def test_what_was_measured_is_known_after_a_restart(harness: QueueHarness) -> None:
    await built(harness, "lamp.yaml", 100)
    await harness.restart()
    harness.builder.script = [Block()]
    job = await harness.run("other.yaml")
    assert harness.queue.forecast(job) == Forecast(seconds=100)


async def test_of_firmware_that_waits_for_its_device_no_end_is_expected(
    harness: QueueHarness,
) -> None:
    harness.devices.state["lamp"] = Presence.OFFLINE
    job = await harness.run("lamp.yaml")
    assert job.pending
    assert harness.queue.forecast(job) == Forecast()


async def test_of_a_job_that_has_ended_nothing_is_expected(harness: QueueHarness) -> None:
    assert harness.queue.forecast(await harness.run()) == Forecast()
