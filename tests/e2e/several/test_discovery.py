"""A builder that lends itself is found in the network, with nothing typed but its code."""

import asyncio
from collections.abc import AsyncIterator
import sys
from typing import override

import pytest
import pytest_asyncio
from zeroconf import InterfaceChoice, IPVersion, ServiceListener, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncZeroconf

from custom_components.esphome_offload.engine.const import ZEROCONF_TYPE

from ..harness.client import Json
from ..harness.home import until
from ..harness.several import Several, connected

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

_TRIAL_TYPE = "_offload-trial._tcp.local."
_TRIAL = f"""
import socket, sys, time
from zeroconf import IPVersion, ServiceInfo, Zeroconf
name = "trial." + "{_TRIAL_TYPE}"
info = ServiceInfo("{_TRIAL_TYPE}", name, port=9, addresses=[socket.inet_aton("127.0.0.1")])
Zeroconf(ip_version=IPVersion.V4Only).register_service(info, allow_name_change=True)
sys.stdin.read()
"""


class Seen(ServiceListener):
    """Which services are announced, with their pins."""

    def __init__(self) -> None:
        """Nothing yet."""
        self.names: set[str] = set()

    @override
    def add_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        """Remember it."""
        self.names.add(name)

    @override
    def update_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        """Remember it."""
        self.names.add(name)

    @override
    def remove_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        """Forget it."""
        self.names.discard(name)


async def announced(zeroconf: AsyncZeroconf, seen: Seen, pin_sha256: str) -> bool:
    """Return whether a builder with this pin is announced."""
    for name in tuple(seen.names):
        info = await zeroconf.async_get_service_info(ZEROCONF_TYPE, name)
        if info is not None and info.decoded_properties.get("pin") == pin_sha256:
            return True
    return False


@pytest_asyncio.fixture(loop_scope="session")
async def network(several: Several) -> AsyncIterator[AsyncZeroconf]:
    """Give mDNS between processes; skips only where not even a plain announcement arrives."""
    # As Home Assistant has it; and in this process the list of interfaces is a made-up one.
    zeroconf = AsyncZeroconf(interfaces=InterfaceChoice.Default, ip_version=IPVersion.V4Only)
    seen = Seen()
    browser = AsyncServiceBrowser(zeroconf.zeroconf, _TRIAL_TYPE, listener=seen)
    announcer = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _TRIAL, stdin=asyncio.subprocess.PIPE
    )

    async def arrived() -> bool:
        return bool(seen.names)

    try:
        await until(arrived, "a plain announcement from another process", 15)
    except TimeoutError:
        await zeroconf.async_close()
        pytest.skip("no multicast here: a plain announcement does not reach another process")
    finally:
        announcer.kill()
        await announcer.communicate()
    await browser.async_cancel()
    yield zeroconf
    await zeroconf.async_close()


async def test_lending_builder_is_found_and_needs_only_its_code(
    several: Several, network: AsyncZeroconf
) -> None:
    attic, shed = several.attic, several.shed
    pin = (await attic.info()).pin_sha256

    async def found() -> Json:
        for flow in await shed.client.flows():
            context = flow["context"]
            if context["source"] == "zeroconf" and context.get("unique_id") == pin:
                return flow
        return None

    flow = await until(found, "the attic among what shed has discovered")
    assert flow["context"]["title_placeholders"] == {"name": "attic"}
    code = await attic.open_pairing()
    entry = await shed.client.finish_flow(flow["flow_id"], {"code": code})
    assert entry["state"] == "loaded"
    await connected(shed, entry["entry_id"], "the connection from shed to attic")
    assert await found() is None


async def test_builder_is_announced_only_while_it_lends(
    several: Several, network: AsyncZeroconf
) -> None:
    attic = several.attic
    pin = (await attic.info()).pin_sha256
    seen = Seen()
    browser = AsyncServiceBrowser(network.zeroconf, ZEROCONF_TYPE, listener=seen)

    async def there() -> bool:
        return await announced(network, seen, pin)

    async def gone() -> bool:
        return not await there()

    try:
        await until(there, "the announcement of the attic")
        await attic.client.change_options(attic.entry_id, "lending", lend=False)
        await until(gone, "the end of the announcement")
        await attic.lend(slots=1)
        await until(there, "the announcement of the attic, which lends itself again")
    finally:
        await browser.async_cancel()
