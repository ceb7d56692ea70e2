"""Who builds: the one asked for, the next one, or what the options say when there is none."""

import pytest

from ..harness.jobs import follow, reach
from ..harness.several import Several
from .checks import (
    assert_built_by,
    compiled,
    known,
    set_no_builder,
    start,
    waits_for,
)

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

PAUSED = "paused by its owner"


async def test_paused_builder_is_passed_over_and_the_job_says_why(several: Several) -> None:
    pi = several.pi
    # It would be the first choice: only it has built this device.
    assert_built_by("attic", await compiled(pi, "hall", source="attic", clean=True))
    await several.attic.pause()
    await known(several, several.attic, PAUSED)
    job = await compiled(pi, "hall")
    assert_built_by("workshop", job)
    assert job["why_not"]["attic"] == PAUSED


async def test_named_builder_is_honoured_though_another_has_built_the_device(
    several: Several,
) -> None:
    pi = several.pi
    assert_built_by("attic", await compiled(pi, "hall", source="attic"))
    job = await compiled(pi, "hall", source="workshop")
    assert_built_by("workshop", job)
    assert job["routing_reason"] == "asked for"
    assert job["why_not"]["attic"] == "another builder was asked for"


async def test_named_builder_that_is_paused_fails_the_job_by_name(several: Several) -> None:
    await several.workshop.pause()
    await known(several, several.workshop, PAUSED)
    job = await compiled(several.pi, "hall", source="workshop")
    assert (job["status"], job["failure_reason"]) == ("failed", "no_builder")
    assert f"workshop: {PAUSED}" in job["error"]
    # Not the other one, nor this machine.
    assert "attic" not in job["error"]
    assert job["attempts"] == []


async def test_nobody_there_fails_with_the_reason_of_each(several: Several) -> None:
    await pause_both(several)
    await set_no_builder(several.pi, "fail")
    job = await compiled(several.pi, "hall")
    assert (job["status"], job["failure_reason"]) == ("failed", "no_builder")
    assert f"workshop: {PAUSED}" in job["error"]
    assert f"attic: {PAUSED}" in job["error"]
    assert job["attempts"] == []


async def test_nobody_there_waits_visibly_for_one_that_comes_back(several: Several) -> None:
    pi = several.pi
    await pause_both(several)
    await set_no_builder(pi, "wait_then_fail")
    job_id = await start(pi, "hall")
    job = await reach(pi.client, job_id, waits_for(f"workshop: {PAUSED}", f"attic: {PAUSED}"))
    assert (job["source"], job["finished_at"]) == ("pending", None)
    await several.attic.pause(paused=False)
    job = await follow(pi.client, job_id)
    assert_built_by("attic", job)
    assert job["why_not"]["workshop"] == PAUSED


async def test_nobody_there_builds_here_as_does_the_source_local(several: Several) -> None:
    pi = several.pi
    job = await compiled(pi, "porch", source="local")
    assert (job["status"], job["source"]) == ("completed", "local"), job["error"]
    # Both builders were there.
    assert set(job["why_not"]) == {"workshop", "attic"}
    await pause_both(several)
    job = await compiled(pi, "porch")
    assert (job["status"], job["source"]) == ("completed", "local"), job["error"]
    assert {job["why_not"][label] for label in ("workshop", "attic")} == {PAUSED}


async def test_builder_that_was_killed_is_replaced_by_the_other(several: Several) -> None:
    pi = several.pi
    assert_built_by("attic", await compiled(pi, "hall", source="attic"))
    await several.attic.crash()
    job = await compiled(pi, "hall")
    assert_built_by("workshop", job)
    # Whether pi knew already or found out by trying.
    assert "attic is preferred" not in job["why_not"]["attic"]


async def pause_both(several: Several) -> None:
    for builder in several.builders:
        await builder.pause()
        await known(several, builder, PAUSED)
