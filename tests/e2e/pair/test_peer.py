"""Installs of an offloader that its builder builds, also when the link or one of them breaks."""

import asyncio
from pathlib import Path

import pytest

from ..harness.any_builder import AnyBuilder
from ..harness.builder import Builder
from ..harness.device import NEW_VERSION
from ..harness.jobs import follow, has, output
from ..harness.pair import Pair
from ..harness.relay import Relay
from ..harness.waiting import until
from .checks import (
    KINDS,
    Talking,
    assert_built_by_builder,
    assert_each_step_once,
    assert_well,
    both_builders,
    course,
    install,
    keys,
    kinds,
    steps,
    watched,
)

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

# What may differ between two installs of the same firmware by different builders.
MAY_DIFFER = {
    "job_id",
    "source",
    "source_label",
    "source_pin_sha256",
    "stage",
    "progress",
    "seconds",
}
STAGES = (None, "preparing", "compiling", "fetching", "uploading", "verifying")


@both_builders
async def test_install_is_built_by_the_builder_and_flashed_by_the_offloader(
    pair: Pair[AnyBuilder], entity: str
) -> None:
    def built_here() -> dict[Path, int]:
        return {
            path: path.stat().st_mtime_ns
            for path in Path(pair.offloader.instance.builds).rglob("*")
        }

    before = built_here()
    job = await install(pair, entity, version=NEW_VERSION)
    assert_built_by_builder(pair, job)
    assert {"preparing", "compiling", "fetching", "uploading", "verifying"} <= set(job["stages"])
    assert await pair.offloader.reported_version() == NEW_VERSION
    # Nothing was built here.
    assert built_here() == before


@both_builders
async def test_unchanged_configuration_is_flashed_without_its_builder(
    pair: Pair[AnyBuilder], relay: Relay, entity: str
) -> None:
    def built() -> dict[Path, int]:
        """Return what changes with every build and every bundle, here and there."""
        paths = [*pair.builder.cache.glob("guests/*/*/*")]
        paths += pair.offloader.instance.offload_cache.glob("bundles/*/*")
        return {path: path.stat().st_mtime_ns for path in paths}

    pair.offloader.device.configure(plain=True)
    first = await install(pair, entity, version=NEW_VERSION)
    before, sent = built(), relay.sent
    assert before

    again = await install(pair, entity, version=NEW_VERSION)

    assert again["attempts"] == []
    assert again["firmware_sha256"] == first["firmware_sha256"]
    for key in ("source", "source_label", "source_pin_sha256"):
        assert again[key] == first[key]
    assert "Nothing has changed" in again["routing_reason"]
    assert any(
        "nothing is compiled" in line
        for line in await output(pair.offloader.client, again["job_id"])
    )
    assert not {"compiling", "fetching"} & again["stages"].keys()
    assert built() == before
    # Less than the smallest bundle: the two have greeted each other, at most.
    assert relay.sent - sent < 1000

    # What only ESPHome can know counts, such as another value of a secret.
    pair.offloader.device.configure(greeting="another one", plain=True)
    assert len((await install(pair, entity))["attempts"]) == 1
    await pair.offloader.device_says("another one")
    # And so does a wish to have it built from nothing.
    assert len((await install(pair, entity, clean=True))["attempts"]) == 1


async def test_events_and_log_do_not_depend_on_the_builder(
    pair: Pair[AnyBuilder], entity: str
) -> None:
    # Both begin with the same version, whichever test was before.
    await install(pair, entity, version=NEW_VERSION)
    streams = []
    for source in ("local", "builder"):
        job, events = await watched(pair, entity, source=source, clean=True)
        streams.append((job, events, await output(pair.offloader.client, job["job_id"])))
    (here, here_events, here_lines), (there, there_events, there_lines) = streams
    assert (here["source"], there["source"]) == ("local", "remote")
    assert_built_by_builder(pair, there)

    assert kinds(here_events) == kinds(there_events)
    for kind in KINDS:
        assert keys(here_events, kind) == keys(there_events, kind)
    for key in here_events[0]["data"].keys() - MAY_DIFFER:
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


@both_builders
async def test_job_goes_on_without_loss_after_the_link_was_cut(
    pair: Pair[AnyBuilder], relay: Relay, compiling: Talking
) -> None:
    before = pair.builder.compilers()
    lines: list[str] = []
    follower = asyncio.create_task(
        follow(
            pair.offloader.client,
            compiling.job_id,
            shown=lambda event: lines.extend(event["lines"]),
        )
    )
    await relay.cut()
    await pair.disconnected()
    await relay.restore()
    await pair.connected()
    # The same processes: it was not started again.
    assert before & pair.builder.compilers()
    compiling.go_on()
    job = await follower
    assert_well(job)
    assert_built_by_builder(pair, job)
    assert len(job["attempts"]) == 1
    assert lines == await output(pair.offloader.client, compiling.job_id)
    assert_each_step_once(lines)


@both_builders
async def test_builder_builds_again_after_a_crash(
    pair: Pair[AnyBuilder], compiling: Talking
) -> None:
    await pair.builder.crash()
    await pair.builder.boot()
    follower = asyncio.create_task(follow(pair.offloader.client, compiling.job_id))

    async def over() -> bool:
        # The build that takes its place talks as well.
        compiling.go_on()
        return follower.done()

    await until(over, "the end of the job")
    job = await follower
    assert_well(job)
    assert_built_by_builder(pair, job)
    assert [attempt["label"] for attempt in job["attempts"]] == ["builder", "builder"]
    assert [attempt["failure"] for attempt in job["attempts"]] == ["build_lost", None]
    assert pair.builder.build_processes() == {}


@both_builders
async def test_offloader_attaches_again_after_a_crash(
    pair: Pair[AnyBuilder], compiling: Talking
) -> None:
    before = pair.builder.compilers()
    await pair.offloader.crash()
    await pair.offloader.boot()
    await pair.connected()
    assert before & pair.builder.compilers()
    compiling.go_on()
    job = await follow(pair.offloader.client, compiling.job_id)
    assert_well(job)
    assert_built_by_builder(pair, job)
    assert len(job["attempts"]) == 1
    assert_each_step_once(await output(pair.offloader.client, compiling.job_id))


async def test_builder_that_accepts_no_builds_finishes_its_build_and_accepts_no_other(
    pair: Pair[Builder], compiling: Talking, entity: str
) -> None:
    await pair.builder.accept_builds(accept=False)
    compiling.go_on()
    first = await follow(pair.offloader.client, compiling.job_id)
    assert_well(first)
    assert_built_by_builder(pair, first)
    pair.offloader.device.configure()
    second = await install(pair, entity)
    assert second["source"] == "local"
    assert has(second["why_not"]["builder"], "does not accept builds")
