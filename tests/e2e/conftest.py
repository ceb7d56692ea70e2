"""One real offloader for the tests of this folder, idle before each of them."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
import pytest_socket

from .harness.device import Device
from .harness.jobs import cancel_all, has_printed, reach, submit
from .harness.offloader import Offloader, open_offloader
from .harness.workspace import claim

_HERE = Path(__file__).parent


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep tests that share instances in one process of a parallel run.

    The tests of a folder share them; in this folder those do that use ``offloader``. A module
    with a mark of its own has instances of its own, so that the work is shared more evenly.
    """
    for item in items:
        marked = item.get_closest_marker("xdist_group") is not None
        if item.path.is_relative_to(_HERE) and not marked:
            group = item.path.parent.name
            if group == _HERE.name and "offloader" not in getattr(item, "fixturenames", ()):
                group = item.path.stem
            item.add_marker(pytest.mark.xdist_group(group))


# Home Assistant's test plugin is for tests with a Home Assistant in their own process: no sockets,
# nothing left on the loop. Here it is another process, reached through real sockets, and the
# connection to it outlives a test.


@pytest.fixture(autouse=True)
def verify_cleanup() -> None:
    """Replace the plugin's check of the loop."""


@pytest.fixture(autouse=True)
def enable_event_loop_debug() -> None:
    """Replace the plugin's slow debug mode."""


@pytest.fixture(autouse=True)
def real_sockets(socket_enabled: None) -> None:
    """Allow sockets in every test."""


@pytest.fixture(scope="session")
def early_sockets() -> Iterator[None]:
    """Allow sockets while the offloader is opened, before any test's own fixtures."""
    pytest_socket.enable_socket()
    yield
    pytest_socket.enable_socket()


@pytest.fixture(scope="session")
def workspace() -> Iterator[Path]:
    """Return a folder that no other run of these tests uses at the same time."""
    with claim("e2e") as folder:
        yield folder


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def opened_offloader(early_sockets: None, workspace: Path) -> AsyncIterator[Offloader]:
    """Open the one offloader: booting takes longer than most tests."""
    async with open_offloader(workspace) as offloader:
        yield offloader


@pytest_asyncio.fixture(loop_scope="session")
async def offloader(opened_offloader: Offloader) -> Offloader:
    """Return an idle offloader, whatever state the test before left it in."""
    offloader = opened_offloader
    if not offloader.instance.running:
        await offloader.boot()
    await cancel_all(offloader.client)
    offloader.device.configure()
    if not offloader.device.running:
        await offloader.device.switch_on()
    await offloader.device_connected()
    return offloader


@pytest_asyncio.fixture(loop_scope="session")
async def device(offloader: Offloader) -> Device:
    """Return the device of the offloader."""
    return offloader.device


@pytest_asyncio.fixture(loop_scope="session")
async def entity(offloader: Offloader) -> str:
    """Return the id of the update entity of the device."""
    return await offloader.update_entity()


@pytest_asyncio.fixture(loop_scope="session")
async def compiling(offloader: Offloader, entity: str) -> str:
    """Return the id of an install that compiles, with much left to do."""
    offloader.device.configure(slow=True)
    job = await submit(offloader.client, "install", entity)
    await reach(offloader.client, job["job_id"], has_printed("] CXX "))
    job_id: str = job["job_id"]
    return job_id
