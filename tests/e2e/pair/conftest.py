"""A real offloader and its builder for these tests, idle before each of them."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
import pytest_socket

from ..harness.any_builder import AnyBuilder
from ..harness.builder import Builder
from ..harness.instance import LOOP_PROBE, LYING_BUILDER
from ..harness.jobs import cancel_all
from ..harness.pair import Pair, lending_builder, open_pair
from ..harness.relay import Relay
from ..harness.standalone import StandaloneBuilder
from ..harness.tampering_proxy import TamperingProxy, tampering
from ..harness.workspace import claim
from .checks import HOME_ASSISTANT, STANDALONE, Talking, talking


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test once with each kind of builder that its mark names."""
    if "opened" in metafunc.fixturenames:
        mark = metafunc.definition.get_closest_marker("builders")
        kinds = [HOME_ASSISTANT] if mark is None else mark.args
        metafunc.parametrize("opened", kinds, indirect=True, scope="package")


def fresh_builder(kind: str, folder: Path) -> AnyBuilder:
    """Return a builder of a kind that was never started."""
    if kind == STANDALONE:
        return StandaloneBuilder(folder / "standalone", name="builder")
    builder = lending_builder(folder / "builder")
    builder.instance.add_component(LOOP_PROBE)
    builder.instance.add_component(LYING_BUILDER)
    return builder


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def opened(
    request: pytest.FixtureRequest,
) -> AsyncIterator[tuple[Pair[AnyBuilder], Relay]]:
    """Open a pair once for all tests with its kind of builder: that takes longer than most tests."""
    # The tests of the modules before have left sockets forbidden, and so will those of this one.
    pytest_socket.enable_socket()
    with claim("e2e-peer") as folder:
        async with open_pair(folder, fresh_builder(request.param, folder)) as opened:
            yield opened
            pytest_socket.enable_socket()


@pytest_asyncio.fixture(loop_scope="session")
async def pair(opened: tuple[Pair[AnyBuilder], Relay]) -> Pair[AnyBuilder]:
    """Return a pair that is connected and idle, whatever state the test before left it in."""
    pair, relay = opened
    if not pair.builder.running:
        await pair.builder.boot()
    if not pair.offloader.instance.running:
        await pair.offloader.boot()
    await relay.restore()
    await cancel_all(pair.offloader.client)
    if isinstance(pair.builder, Builder):
        await pair.builder.accept_builds()
    pair.offloader.device.renew()
    await pair.offloader.device_connected()
    await pair.connected()
    return pair


@pytest.fixture
def relay(opened: tuple[Pair[AnyBuilder], Relay]) -> Relay:
    """Return the network between the two."""
    return opened[1]


@pytest_asyncio.fixture(loop_scope="session")
async def entity(pair: Pair[AnyBuilder]) -> str:
    """Return the id of the update entity of the device."""
    return await pair.offloader.update_entity()


@pytest_asyncio.fixture(loop_scope="session")
async def compiling(pair: Pair[AnyBuilder], entity: str) -> AsyncIterator[Talking]:
    """Return an install that the builder builds, and that prints lines until it may go on."""
    async with talking(pair, entity) as job:
        yield job


@pytest_asyncio.fixture(loop_scope="session")
async def proxy(pair: Pair[AnyBuilder], relay: Relay) -> AsyncIterator[TamperingProxy]:
    """Return a proxy through which the offloader reaches the builder."""
    async with tampering(pair, relay) as proxy:
        yield proxy
