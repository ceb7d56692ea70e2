"""The choice of a builder: the one asked for, the next one, or what the options say."""

import pytest

from ..harness.four_instances import DEVICES, FourInstances
from ..harness.jobs import follow, has, reach
from ..harness.offloader import Offloader
from .checks import (
    assert_built_by,
    compiled,
    known,
    set_no_builder,
    start,
    waits_for,
)

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

ACCEPTS_NOTHING = "It does not accept builds at the moment"


async def test_builder_that_accepts_no_builds_is_passed_over_and_the_job_says_why(
    instances: FourInstances,
) -> None:
    first = instances.first
    # It would be the first choice: only it has built this device.
    assert_built_by("beta", await compiled(first, "hall", source="beta", clean=True))
    await instances.beta.accept_builds(accept=False)
    await known(instances, instances.beta, ACCEPTS_NOTHING)
    edit(first, "hall")
    job = await compiled(first, "hall")
    assert_built_by("alpha", job)
    assert has(job["why_not"]["beta"], ACCEPTS_NOTHING)


async def test_named_builder_is_honoured_though_another_has_built_the_device(
    instances: FourInstances,
) -> None:
    first = instances.first
    assert_built_by("beta", await compiled(first, "hall", source="beta"))
    job = await compiled(first, "hall", source="alpha")
    assert_built_by("alpha", job)
    assert has(job["routing_reason"], "asked for")
    assert has(job["why_not"]["beta"], "Another builder was asked for")


async def test_named_builder_that_accepts_no_builds_fails_the_job_by_name(
    instances: FourInstances,
) -> None:
    await instances.alpha.accept_builds(accept=False)
    await known(instances, instances.alpha, ACCEPTS_NOTHING)
    job = await compiled(instances.first, "hall", source="alpha")
    assert (job["status"], job["failure_reason"]) == ("failed", "no_builder")
    assert has(job["error"], f"alpha: {ACCEPTS_NOTHING}")
    # Not the other one, nor this machine.
    assert "beta" not in job["error"]
    assert job["attempts"] == []


async def test_without_a_builder_the_job_fails_with_the_reason_of_each(
    instances: FourInstances,
) -> None:
    await stop_both(instances)
    await set_no_builder(instances.first, "fail")
    job = await compiled(instances.first, "hall")
    assert (job["status"], job["failure_reason"]) == ("failed", "no_builder")
    assert has(job["error"], f"alpha: {ACCEPTS_NOTHING}")
    assert has(job["error"], f"beta: {ACCEPTS_NOTHING}")
    assert job["attempts"] == []


async def test_without_a_builder_the_job_waits_visibly_for_one_that_comes_back(
    instances: FourInstances,
) -> None:
    first = instances.first
    await stop_both(instances)
    await set_no_builder(first, "wait_then_fail")
    job_id = await start(first, "hall")
    job = await reach(
        first.client, job_id, waits_for(f"alpha: {ACCEPTS_NOTHING}", f"beta: {ACCEPTS_NOTHING}")
    )
    assert (job["source"], job["finished_at"]) == ("pending", None)
    await instances.beta.accept_builds()
    job = await follow(first.client, job_id)
    assert_built_by("beta", job)
    assert has(job["why_not"]["alpha"], ACCEPTS_NOTHING)


async def test_without_a_builder_the_job_is_built_here_as_with_source_local(
    instances: FourInstances,
) -> None:
    first = instances.first
    job = await compiled(first, "porch", source="local")
    assert (job["status"], job["source"]) == ("completed", "local"), job["error"]
    # Both builders were there.
    assert set(job["why_not"]) == {"alpha", "beta"}
    await stop_both(instances)
    edit(first, "porch")
    job = await compiled(first, "porch")
    assert (job["status"], job["source"]) == ("completed", "local"), job["error"]
    assert all(has(job["why_not"][label], ACCEPTS_NOTHING) for label in ("alpha", "beta"))


async def test_builder_that_was_killed_is_replaced_by_the_other(instances: FourInstances) -> None:
    first = instances.first
    assert_built_by("beta", await compiled(first, "hall", source="beta"))
    await instances.beta.crash()
    edit(first, "hall")
    job = await compiled(first, "hall")
    assert_built_by("alpha", job)
    # Whether that was known already or found out by trying.
    assert not has(job["why_not"]["beta"], "preferred")


def edit(offloader: Offloader, name: str) -> None:
    """Have a device built, and not only flashed with what is kept."""
    offloader.devices[DEVICES.index(name)].renew()


async def stop_both(instances: FourInstances) -> None:
    for builder in instances.builders:
        await builder.accept_builds(accept=False)
        await known(instances, builder, ACCEPTS_NOTHING)
