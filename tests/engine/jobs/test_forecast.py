"""The place of a job in the queue, and when it is expected to end."""

from dataclasses import replace

from custom_components.esphome_offload.engine.build.model import (
    BuilderStatus,
    BuildRequest,
    BuildSink,
    FlashRequest,
)
from custom_components.esphome_offload.engine.clock import sleep
from custom_components.esphome_offload.engine.const import JobStatus, Operation, Stage
from custom_components.esphome_offload.engine.jobs.forecast import Forecast
from custom_components.esphome_offload.engine.jobs.model import FirmwareJob
from custom_components.esphome_offload.engine.jobs.ports import Presence

from .fakes import Act, Block, ScriptedBuilder, VirtualTime, because, settle
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


async def test_a_job_that_waits_for_a_builder_to_come_has_no_place(harness: QueueHarness) -> None:
    await built(harness, "lamp.yaml", 100)
    harness.set(wait_for_builder=None)
    peer = harness.add_peer("aa", "Attic")
    peer.state = BuilderStatus(available=False, why_not=because("paused"))
    job = await harness.run("other.yaml", requested_source="aa")
    assert harness.queue.forecast(job) == Forecast()
    peer.become(BuilderStatus(available=True))
    await settle()
    assert job.status is JobStatus.COMPLETED


async def test_a_job_in_line_at_a_builder_is_the_first_in_the_queue(harness: QueueHarness) -> None:
    await built(harness, "lamp.yaml", 100)
    peer = harness.add_peer("aa", "Attic")
    peer.state = BuilderStatus(available=True, busy=1, queue_length=1)

    async def wait_in_line(_request: BuildRequest, sink: BuildSink) -> None:
        sink.place(0)
        await sleep(harness.time, 1000)

    peer.script = [wait_in_line]
    first, second = await harness.run("a.yaml"), await harness.run("b.yaml")
    assert (first.stage, second.status) == (Stage.WAITING_BUILDER, JobStatus.QUEUED)
    # Another's build is half done, then it takes what builds take there, and so does the other.
    assert harness.queue.forecast(first) == Forecast(place=1, seconds=150)
    assert harness.queue.forecast(second) == Forecast(place=2, seconds=250)


async def test_while_nothing_may_start_no_end_is_expected(harness: QueueHarness) -> None:
    await built(harness, "lamp.yaml", 100)
    harness.builder.script = [Block()]
    await harness.run("lamp.yaml")
    job = await harness.run("other.yaml")
    assert harness.queue.forecast(job) == Forecast(place=1, seconds=200)
    harness.queue.hold()
    assert harness.queue.forecast(job) == Forecast(place=1)


async def test_flashing_is_expected_to_take_what_it_took(harness: QueueHarness) -> None:
    async def upload(_request: FlashRequest, _sink: BuildSink) -> None:
        await sleep(harness.time, 20)

    harness.flasher.script = [upload, upload]
    await harness.run("lamp.yaml")
    await harness.time.go(20)
    job = await harness.run("lamp.yaml", esphome_version="2026.11.0")
    await harness.time.go(5)
    assert job.stage is Stage.UPLOADING
    assert harness.queue.forecast(job) == Forecast(seconds=15)


async def test_uploads_wait_for_those_before_them(harness: QueueHarness) -> None:
    async def upload(_request: FlashRequest, _sink: BuildSink) -> None:
        await sleep(harness.time, 20)

    def expected(*jobs: FirmwareJob) -> list[Forecast]:
        return [harness.queue.forecast(job) for job in jobs]

    harness.set(parallel_uploads=2)
    harness.flasher.script = [upload] * 6
    await harness.run("lamp.yaml")
    await harness.time.go(20)
    jobs = [await harness.run(f"{name}.yaml") for name in "abcde"]
    await harness.time.go(5)
    assert [job.uploading for job in jobs] == [True, True, False, False, False]
    assert expected(*jobs) == [Forecast(seconds=each) for each in (15, 15, 35, 35, 55)]

    await harness.time.go(35)
    # What they have waited does not count for what an upload takes.
    assert expected(jobs[4]) == [Forecast(seconds=20)]


async def test_a_build_is_expected_to_wait_for_the_uploads_before_it(harness: QueueHarness) -> None:
    async def upload(_request: FlashRequest, _sink: BuildSink) -> None:
        await sleep(harness.time, 100)

    harness.set(parallel_uploads=1)
    harness.flasher.script = [upload, upload, upload]
    harness.builder.script = [taking(harness.time, 30)] * 3
    await harness.run("lamp.yaml")
    await harness.time.go(130)
    await harness.run("a.yaml")
    await harness.time.go(30)
    job = await harness.run("b.yaml")
    await harness.time.go(10)
    assert harness.queue.forecast(job) == Forecast(seconds=20 + 70 + 100)


async def test_one_long_build_does_not_make_a_builder_slow_two_do(harness: QueueHarness) -> None:
    attic, cellar = harness.add_peer("aa", "Attic"), harness.add_peer("cc", "Cellar")

    async def measure(peer: ScriptedBuilder, seconds: float) -> None:
        peer.script = [taking(harness.time, seconds)]
        options = {"operation": Operation.COMPILE, "requested_source": peer.builder_id}
        job = await harness.run("lamp.yaml", clean=True, **options)
        await harness.time.go(seconds)
        assert job.status is JobStatus.COMPLETED

    async def expected_at_cellar() -> float | None:
        cellar.script = [Block()]
        job = await harness.run("other.yaml", requested_source="cc")
        seconds = harness.queue.forecast(job).seconds
        await harness.queue.cancel(job.job_id)
        return seconds

    await measure(attic, 100)
    assert await expected_at_cellar() == 100
    await measure(cellar, 900)
    # Its tools and its compiler cache may have been new.
    assert await expected_at_cellar() == 500
    await measure(cellar, 900)
    assert await expected_at_cellar() == 900


async def test_a_warm_build_that_is_quicker_than_guessed_does_not_make_a_builder_fast(
    harness: QueueHarness,
) -> None:
    attic = harness.add_peer("aa", "Attic")

    async def build(name: str, seconds: float) -> None:
        attic.script = [taking(harness.time, seconds)]
        await harness.run(name, operation=Operation.COMPILE, requested_source="aa")
        await harness.time.go(seconds)

    async def expected() -> float | None:
        attic.script = [Block()]
        job = await harness.run("other.yaml", requested_source="aa")
        seconds = harness.queue.forecast(job).seconds
        await harness.queue.cancel(job.job_id)
        return seconds

    await build("a.yaml", 100)
    await build("b.yaml", 100)
    attic.become(replace(attic.state, warm=frozenset({"a.yaml", "b.yaml"})))
    await build("a.yaml", 1)
    assert await expected() == 100
    await build("b.yaml", 1)
    assert await expected() == 100
