"""Two Home Assistants: pi has the device, the workshop builds for it. Also when things break."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack
from itertools import groupby
from pathlib import Path
import re

import pytest
import pytest_asyncio
import pytest_socket

from .conftest import connected
from .harness.client import Json
from .harness.device import NEW_VERSION
from .harness.home import until
from .harness.jobs import Job, all_jobs, follow, has_printed, output, reach, submit
from .harness.pair import Pair, open_pair
from .harness.processes import mentioning
from .harness.relay import Relay
from .harness.workspace import claim

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

KINDS = ("queued", "started", "progress", "completed", "failed", "cancelled")
# What may differ between two installs of the same firmware by different builders.
BY_NATURE = {
    "job_id",
    "source",
    "source_label",
    "source_pin_sha256",
    "stage",
    "progress",
    "seconds",
}
STAGES = (None, "preparing", "compiling", "fetching", "uploading", "verifying")
STEP = re.compile(r"\[ *(\d+)/(\d+)\] ")


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def opened() -> AsyncIterator[tuple[Pair, Relay]]:
    """Open the one pair: booting takes longer than most tests."""
    # The tests of the modules before have left sockets forbidden, and so will those of this one.
    pytest_socket.enable_socket()
    with claim("e2e-peer") as folder:
        async with open_pair(folder) as opened:
            yield opened
            pytest_socket.enable_socket()


@pytest_asyncio.fixture(loop_scope="session")
async def pair(opened: tuple[Pair, Relay]) -> Pair:
    """Give a pair that is connected and idle, whatever the test before left behind."""
    pair, relay = opened
    if not pair.workshop.instance.running:
        await pair.workshop.boot()
    if not pair.pi.instance.running:
        await pair.pi.boot()
    await relay.restore()
    for job in await all_jobs(pair.pi.client):
        if job["finished_at"] is None:
            await pair.pi.client.service("esphome_offload.cancel", None, {"job_id": job["job_id"]})
    await pair.workshop.pause(paused=False)
    pair.pi.device.configure()
    await connected(pair.pi)
    await pair.connected()
    return pair


@pytest.fixture
def relay(opened: tuple[Pair, Relay]) -> Relay:
    """Give the network between the two."""
    return opened[1]


@pytest_asyncio.fixture(loop_scope="session")
async def entity(pair: Pair) -> str:
    """Give the id of the update entity of the device."""
    return await pair.pi.update_entity()


@pytest_asyncio.fixture(loop_scope="session")
async def compiling(pair: Pair, entity: str) -> str:
    """Give the id of an install for which the workshop compiles, with much left to do."""
    pair.pi.device.configure(slow=True)
    job = await submit(pair.pi.client, "install", entity)
    job = await reach(pair.pi.client, job["job_id"], has_printed("] CXX "))
    assert_built_by_workshop(pair, job)
    assert any("cc1plus" in command for command in pair.workshop.at_work().values())
    job_id: str = job["job_id"]
    return job_id


async def test_install_is_built_by_the_workshop_and_flashed_by_pi(pair: Pair, entity: str) -> None:
    job = await install(pair, entity, version=NEW_VERSION)
    assert_built_by_workshop(pair, job)
    assert {"preparing", "compiling", "fetching", "uploading", "verifying"} <= set(job["stages"])
    assert await pair.pi.reported_version() == NEW_VERSION
    # Nothing was built here.
    assert list(Path(pair.pi.instance.builds).iterdir()) == []


async def test_events_and_log_are_the_same_whoever_builds(pair: Pair, entity: str) -> None:
    streams = []
    for source in ("local", "workshop"):
        await up_to_date(pair, entity)
        job, events = await watched(pair, entity, source=source, clean=True)
        streams.append((job, events, await output(pair.pi.client, job["job_id"])))
    (here, here_events, here_lines), (there, there_events, there_lines) = streams
    assert (here["source"], there["source"]) == ("local", "remote")
    assert_built_by_workshop(pair, there)

    assert kinds(here_events) == kinds(there_events)
    for kind in KINDS:
        assert keys(here_events, kind) == keys(there_events, kind)
    for key in here_events[0]["data"].keys() - BY_NATURE:
        assert course(here_events, key) == course(there_events, key), key
    assert {*here["stages"], "fetching"} == there["stages"].keys()
    for events in (here_events, there_events):
        percents = [event["data"]["progress"] or 0 for event in events]
        assert percents == sorted(percents)
        assert percents[-1] == 100
        # A stage that is over within a second may have no event of its own.
        stages = course(events, "stage")
        assert stages == [stage for stage in STAGES if stage in stages]
    for key in ("source_label", "source_pin_sha256"):
        assert course(here_events, key)[-1] == here[key]
        assert course(there_events, key)[-1] == there[key]
    assert here.keys() == there.keys()
    assert steps(here_lines) == steps(there_lines) != []


async def test_cut_link_is_taken_up_again_without_loss(
    pair: Pair, relay: Relay, compiling: str
) -> None:
    before = pair.workshop.at_work()
    lines: list[str] = []
    follower = asyncio.create_task(
        follow(pair.pi.client, compiling, shown=lambda event: lines.extend(event["lines"]))
    )
    await relay.cut()
    await pair.disconnected()
    await relay.restore()
    await pair.connected()
    # The same processes, so it was not started over.
    assert before.keys() & pair.workshop.at_work().keys()
    job = await follower
    assert_well(job)
    assert_built_by_workshop(pair, job)
    assert len(job["attempts"]) == 1
    assert lines == await output(pair.pi.client, compiling)
    assert_each_step_once(lines)


async def test_killed_workshop_builds_again_when_it_is_back(pair: Pair, compiling: str) -> None:
    await pair.workshop.crash()
    await pair.workshop.boot()
    job = await follow(pair.pi.client, compiling)
    assert_well(job)
    assert_built_by_workshop(pair, job)
    assert [attempt["label"] for attempt in job["attempts"]] == ["workshop", "workshop"]
    assert [attempt["failure"] for attempt in job["attempts"]] == ["build_lost", None]
    assert pair.workshop.at_work() == {}


async def test_killed_pi_takes_up_what_the_workshop_went_on_with(
    pair: Pair, compiling: str
) -> None:
    before = pair.workshop.at_work()
    await pair.pi.crash()
    await pair.pi.boot()
    await pair.connected()
    assert before.keys() & pair.workshop.at_work().keys()
    job = await follow(pair.pi.client, compiling)
    assert_well(job)
    assert_built_by_workshop(pair, job)
    assert len(job["attempts"]) == 1
    assert_each_step_once(await output(pair.pi.client, compiling))


async def test_paused_workshop_finishes_its_build_and_takes_no_other(
    pair: Pair, compiling: str, entity: str
) -> None:
    await pair.workshop.pause()
    first = await follow(pair.pi.client, compiling)
    assert_well(first)
    assert_built_by_workshop(pair, first)
    pair.pi.device.configure()
    second = await install(pair, entity)
    assert second["source"] == "local"
    assert "paused" in second["why_not"]["workshop"].lower()


async def test_cancel_leaves_no_compiler_at_the_workshop(
    pair: Pair, compiling: str, entity: str
) -> None:
    async def gone() -> bool:
        return not pair.workshop.at_work()

    await pair.pi.client.service("esphome_offload.cancel", {"entity_id": entity})
    await until(gone, "the end of the build at the workshop", 5)
    job = await follow(pair.pi.client, compiling)
    assert (job["status"], job["failure_reason"]) == ("cancelled", "cancelled")


async def test_removed_guest_builds_alone_and_can_pair_again(pair: Pair, entity: str) -> None:
    (guest,) = await pair.workshop.guests()
    await pair.workshop.remove_guest(guest["id"])
    flow = await until(lambda: pairing_again(pair), "being asked to pair again")
    job = await install(pair, entity)
    assert job["source"] == "local"
    assert "workshop" in job["why_not"]

    code = await pair.workshop.open_pairing()
    await pair.pi.client.finish_flow(flow["flow_id"], {**pair.address, "code": code})
    await pair.connected()
    assert_built_by_workshop(pair, await install(pair, entity))


async def up_to_date(pair: Pair, entity: str) -> None:
    """Wait until our entity knows what the device runs, which the next job begins from."""

    async def known() -> bool:
        state = await pair.pi.client.state(entity)
        return bool(state["attributes"]["installed_version"] == NEW_VERSION)

    await until(known, f"{NEW_VERSION} as the installed version")


async def pairing_again(pair: Pair) -> Json:
    """Return the flow that asks the pi's owner to pair again."""
    for flow in await pair.pi.client.flows():
        if flow["context"]["source"] == "reauth":
            return flow
    return None


async def install(pair: Pair, entity: str, **data: Json) -> Job:
    """Install, and return the job when it has ended well."""
    job = await submit(pair.pi.client, "install", entity, **data)
    job = await follow(pair.pi.client, job["job_id"])
    assert_well(job)
    return job


async def watched(pair: Pair, entity: str, **data: Json) -> tuple[Job, list[Json]]:
    """Install, and return the job and all its events."""
    queue: asyncio.Queue[Json] = asyncio.Queue()
    async with AsyncExitStack() as stack:
        for kind in KINDS:
            await stack.enter_async_context(
                pair.pi.client.subscribe(
                    "subscribe_events", into=queue, event_type=f"esphome_offload_job_{kind}"
                )
            )
        job = await install(pair, entity, **data)
        # Answered after all that Home Assistant had sent before.
        await pair.pi.client.running()
    events = []
    while not queue.empty():
        events.append(queue.get_nowait())
    return job, events


def kinds(events: Iterable[Json]) -> list[str]:
    """Return the types of events, any number of the same in a row as one."""
    return [kind for kind, _ in groupby(event["event_type"] for event in events)]


def keys(events: Iterable[Json], kind: str) -> set[frozenset[str]]:
    """Return which keys the events of one kind have."""
    return {frozenset(event["data"]) for event in events if event["event_type"].endswith(kind)}


def course(events: Iterable[Json], key: str) -> list[Json]:
    """Return the values that a key takes, one after another."""
    return [value for value, _ in groupby(event["data"][key] for event in events)]


def steps(lines: Iterable[str]) -> list[str]:
    """Return what was compiled, in an order that does not depend on who was quicker."""
    return sorted(line.partition("] CXX ")[2] for line in lines if "] CXX " in line)


def assert_each_step_once(lines: Iterable[str]) -> None:
    """Check that the numbered steps of the compile are all there, none of them twice."""
    numbers = [
        (int(found[1]), int(found[2])) for line in lines if (found := STEP.match(line)) is not None
    ]
    assert numbers
    assert sorted(number for number, _ in numbers) == list(range(1, numbers[0][1] + 1))


def assert_well(job: Job) -> None:
    assert job["status"] == "completed", job["error"]
    assert job["verified"] is True


def assert_built_by_workshop(pair: Pair, job: Job) -> None:
    built_by = (job["source"], job["source_label"], job["source_pin_sha256"])
    assert built_by == ("remote", "workshop", pair.pin_sha256), job["why_not"]
    # Also while the test runs: no compiler of ours.
    assert not mentioning(pair.pi.instance.builds)
