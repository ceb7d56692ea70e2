"""Tampering on the way, in each direction and with each kind of builder."""

import asyncio
from collections.abc import Callable
import os

import pytest

from ..harness.any_builder import AnyBuilder
from ..harness.jobs import follow, output, submit
from ..harness.pair import Pair
from ..harness.relay import Relay
from ..harness.scripted import folder_in
from ..harness.tampering_proxy import (
    Change,
    Direction,
    Fault,
    Frame,
    Swap,
    TamperingProxy,
    drop,
    flip,
    flip_first,
    flip_last,
    repeat,
)
from ..harness.waiting import PATIENCE
from .checks import (
    assert_compiled,
    both_builders,
    talking,
)

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

LARGE = 8 * 1024


# With a firmware.


def large(direction: Direction) -> Callable[[Frame], bool]:
    """Return a condition: a frame that only a bundle or a firmware fills."""
    return lambda frame: frame.direction is direction and len(frame.data) > LARGE


@both_builders
@pytest.mark.parametrize(
    "change", [flip, drop, repeat, Swap()], ids=["flip", "drop", "repeat", "swap"]
)
async def test_firmware_that_is_tampered_with_is_fetched_again(
    pair: Pair[AnyBuilder], proxy: TamperingProxy, entity: str, change: Change
) -> None:
    pair.offloader.device.configure(greeting=f"firmware {change}")
    proxy.fault = fault = Fault(large(Direction.TO_OFFLOADER), change)
    job = await submit(pair.offloader.client, "compile", entity)
    await ended_well(pair, job["job_id"])
    await replaced(pair, proxy, fault)


async def replaced(pair: Pair[AnyBuilder], proxy: TamperingProxy, fault: Fault) -> None:
    """Wait until the fault was made, and see its connection end and another one take its place."""
    async with asyncio.timeout(PATIENCE):
        await fault.done.wait()
    await proxy.connection_after(fault.connection)
    await pair.connected()


async def ended_well(pair: Pair[AnyBuilder], job_id: str) -> None:
    """See a compile end well, and by its first attempt."""
    job = await follow(pair.offloader.client, job_id)
    assert_compiled(pair, job)
    assert len(job["attempts"]) == 1


# With all else.


def numbered(direction: Direction, number: int) -> Callable[[Frame], bool]:
    """Return a condition: the frame with a number in its direction."""
    return lambda frame: (frame.direction, frame.number) == (direction, number)


def of_output(frame: Frame) -> bool:
    """Return whether a frame is one of those in which a build's output comes."""
    return frame.direction is Direction.TO_OFFLOADER and not frame.is_text and frame.number > 4


@both_builders
@pytest.mark.parametrize(
    ("which", "change"),
    [
        (numbered(Direction.TO_OFFLOADER, 0), flip),
        (numbered(Direction.TO_BUILDER, 0), flip),
        (numbered(Direction.TO_OFFLOADER, 1), flip),
        (numbered(Direction.TO_BUILDER, 1), flip),
        (numbered(Direction.TO_BUILDER, 1), drop),
    ],
    ids=["hello", "handshake", "answer to the handshake", "first command", "no first command"],
)
async def test_connection_that_is_tampered_with_from_the_start_is_replaced(
    pair: Pair[AnyBuilder],
    relay: Relay,
    proxy: TamperingProxy,
    entity: str,
    which: Callable[[Frame], bool],
    change: Change,
) -> None:
    async with talking(pair, entity, "compile") as talks:
        proxy.fault = fault = Fault(which, change)
        await relay.cut()
        await relay.restore()
        await replaced(pair, proxy, fault)
    await ended_well(pair, talks.job_id)


@both_builders
@pytest.mark.parametrize(
    "change",
    [flip_first, flip, flip_last, drop, repeat, Swap()],
    ids=["first bit", "a bit", "last bit", "drop", "repeat", "swap"],
)
async def test_output_that_is_tampered_with_comes_again_in_a_new_connection(
    pair: Pair[AnyBuilder], proxy: TamperingProxy, entity: str, change: Change
) -> None:
    async with talking(pair, entity, "compile") as talks:
        proxy.fault = fault = Fault(of_output, change)
        await replaced(pair, proxy, fault)
    await ended_well(pair, talks.job_id)
    # Without a gap, and no line twice.
    lines = [
        line
        for line in await output(pair.offloader.client, talks.job_id)
        if line.startswith("still talking")
    ]
    assert lines == [f"still talking, {number}" for number in range(len(lines))]


@both_builders
@pytest.mark.parametrize("change", [flip, repeat], ids=["flip", "repeat"])
async def test_bundle_that_is_tampered_with_is_sent_again(
    pair: Pair[AnyBuilder], proxy: TamperingProxy, entity: str, change: Change
) -> None:
    pair.offloader.device.configure(greeting=f"bundle {change}")
    ballast = folder_in(pair.offloader.instance.esphome) / "ballast.bin"
    ballast.write_bytes(os.urandom(256 * 1024))
    proxy.fault = fault = Fault(large(Direction.TO_BUILDER), change)
    try:
        async with talking(pair, entity, "compile") as talks:
            assert fault.done.is_set()
            await replaced(pair, proxy, fault)
        await ended_well(pair, talks.job_id)
    finally:
        ballast.unlink()
