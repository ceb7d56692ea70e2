"""What crosses a channel, and what happens to what is done to it on its way."""

import asyncio
import json

import aiohttp
from aiohttp import web
import pytest

from custom_components.esphome_offload.engine.protocol import channel as channel_module
from custom_components.esphome_offload.engine.protocol.channel import (
    _PART_BYTES,
    PIECE_BYTES,
    Channel,
    ChannelClosed,
    Piece,
)
from custom_components.esphome_offload.engine.protocol.errors import ErrorCode, ProtocolError
from custom_components.esphome_offload.engine.protocol.limits import MESSAGE_LIMIT

from .ends import Ends, Wire, answer, connect, link, websocket

WORDS = {"type": "words", "text": "the Wi-Fi password is hunter2"}


def piece(number: int, data: bytes, body_id: int = 7) -> Piece:
    return Piece(body_id, number, memoryview(data))


async def received(channel: Channel) -> object:
    return await asyncio.wait_for(channel.receive(), 20)


async def test_messages_arrive_in_both_directions() -> None:
    async with link() as ends:
        await ends.offloader.channel.send(WORDS)
        assert await received(ends.builder.channel) == WORDS
        await ends.builder.channel.send({"type": "answer"})
        assert await received(ends.offloader.channel) == {"type": "answer"}


async def test_a_long_message_arrives_whole() -> None:
    message = {"text": "ü" * 70_000}
    async with link() as ends:
        await ends.offloader.channel.send(message)
        assert await received(ends.builder.channel) == message


async def test_pieces_arrive_with_their_body_and_number() -> None:
    async with link() as ends:
        await ends.offloader.channel.send_piece(piece(3, b"x" * PIECE_BYTES))
        got = await received(ends.builder.channel)
        assert isinstance(got, Piece)
        assert (got.body_id, got.number, bytes(got.data)) == (7, 3, b"x" * PIECE_BYTES)


async def test_a_message_waits_for_one_piece_at_most() -> None:
    async with link() as ends:

        async def send_pieces() -> None:
            for number in range(200):
                await ends.offloader.channel.send_piece(piece(number, b"x" * PIECE_BYTES))

        pieces = asyncio.create_task(send_pieces())
        await received(ends.builder.channel)
        # The line is full now: nothing more goes until something is received.
        while not ends.offloader.channel.busy:  # noqa: ASYNC110 - nothing is told of that
            await asyncio.sleep(0)
        message = asyncio.create_task(ends.offloader.channel.send(WORDS))
        await asyncio.sleep(0)
        between = 0
        while (got := await received(ends.builder.channel)) != WORDS:
            assert isinstance(got, Piece)
            between = got.number
        sent_after = 0
        while not pieces.done():
            got = await received(ends.builder.channel)
            assert isinstance(got, Piece)
            sent_after += 1
        assert between < 199
        assert sent_after > 0
        await message
        await pieces


async def test_nothing_that_was_said_can_be_read_on_the_wire() -> None:
    over = asyncio.Event()

    async def serve(socket: web.WebSocketResponse) -> None:
        await answer(socket)
        await over.wait()

    async with websocket(serve) as socket:
        wire = Wire(socket)
        opened = await connect(wire)
        await opened.channel.send(WORDS)
        await opened.channel.send_piece(piece(0, b"firmware" * 100))
        on_the_wire = b"".join(wire.sent)
        assert b"hunter2" not in on_the_wire
        assert b"firmware" not in on_the_wire
        assert b"offloader" not in on_the_wire
        over.set()


FRAMES = 4


async def _ends_the_channel(ends: Ends) -> int:
    """Send some messages and return how many arrived before the channel ended."""
    for number in range(FRAMES):
        await ends.offloader.channel.send({"number": number})
    arrived = 0
    while True:
        try:
            message = await received(ends.builder.channel)
        except ChannelClosed:
            return arrived
        assert message == {"number": arrived}
        arrived += 1


@pytest.mark.parametrize("position", [0, 1, 7, 15, -17, -1])
@pytest.mark.parametrize("bit", [0, 7])
async def test_one_altered_bit_ends_the_channel(position: int, bit: int) -> None:
    def alter(number: int, data: bytes) -> list[bytes]:
        if number != 1:
            return [data]
        altered = bytearray(data)
        altered[position] ^= 1 << bit
        return [bytes(altered)]

    async with link(alter) as ends:
        assert await _ends_the_channel(ends) == 1


async def test_a_dropped_frame_ends_the_channel() -> None:
    async with link(lambda number, data: [] if number == 1 else [data]) as ends:
        assert await _ends_the_channel(ends) == 1


async def test_a_repeated_frame_ends_the_channel() -> None:
    async with link(lambda number, data: [data, data] if number == 1 else [data]) as ends:
        assert await _ends_the_channel(ends) == 2


async def test_frames_in_another_order_end_the_channel() -> None:
    kept: list[bytes] = []

    def swap(number: int, data: bytes) -> list[bytes]:
        if number == 1:
            kept.append(data)
            return []
        return [data, *kept] if number == 2 else [data]

    async with link(swap) as ends:
        assert await _ends_the_channel(ends) == 1


async def test_a_truncated_frame_ends_the_channel() -> None:
    async with link(lambda number, data: [data[:-1]] if number == 1 else [data]) as ends:
        assert await _ends_the_channel(ends) == 1


async def test_frames_of_one_link_mean_nothing_on_another() -> None:
    recorded: list[bytes] = []

    def record(_: int, data: bytes) -> list[bytes]:
        recorded.append(data)
        return [data]

    async with link(record) as ends:
        await ends.offloader.channel.send(WORDS)
        await received(ends.builder.channel)
    async with link(lambda _, __: recorded) as ends:
        await ends.offloader.channel.send({})
        with pytest.raises(ChannelClosed, match="altered"):
            await received(ends.builder.channel)


async def test_a_text_on_an_encrypted_connection_ends_it() -> None:
    sockets: list[aiohttp.ClientWebSocketResponse] = []
    opened: list[Channel] = []
    over = asyncio.Event()

    async def serve(socket: web.WebSocketResponse) -> None:
        opened.append((await answer(socket)).channel)
        over.set()
        with pytest.raises(ChannelClosed, match="text"):
            await received(opened[0])

    async with websocket(serve) as socket:
        sockets.append(socket)
        await connect(socket)
        await over.wait()
        await socket.send_str("{}")
        await socket.receive()


async def test_a_message_that_is_too_long_is_neither_sent_nor_taken() -> None:
    async with link() as ends:
        with pytest.raises(ProtocolError) as caught:
            await ends.offloader.channel.send({"text": "x" * MESSAGE_LIMIT})
        assert caught.value.code is ErrorCode.TOO_LARGE
        # An end that does not keep to the limit.
        sending = asyncio.create_task(_send_parts_for_ever(ends.offloader.channel))
        with pytest.raises(ProtocolError) as caught:
            await received(ends.builder.channel)
        assert caught.value.code is ErrorCode.TOO_LARGE
        sending.cancel()


async def _send_parts_for_ever(channel: Channel) -> None:
    while True:
        await channel._send_frame(b"\x01" + b" " * _PART_BYTES)


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\x00",
        b"\x00[]",
        b"\x00no JSON",
        b"\x00" + b"[" * 60_000,
        b"\x02short",
        b"\x09{}",
        b"\x01too short",
    ],
    ids=["empty", "nothing", "list", "text", "nested", "piece", "kind", "part"],
)
async def test_what_no_channel_sends_breaks_the_protocol(frame: bytes) -> None:
    async with link() as ends:
        await ends.offloader.channel._send_frame(frame)
        with pytest.raises(ProtocolError) as caught:
            await received(ends.builder.channel)
        assert caught.value.code is ErrorCode.MALFORMED


async def test_an_end_that_goes_is_noticed_by_the_other() -> None:
    async with link() as ends:
        await ends.offloader.channel.close()
        with pytest.raises(ChannelClosed, match="closed"):
            await received(ends.builder.channel)
        with pytest.raises(ChannelClosed):
            await ends.offloader.channel.send(WORDS)


async def test_json_is_what_json_says() -> None:
    async with link() as ends:
        with pytest.raises(ValueError, match="JSON"):
            await ends.offloader.channel.send({"number": float("nan")})
        await ends.offloader.channel.send(json.loads('{"a": [1, null, true]}'))
        assert await received(ends.builder.channel) == {"a": [1, None, True]}


async def test_the_longest_lines_fit_whatever_their_characters_are() -> None:
    message = {"lines": ["\N{PILE OF POO}" * 16_384] * 4}
    async with link() as ends:
        await ends.offloader.channel.send(message)
        assert await received(ends.builder.channel) == message


async def test_a_long_message_that_is_cancelled_leaves_the_next_one_whole() -> None:
    async with link() as ends:
        pieces = asyncio.create_task(_fill_the_line(ends.offloader.channel))
        while not ends.offloader.channel.busy:  # noqa: ASYNC110 - nothing is told of that
            await asyncio.sleep(0)
        long = asyncio.create_task(ends.offloader.channel.send({"text": "x" * 200_000}))
        await asyncio.sleep(0)
        long.cancel()
        after = asyncio.create_task(ends.offloader.channel.send(WORDS))
        while (got := await received(ends.builder.channel)) != WORDS:
            assert isinstance(got, Piece) or got == {"text": "x" * 200_000}
        await asyncio.wait([long, after])
        pieces.cancel()
        await asyncio.wait([pieces])


async def _fill_the_line(channel: Channel) -> None:
    for number in range(200):
        await channel.send_piece(piece(number, b"x" * PIECE_BYTES))


async def test_an_end_that_takes_nothing_is_closed_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(channel_module, "CLOSE_TIMEOUT", 0.05)
    async with link() as ends:
        filling = asyncio.create_task(_fill_the_line(ends.builder.channel))
        while not ends.builder.channel.busy:  # noqa: ASYNC110 - nothing is told of that
            await asyncio.sleep(0)
        await asyncio.wait_for(ends.builder.channel.close(), 20)
        with pytest.raises(ChannelClosed):
            await asyncio.wait_for(filling, 20)
