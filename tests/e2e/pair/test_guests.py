"""Another guest of the workshop, and the pi when it is none any more."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from custom_components.esphome_offload.engine.client.errors import PeerRefused
from custom_components.esphome_offload.engine.protocol.body import Opener
from custom_components.esphome_offload.engine.protocol.definitions import (
    FIRMWARE_LIMIT,
    URL_FIRMWARE,
    ErrorCode,
    ProtocolError,
)
from custom_components.esphome_offload.engine.protocol.seal import Purpose
import pytest

from custom_components.esphome_offload.engine.protocol.messages import (
    Acknowledge,
    Attach,
    Cancel,
    Clean,
    Submit,
    Wanted,
)
from custom_components.esphome_offload.engine.protocol.payloads import FirmwarePart

from ..harness.client import Json
from ..harness.home import until
from ..harness.jobs import (
    Job,
    follow,
    reach,
    submit,
)
from ..harness.meddler import Meddler
from ..harness.neighbour import neighbour_of
from ..harness.pair import Pair
from ..harness.processes import mentioning
from .checks import (
    assert_built_by_workshop,
    assert_compiled,
    assert_well,
    pairing_again,
    refusal_of,
)

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

NOBODYS_BUNDLE = "0" * 64


async def test_running_build_is_nobody_elses(pair: Pair, compiling: str) -> None:
    job = await job_of(pair, compiling)
    attempt_id = job["attempts"][-1]["attempt_id"]
    before = pair.workshop.compilers()
    async with neighbour_of(pair.workshop) as neighbour:
        connection = neighbour.connection
        for command in (Attach(attempt_id), Cancel(attempt_id), Acknowledge(attempt_id)):
            refusal = await refusal_of(connection, command)
            assert refusal is ErrorCode.UNKNOWN_ATTEMPT, command
        # Ids are chosen by guests: it is told nothing of the pi's when it chooses the same.
        refusal = await refusal_of(connection, Submit(attempt_id, NOBODYS_BUNDLE))
        assert refusal is ErrorCode.BUNDLE_NEEDED
        # What it may do with its own touches nothing of the pi's.
        assert await connection.call(Wanted(())) == {"attempts": []}
        assert await connection.call(Wanted((attempt_id,))) == {"attempts": []}
        await connection.call(Clean(pair.pi.device.configuration))
    assert before & pair.workshop.compilers()
    job = await follow(pair.pi.client, compiling)
    assert_well(job)
    assert_built_by_workshop(pair, job)
    assert len(job["attempts"]) == 1


async def test_firmware_is_nobody_elses(
    pair: Pair, meddler: Meddler, entity: str, tmp_path: Path
) -> None:
    held, go_on = asyncio.Event(), asyncio.Event()

    async def hold(_attempt_id: str, sealed: bytes) -> bytes:
        held.set()
        await go_on.wait()
        return sealed

    def unused(_header: object) -> None:
        pytest.fail("a header that opens")

    meddler.forge = hold
    job = await submit(pair.pi.client, "compile", entity)
    # It is built, and kept at the workshop until the pi has it.
    await asyncio.wait_for(held.wait(), 60)
    ((attempt_id, sealed),) = meddler.firmware.items()
    async with neighbour_of(pair.workshop) as neighbour:
        for part in FirmwarePart:
            with pytest.raises(PeerRefused) as refusal:
                await neighbour.door.fetch(attempt_id, part, tmp_path / part, unused)
            assert refusal.value.code is ErrorCode.UNKNOWN_ATTEMPT
        for command in (Attach(attempt_id), Cancel(attempt_id), Acknowledge(attempt_id)):
            code = await refusal_of(neighbour.connection, command)
            assert code is ErrorCode.UNKNOWN_ATTEMPT, command
        # Even with the pi's own access token only the pi can read it.
        path = URL_FIRMWARE.format(attempt_id=attempt_id, part=FirmwarePart.OTA)
        status, stolen = await meddler.ask("GET", path, meddler.tokens[-1])
        assert status == 200
        for body in (sealed, stolen):
            with pytest.raises(ProtocolError) as failure:
                Opener(neighbour.channel, Purpose.FIRMWARE, FIRMWARE_LIMIT).read_header(body)
            assert failure.value.code is ErrorCode.TAMPERED
    go_on.set()
    assert_compiled(pair, await follow(pair.pi.client, job["job_id"]))


# The workshop's owner removes the pi in the middle of its work.


async def test_build_of_a_removed_guest_goes_elsewhere(
    pair: Pair, compiling: str, entity: str
) -> None:
    async def gone() -> bool:
        # The pi builds soon, so that only those of the workshop count.
        return not mentioning(pair.workshop.builds)

    # Quicker to build here; so far it compiles as it was.
    pair.pi.device.configure()
    async with removed(pair):
        await until(gone, "the end of the build at the workshop", 5)
        job = await follow(pair.pi.client, compiling)
    assert_well(job)
    assert job["source"] == "local"
    there, here = job["attempts"]
    assert (there["label"], there["failure"]) == ("workshop", "builder_unavailable")
    assert (here["source"], here["failure"]) == ("local", None)
    assert "pair again" in job["why_not"]["workshop"]


async def test_job_waits_for_a_workshop_that_removed_its_guest(pair: Pair, entity: str) -> None:
    async def set_no_builder(what: str) -> None:
        await pair.pi.client.change_options(pair.pi.entry_id, "settings", no_builder=what)

    async def known_to_be_paused() -> bool:
        entry = f"diagnostics/config_entry/{pair.pi.entry_id}"
        builders = (await pair.pi.client.get(entry))["data"]["builders"]
        return any(builder["why_not"] == "paused by its owner" for builder in builders)

    await set_no_builder("wait_then_fail")
    try:
        await pair.workshop.pause()
        await until(known_to_be_paused, "the pi to know of the pause")
        job = await submit(pair.pi.client, "compile", entity, source="workshop")
        job_id = job["job_id"]
        await reach(pair.pi.client, job_id, waits_since("paused by its owner"))
        async with removed(pair):
            await reach(pair.pi.client, job_id, waits_since("pair again"))
            await pair.workshop.pause(paused=False)
        assert_compiled(pair, await follow(pair.pi.client, job_id))
    finally:
        await set_no_builder("local")


async def job_of(pair: Pair, job_id: str) -> Job:
    """Return a job as it is now."""
    return await reach(pair.pi.client, job_id, lambda _event: True)


def waits_since(why: str) -> Callable[[Json], bool]:
    """Return a condition for ``reach``: the job waits for a builder, for this reason."""
    return lambda event: (
        event["job"]["finished_at"] is None and why in (event["job"]["waiting_for"] or "")
    )


@asynccontextmanager
async def removed(pair: Pair) -> AsyncIterator[None]:
    """Remove the pi at the workshop, see its owner asked to pair again, and do so in the end."""
    (guest,) = await pair.workshop.guests()
    await pair.workshop.remove_guest(guest["id"])
    flow = await until(lambda: pairing_again(pair), "being asked to pair again")
    try:
        yield
    finally:
        code = await pair.workshop.open_pairing()
        await pair.pi.client.finish_flow(flow["flow_id"], {**pair.address, "code": code})
        await pair.connected()
