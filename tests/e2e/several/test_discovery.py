"""Discovery of builders, and what a false announcement cannot do."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
import os
import sys
from typing import override

import aiohttp
from aiohttp import web
from playwright.async_api import expect
import pytest
import pytest_asyncio
from zeroconf import InterfaceChoice, IPVersion, ServiceListener, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo, AsyncZeroconf

from custom_components.esphome_offload.engine.const import ZEROCONF_TYPE
from custom_components.esphome_offload.engine.protocol.hello import URL_LINK

from ..harness import ports
from ..harness.browser import DESK, needs_chromium, open_browser, open_screen
from ..harness.client import Json
from ..harness.four_instances import FourInstances
from ..harness.texts import page_text, text
from ..harness.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

_ELSEWHERE = "/elsewhere"
_TRIAL_TYPE = "_offload-trial._tcp.local."
_TRIAL = f"""
import socket, sys, time
from zeroconf import IPVersion, ServiceInfo, Zeroconf
name = "trial." + "{_TRIAL_TYPE}"
info = ServiceInfo("{_TRIAL_TYPE}", name, port=9, addresses=[socket.inet_aton("127.0.0.1")])
Zeroconf(ip_version=IPVersion.V4Only).register_service(info, allow_name_change=True)
sys.stdin.read()
"""


class Announced(ServiceListener):
    """The names of the services that are announced."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    @override
    def add_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        self.names.add(name)

    @override
    def update_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        self.names.add(name)

    @override
    def remove_service(self, zc: Zeroconf, type_: str, name: str) -> None:
        self.names.discard(name)


async def is_announced(zeroconf: AsyncZeroconf, announced: Announced, pin_sha256: str) -> bool:
    """Return whether a builder with this pin is announced."""
    for name in tuple(announced.names):
        info = await zeroconf.async_get_service_info(ZEROCONF_TYPE, name)
        if info is not None and info.decoded_properties.get("pin") == pin_sha256:
            return True
    return False


@pytest_asyncio.fixture(loop_scope="session")
async def network(instances: FourInstances) -> AsyncIterator[AsyncZeroconf]:
    """Return mDNS between processes; skip only where not even a plain announcement arrives."""
    # As in Home Assistant; the test plugin replaces the list of interfaces in this process.
    zeroconf = AsyncZeroconf(interfaces=InterfaceChoice.Default, ip_version=IPVersion.V4Only)
    announced = Announced()
    browser = AsyncServiceBrowser(zeroconf.zeroconf, _TRIAL_TYPE, listener=announced)
    announcer = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _TRIAL, stdin=asyncio.subprocess.PIPE
    )

    async def arrived() -> bool:
        return bool(announced.names)

    try:
        await until(arrived, "a plain announcement from another process", 30)
    except TimeoutError:
        await zeroconf.async_close()
        pytest.skip("no multicast here: a plain announcement does not reach another process")
    finally:
        announcer.kill()
        await announcer.communicate()
    await browser.async_cancel()
    yield zeroconf
    await zeroconf.async_close()


@needs_chromium
async def test_the_page_leads_to_pairing_with_a_builder_that_was_found(
    instances: FourInstances, network: AsyncZeroconf
) -> None:
    client = instances.second.client
    async with open_browser() as browser, open_screen(browser, client, DESK) as screen:
        await screen.open("builders")
        link = screen.main.get_by_role("link", name=f"{page_text('builders.pair')} beta")
        await expect(link).to_be_visible()
        await screen.assert_usable()
        await link.click()
        # Other builders of the network may be there as well.
        found = screen.page.get_by_role("listitem").filter(has_text="beta")
        await found.get_by_role("button", name="Add", exact=True).click()
        question = text("config.step.zeroconf_confirm.title")
        await expect(screen.page.get_by_text(question).first).to_be_visible()


async def test_lending_builder_is_found_and_needs_only_its_code(
    instances: FourInstances, network: AsyncZeroconf
) -> None:
    beta, second = instances.beta, instances.second
    pin = beta.identity.pin_sha256

    async def found() -> Json:
        for flow in await second.client.flows():
            context = flow["context"]
            if context["source"] == "zeroconf" and context.get("unique_id") == pin:
                return flow
        return None

    flow = await until(found, "beta among what second has discovered")
    assert flow["context"]["title_placeholders"]["name"].startswith("beta (")
    code = await beta.open_pairing()
    entry = await second.client.finish_flow(flow["flow_id"], {"code": code})
    assert entry["state"] == "loaded"
    await second.until_connected(entry["entry_id"])
    assert await found() is None


async def test_builder_is_announced_only_while_it_lends(
    instances: FourInstances, network: AsyncZeroconf
) -> None:
    beta = instances.beta
    pin = beta.identity.pin_sha256
    announced = Announced()
    browser = AsyncServiceBrowser(network.zeroconf, ZEROCONF_TYPE, listener=announced)

    async def present() -> bool:
        return await is_announced(network, announced, pin)

    async def absent() -> bool:
        return not await present()

    try:
        await until(present, "the announcement of beta")
        await beta.client.change_options(beta.entry_id, "lending", accept_builds=False)
        await until(absent, "the end of the announcement")
        await beta.lend(slots=1)
        await until(present, "the announcement of beta, which lends again")
    finally:
        await browser.async_cancel()


@pytest.mark.parametrize("redirects", [False, True], ids=["answers itself", "redirects"])
async def test_false_announcement_does_not_move_a_builder(
    instances: FourInstances, network: AsyncZeroconf, redirects: bool
) -> None:
    second, alpha = instances.second, instances.alpha
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{alpha.instance.url}{URL_LINK}") as socket,
    ):
        hello = await socket.receive_str()
    await alpha.close()
    async with impostor(network, alpha.identity.pin_sha256, hello, redirects) as paths:
        await until(lambda: _nonempty(paths), "second to try what was announced")
        await alpha.boot()
        # It is tried where it was, and nowhere else.
        await second.client.reload(instances.entries["second", "alpha"])
        await instances.connected()
        assert _ELSEWHERE not in paths


async def _nonempty(paths: list[str]) -> bool:
    return bool(paths)


@asynccontextmanager
async def impostor(
    network: AsyncZeroconf, pin_sha256: str, hello: str, redirects: bool
) -> AsyncIterator[list[str]]:
    """Announce a server as the builder with this pin; yield the paths that it is asked for."""
    paths: list[str] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        paths.append(request.path)
        if redirects:
            raise web.HTTPTemporaryRedirect(_ELSEWHERE)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str(hello)
        await socket.receive()
        await socket.send_bytes(os.urandom(200))
        await socket.close()
        return socket

    (port,) = ports.pick()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    info = AsyncServiceInfo(
        ZEROCONF_TYPE,
        name=f"impostor.{ZEROCONF_TYPE}",
        server="impostor.local.",
        parsed_addresses=["127.0.0.1"],
        port=port,
        properties={
            "pin": pin_sha256,
            "label": "alpha",
            "protocol": "1",
            "url": f"http://127.0.0.1:{port}",
        },
    )
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        await network.async_register_service(info)
        yield paths
    finally:
        await network.async_unregister_service(info)
        await runner.cleanup()
