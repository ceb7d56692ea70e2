"""Four real instances for these tests, settled before each of them."""

from collections.abc import AsyncIterator

import pytest_asyncio
import pytest_socket

from ..harness.home import Home
from ..harness.jobs import all_jobs
from ..harness.several import Several, open_several
from ..harness.workspace import claim
from .checks import known


@pytest_asyncio.fixture(scope="package", loop_scope="session")
async def opened() -> AsyncIterator[Several]:
    """Open them once: booting takes longer than most tests."""
    # The tests of the modules before have left sockets forbidden, and so will those of this one.
    pytest_socket.enable_socket()
    with claim("e2e-several") as folder:
        async with open_several(folder) as several:
            yield several
            pytest_socket.enable_socket()


@pytest_asyncio.fixture(loop_scope="session")
async def several(opened: Several) -> Several:
    """Give all of them connected and idle, whatever the test before left behind."""
    for builder in opened.builders:
        if not builder.instance.running:
            await builder.boot()
        await builder.lend(slots=1)
        await builder.pause(paused=False)
    for home in (opened.pi, opened.shed):
        await _settle(home)
    await opened.connected()
    for builder in opened.builders:
        await known(opened, builder, None)
    return opened


async def _settle(home: Home) -> None:
    for job in await all_jobs(home.client):
        if job["finished_at"] is None:
            await home.client.service("esphome_offload.cancel", None, {"job_id": job["job_id"]})
    await home.client.change_options(home.entry_id, "settings", no_builder="local")
    for device in home.devices:
        device.configure()
