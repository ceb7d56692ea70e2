"""One real offloader for the tests of this folder, idle before each of them."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio
import pytest_socket

from .harness.device import Device
from .harness.jobs import cancel_all, submit
from .harness.offloader import Offloader, open_offloader
from .harness.processes import mentioning
from .harness.scripted import Part
from .harness.waiting import until
from .harness.workspace import claim

_HERE = Path(__file__).parent


# The groups that take longest, in that order: they are begun first.
_LONGEST = ("offloader", "several", "test_demo")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep tests that share instances in one process of a parallel run."""
    ours = [item for item in items if item.path.is_relative_to(_HERE)]
    for item in ours:
        item.add_marker(pytest.mark.xdist_group(_group(item)))
    order = {item: _LONGEST.index(group) for item in ours if (group := _group(item)) in _LONGEST}
    items.sort(key=lambda item: order.get(item, len(_LONGEST)))


def _group(item: pytest.Item) -> str:
    assert isinstance(item, pytest.Function)
    if item.path.parent.name == "several":
        return "several"
    if item.path.parent.name == "pair":
        attacks = item.path.stem in ("test_link_attacks", "test_tampering")
        return f"{'attacks' if attacks else 'pair'}, {item.callspec.params['opened']}"
    return "offloader" if "offloader" in item.fixturenames else item.path.stem


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
    offloader.device.renew()
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
    """Return the id of an install whose compiler has much left to do."""

    async def compiler_at_work() -> bool:
        commands = mentioning(offloader.instance.builds).values()
        return all(any(what in each for each in commands) for what in ("cc1plus", "escapee"))

    offloader.device.play(Part.COMPILE_LONG)
    job = await submit(offloader.client, "install", entity)
    await until(compiler_at_work, "a compiler at work")
    job_id: str = job["job_id"]
    return job_id
