"""One real pair for these tests, settled before each of them: pi and workshop."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
import pytest_socket

from ..conftest import connected
from ..harness.jobs import (
    all_jobs,
    has_printed,
    reach,
    submit,
)
from ..harness.meddler import Meddler, meddling
from ..harness.pair import Pair, open_pair
from ..harness.relay import Relay
from ..harness.workspace import claim
from .checks import assert_built_by_workshop


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def opened() -> AsyncIterator[tuple[Pair, Relay]]:
    """Open the one pair: booting takes longer than most tests."""
    # The tests of the modules before have left sockets forbidden, and so will those of this one.
    pytest_socket.enable_socket()
    with claim("e2e-peer") as folder:
        async with open_pair(folder) as opened:
            yield opened
            pytest_socket.enable_socket()


@pytest_asyncio.fixture(loop_scope="session")
async def pair(opened: tuple[Pair, Relay]) -> Pair:
    """Give a pair that is connected and idle, whatever the test before left behind."""
    pair, relay = opened
    if not pair.workshop.instance.running:
        await pair.workshop.boot()
    if not pair.pi.instance.running:
        await pair.pi.boot()
    await relay.restore()
    for job in await all_jobs(pair.pi.client):
        if job["finished_at"] is None:
            await pair.pi.client.service("esphome_offload.cancel", None, {"job_id": job["job_id"]})
    await pair.workshop.pause(paused=False)
    pair.pi.device.configure()
    await connected(pair.pi)
    await pair.connected()
    return pair


@pytest.fixture
def relay(opened: tuple[Pair, Relay]) -> Relay:
    """Give the network between the two."""
    return opened[1]


@pytest_asyncio.fixture(loop_scope="session")
async def entity(pair: Pair) -> str:
    """Give the id of the update entity of the device."""
    return await pair.pi.update_entity()


@pytest_asyncio.fixture(loop_scope="session")
async def compiling(pair: Pair, entity: str) -> str:
    """Give the id of an install for which the workshop compiles, with much left to do."""
    pair.pi.device.configure(slow=True)
    job = await submit(pair.pi.client, "install", entity)
    job = await reach(pair.pi.client, job["job_id"], has_printed("] CXX "))
    assert_built_by_workshop(pair, job)
    assert any("cc1plus" in command for command in pair.workshop.at_work().values())
    job_id: str = job["job_id"]
    return job_id


@pytest_asyncio.fixture(loop_scope="session")
async def meddler(pair: Pair, relay: Relay) -> AsyncIterator[Meddler]:
    """Give somebody through whom all goes between pi and workshop, over plain http."""
    async with meddling(pair, relay) as meddler:
        yield meddler
