"""How a link comes to be encrypted, and how it does not."""

import asyncio
from collections.abc import Callable

import aiohttp
from aiohttp import web
import pytest

from custom_components.esphome_offload.engine.codec import encode
from custom_components.esphome_offload.engine.protocol.channel import ChannelClosed
from custom_components.esphome_offload.engine.protocol.errors import ErrorCode, ProtocolError
from custom_components.esphome_offload.engine.protocol.hello import (
    Hello,
    Opened,
    Opening,
    Refused,
    open_link,
    read_hello,
    refuse,
    send_plain,
)
from custom_components.esphome_offload.engine.protocol.identity import Identity
from custom_components.esphome_offload.engine.protocol.negotiation import Offer

from .ends import BUILDER, OFFER, OFFLOADER, TO_BUILDER, Wire, answer, connect, link, websocket


class Server:
    """A builder that answers links, and what came of them."""

    def __init__(self) -> None:
        self.opened: list[Opened] = []
        self.refused: list[ProtocolError] = []
        self.messages: list[object] = []

    async def __call__(self, socket: web.WebSocketResponse) -> None:
        try:
            opened = await answer(socket)
        except ProtocolError as err:
            self.refused.append(err)
            await refuse(socket, err.code)
            return
        self.opened.append(opened)
        try:
            self.messages.append(await opened.channel.receive())
        except ChannelClosed as err:
            self.messages.append(err)


async def test_both_ends_know_each_other_afterwards() -> None:
    async with link() as ends:
        assert ends.builder.peer == OFFLOADER.public
        assert ends.builder.introduction.label == "offloader"
        assert ends.offloader.introduction.label == "builder"
        assert ends.offloader.agreement == ends.builder.agreement


async def test_the_hello_says_who_is_there() -> None:
    async with websocket(Server()) as socket:
        hello, _ = await read_hello(socket, OFFER)
        assert hello == Hello(OFFER, BUILDER.pin_sha256, "builder", pairing=False)


async def _answer_to(first: bytes) -> tuple[aiohttp.WSMessage, Server]:
    server = Server()
    async with websocket(server) as socket:
        await socket.receive()
        await socket.send_bytes(first)
        return await socket.receive(), server


async def test_an_unknown_key_gets_the_same_refusal_as_garbage() -> None:
    server = Server()
    async with websocket(server) as socket:
        wire = Wire(socket)
        with pytest.raises(Refused) as caught:
            await connect(wire, own=Identity.generate())
        assert caught.value.code is ErrorCode.UNKNOWN_GUEST
    garbage, _ = await _answer_to(b"L" + bytes(range(200)))
    short, _ = await _answer_to(b"L")
    async with websocket(Server()) as socket:
        await socket.receive()
        await socket.send_bytes(wire.sent[0])
        unknown = await socket.receive()
    assert unknown.data == garbage.data == short.data
    assert "unknown_guest" in unknown.data
    assert not server.opened


async def test_an_offloader_that_expects_another_builder_notices() -> None:
    server = Server()
    async with websocket(server) as socket:
        with pytest.raises(Refused):
            await connect(socket, peer=Identity.generate().public)
    assert not server.opened


async def test_who_stands_in_for_the_builder_cannot_answer() -> None:
    async def serve(socket: web.WebSocketResponse) -> None:
        # It knows the hello and all that is public, but not the builder's private key.
        hello = Hello(OFFER, BUILDER.pin_sha256, "builder", pairing=False)
        await send_plain(socket, encode(hello))
        first = await socket.receive()
        await socket.send_bytes(first.data[1:49] + bytes(100))

    async with websocket(serve) as socket:
        with pytest.raises(ChannelClosed, match="not the builder"):
            await connect(socket)


@pytest.mark.parametrize("position", [1, 10, 33, 60, 100, -1])
async def test_an_altered_first_message_gets_no_link(position: int) -> None:
    def alter(_: int, data: bytes) -> list[bytes]:
        altered = bytearray(data)
        altered[position] ^= 1
        return [bytes(altered)]

    server = Server()
    async with websocket(server) as socket:
        with pytest.raises(Refused):
            await connect(Wire(socket, alter))
    assert not server.opened


@pytest.mark.parametrize(
    "alter",
    [
        lambda text: text.replace(b'"protocol":', b'"protocol": '),
        lambda text: text.replace(b"builder", b"bui1der"),
        lambda text: text.replace(b'"pairing":false', b'"pairing":true'),
    ],
    ids=["spelling", "label", "pairing"],
)
async def test_a_hello_that_was_altered_gets_no_link(alter: Callable[[bytes], bytes]) -> None:
    server = Server()
    async with websocket(server) as socket:
        _, said = await read_hello(socket, OFFER)
        assert alter(said) != said
        with pytest.raises(Refused):
            await open_link(Opening(socket, alter(said), OFFLOADER, TO_BUILDER), BUILDER.public)
    assert not server.opened


async def test_a_first_message_that_is_played_again_gets_no_further() -> None:
    server = Server()
    async with websocket(server) as socket:
        wire = Wire(socket)
        opened = await connect(wire)
        await opened.channel.send({"type": "first"})
        await asyncio.wait_for(socket.receive(), 20)  # the server is done
    assert server.messages == [{"type": "first"}]
    # The hello of a builder is the same for a while: the old message fits, its frames do not.
    async with websocket(server) as socket:
        await socket.receive()
        for each in wire.sent:
            await socket.send_bytes(each)
        while (await asyncio.wait_for(socket.receive(), 20)).type is aiohttp.WSMsgType.BINARY:
            pass
    assert len(server.messages) == 2
    assert isinstance(server.messages[1], ChannelClosed)


@pytest.mark.parametrize(
    ("offer", "code"),
    [
        (Offer(3, 2, (), "0.1"), ErrorCode.TOO_OLD),
        (Offer(99, 98, (), "9.9"), ErrorCode.TOO_NEW),
    ],
)
async def test_a_builder_of_another_protocol_says_which_side_to_update(
    offer: Offer, code: ErrorCode
) -> None:
    async def serve(socket: web.WebSocketResponse) -> None:
        await send_plain(socket, {**encode(Hello(offer, "0" * 64, "builder", pairing=False))})
        await socket.receive()

    async with websocket(serve) as socket:
        with pytest.raises(ProtocolError) as caught:
            await read_hello(socket, Offer(5, 4, (), "1.2.3"))
        assert caught.value.code is code


async def test_a_builder_that_refuses_at_once_is_understood() -> None:
    async def serve(socket: web.WebSocketResponse) -> None:
        await refuse(socket, ErrorCode.NOT_LENDING)

    async with websocket(serve) as socket:
        with pytest.raises(Refused) as caught:
            await read_hello(socket, OFFER)
        assert caught.value.code is ErrorCode.NOT_LENDING


@pytest.mark.parametrize("text", ["", "no JSON", "[]", "{}", "[" * 5000, "x" * 9000])
async def test_what_is_no_hello_is_malformed(text: str) -> None:
    async def serve(socket: web.WebSocketResponse) -> None:
        await socket.send_str(text)
        await socket.receive()

    async with websocket(serve) as socket:
        with pytest.raises(ProtocolError) as caught:
            await read_hello(socket, OFFER)
        assert caught.value.code in {ErrorCode.MALFORMED, ErrorCode.TOO_LARGE}


async def test_a_builder_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "custom_components.esphome_offload.engine.protocol.hello.HANDSHAKE_TIMEOUT", 0.05
    )
    over = asyncio.Event()

    async def serve(_: web.WebSocketResponse) -> None:
        await over.wait()

    async with websocket(serve) as socket:
        with pytest.raises(ChannelClosed):
            await read_hello(socket, OFFER)
        over.set()
