"""Several guests at one builder, and several builders for one guest, at the same time."""

import asyncio
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import pytest

from ..harness.client import Json
from ..harness.home import Home, until
from ..harness.jobs import (
    Job,
    follow,
    has_printed,
    reach,
)
from ..harness.several import PI_DEVICES, Several
from .checks import (
    as_it_is,
    assert_built_by,
    start,
    waits_for,
)

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

COMPILES = has_printed("] CXX ")


async def test_two_builders_share_the_jobs_and_an_auto_job_is_bound_when_its_turn_comes(
    several: Several,
) -> None:
    pi = several.pi
    for device in pi.devices[:2]:
        device.configure(slow=True)
    first, second, third = [await start(pi, name, "install", source="auto") for name in PI_DEVICES]
    await asyncio.gather(reach(pi.client, first, COMPILES), reach(pi.client, second, COMPILES))
    # Both are at work now, and the third is nobody's yet.
    assert several.workshop.compilers()
    assert several.attic.compilers()
    waiting = await as_it_is(pi, third)
    assert (waiting["source"], waiting["source_label"]) == ("pending", None)
    assert waiting["attempts"] == []
    assert "a free build slot" in waiting["waiting_for"]
    assert "workshop" in waiting["waiting_for"]
    assert "attic" in waiting["waiting_for"]
    jobs = await asyncio.gather(*(follow(pi.client, job) for job in (first, second, third)))
    for job in jobs:
        assert job["status"] == "completed", job["error"]
        assert job["verified"] is True
        assert len(job["attempts"]) == 1
    assert {jobs[0]["source_label"], jobs[1]["source_label"]} == {"workshop", "attic"}
    # One slot each: never two at a time at the same builder.
    by_label: dict[str, list[Mapping[str, Json]]] = {"workshop": [], "attic": []}
    for job in jobs:
        by_label[job["source_label"]].append(job["attempts"][0])
    for attempts in by_label.values():
        for earlier, later in pairwise(sorted(attempts, key=lambda a: a["started_at"])):
            assert earlier["finished_at"] <= later["started_at"]


async def test_devices_of_the_same_name_get_their_own_firmware_from_one_builder(
    several: Several,
) -> None:
    homes = {"greetings from pi": several.pi, "greetings from shed": several.shed}
    await several.workshop.lend(slots=2)
    for greeting, home in homes.items():
        home.device.configure(greeting=greeting)
    ids = [
        await start(home, "kitchen", "install", source="workshop", clean=True)
        for home in homes.values()
    ]
    # At the same time: each has begun to compile before the other has ended.
    begun = await asyncio.gather(
        *(reach(home.client, job, COMPILES) for home, job in zip(homes.values(), ids, strict=True))
    )
    for home, job in zip(homes.values(), begun, strict=True):
        assert (await as_it_is(home, job["job_id"]))["stage"] == "compiling"
    jobs = await asyncio.gather(
        *(follow(home.client, job) for home, job in zip(homes.values(), ids, strict=True))
    )
    for (greeting, home), job in zip(homes.items(), jobs, strict=True):
        assert_built_by("workshop", job)
        assert job["verified"] is True
        assert home.device.firmware_sha256() == job["firmware_sha256"]
        await says(home, greeting)
    assert jobs[0]["firmware_sha256"] != jobs[1]["firmware_sha256"]
    # Each in a folder of its own, in which nothing is of the other.
    folders = {
        greeting: [
            guest
            for guest in Path(several.workshop.builds).iterdir()
            if any(greeting in main.read_text() for main in guest.rglob("main.cpp"))
        ]
        for greeting in homes
    }
    (of_pi,), (of_shed,) = folders.values()
    assert of_pi != of_shed
    # Nor does a home know of the other's job.
    for home, others in zip(homes.values(), reversed(ids), strict=True):
        assert others not in home.instance.log


async def test_build_that_waits_behind_another_guests_shows_its_place(several: Several) -> None:
    several.shed.device.configure(slow=True)
    ahead = await start(several.shed, "kitchen", source="workshop")
    await reach(several.shed.client, ahead, COMPILES)
    behind = await start(several.pi, "hall", source="workshop")
    job = await reach(several.pi.client, behind, waits_for("workshop, next in line"))
    assert (job["stage"], job["source"]) == ("waiting_builder", "remote")
    jobs: list[Job] = [
        await follow(several.shed.client, ahead),
        await follow(several.pi.client, behind),
    ]
    for job in jobs:
        assert_built_by("workshop", job)


async def says(home: Home, greeting: str) -> None:
    """Wait until the device itself reports a greeting."""

    async def so() -> bool:
        state = await home.client.state("sensor.kitchen_greeting")
        return state is not None and state["state"] == greeting

    await until(so, f"the kitchen to say {greeting}")
