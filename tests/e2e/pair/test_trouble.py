"""Something gets in the way: an owner who cancels, a full disk, a frozen machine, a huge bundle."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
import hashlib
import os
from pathlib import Path
import tarfile
from tempfile import TemporaryDirectory

from custom_components.esphome_offload.engine.protocol.body import Sealer
from custom_components.esphome_offload.engine.protocol.definitions import BUNDLE_LIMIT
from custom_components.esphome_offload.engine.protocol.seal import Purpose
import pytest

from custom_components.esphome_offload.engine.build.cache.layout import CacheLayout
from custom_components.esphome_offload.engine.jobs.attempt import new_id
from custom_components.esphome_offload.engine.protocol.messages import Submit
from custom_components.esphome_offload.engine.protocol.payloads import BuildParameters

from ..conftest import connected
from ..harness.client import Json
from ..harness.device import NEW_VERSION
from ..harness.home import until
from ..harness.jobs import (
    Job,
    follow,
    has_printed,
    in_stage,
    output,
    reach,
    submit,
)
from ..harness.neighbour import neighbour_of
from ..harness.obstacles import (
    add_component,
    frozen,
    hang_on_boot,
    held_project,
    hold_bundle,
    hold_compile,
    small_disk,
)
from ..harness.pair import Pair
from ..harness.processes import mentioning
from ..harness.relay import Relay
from .checks import (
    assert_built_by_workshop,
    assert_compiled,
    assert_each_step_once,
    assert_well,
    identity,
    install,
)

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.asyncio(loop_scope="session"),
    pytest.mark.xdist_group("trouble"),
]

ENDS = ("completed", "failed", "cancelled")
MIB = 1024 * 1024
HUGE = 100 * 1000 * 1000

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")

type Held = Callable[[Pair, Relay, str], AbstractAsyncContextManager[str]]
"""Takes the pair, what is between them and an entity; gives an install held in some stage."""


# Cancelled, whatever it is doing.


@asynccontextmanager
async def held_bundling(pair: Pair, _relay: Relay, entity: str) -> AsyncIterator[str]:
    hold_bundle(pair.pi.device)
    job = await submit(pair.pi.client, "install", entity)
    await reach(pair.pi.client, job["job_id"], in_stage("preparing"))
    await standing_still(pair.pi.instance.offload_cache)
    yield job["job_id"]


@asynccontextmanager
async def held_queueing(pair: Pair, _relay: Relay, entity: str) -> AsyncIterator[str]:
    pair.pi.device.configure(greeting="queueing")
    await pair.workshop.lend(slots=1)
    try:
        async with neighbour_of(pair.workshop) as neighbour:
            attempt_id = new_id()
            with TemporaryDirectory() as folder:
                held_project(project := Path(folder, "project"), "lodger")
                bundle = Path(folder, "bundle.tar.gz")
                with tarfile.open(bundle, "w:gz") as archive:
                    for path in project.iterdir():
                        archive.add(path, path.name)
                parameters = BuildParameters(
                    job_id=attempt_id,
                    attempt_id=attempt_id,
                    configuration="lodger.yaml",
                    device_name="lodger",
                    esphome_version=NEW_VERSION,
                    time_zone="UTC",
                    clean=False,
                )
                sealer = Sealer(
                    neighbour.channel, Purpose.BUNDLE, bundle, parameters, limit=BUNDLE_LIMIT
                )
                await neighbour.door.put_bundle(attempt_id, sealer)
                sha256 = hashlib.sha256(bundle.read_bytes()).hexdigest()
            await neighbour.connection.call(Submit(attempt_id, sha256))
            await standing_still(pair.workshop.instance.offload_cache)
            job = await submit(pair.pi.client, "install", entity)
            job = await reach(pair.pi.client, job["job_id"], in_stage("waiting_builder"))
            assert_built_by_workshop(pair, job)
            await until(lambda: queued(pair, 1), "the job in the workshop's queue")
            yield job["job_id"]
            # While the neighbour still builds: it has left the queue, it is not only out of turn.
            await until(lambda: queued(pair, 0), "the end of the job in the workshop's queue", 5)
    finally:
        await pair.workshop.lend()


async def queued(pair: Pair, number: int) -> bool:
    """Return whether this many builds wait at the workshop, as the pi shows it."""
    sensor = await pair.pi.entity(f"peer_{pair.entry_id}_builds_queued")
    state = await pair.pi.client.state(sensor)
    return bool(state["state"] == str(number))


@asynccontextmanager
async def held_compiling(pair: Pair, _relay: Relay, entity: str) -> AsyncIterator[str]:
    pair.pi.device.configure(slow=True)
    job = await submit(pair.pi.client, "install", entity)
    await reach(pair.pi.client, job["job_id"], has_printed("] CXX "))
    assert any("cc1plus" in command for command in pair.workshop.at_work().values())
    yield job["job_id"]


@asynccontextmanager
async def held_fetching(pair: Pair, relay: Relay, entity: str) -> AsyncIterator[str]:
    pair.pi.device.configure(greeting="fetching")
    relay.swallowed.clear()
    relay.swallow = b"GET /api/esphome_offload/firmware/"
    try:
        job = await submit(pair.pi.client, "install", entity)
        await reach(pair.pi.client, job["job_id"], in_stage("fetching"))
        await asyncio.wait_for(relay.swallowed.wait(), 10)
        yield job["job_id"]
    finally:
        relay.swallow = None


@asynccontextmanager
async def held_waiting_for_device(pair: Pair, _relay: Relay, entity: str) -> AsyncIterator[str]:
    pair.pi.device.configure(greeting="waiting")
    await pair.pi.device.switch_off()
    try:
        job = await submit(pair.pi.client, "install", entity)
        await reach(pair.pi.client, job["job_id"], in_stage("waiting_device"))
        yield job["job_id"]
    finally:
        await pair.pi.device.switch_on()
        await connected(pair.pi)


@asynccontextmanager
async def held_uploading(pair: Pair, _relay: Relay, entity: str) -> AsyncIterator[str]:
    async def flashing() -> bool:
        return bool(mentioning(str(pair.pi.instance.offload_cache / "flash")))

    pair.pi.device.configure(greeting="uploading")
    # It takes connections, and Home Assistant still has its own, but nothing is answered.
    with frozen(pair.pi.device.pid):
        job = await submit(pair.pi.client, "install", entity)
        await reach(pair.pi.client, job["job_id"], in_stage("uploading"))
        await until(flashing, "ESPHome at work on the upload")
        yield job["job_id"]


@asynccontextmanager
async def held_verifying(pair: Pair, _relay: Relay, entity: str) -> AsyncIterator[str]:
    pair.pi.device.configure(greeting="verifying")
    hang_on_boot(pair.pi.device)
    kept = pair.pi.device.program.read_bytes()
    try:
        job = await submit(pair.pi.client, "install", entity)
        await reach(pair.pi.client, job["job_id"], in_stage("verifying"))
        yield job["job_id"]
        assert pair.pi.device.program.read_bytes() != kept
    finally:
        await pair.pi.device.switch_off()
        pair.pi.device.program.write_bytes(kept)
        await pair.pi.device.switch_on()
        await connected(pair.pi)


@pytest.mark.parametrize(
    "held",
    [
        held_bundling,
        held_queueing,
        held_fetching,
        held_waiting_for_device,
        held_uploading,
        held_verifying,
        # Last, since what is half built is built anew.
        held_compiling,
    ],
    ids=lambda held: held.__name__.removeprefix("held_"),
)
async def test_cancel_ends_an_install_wherever_it_is(
    pair: Pair, relay: Relay, entity: str, held: Held
) -> None:
    before = pair.pi.device.firmware_sha256()
    async with ends_of(pair) as ends:
        async with held(pair, relay, entity) as job_id:
            await cancel(pair, job_id)
            await until_idle(pair)
        # Also once nothing holds it any more.
        assert await ends() == [("cancelled", job_id)]
    assert pair.pi.device.firmware_sha256() == before


# Nobody wants it any more, but nobody can say so.


async def test_attempt_that_is_cancelled_while_the_link_is_cut_ends_with_the_next_connection(
    pair: Pair, relay: Relay, entity: str
) -> None:
    job_id = await compile_for_ever(pair, entity)
    await relay.cut()
    await pair.disconnected()
    await cancel(pair, job_id)
    assert pair.workshop.compilers()
    await relay.restore()
    await pair.connected()
    await until_idle(pair)


async def test_cancel_does_not_wait_for_a_frozen_workshop(pair: Pair, entity: str) -> None:
    job_id = await compile_for_ever(pair, entity)
    with frozen(pair.workshop.instance.pid):
        await cancel(pair, job_id)
        assert pair.workshop.compilers()
    await until_idle(pair)


# A workshop that is slower than any time-out.


async def test_workshop_that_freezes_while_it_compiles_is_taken_up_again(
    pair: Pair, compiling: str
) -> None:
    lines: list[str] = []
    follower = asyncio.create_task(
        follow(pair.pi.client, compiling, shown=lambda event: lines.extend(event["lines"]))
    )
    with frozen(pair.workshop.instance.pid):
        # Nothing breaks the connection: it is noticed that nobody answers.
        await pair.disconnected()
        assert not follower.done()
    job = await follower
    assert_well(job)
    assert_built_by_workshop(pair, job)
    assert len(job["attempts"]) == 1
    assert lines == await output(pair.pi.client, compiling)
    assert_each_step_once(lines)


async def test_workshop_that_freezes_before_it_begins_is_passed_over(
    pair: Pair, relay: Relay, entity: str
) -> None:
    pair.pi.device.configure(greeting="passed over")
    with frozen(pair.workshop.instance.pid):
        job = await submit(pair.pi.client, "compile", entity)
        # With the connection lost it need not be found out first that nobody answers.
        await relay.cut()
        await reach(pair.pi.client, job["job_id"], has_printed("Trying again to reach workshop"))
        await relay.restore()
        job = await follow(pair.pi.client, job["job_id"])
        assert_went_on_here(job, "builder_unavailable")
    # By itself it would wait longer each time.
    await pair.pi.client.reload(pair.entry_id)
    await pair.connected()
    await until_idle(pair)


# A workshop whose disk is full.


@needs_root
@pytest.mark.parametrize(
    ("place", "options", "said"),
    [
        ("inbox", "size=1m", "the disk is full"),
        # Much is free, and yet there is no room for one more file.
        ("inbox", "size=1g,nr_inodes=2", "the disk is full"),
        ("staging", "nr_inodes=1", "No space left on device"),
        ("trees", "size=100k", "No space left on device"),
    ],
    ids=["nothing free for a bundle", "bundle", "unpacking", "compile"],
)
async def test_workshop_with_a_full_disk_is_passed_over(
    pair: Pair, entity: str, place: str, options: str, said: str
) -> None:
    pair.pi.device.configure(greeting=f"{place} {options}")
    folder = pair.workshop.instance.offload_cache if place == "inbox" else room_of(pair)
    with small_disk(folder / place, options):
        job = await submit(pair.pi.client, "compile", entity)
        job = await follow(pair.pi.client, job["job_id"])
        assert_went_on_here(job, "builder_environment")
        assert said in job["attempts"][0]["detail"]
        await until_idle(pair)
    # With room again it is as good as ever.
    pair.pi.device.configure(greeting=f"room for {place} {options}")
    job = await submit(pair.pi.client, "compile", entity)
    assert_compiled(pair, await follow(pair.pi.client, job["job_id"]))


# A bundle of 100 MB.


async def test_huge_bundle_is_built_and_flashed_in_little_memory(
    pair: Pair, relay: Relay, entity: str
) -> None:
    pair.pi.device.configure(greeting="heavy")
    code = "import esphome.config_validation as cv\nCONFIG_SCHEMA = cv.Schema({})\n"
    folder = add_component(pair.pi.device, "heavy", code)
    # Once without, so that only what the size costs is measured.
    await install(pair, entity)
    ballast = folder / "ballast.bin"
    ballast.write_bytes(os.urandom(HUGE))
    sent = relay.sent
    pids = {each.instance.pid for each in (pair.pi, pair.workshop)}
    before = {pid: begin_to_measure(pid) for pid in pids}
    try:
        job = await install(pair, entity)
    finally:
        ballast.unlink()
    grown = {pid: status_of(pid, "VmHWM") - before[pid] for pid in pids}
    assert_built_by_workshop(pair, job)
    assert relay.sent - sent > HUGE
    assert max(grown.values()) <= 60 * MIB


def begin_to_measure(pid: int) -> int:
    """Have the peak of a process's memory count from now on; returns what it has now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    return status_of(pid, "VmRSS")


def status_of(pid: int, key: str) -> int:
    """Return a figure of a process in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (kib,) = (line.split()[1] for line in lines if line.startswith(f"{key}:"))
    return int(kib) * 1024


async def standing_still(folder: Path) -> None:
    """Wait until something works in a folder that will not end by itself."""

    async def so() -> bool:
        return any("escapee" in command for command in mentioning(str(folder)).values())

    await until(so, f"something in {folder.name} that stands still")


async def compile_for_ever(pair: Pair, entity: str) -> str:
    """Return the id of an install for which the workshop compiles, and will not end by itself."""
    hold_compile(pair.pi.device)
    job = await submit(pair.pi.client, "install", entity)
    job = await reach(pair.pi.client, job["job_id"], in_stage("compiling"))
    assert_built_by_workshop(pair, job)
    await standing_still(room_of(pair))
    job_id: str = job["job_id"]
    return job_id


async def cancel(pair: Pair, job_id: str) -> None:
    """Cancel, and see the job end in time."""
    async with asyncio.timeout(5):
        await pair.pi.client.service("esphome_offload.cancel", None, {"job_id": job_id})
        job = await follow(pair.pi.client, job_id)
    assert (job["status"], job["failure_reason"]) == ("cancelled", "cancelled")


async def until_idle(pair: Pair) -> None:
    """See all processes of the pi's jobs end in time, here and there."""
    places = (str(pair.pi.instance.offload_cache), str(room_of(pair)))

    async def idle() -> bool:
        return not any(mentioning(place) for place in places)

    await until(idle, "the end of all processes", 5)


def room_of(pair: Pair) -> Path:
    """Return the folder of all that the workshop's builds for the pi write."""
    return (
        CacheLayout(pair.workshop.instance.offload_cache).guest(identity(pair.pi).pin_sha256).root
    )


@asynccontextmanager
async def ends_of(pair: Pair) -> AsyncIterator[Callable[[], Json]]:
    """Yield what returns the terminal events of all jobs since then: kind and job."""
    queue: asyncio.Queue[Json] = asyncio.Queue()

    async def ends() -> list[tuple[str, str]]:
        # Answered after all that Home Assistant had sent before.
        await pair.pi.client.running()
        events = [queue.get_nowait() for _ in range(queue.qsize())]
        return [(e["event_type"].rpartition("_")[2], e["data"]["job_id"]) for e in events]

    async with AsyncExitStack() as stack:
        for kind in ENDS:
            event_type = f"esphome_offload_job_{kind}"
            await stack.enter_async_context(
                pair.pi.client.subscribe("subscribe_events", into=queue, event_type=event_type)
            )
        yield ends


def assert_went_on_here(job: Job, reason: str) -> None:
    """Check that the workshop was tried, and why it was left."""
    assert job["status"] == "completed", job["error"]
    there, here = job["attempts"]
    assert (there["label"], there["failure"]) == ("workshop", reason), there
    assert (here["source"], here["failure"]) == ("local", None), here
    assert "workshop" in job["why_not"]
