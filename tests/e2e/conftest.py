"""One real home for all end-to-end tests, settled before each of them."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
import pytest_socket

from .harness.device import Device
from .harness.home import Home, open_home, until
from .harness.jobs import (
    all_jobs,
    has_printed,
    reach,
    submit,
)
from .harness.workspace import claim

_HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep together what shares instances, when several processes run these tests side by side.

    The tests of a folder share them, and of those of this one all that use ``home``. A module
    that says so has its own, so that no process is left with most of the work.
    """
    for item in items:
        marked = item.get_closest_marker("xdist_group") is not None
        if item.path.is_relative_to(_HERE) and not marked:
            group = item.path.parent.name
            if group == _HERE.name and "home" not in getattr(item, "fixturenames", ()):
                group = item.path.stem
            item.add_marker(pytest.mark.xdist_group(group))


# Home Assistant's test plugin guards tests that hold a Home Assistant in their own process: no
# sockets, nothing left on the loop. Here it is another process, reached through real sockets,
# and the connection to it outlives a test.


@pytest.fixture(autouse=True)
def verify_cleanup() -> None:
    """Take the place of the plugin's check of the loop."""


@pytest.fixture(autouse=True)
def enable_event_loop_debug() -> None:
    """Take the place of the plugin's slow debug mode."""


@pytest.fixture(autouse=True)
def real_sockets(socket_enabled: None) -> None:
    """Allow sockets in every test."""


@pytest.fixture(scope="session")
def early_sockets() -> Iterator[None]:
    """Allow sockets while the home is opened, which is before any test's own fixtures."""
    pytest_socket.enable_socket()
    yield
    pytest_socket.enable_socket()


@pytest.fixture(scope="session")
def workspace() -> Iterator[Path]:
    """Give a folder that no other run of these tests uses at the same time."""
    with claim("e2e") as folder:
        yield folder


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def opened_home(early_sockets: None, workspace: Path) -> AsyncIterator[Home]:
    """Open the one home: booting takes longer than most tests."""
    async with open_home(workspace) as home:
        yield home


@pytest_asyncio.fixture(loop_scope="session")
async def home(opened_home: Home) -> Home:
    """Give a home in which nothing goes on, whatever the test before left behind."""
    home = opened_home
    if not home.instance.running:
        await home.boot()
    for job in await all_jobs(home.client):
        if job["finished_at"] is None:
            await home.client.service("esphome_offload.cancel", None, {"job_id": job["job_id"]})
    home.device.configure()
    if not home.device.running:
        await home.device.switch_on()
    await connected(home)
    return home


@pytest_asyncio.fixture(loop_scope="session")
async def device(home: Home) -> Device:
    """Give the device of the home."""
    return home.device


@pytest_asyncio.fixture(loop_scope="session")
async def entity(home: Home) -> str:
    """Give the id of the update entity of the home's device."""
    return await home.update_entity()


@pytest_asyncio.fixture(loop_scope="session")
async def compiling(home: Home, entity: str) -> str:
    """Give the id of an install whose compilers are at work, with much left to do."""
    home.device.configure(slow=True)
    job = await submit(home.client, "install", entity)
    await reach(home.client, job["job_id"], has_printed("] CXX "))
    job_id: str = job["job_id"]
    return job_id


async def connected(home: Home) -> None:
    """Wait until Home Assistant's own esphome integration is connected to the device."""

    async def online() -> bool:
        state = await home.client.state("switch.kitchen_lamp")
        return state is not None and state["state"] != "unavailable"

    # Reconnecting backs off to a minute where mDNS does not reach.
    await until(online, "the device in Home Assistant", 150)
