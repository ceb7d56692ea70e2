"""Two Home Assistants: pi has the device, the workshop builds for it. Also when things break."""

import asyncio
from pathlib import Path

import pytest

from ..harness.device import NEW_VERSION
from ..harness.home import until
from ..harness.jobs import follow, output
from ..harness.pair import Pair
from ..harness.relay import Relay
from .checks import (
    KINDS,
    assert_built_by_workshop,
    assert_each_step_once,
    assert_well,
    course,
    install,
    keys,
    kinds,
    pairing_again,
    steps,
    watched,
)

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

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


async def test_install_is_built_by_the_workshop_and_flashed_by_pi(pair: Pair, entity: str) -> None:
    def built_here() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in Path(pair.pi.instance.builds).rglob("*")}

    before = built_here()
    job = await install(pair, entity, version=NEW_VERSION)
    assert_built_by_workshop(pair, job)
    assert {"preparing", "compiling", "fetching", "uploading", "verifying"} <= set(job["stages"])
    assert await pair.pi.reported_version() == NEW_VERSION
    # Nothing was built here.
    assert built_here() == before


async def test_events_and_log_are_the_same_whoever_builds(pair: Pair, entity: str) -> None:
    # So that both begin from the same version, whichever test was before.
    await install(pair, entity, version=NEW_VERSION)
    streams = []
    for source in ("local", "workshop"):
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
    before = pair.workshop.compilers()
    lines: list[str] = []
    follower = asyncio.create_task(
        follow(pair.pi.client, compiling, shown=lambda event: lines.extend(event["lines"]))
    )
    await relay.cut()
    await pair.disconnected()
    await relay.restore()
    await pair.connected()
    # The same processes, so it was not started over.
    assert before & pair.workshop.compilers()
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
    before = pair.workshop.compilers()
    await pair.pi.crash()
    await pair.pi.boot()
    await pair.connected()
    assert before & pair.workshop.compilers()
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
