"""Four real instances for these tests, idle before each of them."""

from collections.abc import AsyncIterator

import pytest_asyncio
import pytest_socket

from ..harness.four_instances import FourInstances, open_four_instances
from ..harness.jobs import cancel_all
from ..harness.workspace import claim
from .checks import known, set_no_builder


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def opened() -> AsyncIterator[FourInstances]:
    """Open them once: booting takes longer than most tests."""
    # The tests of the modules before have left sockets forbidden, and so will those of this one.
    pytest_socket.enable_socket()
    with claim("e2e-several") as folder:
        async with open_four_instances(folder) as instances:
            yield instances
            pytest_socket.enable_socket()


@pytest_asyncio.fixture(loop_scope="session")
async def instances(opened: FourInstances) -> FourInstances:
    """Return all of them connected and idle, whatever state the test before left them in."""
    for builder in opened.builders:
        if not builder.instance.running:
            await builder.boot()
        await builder.lend(slots=1)
        await builder.accept_builds()
    for offloader in opened.offloaders:
        await cancel_all(offloader.client)
        await set_no_builder(offloader, "local")
        for device in offloader.devices:
            device.renew()
    await opened.connected()
    for builder in opened.builders:
        await known(opened, builder, None)
    return opened
