"""Frames of a channel: of any content from the other end, and altered in any way between both."""

import asyncio

import aiohttp
from hypothesis import given, strategies as st
import pytest

from custom_components.esphome_offload.engine.codec import Json
from custom_components.esphome_offload.engine.protocol.channel import (
    _PART_BYTES,
    Channel,
    ChannelClosed,
    Piece,
)
from custom_components.esphome_offload.engine.protocol.errors import ErrorCode, ProtocolError
from custom_components.esphome_offload.engine.protocol.limits import MESSAGE_LIMIT

from ..fuzzing import MemorySocket, share, work_per_turn
from .ends import memory_link

# The first byte is the kind of a frame.
frames = st.one_of(
    st.binary(max_size=40),
    st.builds(lambda kind, rest: kind + rest, st.sampled_from([b"\0", b"\1", b"\2"]),
              st.binary(max_size=30) | st.just(b'{"id":1}')),
    st.just(b"\1" + b" " * _PART_BYTES),
)  # fmt: skip
FRAMES_OF_A_MESSAGE = MESSAGE_LIMIT // _PART_BYTES + 1


@share(50)
@given(st.lists(frames, max_size=20))
async def test_whatever_the_other_end_frames_is_received_or_refused(plain: list[bytes]) -> None:
    async with memory_link() as ends:
        channel, socket = ends.builder.channel, ends.sockets[1]
        for each in plain:
            await ends.sockets[0].send_bytes(ends.offloader.channel._ciphers.encrypt(each))
        await ends.sockets[0].close()
        async with work_per_turn(lambda: socket.taken, FRAMES_OF_A_MESSAGE):
            error = await _receive_all(channel)
        assert len(channel._parts) <= MESSAGE_LIMIT
        if isinstance(error, ProtocolError):
            assert error.code in (ErrorCode.MALFORMED, ErrorCode.TOO_LARGE)


async def _receive_all(channel: Channel) -> Exception:
    while True:
        try:
            received = await channel.receive()
        except (ChannelClosed, ProtocolError) as err:
            return err
        assert isinstance(received, (dict, Piece))
        await asyncio.sleep(0)


async def test_parts_that_never_make_a_message_are_refused_at_once() -> None:
    """Thousands of them fit into what is buffered, and cost as much as long ones."""
    for part in (b"\1", b"\1x", b"\1" + b"x" * (_PART_BYTES - 1)):
        async with memory_link() as ends:
            for _ in range(5000):
                await ends.sockets[0].send_bytes(ends.offloader.channel._ciphers.encrypt(part))
            ends.sockets[0].finish()
            before = ends.sockets[1].taken
            with pytest.raises(ProtocolError) as refused:
                await ends.builder.channel.receive()
            assert refused.value.code is ErrorCode.MALFORMED
            assert ends.sockets[1].taken - before == 1


@st.composite
def alterations(draw: st.DrawFn) -> tuple[int, str, bytes]:
    """Return where on the wire something is done, what, and with which bytes."""
    kind = draw(st.sampled_from(["drop", "repeat", "swap", "flip", "cut", "replace", "text"]))
    return draw(st.integers(0, 5)), kind, draw(st.binary(min_size=1, max_size=40))


def altered(wire: list[bytes], at: int, kind: str, noise: bytes) -> list[bytes | str]:
    before, frame, after = wire[:at], wire[at], wire[at + 1 :]
    place = noise[0] % len(frame)
    match kind:
        case "drop":
            return [*before, *after]
        case "repeat":
            return [*before, frame, frame, *after]
        case "swap":
            return [*before, *after[:1], frame, *after[1:]]
        case "flip":
            other = frame[:place] + bytes([frame[place] ^ 1]) + frame[place + 1 :]
            return [*before, other, *after]
        case "cut":
            return [*before, frame[:place], *after]
        case "replace":
            return [*before, noise, *after]
        case _:
            return [*before, frame.hex(), *after]


@share(50)
@given(st.lists(st.dictionaries(st.text(max_size=4), st.integers()), min_size=7, max_size=9),
       alterations())  # fmt: skip
async def test_after_what_was_altered_nothing_arrives(
    sent: list[Json], alteration: tuple[int, str, bytes]
) -> None:
    async with memory_link() as ends:
        wire, socket = Recorder(), ends.sockets[0]
        ends.offloader.channel._socket = wire
        for each in sent:
            await ends.offloader.channel.send(each)
        for frame in altered(wire.frames, *alteration):
            is_text = isinstance(frame, str)
            socket.put(aiohttp.WSMsgType.TEXT if is_text else aiohttp.WSMsgType.BINARY, frame)
        await socket.close()
        received = []
        try:
            while True:
                received.append(await ends.builder.channel.receive())
        except ChannelClosed:
            pass
        unaltered = alteration[0] + (alteration[1] == "repeat")
        assert received == sent[:unaltered]


class Recorder(MemorySocket):
    """A socket that keeps what is sent."""

    def __init__(self) -> None:
        super().__init__()
        self.frames: list[bytes] = []

    async def send_bytes(self, data: bytes) -> None:
        self.frames.append(data)
