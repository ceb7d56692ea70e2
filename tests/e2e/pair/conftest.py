"""One real pair of offloader and builder for these tests, idle before each of them."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
import pytest_socket

from ..harness.jobs import cancel_all, has_printed, reach, submit
from ..harness.pair import Pair, open_pair
from ..harness.relay import Relay
from ..harness.tampering_proxy import TamperingProxy, tampering
from ..harness.workspace import claim
from .checks import assert_built_by_builder


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
    """Return a pair that is connected and idle, whatever state the test before left it in."""
    pair, relay = opened
    if not pair.builder.instance.running:
        await pair.builder.boot()
    if not pair.offloader.instance.running:
        await pair.offloader.boot()
    await relay.restore()
    await cancel_all(pair.offloader.client)
    await pair.builder.pause(paused=False)
    pair.offloader.device.configure()
    await pair.offloader.device_connected()
    await pair.connected()
    return pair


@pytest.fixture
def relay(opened: tuple[Pair, Relay]) -> Relay:
    """Return the network between the two."""
    return opened[1]


@pytest_asyncio.fixture(loop_scope="session")
async def entity(pair: Pair) -> str:
    """Return the id of the update entity of the device."""
    return await pair.offloader.update_entity()


@pytest_asyncio.fixture(loop_scope="session")
async def compiling(pair: Pair, entity: str) -> str:
    """Return the id of an install for which the builder compiles, with much left to do."""
    pair.offloader.device.configure(slow=True)
    job = await submit(pair.offloader.client, "install", entity)
    job = await reach(pair.offloader.client, job["job_id"], has_printed("] CXX "))
    assert_built_by_builder(pair, job)
    assert any("cc1plus" in command for command in pair.builder.build_processes().values())
    job_id: str = job["job_id"]
    return job_id


@pytest_asyncio.fixture(loop_scope="session")
async def proxy(pair: Pair, relay: Relay) -> AsyncIterator[TamperingProxy]:
    """Return a proxy through which the offloader reaches the builder."""
    async with tampering(pair, relay) as proxy:
        yield proxy
