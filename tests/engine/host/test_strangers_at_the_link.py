"""What strangers get at the link of a builder."""

import asyncio
from contextlib import AsyncExitStack

import aiohttp
import pytest

from custom_components.esphome_offload.engine.clock import SystemTime, Time
from custom_components.esphome_offload.engine.host import server
from custom_components.esphome_offload.engine.host.strangers import Strangers
from custom_components.esphome_offload.engine.protocol.channel import ChannelClosed
from custom_components.esphome_offload.engine.protocol.errors import ErrorCode
from custom_components.esphome_offload.engine.protocol.hello import (
    Purpose,
    Refused,
    open_link,
    prologue,
    receive_handshake,
)
from custom_components.esphome_offload.engine.protocol.identity import Identity
from custom_components.esphome_offload.engine.protocol.messages import (
    Wanted,
)
from custom_components.esphome_offload.engine.protocol.noise import Handshake

from .builder import BuilderMachine, GuestCalls
from .guest_link import greeted, guest_link, opened, websocket
from .server_calls import answer_to


@pytest.fixture
def time() -> Time:
    return SystemTime()


async def test_an_unknown_key_and_garbage_get_the_same_refusal(
    builder: BuilderMachine, guest: GuestCalls, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    stranger = Identity.generate()
    async with websocket(url) as socket:
        opening, _ = await greeted(socket, stranger)
        handshake = Handshake.link(
            stranger, builder.identity.public, prologue(Purpose.LINK, opening.hello)
        )
        await socket.send_bytes(Purpose.LINK + handshake.write(b"{}"))
        of_stranger = await socket.receive(timeout=5)
    answers = [
        await answer_to(url, first)
        for first in (
            *(b"L", b"L" + bytes(500), b"X", b"", "{}", "L" * 9000, bytes(40_000)),
            # What only builders say.
            '{"type":"refusal","error":"busy"}',
        )
    ]
    assert "Traceback" not in caplog.text
    assert {answer.data for answer in answers} == {of_stranger.data}
    assert "unknown_guest" in of_stranger.data


async def test_a_recorded_first_message_does_nothing(
    builder: BuilderMachine,
    guest: GuestCalls,
    url: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    recorded: list[bytes] = []
    async with websocket(url) as socket:
        send = socket.send_bytes

        async def record(data: bytes) -> None:
            recorded.append(data)
            await send(data)

        monkeypatch.setattr(socket, "send_bytes", record)
        await opened(socket, guest.identity, builder.identity.public)
    stored = builder.guest_store.text
    caplog.clear()
    monkeypatch.setattr(server, "HANDSHAKE_TIMEOUT", 0.3)
    for second in (b"", bytes(100), recorded[0]):
        async with websocket(url) as socket:
            await socket.receive()
            await socket.send_bytes(recorded[0])
            await receive_handshake(socket)
            if second:
                await socket.send_bytes(second)
            assert not builder.server.sessions.connected(guest.pin)
            closed = await socket.receive(timeout=5)
            assert closed.type is aiohttp.WSMsgType.CLOSE
    assert builder.guest_store.text == stored
    assert [each for each in caplog.records if "esphome_offload" in each.name] == []


async def test_a_stranger_that_says_nothing_is_disconnected(
    builder: BuilderMachine, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "HANDSHAKE_TIMEOUT", 0.2)
    async with websocket(url) as socket:
        await socket.receive()
        assert (await socket.receive(timeout=5)).type is aiohttp.WSMsgType.CLOSE


@pytest.mark.parametrize("number", range(1, 40, 3))
async def test_an_altered_handshake_is_refused(
    builder: BuilderMachine, guest: GuestCalls, url: str, number: int
) -> None:
    async with websocket(url) as socket:
        opening, _ = await greeted(socket, guest.identity)
        send = socket.send_bytes

        async def alter(data: bytes) -> None:
            altered = bytearray(data)
            altered[number * len(data) // 40] ^= 1 << (number % 8)
            await send(bytes(altered))

        socket.send_bytes = alter  # type: ignore[method-assign, assignment]
        with pytest.raises(Refused) as refused:
            await open_link(opening, builder.identity.public)
    assert refused.value.code is ErrorCode.UNKNOWN_GUEST


async def test_an_altered_hello_is_noticed(
    builder: BuilderMachine, guest: GuestCalls, url: str
) -> None:
    async with websocket(url) as socket:
        opening, _ = await greeted(socket, guest.identity)
        altered = type(opening)(
            opening.socket, opening.hello + b" ", opening.own, opening.introduction
        )
        with pytest.raises(Refused):
            await open_link(altered, builder.identity.public)


async def test_another_builder_in_its_place_is_noticed(
    builder: BuilderMachine, guest: GuestCalls, url: str
) -> None:
    builder.guests._guests = {guest.pin: builder.guests._guests[guest.pin]}
    paired_with = Identity.generate().public
    async with websocket(url) as socket:
        with pytest.raises((ChannelClosed, Refused)):
            await opened(socket, guest.identity, paired_with)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Upgrade": "websocket", "Connection": "upgrade"},
        {"Sec-WebSocket-Extensions": "permessage-deflate; client_max_window_bits=99"},
    ],
)
async def test_a_request_that_is_no_websocket_is_refused(
    url: str, headers: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        aiohttp.ClientSession() as client,
        client.get(url, headers=headers) as response,
    ):
        assert response.status == 426
    assert "Traceback" not in caplog.text


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "nonsense"])
async def test_a_request_with_a_body_is_cut_off(
    url: str, encoding: str, caplog: pytest.LogCaptureFixture
) -> None:
    headers = {"Content-Encoding": encoding}
    async with aiohttp.ClientSession() as client:
        with pytest.raises(aiohttp.ClientError):
            await client.get(url, data=b"\x1f\x8bnot gzip", headers=headers)
    assert "Traceback" not in caplog.text


async def test_compression_is_not_agreed_on(
    builder: BuilderMachine, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with aiohttp.ClientSession() as client, client.ws_connect(url, compress=15) as socket:
        assert not socket.compress
        await socket.receive()
        assert socket._writer is not None
        await socket._writer.send_frame(bytes(100), aiohttp.WSMsgType.BINARY, compress=15)
        assert (await socket.receive(timeout=5)).type in (
            aiohttp.WSMsgType.CLOSE,
            aiohttp.WSMsgType.CLOSED,
            aiohttp.WSMsgType.ERROR,
        )
    assert "Traceback" not in caplog.text


async def test_a_frame_that_is_too_large_ends_the_connection(
    builder: BuilderMachine, guest: GuestCalls, url: str
) -> None:
    async with websocket(url) as socket:
        await opened(socket, guest.identity, builder.identity.public)
        await socket.send_bytes(bytes(70_000))
        assert (await socket.receive(timeout=5)).type is aiohttp.WSMsgType.CLOSE


async def test_idle_strangers_lock_no_guest_out(
    builder: BuilderMachine, guest: GuestCalls, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builder.server, "_strangers", Strangers(limit=10))
    async with AsyncExitStack() as stack, asyncio.timeout(30):
        for _ in range(30):
            await stack.enter_async_context(websocket(url))
        link = await stack.enter_async_context(guest_link(url, guest))
        assert await link.session.call(Wanted(())) == {"attempts": []}
        for _ in range(30):
            await stack.enter_async_context(websocket(url))
        assert await link.session.call(Wanted(())) == {"attempts": []}


async def test_strangers_beyond_the_limit_are_refused_before_anything_is_computed(
    builder: BuilderMachine, guest: GuestCalls, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builder.server, "_strangers", Strangers(limit=0))
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with websocket(url):
            pass
    assert refused.value.status == 503


async def test_what_breaks_the_protocol_at_once_gets_no_session(
    builder: BuilderMachine, url: str
) -> None:
    guest = await builder.pair("guest")
    async with websocket(url) as socket:
        link = await opened(socket, guest.identity, builder.identity.public)
        await link._send_frame(b"\x09")
        with pytest.raises(ChannelClosed):
            await link.receive()
    assert not builder.server.sessions.connected(guest.pin)
