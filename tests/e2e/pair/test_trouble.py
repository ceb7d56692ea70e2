"""Cancels, full disks, frozen processes and a huge bundle."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from ...engine.build.marks import needs_root
from ..harness.any_builder import AnyBuilder
from ..harness.client import Json
from ..harness.faults import frozen, held_project, small_disk
from ..harness.jobs import Job, follow, has, has_printed, in_stage, output, reach, submit
from ..harness.pair import Pair
from ..harness.processes import at_work, mentioning
from ..harness.relay import Relay
from ..harness.scripted import Part, folder_in
from ..harness.second_guest import second_guest_of
from ..harness.waiting import PATIENCE, until
from .checks import (
    HOME_ASSISTANT,
    assert_built_by_builder,
    assert_compiled,
    assert_each_step_once,
    assert_well,
    both_builders,
    install,
    talking,
)

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.asyncio(loop_scope="session"),
    both_builders,
]

ENDS = ("completed", "failed", "cancelled")
MIB = 1024 * 1024
HUGE = 100 * 1000 * 1000
# An idle machine takes less than five seconds; all time-outs of the link are longer than this.
SOON = 18.0


type Held = Callable[[Pair[AnyBuilder], Relay, str], AbstractAsyncContextManager[str]]
"""Takes the pair, the relay and an entity; yields an install that is held in some stage."""


# Cancelled in each stage.


@asynccontextmanager
async def held_bundling(pair: Pair[AnyBuilder], _relay: Relay, entity: str) -> AsyncIterator[str]:
    pair.offloader.device.play(Part.HANG_WHEN_READ)
    job = await submit(pair.offloader.client, "install", entity)
    await reach(pair.offloader.client, job["job_id"], in_stage("preparing"))
    await hanging(pair.offloader.instance.offload_cache)
    yield job["job_id"]


@asynccontextmanager
async def held_queueing(pair: Pair[AnyBuilder], _relay: Relay, entity: str) -> AsyncIterator[str]:
    pair.offloader.device.configure(greeting="queueing")
    async with second_guest_of(pair.builder) as guest:
        with TemporaryDirectory() as folder:
            held_project(project := Path(folder, "project"), "other")
            await guest.build(project, "other")
        await hanging(pair.builder.cache)
        job = await submit(pair.offloader.client, "install", entity)
        job = await reach(pair.offloader.client, job["job_id"], in_stage("waiting_builder"))
        assert_built_by_builder(pair, job)
        await until(lambda: queued(pair, 1), "the job in the builder's queue")
        yield job["job_id"]
        # While the guest still builds: it has left the queue without having had its turn.
        await until(lambda: queued(pair, 0), "the end of the job in the builder's queue")


async def queued(pair: Pair[AnyBuilder], number: int) -> bool:
    """Return whether this many builds wait at the builder, as the offloader shows it."""
    sensor = await pair.offloader.entity(f"peer_{pair.entry_id}_builds_queued")
    state = await pair.offloader.client.state(sensor)
    return bool(state["state"] == str(number))


@asynccontextmanager
async def held_compiling(pair: Pair[AnyBuilder], _relay: Relay, entity: str) -> AsyncIterator[str]:
    async def compiler_at_work() -> bool:
        return any("cc1plus" in each for each in pair.builder.build_processes().values())

    pair.offloader.device.play(Part.COMPILE_LONG)
    job = await submit(pair.offloader.client, "install", entity)
    await until(compiler_at_work, "a compiler at work")
    await hanging(pair.builder.cache)
    yield job["job_id"]


@asynccontextmanager
async def held_fetching(pair: Pair[AnyBuilder], relay: Relay, entity: str) -> AsyncIterator[str]:
    pair.offloader.device.configure(greeting="fetching")
    relay.stall_downloads()
    try:
        job = await submit(pair.offloader.client, "install", entity)
        await reach(pair.offloader.client, job["job_id"], in_stage("fetching"))
        await asyncio.wait_for(relay.stalled.wait(), PATIENCE)
        yield job["job_id"]
    finally:
        await relay.resume_downloads()


@asynccontextmanager
async def held_waiting_for_device(
    pair: Pair[AnyBuilder], _relay: Relay, entity: str
) -> AsyncIterator[str]:
    pair.offloader.device.configure(greeting="waiting")
    await pair.offloader.device.switch_off()
    try:
        job = await submit(pair.offloader.client, "install", entity)
        await reach(pair.offloader.client, job["job_id"], in_stage("waiting_device"))
        yield job["job_id"]
    finally:
        await pair.offloader.device.switch_on()
        await pair.offloader.device_connected()


@asynccontextmanager
async def held_uploading(pair: Pair[AnyBuilder], _relay: Relay, entity: str) -> AsyncIterator[str]:
    pair.offloader.device.configure(greeting="uploading")
    # It takes connections, and Home Assistant still has its own, but nothing is answered.
    with frozen(pair.offloader.device.pid):
        job = await submit(pair.offloader.client, "install", entity)
        # ESPHome is at work on the upload.
        await reach(pair.offloader.client, job["job_id"], has_printed("Connecting to"))
        yield job["job_id"]


@asynccontextmanager
async def held_verifying(pair: Pair[AnyBuilder], _relay: Relay, entity: str) -> AsyncIterator[str]:
    pair.offloader.device.play(Part.HANG_ON_BOOT)
    kept = pair.offloader.device.program.read_bytes()
    try:
        job = await submit(pair.offloader.client, "install", entity)
        await reach(pair.offloader.client, job["job_id"], in_stage("verifying"))
        yield job["job_id"]
        assert pair.offloader.device.program.read_bytes() != kept
    finally:
        await pair.offloader.device.switch_off()
        pair.offloader.device.program.write_bytes(kept)
        await pair.offloader.device.switch_on()
        await pair.offloader.device_connected()


@pytest.mark.parametrize(
    "held",
    [
        held_bundling,
        held_queueing,
        held_compiling,
        held_fetching,
        held_waiting_for_device,
        held_uploading,
        held_verifying,
    ],
    ids=lambda held: held.__name__.removeprefix("held_"),
)
async def test_cancel_ends_an_install_wherever_it_is(
    pair: Pair[AnyBuilder], relay: Relay, entity: str, held: Held
) -> None:
    before = pair.offloader.device.firmware_sha256()
    async with ends_of(pair) as ends:
        async with held(pair, relay, entity) as job_id:
            await cancel(pair, job_id)
            await until_idle(pair)
        # Also after nothing holds it any more.
        assert await ends() == [("cancelled", job_id)]
    assert pair.offloader.device.firmware_sha256() == before


# Cancelled while the builder cannot be reached.


async def test_attempt_that_is_cancelled_while_the_link_is_cut_ends_with_the_next_connection(
    pair: Pair[AnyBuilder], relay: Relay, entity: str
) -> None:
    job_id = await endless_compile(pair, entity)
    await relay.cut()
    await pair.disconnected()
    await cancel(pair, job_id)
    assert pair.builder.compilers()
    await relay.restore()
    await pair.connected()
    await until_idle(pair)


@pytest.mark.builders(HOME_ASSISTANT)
async def test_cancel_does_not_wait_for_a_frozen_builder(
    pair: Pair[AnyBuilder], entity: str
) -> None:
    job_id = await endless_compile(pair, entity)
    with frozen(pair.builder.pid):
        await cancel(pair, job_id)
        assert pair.builder.compilers()
    await until_idle(pair)


# A builder that is slower than any time-out.


@pytest.mark.builders(HOME_ASSISTANT)
async def test_job_goes_on_after_its_builder_was_frozen(
    pair: Pair[AnyBuilder], entity: str
) -> None:
    lines: list[str] = []
    async with talking(pair, entity) as talks:
        follower = asyncio.create_task(
            follow(
                pair.offloader.client,
                talks.job_id,
                shown=lambda event: lines.extend(event["lines"]),
            )
        )
        with frozen(pair.builder.pid):
            # Nothing breaks the connection: it is noticed that nothing answers.
            await pair.disconnected()
            assert not follower.done()
    job = await follower
    assert_well(job)
    assert_built_by_builder(pair, job)
    assert len(job["attempts"]) == 1
    assert lines == await output(pair.offloader.client, talks.job_id)
    assert_each_step_once(lines)


@pytest.mark.builders(HOME_ASSISTANT)
async def test_builder_that_is_frozen_before_it_starts_is_passed_over(
    pair: Pair[AnyBuilder], relay: Relay, entity: str
) -> None:
    pair.offloader.device.configure(greeting="passed over")
    with frozen(pair.builder.pid):
        job = await submit(pair.offloader.client, "compile", entity)
        # It has been given to the builder, as far as this one knows.
        await reach(pair.offloader.client, job["job_id"], in_stage("preparing"))
        # With the connection lost, no time-out has to pass first.
        await relay.cut()
        await reach(
            pair.offloader.client, job["job_id"], has_printed("Trying again to reach builder")
        )
        await relay.restore()
        job = await follow(pair.offloader.client, job["job_id"])
        assert_went_on_locally(job, "builder_unavailable")
    await pair.reconnect()
    await until_idle(pair)


# A builder whose disk is full.


@needs_root
@pytest.mark.parametrize(
    ("place", "options", "said"),
    [
        ("inbox", "size=1m", "has too little free disk"),
        # Much is free, and yet there is no room for another file.
        ("inbox", "size=1g,nr_inodes=2", "has too little free disk"),
        ("staging", "nr_inodes=1", "No space left on device"),
        ("trees", "size=100k", "No space left on device"),
    ],
    ids=["nothing free for a bundle", "bundle", "unpacking", "compile"],
)
async def test_builder_with_a_full_disk_is_passed_over(
    pair: Pair[AnyBuilder], entity: str, place: str, options: str, said: str
) -> None:
    pair.offloader.device.configure(greeting=f"{place} {options}")
    folder = pair.builder.cache if place == "inbox" else workspace_of(pair)
    with small_disk(folder / place, options):
        job = await submit(pair.offloader.client, "compile", entity)
        job = await follow(pair.offloader.client, job["job_id"])
        assert_went_on_locally(job, "builder_environment")
        assert has(job["attempts"][0]["detail"], said)
        await until_idle(pair)
    # With room again it builds as before.
    pair.offloader.device.configure(greeting=f"room for {place} {options}")
    job = await submit(pair.offloader.client, "compile", entity)
    assert_compiled(pair, await follow(pair.offloader.client, job["job_id"]))


# A bundle of 100 MB.


async def test_huge_bundle_is_built_and_flashed_in_little_memory(
    pair: Pair[AnyBuilder], relay: Relay, entity: str
) -> None:
    pair.offloader.device.configure(greeting="heavy")
    # Once without it, so that only the cost of the size is measured.
    await install(pair, entity)
    ballast = folder_in(pair.offloader.instance.esphome) / "ballast.bin"
    ballast.write_bytes(os.urandom(HUGE))
    sent = relay.sent
    pids = {pair.offloader.instance.pid, pair.builder.pid}
    before = {pid: reset_peak(pid) for pid in pids}
    try:
        job = await install(pair, entity)
    finally:
        ballast.unlink()
    grown = {pid: status_of(pid, "VmHWM") - before[pid] for pid in pids}
    assert_built_by_builder(pair, job)
    assert relay.sent - sent > HUGE
    assert max(grown.values()) <= 60 * MIB


def reset_peak(pid: int) -> int:
    """Reset the peak of a process's memory; return what it uses now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return status_of(pid, "VmRSS")


def status_of(pid: int, key: str) -> int:
    """Return a figure of a process in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (kib,) = (line.split()[1] for line in lines if line.startswith(f"{key}:"))
    return int(kib) * 1024


async def hanging(folder: Path) -> None:
    """Wait until a process works in a folder that does not end by itself."""

    async def so() -> bool:
        return any("escapee" in command for command in mentioning(str(folder)).values())

    await until(so, f"a process in {folder.name} that hangs")


async def endless_compile(pair: Pair[AnyBuilder], entity: str) -> str:
    """Return the id of an install whose compile at the builder does not end by itself."""
    pair.offloader.device.play(Part.HANG)
    job = await submit(pair.offloader.client, "install", entity)
    job = await reach(pair.offloader.client, job["job_id"], in_stage("compiling"))
    assert_built_by_builder(pair, job)
    await hanging(workspace_of(pair))
    job_id: str = job["job_id"]
    return job_id


async def cancel(pair: Pair[AnyBuilder], job_id: str) -> None:
    """Cancel, and see the job end soon."""
    async with asyncio.timeout(SOON):
        await pair.offloader.client.service("esphome_offload.cancel", None, {"job_id": job_id})
        job = await follow(pair.offloader.client, job_id)
    assert (job["status"], job["failure_reason"]) == ("cancelled", "cancelled")


async def until_idle(pair: Pair[AnyBuilder]) -> None:
    """See all processes of the offloader's jobs end soon, at both ends."""
    places = (str(pair.offloader.instance.offload_cache), str(workspace_of(pair)))

    async def idle() -> bool:
        return not any(at_work(place) for place in places)

    await until(idle, "the end of all processes", SOON)


def workspace_of(pair: Pair[AnyBuilder]) -> Path:
    """Return the builder's folder of all that builds for the offloader write."""
    return pair.builder.workspace(pair.offloader.identity)


@asynccontextmanager
async def ends_of(pair: Pair[AnyBuilder]) -> AsyncIterator[Callable[[], Json]]:
    """Yield a function that returns the terminal events of all jobs since then: kind and job."""
    queue: asyncio.Queue[Json] = asyncio.Queue()

    async def ends() -> list[tuple[str, str]]:
        # The answer comes after all that Home Assistant has sent before.
        await pair.offloader.client.running()
        events = [queue.get_nowait() for _ in range(queue.qsize())]
        return [(e["event_type"].rpartition("_")[2], e["data"]["job_id"]) for e in events]

    async with AsyncExitStack() as stack:
        for kind in ENDS:
            event_type = f"esphome_offload_job_{kind}"
            await stack.enter_async_context(
                pair.offloader.client.subscribe(
                    "subscribe_events", into=queue, event_type=event_type
                )
            )
        yield ends


def assert_went_on_locally(job: Job, reason: str) -> None:
    """Check that the builder was tried, why it was left, and that the job went on locally."""
    assert job["status"] == "completed", job["error"]
    there, here = job["attempts"]
    assert (there["label"], there["failure"]) == ("builder", reason), there
    assert (here["source"], here["failure"]) == ("local", None), here
    assert "builder" in job["why_not"]
