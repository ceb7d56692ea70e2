"""The messages before the encryption, and the handshake of a link."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
import json
from typing import Annotated, ClassVar, Final

import aiohttp

from ..codec import Json, Number, OrElse, encode, encode_json
from .channel import Channel, ChannelClosed, Socket, closing_reason
from .errors import ErrorCode, ProtocolError
from .fields import Digest, Label
from .identity import Identity, PublicKey
from .limits import HANDSHAKE_TIMEOUT
from .negotiation import Agreement, Offer, negotiate, negotiate_first
from .noise import Handshake, NoiseError
from .parsing import parse, parse_json, parse_one_of

URL_LINK: Final = "/api/esphome_offload/link"
_CONTEXT: Final = b"esphome_offload "
_PLAIN_LIMIT: Final = 8 * 1024
"""Bytes of what is said before the encryption."""


class Purpose:
    """The first byte of an offloader's first message: what it wants."""

    LINK: Final = b"L"
    PAIR: Final = b"P"
    PAIR_BY_SECRET: Final = b"S"


@dataclass(frozen=True, slots=True)
class Hello:
    """Builder → offloader, the first message: who is there. A hint until a handshake proves it.

    ``pairing`` says whether a pairing window is open. ``public_key`` is for offloaders that the
    builder knows already, which can establish a link at once; older builders do not say it.
    """

    TYPE: ClassVar[str] = "hello"
    offer: Offer
    pin_sha256: Digest
    label: Label
    pairing: bool
    public_key: PublicKey | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Builder → offloader, instead of a message of a handshake. Not authenticated."""

    TYPE: ClassVar[str] = "refusal"
    error: Annotated[ErrorCode, OrElse(ErrorCode.MALFORMED)]
    tries_left: Annotated[int, Number(0, 100)] | None = None


class Program(StrEnum):
    """What an instance is, for people."""

    HOME_ASSISTANT = "home_assistant"
    STANDALONE_BUILDER = "standalone_builder"


@dataclass(frozen=True, slots=True)
class Introduction:
    """The description of an end inside a handshake, encrypted."""

    offer: Offer
    label: Label
    program: Annotated[Program, OrElse(Program.HOME_ASSISTANT)] = Program.HOME_ASSISTANT


@dataclass(frozen=True, slots=True)
class Opened:
    """An established link, from one end."""

    channel: Channel
    peer: PublicKey
    introduction: Introduction
    agreement: Agreement


@dataclass(frozen=True, slots=True)
class Opening:
    """A connection on which the hello was said, from one end: ``hello`` are its bytes."""

    socket: Socket
    hello: bytes
    own: Identity
    introduction: Introduction


class Refused(Exception):  # noqa: N818 - a refusal is an answer
    """The builder refused before anything was encrypted: a hint, anybody could have said it."""

    def __init__(self, code: ErrorCode, tries_left: int | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.tries_left = tries_left


# The offloader's end.


async def read_hello(socket: Socket, own: Offer) -> tuple[Hello, bytes]:
    """Return the builder's hello, and its bytes, to which the handshake is bound.

    Raises ChannelClosed, Refused, ProtocolError TOO_OLD or TOO_NEW (said of the builder),
    MALFORMED.
    """
    raw = await receive_plain(socket)
    message = _plain_json(raw)
    raise_refusal(message)
    negotiate_first(own, message)
    return parse(Hello, message), raw


async def open_link(opening: Opening, peer: PublicKey) -> Opened:
    """Establish a link with the paired builder.

    Raises ChannelClosed, Refused (UNKNOWN_GUEST also for a handshake that was altered on its
    way) and ProtocolError.
    """
    handshake = Handshake.link(opening.own, peer, prologue(Purpose.LINK, opening.hello))
    own = encode_json(opening.introduction)
    try:
        await send_handshake(opening.socket, Purpose.LINK + handshake.write(own))
        answer = await receive_handshake(opening.socket)
        theirs = parse_json(Introduction, handshake.read(answer))
    except NoiseError as err:
        raise ChannelClosed("what answers there is not the builder that was paired with") from err
    agreement = negotiate(opening.introduction.offer, theirs.offer)
    return Opened(Channel(opening.socket, handshake.ciphers()), peer, theirs, agreement)


# The builder's end.


async def answer_link(
    opening: Opening, message: bytes, is_guest: Callable[[PublicKey], bool]
) -> Opened:
    """Establish a link with the offloader that sent ``message`` (without its first byte).

    Nothing may be done on the strength of this alone: the message can be an old one. The first
    message on the channel cannot. Raises ChannelClosed, and ProtocolError UNKNOWN_GUEST: the same
    for a key that is no guest's, for garbage and for a message that was altered on its way.
    """
    handshake = Handshake.link_answer(opening.own, prologue(Purpose.LINK, opening.hello))
    try:
        theirs = parse_json(Introduction, handshake.read(message))
        peer = _guest(handshake, is_guest)
        agreement = negotiate(opening.introduction.offer, theirs.offer)
        answer = handshake.write(encode_json(opening.introduction))
    except (NoiseError, ProtocolError) as err:
        raise ProtocolError(ErrorCode.UNKNOWN_GUEST, "no guest") from err
    await send_handshake(opening.socket, answer)
    return Opened(Channel(opening.socket, handshake.ciphers()), peer, theirs, agreement)


def _guest(handshake: Handshake, is_guest: Callable[[PublicKey], bool]) -> PublicKey:
    if handshake.peer is None or not is_guest(handshake.peer):
        raise ProtocolError(ErrorCode.UNKNOWN_GUEST, "no guest")
    return handshake.peer


async def refuse(socket: Socket, code: ErrorCode, tries_left: int | None = None) -> None:
    """Send a refusal, as well as can be done."""
    with suppress(ChannelClosed):
        await send_plain(socket, encode(Refusal(code, tries_left)))


# For both, and for pairing.


def prologue(purpose: bytes, hello: bytes, *more: bytes) -> bytes:
    """Return what a handshake is bound to: altered on its way, it comes to nothing."""
    parts = (purpose, hello, *more)
    return _CONTEXT + b"".join(len(part).to_bytes(4) + part for part in parts)


async def send_plain(socket: Socket, message: Json) -> bytes:
    """Send a message before the encryption; returns its bytes. Raises ChannelClosed."""
    text = json.dumps(message, separators=(",", ":"))
    async with _on_wire():
        await socket.send_str(text)
    return text.encode()


async def send_handshake(socket: Socket, message: bytes) -> None:
    """Send a message of a handshake; raises ChannelClosed."""
    async with _on_wire():
        await socket.send_bytes(message)


async def receive_plain(socket: Socket) -> bytes:
    """Return the bytes of a text message; raises ChannelClosed, ProtocolError."""
    message = await _receive(socket)
    if message.type is not aiohttp.WSMsgType.TEXT:
        raise ProtocolError(ErrorCode.MALFORMED, "not what comes before a handshake")
    return str(message.data).encode(errors="replace")


async def receive_handshake(socket: Socket) -> bytes:
    """Return a message of a handshake; raises ChannelClosed, Refused, ProtocolError."""
    message = await _receive(socket)
    if message.type is aiohttp.WSMsgType.TEXT:
        raise_refusal(_plain_json(str(message.data).encode(errors="replace")))
        raise ProtocolError(ErrorCode.MALFORMED, "not a message of a handshake")
    return bytes(message.data)


def raise_refusal(message: object) -> None:
    """Raise Refused for a refusal."""
    refusal = parse_one_of((Refusal,), message)
    if refusal is not None:
        raise Refused(refusal.error, refusal.tries_left)


@asynccontextmanager
async def _on_wire() -> AsyncGenerator[None]:
    """Limit the time of a message; raises ChannelClosed when it cannot be sent or received."""
    try:
        async with asyncio.timeout(HANDSHAKE_TIMEOUT):
            yield
    # RuntimeError is what aiohttp raises for a websocket that is closing.
    except (aiohttp.ClientError, OSError, RuntimeError, TimeoutError) as err:
        raise ChannelClosed(f"the connection broke: {err!r}") from err


async def _receive(socket: Socket) -> aiohttp.WSMessage:
    async with _on_wire():
        message = await socket.receive()
    if message.type not in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
        raise ChannelClosed(closing_reason(message))
    if len(message.data) > _PLAIN_LIMIT:
        raise ProtocolError(ErrorCode.TOO_LARGE, "too much before a handshake")
    return message


def _plain_json(raw: bytes) -> object:
    try:
        message: object = json.loads(raw)
    except (ValueError, RecursionError) as err:
        raise ProtocolError(ErrorCode.MALFORMED, "not JSON") from err
    return message
