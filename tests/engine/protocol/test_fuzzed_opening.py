"""Pairing and the opening of a link: what is altered on the way, and ends that say anything."""

import asyncio
import json
from typing import override

import aiohttp
from hypothesis import given, strategies as st

from custom_components.esphome_offload.engine.codec import encode
from custom_components.esphome_offload.engine.host.pairing_window import PairingWindow
from custom_components.esphome_offload.engine.protocol.channel import ChannelClosed
from custom_components.esphome_offload.engine.protocol.errors import ProtocolError
from custom_components.esphome_offload.engine.protocol.hello import (
    Hello,
    Opened,
    Opening,
    Purpose,
    Refusal,
    Refused,
    open_link,
    read_hello,
)
from custom_components.esphome_offload.engine.protocol.limits import PAIRING_TRIES
from custom_components.esphome_offload.engine.protocol.pairing import Paired, PairingError, pair
from custom_components.esphome_offload.engine.protocol.spake import CodeExchange, Role

from ..fuzzing import MemorySocket, mangled, messages, no_errors_logged, no_tasks_left, share
from .ends import BUILDER, OFFER, OFFLOADER, TO_BUILDER, answer
from .test_pairing import Builder

FAILURES = (ChannelClosed, Refused, ProtocolError, PairingError)
"""All that an end may raise; the ends of a real one handle each."""
TEXT, BINARY = aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY

type Said = tuple[aiohttp.WSMsgType, object]


class Wire(MemorySocket):
    """An end that keeps what it sent and took. One message that it sends is altered."""

    def __init__(self) -> None:
        super().__init__()
        self.alteration: tuple[int, str, bytes] | None = None
        self.sent: list[Said] = []
        self.took: list[Said] = []

    @override
    def put(self, kind: aiohttp.WSMsgType, data: object) -> None:
        self.sent.append((kind, data))
        for each in self._altered(kind, data):
            super().put(*each)

    def _altered(self, kind: aiohttp.WSMsgType, data: object) -> list[Said]:
        if self.alteration is None or self.alteration[0] != len(self.sent) - 1:
            return [(kind, data)]
        _, how, noise = self.alteration
        raw = data.encode() if isinstance(data, str) else data
        assert isinstance(raw, bytes)
        place = noise[0] % len(raw)
        match how:
            case "repeat":
                return [(kind, data), (kind, data)]
            case "flip":
                raw = raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :]
            case "cut":
                raw = raw[:place]
            case "replace":
                raw = noise
            case "kind":
                kind = TEXT if kind is BINARY else BINARY
        return [(kind, raw.decode(errors="replace") if kind is TEXT else raw)]

    @override
    async def receive(self) -> aiohttp.WSMessage:
        message = await super().receive()
        if message.type in (TEXT, BINARY):
            self.took.append((message.type, message.data))
        return message

    @property
    def took_what_was_sent(self) -> bool:
        """Whether all that was taken is what the other end sent."""
        assert isinstance(self.other, Wire)
        return self.took == self.other.sent[: len(self.took)]


alterations = st.tuples(
    st.integers(0, 3),
    st.sampled_from(["repeat", "flip", "cut", "replace", "kind"]),
    st.binary(min_size=1, max_size=300),
)
by_builder = st.booleans()


def altered_wire(alteration: tuple[int, str, bytes], by_builder: bool) -> tuple[Wire, Wire]:
    offloader, builder = Wire.pair()
    assert isinstance(offloader, Wire)
    assert isinstance(builder, Wire)
    (builder if by_builder else offloader).alteration = alteration
    return offloader, builder


async def result_of[T](work: asyncio.Task[T], socket: MemorySocket) -> T | Exception:
    """Return how an end came out of it, and hang up when it has failed."""
    try:
        return await work
    except FAILURES as err:
        await socket.close()
        return err


async def pair_over(socket: MemorySocket, code: str) -> Paired:
    hello, said = await read_hello(socket, OFFER)
    return await pair(Opening(socket, said, OFFLOADER, TO_BUILDER), hello, code)


async def open_over(socket: MemorySocket) -> Opened:
    _, said = await read_hello(socket, OFFER)
    return await open_link(Opening(socket, said, OFFLOADER, TO_BUILDER), BUILDER.public)


@share(40)
@given(alterations, by_builder)
async def test_nobody_pairs_by_what_was_altered(
    alteration: tuple[int, str, bytes], by_builder: bool
) -> None:
    async with no_tasks_left():
        offloader_end, builder_end = altered_wire(alteration, by_builder)
        builder = Builder()
        code = builder.window.open().code

        async def serve() -> None:
            await builder.serve(builder_end)
            await builder_end.close()

        serving = asyncio.create_task(serve())
        pairing = asyncio.create_task(pair_over(offloader_end, code))
        result = await result_of(pairing, offloader_end)
        await serving
    if isinstance(result, Paired):
        assert result == Paired(BUILDER.public, "builder")
        assert offloader_end.took_what_was_sent
    if builder.stored:
        assert builder.stored == [Paired(OFFLOADER.public, "offloader")]
        assert builder_end.took_what_was_sent
    else:
        assert not isinstance(result, Paired)
        assert builder.window.tries_left in (PAIRING_TRIES, PAIRING_TRIES - 1)
    assert builder.window._exchange is None


@share(40)
@given(alterations, by_builder)
async def test_no_link_is_opened_by_what_was_altered(
    alteration: tuple[int, str, bytes], by_builder: bool
) -> None:
    async with no_tasks_left():
        offloader_end, builder_end = altered_wire(alteration, by_builder)
        answering = asyncio.create_task(answer(builder_end))
        opening = asyncio.create_task(open_over(offloader_end))
        opened, answered = await asyncio.gather(
            result_of(opening, offloader_end), result_of(answering, builder_end)
        )
    assert isinstance(opened, Exception) or offloader_end.took_what_was_sent
    assert isinstance(answered, Exception) or builder_end.took_what_was_sent


# Ends that say anything.

shares = st.sampled_from([CodeExchange(role, "0" * 8).share for role in Role])
bytes_of_a_handshake = st.one_of(
    st.binary(max_size=120),
    st.builds(
        lambda purpose, said: purpose + said,
        st.sampled_from([Purpose.PAIR, Purpose.PAIR_BY_SECRET, Purpose.LINK]),
        shares | st.binary(max_size=120),
    ),
    shares,
)
texts = st.one_of(
    st.text(max_size=40),
    st.one_of(mangled(Hello), mangled(Refusal)).map(repr),
    messages(Hello).map(lambda said: json.dumps(encode(said))),
    messages(Refusal).map(lambda said: json.dumps(encode(said))),
)
anything = st.lists(
    st.tuples(st.just(BINARY), bytes_of_a_handshake)
    | st.tuples(st.just(TEXT), texts)
    | st.tuples(st.just(BINARY), st.just(b"x" * 9000)),
    max_size=5,
)


@share(60)
@given(anything)
async def test_a_builder_pairs_with_nobody_who_says_just_anything(said: list[Said]) -> None:
    with no_errors_logged():
        async with no_tasks_left():
            offloader_end, builder_end = MemorySocket.pair()
            builder = Builder()
            builder.window.open()
            for each in said:
                offloader_end.put(*each)
            offloader_end.finish()
            await builder.serve(builder_end)
    assert not builder.stored
    assert_free(builder.window)


def assert_free(window: PairingWindow) -> None:
    """Fail when the next offloader could not try."""
    assert window._exchange is None
    assert window.tries_left in (PAIRING_TRIES, PAIRING_TRIES - 1)


@share(60)
@given(anything)
async def test_an_offloader_trusts_nobody_who_says_just_anything(said: list[Said]) -> None:
    for way in (lambda socket: pair_over(socket, "0" * 8), open_over):
        async with no_tasks_left():
            offloader_end, builder_end = MemorySocket.pair()
            for each in said:
                builder_end.put(*each)
            builder_end.finish()
            result = await result_of(asyncio.create_task(way(offloader_end)), offloader_end)
            assert isinstance(result, FAILURES)
