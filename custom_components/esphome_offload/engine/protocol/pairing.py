"""Pairing, from both ends: SPAKE2 over a code keys a Noise handshake that swaps the identities.

The code is one that a person types, or a secret that was handed over by a program (the purpose
PAIR_BY_SECRET); all else is the same.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
import re
from typing import Final, Protocol

from ..codec import encode_json
from .errors import ErrorCode, ProtocolError, said_of_other
from .hello import (
    Hello,
    Introduction,
    Opening,
    Purpose,
    Refused,
    prologue,
    receive_handshake,
    send_handshake,
)
from .identity import Identity, PublicKey
from .limits import CODE_DIGITS, PAIRING_EXCHANGE_TIMEOUT
from .negotiation import negotiate
from .noise import Handshake, NoiseError
from .parsing import parse_json
from .spake import CodeExchange, Role, check_share

_DONE: Final = b"paired"


class PairingError(Exception):
    """Pairing did not succeed; it can be tried again. ``detail`` is for the log.

    The codes TOO_OLD and TOO_NEW are said of the builder.
    """

    def __init__(self, code: ErrorCode, detail: str, tries_left: int | None = None) -> None:
        super().__init__(detail)
        self.code = code
        self.tries_left = tries_left


@dataclass(frozen=True, slots=True)
class Paired:
    """The other end of a new pairing."""

    public: PublicKey
    label: str


class Window(Protocol):
    """The pairing window of the builder, which shows the code."""

    def begin(self, address: str | None) -> str:
        """Start an exchange with the offloader at an address and return the code.

        Raises ProtocolError WINDOW_CLOSED, WINDOW_EXPIRED or BUSY.
        """

    def answered(self) -> None:
        """Use up a try: the other end may now find out whether its code is right.

        Raises ProtocolError when the window or the exchange is over meanwhile.
        """

    def succeed(self) -> None:
        """Close the window: the code was right."""

    def abandon(self) -> None:
        """End the exchange, however it went; the next one may begin."""

    @property
    def tries_left(self) -> int:
        """How many wrong codes it takes until the window closes."""


def read_code(typed: str) -> str | None:
    """Return a typed code without spaces and dashes; None for what cannot be a code."""
    code = re.sub(r"[\s-]", "", typed)
    return code if re.fullmatch(rf"[0-9]{{{CODE_DIGITS}}}", code) else None


async def pair(
    opening: Opening, hello: Hello, code: str, *, purpose: bytes = Purpose.PAIR
) -> Paired:
    """Pair with the builder that said ``hello``; raises PairingError and ChannelClosed."""
    if hello.pin_sha256 == opening.own.pin_sha256:
        raise PairingError(ErrorCode.SAME_IDENTITY, "the builder has our identity")
    try:
        async with asyncio.timeout(2 * PAIRING_EXCHANGE_TIMEOUT):
            return await _pair(opening, code, purpose)
    except Refused as err:
        raise PairingError(said_of_other(err.code), "refused", err.tries_left) from err
    except ProtocolError as err:
        raise PairingError(err.code, err.detail) from err
    except NoiseError as err:
        # Only what knows the code can answer.
        raise PairingError(ErrorCode.WRONG_CODE, str(err)) from err
    except TimeoutError as err:
        raise PairingError(ErrorCode.TIMED_OUT, "no answer") from err


async def _pair(opening: Opening, code: str, purpose: bytes) -> Paired:
    socket = opening.socket
    exchange = await asyncio.to_thread(CodeExchange, Role.OFFLOADER, code)
    await send_handshake(socket, purpose + exchange.share)
    share = await receive_handshake(socket)
    secret = await asyncio.to_thread(exchange.secret, share)
    bound = prologue(purpose, opening.hello, exchange.share, share)
    handshake = Handshake.pairing(opening.own, secret, bound, initiator=True)
    await send_handshake(socket, handshake.write(b""))
    theirs = parse_json(Introduction, handshake.read(await receive_handshake(socket)))
    negotiate(opening.introduction.offer, theirs.offer)
    public = _peer(handshake, opening.own)
    await send_handshake(socket, handshake.write(encode_json(opening.introduction)))
    # The builder has stored the pairing before it says so.
    done = await receive_handshake(socket)
    if handshake.ciphers().decrypt(done) != _DONE:
        raise ProtocolError(ErrorCode.MALFORMED, "not the end of a pairing")
    return Paired(public, theirs.label)


async def answer_pairing(
    opening: Opening,
    address: str | None,
    share: bytes,
    window: Window,
    store: Callable[[Paired], Awaitable[None]],
    *,
    purpose: bytes = Purpose.PAIR,
) -> None:
    """Answer the offloader that sent ``share``; ``store`` is awaited before it learns of it.

    Raises ChannelClosed, ProtocolError with what to refuse it with, and what ``store`` raises.
    """
    # Nobody occupies the window with what is no share.
    await asyncio.to_thread(check_share, share)
    code = window.begin(address)
    try:
        async with asyncio.timeout(PAIRING_EXCHANGE_TIMEOUT):
            handshake, paired = await _answer(opening, share, code, window, purpose)
        window.succeed()
    except TimeoutError as err:
        raise ProtocolError(ErrorCode.TIMED_OUT, "the exchange took too long") from err
    except (NoiseError, Refused) as err:
        raise ProtocolError(ErrorCode.MALFORMED, "not a message of this pairing") from err
    finally:
        window.abandon()
    await store(paired)
    await send_handshake(opening.socket, handshake.ciphers().encrypt(_DONE))


async def _answer(
    opening: Opening, share: bytes, code: str, window: Window, purpose: bytes
) -> tuple[Handshake, Paired]:
    socket = opening.socket
    exchange = await asyncio.to_thread(CodeExchange, Role.BUILDER, code)
    secret = await asyncio.to_thread(exchange.secret, share)
    window.answered()
    await send_handshake(socket, exchange.share)
    bound = prologue(purpose, opening.hello, share, exchange.share)
    handshake = Handshake.pairing(opening.own, secret, bound, initiator=False)
    try:
        handshake.read(await receive_handshake(socket))
    except NoiseError as err:
        raise ProtocolError(ErrorCode.WRONG_CODE, "the code is another") from err
    await send_handshake(socket, handshake.write(encode_json(opening.introduction)))
    theirs = parse_json(Introduction, handshake.read(await receive_handshake(socket)))
    negotiate(opening.introduction.offer, theirs.offer)
    return handshake, Paired(_peer(handshake, opening.own), theirs.label)


def _peer(handshake: Handshake, own: Identity) -> PublicKey:
    if (peer := handshake.peer) is None:
        raise ProtocolError(ErrorCode.MALFORMED, "a handshake without a key")
    if peer == own.public:
        raise ProtocolError(ErrorCode.SAME_IDENTITY, "the other end has our identity")
    return peer
