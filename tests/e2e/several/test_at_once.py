"""Several guests at one builder, and several builders for one guest, at the same time."""

import asyncio
from collections.abc import Mapping
from itertools import pairwise

import pytest

from ..harness.client import Json
from ..harness.four_instances import DEVICES, FourInstances
from ..harness.jobs import (
    Job,
    follow,
    has,
    has_printed,
    job_now,
    reach,
)
from ..harness.scripted import Part
from .checks import (
    assert_built_by,
    start,
    waits_for,
)

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

COMPILES = has_printed("still talking")


async def test_two_builders_share_the_jobs_and_an_auto_job_is_bound_when_its_turn_comes(
    instances: FourInstances,
) -> None:
    offloader = instances.first
    signs = [device.play(Part.TALK) for device in offloader.devices[:2]]
    first, second, third = [
        # From nothing: a tree that is warm somewhere might be worth waiting for.
        await start(offloader, name, "install", source="auto", clean=True)
        for name in DEVICES
    ]
    await asyncio.gather(
        reach(offloader.client, first, COMPILES), reach(offloader.client, second, COMPILES)
    )
    # Both compile now, and the third job is not bound to a builder.
    assert instances.alpha.compilers()
    assert instances.beta.compilers()
    waiting = await job_now(offloader.client, third)
    assert (waiting["source"], waiting["source_label"]) == ("pending", None)
    assert waiting["attempts"] == []
    assert has(waiting["waiting_for"], "A free build slot")
    assert "alpha" in waiting["waiting_for"]
    assert "beta" in waiting["waiting_for"]
    instances.go_on(*signs)
    jobs = await asyncio.gather(*(follow(offloader.client, job) for job in (first, second, third)))
    for job in jobs:
        assert job["status"] == "completed", job["error"]
        assert job["verified"] is True
        assert len(job["attempts"]) == 1
    assert {jobs[0]["source_label"], jobs[1]["source_label"]} == {"alpha", "beta"}
    # One slot each: never two at a time at the same builder.
    by_label: dict[str, list[Mapping[str, Json]]] = {"alpha": [], "beta": []}
    for job in jobs:
        by_label[job["source_label"]].append(job["attempts"][0])
    for attempts in by_label.values():
        for earlier, later in pairwise(sorted(attempts, key=lambda a: a["started_at"])):
            assert earlier["finished_at"] <= later["started_at"]


async def test_devices_of_the_same_name_get_their_own_firmware_from_one_builder(
    instances: FourInstances,
) -> None:
    greetings = {
        "greetings from the first": instances.first,
        "greetings from the second": instances.second,
    }
    offloaders = list(greetings.values())
    await instances.alpha.lend(slots=2)
    for greeting, offloader in greetings.items():
        offloader.device.configure(greeting=greeting)
    # Their builds cannot miss each other.
    signs = [offloader.device.play(Part.TALK) for offloader in offloaders]
    ids = [
        await start(offloader, "kitchen", "install", source="alpha", clean=True)
        for offloader in offloaders
    ]
    of_each = list(zip(offloaders, ids, strict=True))
    # At the same time: each has begun to compile before the other has ended.
    await asyncio.gather(*(reach(each.client, job_id, COMPILES) for each, job_id in of_each))
    for each, job_id in of_each:
        assert (await job_now(each.client, job_id))["stage"] == "compiling"
    instances.go_on(*signs)
    jobs = await asyncio.gather(*(follow(each.client, job_id) for each, job_id in of_each))
    for (greeting, offloader), job in zip(greetings.items(), jobs, strict=True):
        assert_built_by("alpha", job)
        assert job["verified"] is True
        assert offloader.device.firmware_sha256() == job["firmware_sha256"]
        await offloader.device_says(greeting)
    assert jobs[0]["firmware_sha256"] != jobs[1]["firmware_sha256"]
    # Each in a folder of its own, with nothing of the other.
    folders = {
        greeting: [
            guest
            for guest in instances.alpha.builds.iterdir()
            if any(greeting in main.read_text() for main in guest.rglob("main.cpp"))
        ]
        for greeting in greetings
    }
    (of_first,), (of_second,) = folders.values()
    assert of_first != of_second
    # An offloader learns nothing of the other's job.
    for offloader, others in zip(offloaders, reversed(ids), strict=True):
        assert others not in offloader.instance.log


async def test_build_that_waits_behind_another_guests_shows_its_position(
    instances: FourInstances,
) -> None:
    sign = instances.second.device.play(Part.TALK)
    ahead = await start(instances.second, "kitchen", source="alpha")
    await reach(instances.second.client, ahead, COMPILES)
    behind = await start(instances.first, "hall", source="alpha")
    job = await reach(instances.first.client, behind, waits_for("alpha, next in line"))
    assert (job["stage"], job["source"]) == ("waiting_builder", "remote")
    instances.go_on(sign)
    jobs: list[Job] = [
        await follow(instances.second.client, ahead),
        await follow(instances.first.client, behind),
    ]
    for job in jobs:
        assert_built_by("alpha", job)
