"""Who answers at an address; redirects are never followed."""

import asyncio
from dataclasses import replace
import ssl

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer
import pytest

from custom_components.esphome_offload.engine.client.dial import (
    Caller,
    DialError,
    DialFailure,
    dial,
    dial_link,
)
from custom_components.esphome_offload.engine.client.probe import find
from custom_components.esphome_offload.engine.protocol.channel import ChannelClosed
from custom_components.esphome_offload.engine.protocol.errors import ErrorCode
from custom_components.esphome_offload.engine.protocol.hello import URL_LINK, Refused
from custom_components.esphome_offload.engine.protocol.identity import Identity
from custom_components.esphome_offload.engine.protocol.pairing import (
    PairingError,
    pair,
)

from .scripted_server import ScriptedServer, answering


def unused_url() -> str:
    return "http://127.0.0.1:9"


async def failure_of(http: aiohttp.ClientSession, caller: Caller, *urls: str) -> DialError:
    with pytest.raises(DialError) as caught:
        await find(http, urls, caller)
    return caught.value


async def test_find_returns_the_first_address_that_answers(
    http: aiohttp.ClientSession, server: ScriptedServer, caller: Caller
) -> None:
    url, hello = await find(http, (unused_url(), server.url), caller)
    assert url == server.url
    assert (hello.pin_sha256, hello.label, hello.pairing) == (
        server.identity.pin_sha256,
        "attic",
        False,
    )


async def test_no_server_cannot_be_connected_to(
    http: aiohttp.ClientSession, caller: Caller
) -> None:
    error = await failure_of(http, caller, unused_url())
    assert error.failure is DialFailure.CANNOT_CONNECT


@pytest.mark.parametrize("status", [200, 404, 500, 503])
async def test_another_web_server_does_not_run_offload(
    http: aiohttp.ClientSession, caller: Caller, status: int
) -> None:
    async with answering(lambda _: web.Response(status=status)) as url:
        error = await failure_of(http, caller, unused_url(), url)
    # What answers tells more than what does not.
    assert (error.failure, error.url) == (DialFailure.NO_OFFLOAD, url)


async def test_another_websocket_makes_no_sense(
    http: aiohttp.ClientSession, caller: Caller
) -> None:
    app = web.Application()

    async def handle(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_json({"type": "auth_required"})
        await socket.receive()
        return socket

    app.router.add_get(URL_LINK, handle)
    other = TestServer(app)
    await other.start_server()
    error = await failure_of(http, caller, f"http://127.0.0.1:{other.port}")
    await other.close()
    assert error.failure is DialFailure.MALFORMED


@pytest.mark.parametrize("code", [ErrorCode.BUSY, ErrorCode.NOT_LENDING])
async def test_a_refusal_instead_of_a_hello(
    http: aiohttp.ClientSession, server: ScriptedServer, caller: Caller, code: ErrorCode
) -> None:
    server.refusal = code
    error = await failure_of(http, caller, server.url)
    assert error.failure == code


@pytest.mark.parametrize(("theirs", "ours", "failure"), [(9, 1, "too_new"), (1, 9, "too_old")])
async def test_a_builder_of_another_protocol(
    http: aiohttp.ClientSession,
    server: ScriptedServer,
    caller: Caller,
    theirs: int,
    ours: int,
    failure: str,
) -> None:
    server.offer = replace(server.offer, protocol=theirs, oldest_protocol=theirs)
    offer = replace(caller.introduction.offer, protocol=ours, oldest_protocol=ours)
    own = replace(caller, introduction=replace(caller.introduction, offer=offer))
    error = await failure_of(http, own, server.url)
    assert error.failure == failure


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_to_another_host_is_not_followed(
    http: aiohttp.ClientSession, server: ScriptedServer, caller: Caller, status: int
) -> None:
    # An honest builder is there: to follow would succeed.
    there = f"http://localhost:{server.port}{URL_LINK}"
    async with answering(lambda _: web.Response(status=status, headers={"Location": there})) as url:
        error = await failure_of(http, caller, url)
    assert (error.failure, error.url, error.https) == (DialFailure.NO_OFFLOAD, url, None)
    assert not server.handshakes


async def test_a_redirect_to_another_port_is_not_followed(
    http: aiohttp.ClientSession, server: ScriptedServer, caller: Caller
) -> None:
    there = server.url + URL_LINK
    async with answering(lambda _: web.Response(status=302, headers={"Location": there})) as url:
        error = await failure_of(http, caller, url)
    assert error.failure is DialFailure.NO_OFFLOAD


async def test_a_redirect_to_nonsense_is_not_followed(
    http: aiohttp.ClientSession, caller: Caller
) -> None:
    headers = {"Location": "http://[nonsense"}
    async with answering(lambda _: web.Response(status=302, headers=headers)) as url:
        error = await failure_of(http, caller, url)
    assert error.failure is DialFailure.NO_OFFLOAD


async def test_a_builder_that_closes_without_a_hello_cannot_be_connected_to(
    http: aiohttp.ClientSession, server: ScriptedServer, caller: Caller
) -> None:
    server.closes_at_once = True
    error = await failure_of(http, caller, server.url)
    assert error.failure is DialFailure.CANNOT_CONNECT


async def test_a_redirect_to_https_is_tried_at_the_same_host_in_the_dialog_only(
    http: aiohttp.ClientSession, caller: Caller
) -> None:
    def redirect(request: web.Request) -> web.Response:
        there = request.url.with_scheme("https").with_port(request.url.port).with_path("/elsewhere")
        return web.Response(status=301, headers={"Location": str(there)})

    async with answering(redirect) as url:
        error = await failure_of(http, caller, url)
        assert error.url == url.replace("http:", "https:")
        # TLS is not spoken there.
        assert error.failure is DialFailure.CANNOT_CONNECT
        with pytest.raises(DialError) as caught:
            async with dial(http, url, caller):
                pass
        assert caught.value.failure is DialFailure.REDIRECTED


async def test_a_certificate_that_is_not_trusted_is_recognised(
    http: aiohttp.ClientSession, caller: Caller, self_signed: ssl.SSLContext
) -> None:
    async with answering(lambda _: web.Response(), self_signed) as url:
        error = await failure_of(http, caller, url)
    assert error.failure is DialFailure.CERTIFICATE


async def test_no_cookie_is_sent_or_kept(http: aiohttp.ClientSession, caller: Caller) -> None:
    sent: list[str] = []

    def answer(request: web.Request) -> web.Response:
        sent.append(request.headers.get("Cookie", ""))
        return web.Response(status=404, headers={"Set-Cookie": "a=b"})

    async with answering(answer) as url:
        http.cookie_jar.update_cookies({"session": "secret"})
        await failure_of(http, caller, url)
        await failure_of(http, caller, url)
    assert sent == ["", ""]


async def test_the_session_is_usable_afterwards(
    http: aiohttp.ClientSession, server: ScriptedServer, caller: Caller
) -> None:
    await find(http, (server.url,), caller)
    await find(http, (server.url,), caller)
    assert not http.closed


async def test_a_link_is_established_with_the_holder_of_the_key_only(
    http: aiohttp.ClientSession, server: ScriptedServer, caller: Caller
) -> None:
    key = server.identity.public
    server.guests.add(caller.identity.public)
    async with dial_link(http, server.url, caller, key) as opened:
        assert opened.peer == key
    server.guests.clear()
    with pytest.raises(Refused) as unknown:
        async with dial_link(http, server.url, caller, key):
            pass
    assert unknown.value.code is ErrorCode.UNKNOWN_GUEST
    server.guests.add(caller.identity.public)
    server.identity = Identity.generate()
    with pytest.raises((Refused, ChannelClosed)):
        async with dial_link(http, server.url, caller, key):
            pass


async def test_pairing_with_the_right_code_and_with_wrong_ones(
    http: aiohttp.ClientSession, server: ScriptedServer, caller: Caller
) -> None:
    code = server.open()

    async def attempt(code: str) -> object:
        async with dial(http, server.url, caller) as answered:
            assert answered.hello.pairing
            return await pair(answered.opening, answered.hello, code)

    with pytest.raises(PairingError) as wrong:
        await attempt(f"{(int(code) + 1) % 10**8:08d}")
    assert (wrong.value.code, wrong.value.tries_left) == (ErrorCode.WRONG_CODE, 2)
    await attempt(code)
    assert server.guests == {caller.identity.public}


async def test_a_connection_that_is_not_answered_ends(
    http: aiohttp.ClientSession, caller: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = asyncio.Event()

    async def silent(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        asked.set()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    looking = asyncio.create_task(find(http, (url,), caller))
    await asked.wait()
    looking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await looking
    server.close()
