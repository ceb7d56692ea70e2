"""Two ends pair over a real websocket, and others try to."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from unittest.mock import patch

from aiohttp import web
import pytest

from custom_components.esphome_offload.engine.codec import encode
from custom_components.esphome_offload.engine.host.pairing_window import PairingWindow, WindowEnd
from custom_components.esphome_offload.engine.protocol import pairing as pairing_module
from custom_components.esphome_offload.engine.protocol.channel import ChannelClosed, Socket
from custom_components.esphome_offload.engine.protocol.errors import ErrorCode, ProtocolError
from custom_components.esphome_offload.engine.protocol.hello import (
    Hello,
    Introduction,
    Opening,
    Purpose,
    Refused,
    read_hello,
    receive_handshake,
    refuse,
    send_plain,
)
from custom_components.esphome_offload.engine.protocol.identity import Identity
from custom_components.esphome_offload.engine.protocol.limits import PAIRING_WINDOW
from custom_components.esphome_offload.engine.protocol.negotiation import Offer
from custom_components.esphome_offload.engine.protocol.noise import Ciphers
from custom_components.esphome_offload.engine.protocol.pairing import (
    Paired,
    PairingError,
    answer_pairing,
    pair,
    read_code,
)
from custom_components.esphome_offload.engine.protocol.spake import CodeExchange, Role

from .ends import BUILDER, OFFER, OFFLOADER, TO_BUILDER, TO_OFFLOADER, Wire, websocket


@dataclass
class Builder:
    """A builder with a pairing window. ``now`` is its clock, in seconds."""

    now: float = 1000.0
    own: Identity = BUILDER
    introduction: Introduction = TO_OFFLOADER
    stored: list[Paired] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    store_error: Exception | None = None

    def __post_init__(self) -> None:
        self.window = PairingWindow(lambda: self.now)

    async def __call__(self, socket: web.WebSocketResponse) -> None:
        await self.serve(socket)

    async def serve(self, socket: Socket) -> None:
        hello = Hello(self.introduction.offer, self.own.pin_sha256, "builder", pairing=True)
        said = await send_plain(socket, encode(hello))
        try:
            first = await receive_handshake(socket)
            opening = Opening(socket, said, self.own, self.introduction)
            share = first[1:] if first[:1] == Purpose.PAIR else b""
            await answer_pairing(opening, None, share, self.window, self._store)
        except (ProtocolError, ChannelClosed, Refused) as err:
            self.failures.append(err)
            if isinstance(err, ProtocolError):
                await refuse(socket, err.code, self.window.tries_left)

    async def _store(self, paired: Paired) -> None:
        if self.store_error is not None:
            raise self.store_error
        self.stored.append(paired)


@pytest.fixture
def builder() -> Builder:
    return Builder()


async def pairing(
    builder: Callable[[web.WebSocketResponse], Awaitable[None]],
    code: str,
    own: Identity = OFFLOADER,
    introduction: Introduction = TO_BUILDER,
    alter: Callable[[int, bytes], list[bytes]] = lambda _, data: [data],
) -> Paired:
    """Pair as an offloader whose owner typed ``code``."""
    async with websocket(builder) as socket:
        wire = Wire(socket, alter)
        hello, said = await read_hello(wire, introduction.offer)
        return await pair(Opening(wire, said, own, introduction), hello, code)


async def failure(attempt: Awaitable[Paired]) -> PairingError:
    with pytest.raises(PairingError) as caught:
        await attempt
    return caught.value


def other_than(code: str, by: int = 1) -> str:
    return f"{(int(code) + by) % 10**8:08d}"


async def test_the_right_code_pairs_both_with_each_other(builder: Builder) -> None:
    paired = await pairing(builder, builder.window.open().code)
    assert paired == Paired(BUILDER.public, "builder")
    assert [(each.public, each.label) for each in builder.stored] == [
        (OFFLOADER.public, "offloader")
    ]
    assert builder.window.end is WindowEnd.PAIRED


async def test_a_window_is_used_once(builder: Builder) -> None:
    code = builder.window.open().code
    await pairing(builder, code)
    failed = await failure(pairing(builder, code, own=Identity.generate()))
    assert failed.code is ErrorCode.WINDOW_CLOSED


def test_a_code_can_be_typed_as_it_is_read_out() -> None:
    assert read_code(" 0000 - 0001 ") == "00000001"


@pytest.mark.parametrize("typed", ["", "1234567", "123456789", "1234567a", "1234567\u0663"])
def test_what_cannot_be_a_code_is_not_sent(typed: str) -> None:
    assert read_code(typed) is None


async def test_a_wrong_code_can_be_tried_again(builder: Builder) -> None:
    code = builder.window.open().code
    failed = await failure(pairing(builder, other_than(code)))
    assert (failed.code, failed.tries_left) == (ErrorCode.WRONG_CODE, 2)
    await pairing(builder, code)
    assert len(builder.stored) == 1


async def test_three_wrong_codes_close_the_window(builder: Builder) -> None:
    code = builder.window.open().code
    left = [(await failure(pairing(builder, other_than(code, by)))).tries_left for by in (1, 2, 3)]
    assert left == [2, 1, 0]
    assert builder.window.end is WindowEnd.WRONG_CODES
    assert (await failure(pairing(builder, code))).code is ErrorCode.WINDOW_CLOSED
    assert builder.stored == []


async def test_a_try_counts_when_the_builder_has_answered(builder: Builder) -> None:
    builder.window.open()

    async def leave_before_the_proof(number: int) -> None:
        async with websocket(builder) as socket:
            await socket.receive()
            await socket.send_bytes(Purpose.PAIR + CodeExchange(Role.OFFLOADER, "0" * 8).share)
            if number:
                await socket.receive()

    await leave_before_the_proof(1)
    while not builder.failures:  # noqa: ASYNC110 - nothing is told of that
        await asyncio.sleep(0)
    assert builder.window.tries_left == 2


@pytest.mark.parametrize(
    "share", [b"", b"\xff" * 32, bytes(31), bytes(33), bytes(32), b"\x01" + bytes(31)]
)
async def test_strangers_without_a_share_use_up_no_try(builder: Builder, share: bytes) -> None:
    builder.window.open()
    for _ in range(4):
        async with websocket(builder) as socket:
            await socket.receive()
            await socket.send_bytes(Purpose.PAIR + share)
            await socket.receive()
    assert builder.window.tries_left == 3


async def test_one_exchange_at_a_time(builder: Builder) -> None:
    code = builder.window.open().code
    async with websocket(builder) as first:
        await first.receive()
        await first.send_bytes(Purpose.PAIR + CodeExchange(Role.OFFLOADER, code).share)
        await first.receive()
        assert (await failure(pairing(builder, code))).code is ErrorCode.BUSY
    while len(builder.failures) < 2:  # noqa: ASYNC110 - the first one was left
        await asyncio.sleep(0)
    await pairing(builder, code)


async def test_an_exchange_that_takes_too_long_gives_way(
    builder: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = builder.window.open().code
    monkeypatch.setattr(pairing_module, "PAIRING_EXCHANGE_TIMEOUT", 0.2)
    async with websocket(builder) as first:
        await first.receive()
        await first.send_bytes(Purpose.PAIR + CodeExchange(Role.OFFLOADER, code).share)
        await first.receive()
        refusal = await first.receive()
        assert "timed_out" in refusal.data
    monkeypatch.undo()
    await pairing(builder, code)


async def test_a_window_expires(builder: Builder) -> None:
    code = builder.window.open().code
    builder.now += PAIRING_WINDOW
    assert (await failure(pairing(builder, code))).code is ErrorCode.WINDOW_EXPIRED


async def test_a_window_that_ends_in_the_middle_pairs_nobody(builder: Builder) -> None:
    code = builder.window.open().code

    def expire(number: int, data: bytes) -> list[bytes]:
        if number == 2:  # the last message
            builder.now += PAIRING_WINDOW
        return [data]

    assert (await failure(pairing(builder, code, alter=expire))).code is ErrorCode.WINDOW_EXPIRED
    assert builder.stored == []


async def test_a_window_that_was_opened_again_pairs_nobody_with_the_old_code(
    builder: Builder,
) -> None:
    code = builder.window.open().code

    def reopen(number: int, data: bytes) -> list[bytes]:
        if number == 2:
            builder.window.open()
        return [data]

    assert (await failure(pairing(builder, code, alter=reopen))).code is ErrorCode.TIMED_OUT
    assert builder.stored == []
    assert builder.window.tries_left == 3


async def test_without_a_window_nobody_can_pair(builder: Builder) -> None:
    failed = await failure(pairing(builder, "12345678"))
    assert failed.code is ErrorCode.WINDOW_CLOSED


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("position", [1, 20, -1])
async def test_what_is_altered_on_the_way_pairs_nobody(
    builder: Builder, number: int, position: int
) -> None:
    def alter(index: int, data: bytes) -> list[bytes]:
        if index != number:
            return [data]
        altered = bytearray(data)
        altered[position] ^= 1
        return [bytes(altered)]

    code = builder.window.open().code
    await failure(pairing(builder, code, alter=alter))
    assert builder.stored == []


@pytest.mark.parametrize("number", [0, 1, 2])
async def test_what_is_altered_on_the_way_back_pairs_nobody(builder: Builder, number: int) -> None:
    def alter(index: int, data: bytes) -> list[bytes]:
        altered = bytearray(data)
        if index == number:
            altered[-1] ^= 1
        return [bytes(altered)]

    async def serve(socket: web.WebSocketResponse) -> None:
        await builder.serve(Wire(socket, alter))

    code = builder.window.open().code
    with pytest.raises((PairingError, ChannelClosed)):
        await pairing(serve, code)


async def test_a_recorded_pairing_cannot_be_played_again(builder: Builder) -> None:
    recorded: list[bytes] = []

    def record(_: int, data: bytes) -> list[bytes]:
        recorded.append(data)
        return [data]

    code = builder.window.open().code
    await pairing(builder, code, alter=record)
    # Even with the same code, which is never given twice.
    builder.window.open()
    assert builder.window._open is not None
    builder.window._open.code = code
    async with websocket(builder) as socket:
        await socket.receive()
        for each in recorded:
            await socket.send_bytes(each)
        await socket.receive()
        await socket.receive()
    assert len(builder.stored) == 1


async def test_a_false_builder_without_the_code_pairs_with_nobody() -> None:
    code = "22222222"
    false = Builder(own=Identity.generate())
    false.window.open()
    assert false.window._open is not None
    false.window._open.code = other_than(code)
    assert (await failure(pairing(false, code))).code is ErrorCode.WRONG_CODE
    assert false.stored == []


async def test_one_in_between_who_has_no_code_is_noticed_by_both(builder: Builder) -> None:
    """It answers both sides with keys of its own, and knows all but the code."""
    code = builder.window.open().code
    middle = Builder(own=Identity.generate())
    middle.window.open()
    assert middle.window._open is not None
    middle.window._open.code = other_than(code)
    assert (await failure(pairing(middle, code))).code is ErrorCode.WRONG_CODE
    stranger = Identity.generate()
    await failure(pairing(builder, other_than(code), own=stranger))
    assert builder.stored == middle.stored == []


async def test_the_key_that_is_stored_is_the_one_that_was_proven(builder: Builder) -> None:
    private = Identity.generate().private
    claims = Identity(private, OFFLOADER.public)
    await pairing(builder, builder.window.open().code, own=claims)
    assert builder.stored[0].public == Identity.from_private(private).public


async def test_neither_code_nor_labels_cross_the_wire(builder: Builder) -> None:
    crossed: list[bytes] = []

    def record(_: int, data: bytes) -> list[bytes]:
        crossed.append(data)
        return [data]

    async def serve(socket: web.WebSocketResponse) -> None:
        await builder.serve(Wire(socket, record))

    code = builder.window.open().code
    await pairing(serve, code, alter=record)
    everything = b"".join(crossed)
    assert len(crossed) >= 6
    assert code.encode() not in everything
    assert b"offloader" not in everything
    assert OFFLOADER.public.raw not in everything
    assert all(len(each) < 1024 for each in crossed)


async def test_the_same_identity_on_both_sides_is_said(builder: Builder) -> None:
    code = builder.window.open().code
    failed = await failure(pairing(builder, code, own=BUILDER))
    assert failed.code is ErrorCode.SAME_IDENTITY
    assert builder.window.tries_left == 3


async def test_a_copied_identity_that_hides_in_the_hello_is_said_too() -> None:
    builder = Builder()
    code = builder.window.open().code

    async def serve(socket: web.WebSocketResponse) -> None:
        # The hello names another pin than the key that the handshake proves.
        hello = Hello(OFFER, "0" * 64, "builder", pairing=True)
        said = await send_plain(socket, encode(hello))
        first = await receive_handshake(socket)
        opening = Opening(socket, said, BUILDER, TO_OFFLOADER)
        with pytest.raises((ProtocolError, ChannelClosed)):
            await answer_pairing(opening, None, first[1:], builder.window, builder._store)

    failed = await failure(pairing(serve, code, own=BUILDER))
    assert failed.code is ErrorCode.SAME_IDENTITY
    assert builder.stored == []


async def test_an_offloader_of_a_later_protocol_is_refused_inside_the_handshake(
    builder: Builder,
) -> None:
    code = builder.window.open().code
    # A hello that fits, and an introduction that does not.
    late = Introduction(Offer(99, 98, (), "9.9"), "offloader")
    async with websocket(builder) as socket:
        hello, said = await read_hello(socket, OFFER)
        with pytest.raises(PairingError) as caught:
            await pair(Opening(socket, said, OFFLOADER, late), hello, code)
    assert caught.value.code in {ErrorCode.TOO_OLD, ErrorCode.TOO_NEW}
    assert builder.stored == []


async def test_an_offloader_learns_nothing_until_it_is_stored(builder: Builder) -> None:
    builder.store_error = ProtocolError(ErrorCode.NO_SPACE, "the disk is full")
    with pytest.raises((PairingError, ChannelClosed)):
        await pairing(builder, builder.window.open().code)
    assert builder.stored == []


async def test_an_end_that_is_none_is_no_pairing(builder: Builder) -> None:
    code = builder.window.open().code
    with (
        patch.object(pairing_module, "_DONE", b"not paired"),
        patch.object(Ciphers, "encrypt", lambda self, _: bytes(self._noise.encrypt(b"paired"))),
    ):
        assert (await failure(pairing(builder, code))).code is ErrorCode.MALFORMED


async def test_a_builder_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairing_module, "PAIRING_EXCHANGE_TIMEOUT", 0.02)
    over = asyncio.Event()

    async def serve(socket: web.WebSocketResponse) -> None:
        hello = Hello(OFFER, BUILDER.pin_sha256, "builder", pairing=True)
        await send_plain(socket, encode(hello))
        await over.wait()

    async with websocket(serve) as socket:
        hello, said = await read_hello(socket, OFFER)
        with pytest.raises(PairingError) as caught:
            await pair(Opening(socket, said, OFFLOADER, TO_BUILDER), hello, "12345678")
        over.set()
    assert caught.value.code is ErrorCode.TIMED_OUT


def test_two_offloaders_cannot_pair_with_each_other() -> None:
    ours = CodeExchange(Role.OFFLOADER, "12345678")
    theirs = CodeExchange(Role.OFFLOADER, "12345678")
    with pytest.raises(ProtocolError):
        ours.secret(ours.share)
    assert CodeExchange(Role.OFFLOADER, "12345678").secret(theirs.share) != theirs.secret(
        CodeExchange(Role.OFFLOADER, "12345678").share
    )


def test_the_secret_of_two_codes_differs_and_of_one_is_the_same() -> None:
    def secrets(one: str, two: str) -> tuple[bytes, bytes]:
        offloader, builder = CodeExchange(Role.OFFLOADER, one), CodeExchange(Role.BUILDER, two)
        return offloader.secret(builder.share), builder.secret(offloader.share)

    same, different = secrets("12345678", "12345678"), secrets("12345678", "12345679")
    assert same[0] == same[1]
    assert different[0] != different[1]
