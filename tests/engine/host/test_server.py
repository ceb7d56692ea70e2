"""The builder's end of the link, on real websockets."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import aiohttp
import pytest

from custom_components.esphome_offload.engine.clock import SystemTime, Time
from custom_components.esphome_offload.engine.host import server
from custom_components.esphome_offload.engine.host.commands import GuestCommands
from custom_components.esphome_offload.engine.host.guest_sessions import PER_GUEST
from custom_components.esphome_offload.engine.host.lending import Lending
from custom_components.esphome_offload.engine.host.pairing_window import WindowEnd
from custom_components.esphome_offload.engine.host.strangers import Strangers
from custom_components.esphome_offload.engine.protocol.calls import CommandRefused
from custom_components.esphome_offload.engine.protocol.channel import ChannelClosed
from custom_components.esphome_offload.engine.protocol.errors import ErrorCode, ProtocolError
from custom_components.esphome_offload.engine.protocol.hello import (
    Purpose,
    Refused,
    open_link,
    prologue,
    receive_handshake,
)
from custom_components.esphome_offload.engine.protocol.identity import Identity
from custom_components.esphome_offload.engine.protocol.messages import (
    Acknowledge,
    Attach,
    Cancel,
    Clean,
    SubscribeStatus,
    Unpair,
    Wanted,
)
from custom_components.esphome_offload.engine.protocol.noise import Handshake
from custom_components.esphome_offload.engine.protocol.pairing import (
    Paired,
    PairingError,
    pair,
)

from ..jobs.fakes import Block
from .builder import BuilderMachine, GuestCalls, printing, until
from .guest_link import OFFER, greeted, guest_link, opened, websocket

type Event = dict[str, object]


@pytest.fixture
def time() -> Time:
    return SystemTime()


def recording(events: list[Event]) -> Callable[[object], None]:
    def listen(event: object) -> None:
        assert isinstance(event, dict)
        events.append(event)

    return listen


async def refusal(url: str, identity: Identity, builder: BuilderMachine) -> ErrorCode:
    with pytest.raises(Refused) as refused:
        async with websocket(url) as socket:
            await opened(socket, identity, builder.identity.public)
    return refused.value.code


async def answer_to(url: str, first: bytes | str) -> aiohttp.WSMessage:
    """Return what the builder says to a first message."""
    async with websocket(url) as socket:
        await socket.receive()
        await (socket.send_str(first) if isinstance(first, str) else socket.send_bytes(first))
        answer = await socket.receive(timeout=5)
        assert (await socket.receive(timeout=5)).type is aiohttp.WSMsgType.CLOSE
        return answer


# Guests


async def test_a_build_from_bundle_to_firmware(
    builder: BuilderMachine, guest: GuestCalls, url: str, tmp_path: Path
) -> None:
    builder.script = [printing("one", "two")]
    async with guest_link(url, guest) as link:
        assert await link.session.call(Wanted(())) == {"attempts": []}
        attempt_id = await link.submit(b"esphome:")
        events: list[Event] = []
        await link.session.subscribe(Attach(attempt_id), recording(events))
        await until(lambda: bool(events) and events[-1].get("state") == "completed")
        lines = [event["lines"] for event in events if event["type"] == "lines"]
        assert lines == [["one", "two"]]
        assert await link.fetch(attempt_id, tmp_path / "image") == b"firmware of esphome:"
        await link.session.call(Acknowledge(attempt_id))
        with pytest.raises(CommandRefused) as refused:
            await link.session.call(Cancel(attempt_id))
        assert refused.value.code is ErrorCode.UNKNOWN_ATTEMPT


async def test_every_command_is_answered(
    builder: BuilderMachine, guest: GuestCalls, url: str
) -> None:
    block = Block()
    builder.script = [block]
    async with guest_link(url, guest) as link:
        statuses: list[Event] = []
        await link.session.subscribe(SubscribeStatus(), recording(statuses))
        await until(lambda: bool(statuses))
        assert statuses[0]["available"] is True
        attempt_id = await link.submit()
        await block.entered.wait()
        await until(lambda: statuses[-1]["busy"] == 1)
        with pytest.raises(CommandRefused) as refused:
            await link.session.call(Clean("lamp.yaml"))
        assert refused.value.code is ErrorCode.BUSY
        await link.session.call(Cancel(attempt_id))
        assert block.cancelled
        await link.session.call(Clean("lamp.yaml"))


async def test_a_guest_is_marked_as_connected_while_it_is(
    builder: BuilderMachine, guest: GuestCalls, url: str
) -> None:
    def registered() -> tuple[str, bool]:
        found = builder.guests.get(guest.pin)
        assert found is not None
        return found.label, found.last_seen is not None

    assert registered() == ("guest", False)
    async with guest_link(url, guest, label="new name") as link:
        assert not builder.server.sessions.connected(guest.pin), "it has said nothing yet"
        await link.session.call(Wanted(()))
        assert builder.server.sessions.connected(guest.pin)
        assert registered() == ("new name", True)
    await until(lambda: not builder.server.sessions.connected(guest.pin))


async def test_a_guest_with_many_connections_loses_the_oldest(
    builder: BuilderMachine, guest: GuestCalls, url: str
) -> None:
    async with guest_link(url, guest) as oldest:
        await oldest.session.call(Wanted(()))
        links = [guest_link(url, guest) for _ in range(PER_GUEST)]
        connected = [await link.__aenter__() for link in links]
        for each in connected:
            await each.session.call(Wanted(()))
        await until(lambda: oldest.session.lost is not None)
        assert all(each.session.lost is None for each in connected)
        for link in links:
            await link.__aexit__(None, None, None)


async def test_a_removed_guest_is_told_and_disconnected_at_once(
    builder: BuilderMachine, guest: GuestCalls, url: str
) -> None:
    block = Block()
    builder.script = [block]
    async with guest_link(url, guest) as link, guest_link(url, guest) as second:
        statuses: list[Event] = []
        await link.session.subscribe(SubscribeStatus(), recording(statuses))
        await second.submit()
        await block.entered.wait()
        await builder.server.unpair(guest.pin)
        await until(lambda: None not in (link.session.lost, second.session.lost))
        assert statuses[-1] == {"type": "unpaired"}
        assert block.cancelled
        assert await refusal(url, guest.identity, builder) is ErrorCode.UNKNOWN_GUEST


async def test_a_guest_can_end_the_pairing(
    builder: BuilderMachine, guest: GuestCalls, url: str
) -> None:
    async with guest_link(url, guest) as link:
        await link.session.call(Unpair())
        await until(lambda: builder.guests.get(guest.pin) is None)
        await until(lambda: link.session.lost is not None)


async def test_the_end_of_lending_disconnects(
    builder: BuilderMachine, guest: GuestCalls, url: str
) -> None:
    block = Block()
    builder.script = [block]
    async with guest_link(url, guest) as link:
        await link.submit()
        await block.entered.wait()
        await builder.host.lend(Lending.OFF)
        await builder.server.close()
        await until(lambda: link.session.lost is not None)
        assert block.cancelled
        assert await refusal(url, guest.identity, builder) is ErrorCode.NOT_LENDING
        builder.server.served = None
        assert await refusal(url, guest.identity, builder) is ErrorCode.NOT_LENDING


async def test_a_silent_connection_is_closed(
    builder: BuilderMachine, guest: GuestCalls, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "SILENCE", 0.2)
    async with guest_link(url, guest) as link:
        await link.session.call(Wanted(()))
        await until(lambda: link.session.lost is not None)


@dataclass
class Nonsense:
    TYPE: ClassVar[str] = "nonsense"


async def test_an_unknown_command_is_refused(guest: GuestCalls, url: str) -> None:
    async with guest_link(url, guest) as link:
        with pytest.raises(CommandRefused) as refused:
            await link.session.call(Nonsense())
        assert refused.value.code is ErrorCode.MALFORMED


# Strangers


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


# Pairing


async def pair_with(url: str, code: str, identity: Identity | None = None) -> Paired:
    async with websocket(url) as socket:
        opening, hello = await greeted(socket, identity or Identity.generate())
        return await pair(opening, hello, code)


async def test_an_offloader_with_the_code_becomes_a_guest(
    builder: BuilderMachine, url: str, tmp_path: Path
) -> None:
    identity = Identity.generate()
    paired = await pair_with(url, builder.window.open().code, identity)
    assert (paired.public, paired.label) == (builder.identity.public, "builder")
    assert builder.server.newest_guest == "offloader"
    assert builder.window.tried_from == "127.0.0.1"
    async with guest_link(url, GuestCalls(builder, identity)) as link:
        assert await link.session.call(Wanted(())) == {"attempts": []}


async def test_strangers_neither_use_up_tries_nor_keep_others_from_pairing(
    builder: BuilderMachine, url: str
) -> None:
    code = builder.window.open().code
    for first in (b"P", b"P" + bytes(32), b"P" + bytes(31), b"P" + bytes(33), b"P" + b"\xff" * 32):
        answer = await answer_to(url, first)
        assert "malformed" in answer.data
    await asyncio.gather(*(answer_to(url, b"P" + bytes(32)) for _ in range(50)))
    assert builder.window.tries_left == 3
    await pair_with(url, code)


async def test_a_wrong_code_costs_a_try_and_three_close_the_window(
    builder: BuilderMachine, url: str
) -> None:
    code = builder.window.open().code
    wrong = f"{(int(code) + 1) % 10**8:08d}"
    left = []
    for _ in range(3):
        with pytest.raises(PairingError) as refused:
            await pair_with(url, wrong)
        left.append(refused.value.tries_left)
    assert left == [2, 1, 0]
    assert builder.window.end is WindowEnd.WRONG_CODES
    with pytest.raises(PairingError) as refused:
        await pair_with(url, code)
    assert refused.value.code is ErrorCode.WINDOW_CLOSED
    assert builder.guests.all() == ()


async def test_offer_and_label_are_in_the_hello(builder: BuilderMachine, url: str) -> None:
    async with websocket(url) as socket:
        _, hello = await greeted(socket, Identity.generate())
    assert (hello.offer, hello.label, hello.pairing) == (OFFER, "builder", False)
    assert hello.pin_sha256 == builder.identity.pin_sha256
    builder.window.open()
    async with websocket(url) as socket:
        _, hello = await greeted(socket, Identity.generate())
    assert hello.pairing


async def test_where_nothing_is_lent_there_is_no_guest_to_remove() -> None:
    unused = server.LinkServer()
    await unused.unpair("0" * 64)
    await unused.close()


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


def test_each_thing_is_sent_once_on_a_connection(builder: BuilderMachine) -> None:
    commands = GuestCommands(builder.host, "0" * 64, lambda: None)
    with commands._stream("status"):
        again = commands._stream("status")
        with pytest.raises(ProtocolError) as refused:
            again.__enter__()
        assert refused.value.code is ErrorCode.BUSY
    with commands._stream("status"):
        pass


async def test_whoever_is_expected_needs_no_code_and_is_a_guest_once_connected(
    builder: BuilderMachine, url: str
) -> None:
    identity = Identity.generate()
    assert await refusal(url, identity, builder) is ErrorCode.UNKNOWN_GUEST
    builder.guests.expect([identity.pin_sha256])
    async with guest_link(url, GuestCalls(builder, identity), "attic") as link:
        await link.session.call(Wanted(()))
        assert [guest.label for guest in builder.guests.all()] == ["attic"]
        assert await link.submit()


async def test_whoever_is_expected_and_removed_is_expected_no_more(
    builder: BuilderMachine, url: str
) -> None:
    identity = Identity.generate()
    builder.guests.expect([identity.pin_sha256])
    async with guest_link(url, GuestCalls(builder, identity)) as link:
        await link.session.call(Wanted(()))
    await builder.server.unpair(identity.pin_sha256)
    assert await refusal(url, identity, builder) is ErrorCode.UNKNOWN_GUEST


async def test_a_recorded_handshake_makes_nobody_a_guest(builder: BuilderMachine, url: str) -> None:
    """The first message alone proves nothing: it can be an old one."""
    identity = Identity.generate()
    builder.guests.expect([identity.pin_sha256])
    async with websocket(url) as socket:
        await opened(socket, identity, builder.identity.public)
    assert builder.guests.all() == ()
