"""A second guest of the builder, and an offloader that is no guest any more."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from custom_components.esphome_offload.engine.jobs.ids import new_id
from custom_components.esphome_offload.engine.protocol.errors import ErrorCode
from custom_components.esphome_offload.engine.protocol.messages import (
    Acknowledge,
    Attach,
    Cancel,
    Clean,
    Fetch,
    Submit,
    Wanted,
)
from custom_components.esphome_offload.engine.protocol.payloads import (
    BuildParameters,
)

from ..harness.any_builder import AnyBuilder
from ..harness.builder import Builder
from ..harness.client import Json
from ..harness.device import NEW_VERSION
from ..harness.jobs import follow, has, job_now, reach, submit
from ..harness.pair import Pair
from ..harness.relay import Relay
from ..harness.second_guest import second_guest_of
from ..harness.waiting import PATIENCE, until
from .checks import (
    Talking,
    assert_built_by_builder,
    assert_compiled,
    assert_well,
    both_builders,
    pairing_again,
    refusal_of,
)

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

UNKNOWN_BUNDLE = "0" * 64


@both_builders
async def test_running_build_is_out_of_reach_of_another_guest(
    pair: Pair[AnyBuilder], compiling: Talking
) -> None:
    job = await job_now(pair.offloader.client, compiling.job_id)
    attempt_id = job["attempts"][-1]["attempt_id"]
    before = pair.builder.compilers()
    async with second_guest_of(pair.builder) as guest:
        session = guest.session
        for command in (
            Attach(attempt_id),
            Cancel(attempt_id),
            Acknowledge(attempt_id),
            Fetch(attempt_id),
        ):
            refusal = await refusal_of(session, command)
            assert refusal is ErrorCode.UNKNOWN_ATTEMPT, command
        # Ids are chosen by guests: the same id tells it nothing of the offloader's attempt.
        refusal = await refusal_of(session, Submit(parameters(pair, attempt_id), UNKNOWN_BUNDLE))
        assert refusal is ErrorCode.BUNDLE_NEEDED
        # What it may do with its own attempts touches nothing of the offloader's.
        assert await session.call(Wanted(())) == {"attempts": []}
        assert await session.call(Wanted((attempt_id,))) == {"attempts": []}
        await session.call(Clean(pair.offloader.device.configuration))
    assert before & pair.builder.compilers()
    compiling.go_on()
    job = await follow(pair.offloader.client, compiling.job_id)
    assert_well(job)
    assert_built_by_builder(pair, job)
    assert len(job["attempts"]) == 1


@both_builders
async def test_firmware_is_out_of_reach_of_another_guest(
    pair: Pair[AnyBuilder], relay: Relay, entity: str
) -> None:
    pair.offloader.device.configure(greeting="out of reach")
    relay.stall_downloads()
    try:
        job = await submit(pair.offloader.client, "compile", entity)
        # It is built, and kept at the builder until the offloader has it.
        await asyncio.wait_for(relay.stalled.wait(), PATIENCE)
        job_id = job["job_id"]
        attempt_id = (await job_now(pair.offloader.client, job_id))["attempts"][-1]["attempt_id"]
        async with second_guest_of(pair.builder) as guest:
            for command in (
                Fetch(attempt_id),
                Attach(attempt_id),
                Cancel(attempt_id),
                Acknowledge(attempt_id),
            ):
                refusal = await refusal_of(guest.session, command)
                assert refusal is ErrorCode.UNKNOWN_ATTEMPT, command
    finally:
        await relay.resume_downloads()
    assert_compiled(pair, await follow(pair.offloader.client, job_id))


def parameters(pair: Pair[AnyBuilder], attempt_id: str) -> BuildParameters:
    """Return the parameters of a build of the offloader's device."""
    return BuildParameters(
        job_id=new_id(),
        attempt_id=attempt_id,
        configuration=pair.offloader.device.configuration,
        device_name=pair.offloader.device.name,
        esphome_version=NEW_VERSION,
        time_zone="UTC",
    )


# The builder's owner removes the offloader while a job runs.


@both_builders
async def test_build_of_a_removed_guest_goes_elsewhere(
    pair: Pair[AnyBuilder], compiling: Talking, entity: str
) -> None:
    async def ended() -> bool:
        return not pair.builder.build_processes()

    # What is built again then does not talk.
    pair.offloader.device.configure()
    async with removed(pair):
        await until(ended, "the end of the build at the builder")
        job = await follow(pair.offloader.client, compiling.job_id)
    assert_well(job)
    assert job["source"] == "local"
    there, here = job["attempts"]
    assert (there["label"], there["failure"]) == ("builder", "builder_unavailable")
    assert (here["source"], here["failure"]) == ("local", None)
    assert has(job["why_not"]["builder"], "pair the two again")


async def test_job_waits_for_a_builder_that_has_removed_its_guest(
    pair: Pair[Builder], entity: str
) -> None:
    async def set_no_builder(what: str) -> None:
        await pair.offloader.client.change_options(
            pair.offloader.entry_id, "settings", no_builder=what
        )

    async def known() -> bool:
        entry = f"diagnostics/config_entry/{pair.offloader.entry_id}"
        builders = (await pair.offloader.client.get(entry))["data"]["builders"]
        return any(
            has(builder["why_not"], "It does not accept builds at the moment")
            for builder in builders
        )

    await set_no_builder("wait_then_fail")
    try:
        await pair.builder.accept_builds(accept=False)
        await until(known, "the offloader to know of it")
        job = await submit(pair.offloader.client, "compile", entity, source="builder")
        job_id = job["job_id"]
        await reach(
            pair.offloader.client, job_id, waits_because("It does not accept builds at the moment")
        )
        async with removed(pair):
            await reach(pair.offloader.client, job_id, waits_because("pair the two again"))
            await pair.builder.accept_builds()
        assert_compiled(pair, await follow(pair.offloader.client, job_id))
    finally:
        await set_no_builder("local")


def waits_because(why: str) -> Callable[[Json], bool]:
    """Return a condition for ``reach``: the job waits for a builder, for a reason."""
    return lambda event: (
        event["job"]["finished_at"] is None and has(event["job"]["waiting_for"], why)
    )


@asynccontextmanager
async def removed(pair: Pair[AnyBuilder]) -> AsyncIterator[None]:
    """Remove the offloader at the builder, and pair again in the end, as its owner is asked to."""
    (guest,) = await pair.builder.guests()
    await pair.builder.remove_guest(guest)
    flow = await until(lambda: pairing_again(pair), "being asked to pair again")
    try:
        yield
    finally:
        code = await pair.builder.open_pairing()
        await pair.offloader.client.finish_flow(flow["flow_id"], {**pair.address, "code": code})
        await pair.connected()
