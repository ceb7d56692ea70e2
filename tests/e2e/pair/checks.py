"""Steps and checks that the tests of a pair share."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import groupby
import re

import pytest

from custom_components.esphome_offload.engine.protocol.errors import ErrorCode
from custom_components.esphome_offload.engine.protocol.session import CommandRefused, Session

from ..harness.any_builder import AnyBuilder
from ..harness.client import Json
from ..harness.jobs import Job, follow, has_printed, reach, submit
from ..harness.pair import Pair
from ..harness.processes import mentioning
from ..harness.scripted import Part, go_on

# Kinds of builders.
HOME_ASSISTANT = "home assistant"
STANDALONE = "standalone"
both_builders = pytest.mark.builders(HOME_ASSISTANT, STANDALONE)

KINDS = ("queued", "started", "progress", "completed", "failed", "cancelled")
STEP = re.compile(r"\[ *(\d+)/(\d+)\] ")


async def pairing_again(pair: Pair[AnyBuilder]) -> Json:
    """Return the flow that asks the offloader's owner to pair again, None when there is none."""
    for flow in await pair.offloader.client.flows():
        if flow["context"]["source"] == "reauth":
            return flow
    return None


async def install(pair: Pair[AnyBuilder], entity: str, **data: Json) -> Job:
    """Install, and return the job when it has ended well."""
    job = await submit(pair.offloader.client, "install", entity, **data)
    job = await follow(pair.offloader.client, job["job_id"])
    assert_well(job)
    return job


@dataclass(frozen=True, slots=True)
class Talking:
    """A job whose build at the builder prints lines until ``go_on``."""

    job_id: str
    builder: AnyBuilder
    sign: str

    def go_on(self) -> None:
        """Have it compile and end."""
        go_on(self.builder.cache, self.sign)


@asynccontextmanager
async def talking(
    pair: Pair[AnyBuilder], entity: str, action: str = "install"
) -> AsyncIterator[Talking]:
    """Yield a job that the builder builds; it goes on at the end of the context at the latest."""
    sign = pair.offloader.device.play(Part.TALK)
    job = await submit(pair.offloader.client, action, entity)
    talks = Talking(job["job_id"], pair.builder, sign)
    try:
        job = await reach(pair.offloader.client, talks.job_id, has_printed("still talking"))
        assert_built_by_builder(pair, job)
        yield talks
    finally:
        talks.go_on()


async def watched(pair: Pair[AnyBuilder], entity: str, **data: Json) -> tuple[Job, list[Json]]:
    """Install, and return the job and all its events."""
    queue: asyncio.Queue[Json] = asyncio.Queue()
    async with AsyncExitStack() as stack:
        for kind in KINDS:
            await stack.enter_async_context(
                pair.offloader.client.subscribe(
                    "subscribe_events", into=queue, event_type=f"esphome_offload_job_{kind}"
                )
            )
        job = await install(pair, entity, **data)
        # The answer comes after all that Home Assistant has sent before.
        await pair.offloader.client.running()
    events = []
    while not queue.empty():
        events.append(queue.get_nowait())
    return job, events


def kinds(events: Iterable[Json]) -> list[str]:
    """Return the types of events, without repetitions."""
    return [kind for kind, _ in groupby(event["event_type"] for event in events)]


def keys(events: Iterable[Json], kind: str) -> set[frozenset[str]]:
    """Return the sets of keys that events of one kind have."""
    return {frozenset(event["data"]) for event in events if event["event_type"].endswith(kind)}


def course(events: Iterable[Json], key: str) -> list[Json]:
    """Return the values that a key takes, one after another."""
    return [value for value, _ in groupby(event["data"][key] for event in events)]


def steps(lines: Iterable[str]) -> list[str]:
    """Return the sources that were compiled, sorted."""
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


def assert_built_by_builder(pair: Pair[AnyBuilder], job: Job) -> None:
    built_by = (job["source"], job["source_label"], job["source_pin_sha256"])
    assert built_by == ("remote", "builder", pair.pin_sha256), job["why_not"]
    # Nothing is compiled by the offloader meanwhile.
    assert not mentioning(pair.offloader.instance.builds)


def assert_compiled(pair: Pair[AnyBuilder], job: Job) -> None:
    """Check that a compile ended well and was done by the builder."""
    assert job["status"] == "completed", job["error"]
    assert_built_by_builder(pair, job)


async def refusal_of(session: Session, command: object) -> ErrorCode | None:
    """Return the error with which a command is refused."""
    try:
        await session.call(command)
    except CommandRefused as err:
        return err.code
    return None
