"""The messages before a connection is proven: pairing, tickets, hello."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from ..codec import Number, OrElse, Text
from .definitions import COMMAND_PREFIX, ErrorCode
from .fields import (
    Detail,
    Digest,
    HexId,
    Key,
    Label,
    Nonce,
    Proof,
    Sealed,
    UnixTime,
)
from .negotiation import Offer

AnErrorCode = Annotated[ErrorCode, OrElse(ErrorCode.MALFORMED)]


@dataclass(frozen=True, slots=True)
class Info:
    """Builder → offloader, GET info: who is there. Not authenticated: a hint, never trusted.

    ``pairing`` says whether a window is open.
    """

    TYPE: ClassVar[str] = "info"
    offer: Offer
    pin_sha256: Digest
    label: Label
    pairing: bool


@dataclass(frozen=True, slots=True)
class PairStart:
    """Offloader → builder, POST pair: begin an exchange."""

    TYPE: ClassVar[str] = "pair_start"
    offer: Offer
    public_key: Key
    label: Label
    share: Key


@dataclass(frozen=True, slots=True)
class PairAnswer:
    """Builder → offloader: its half."""

    TYPE: ClassVar[str] = "pair_answer"
    exchange: HexId
    offer: Offer
    public_key: Key
    label: Label
    share: Key


@dataclass(frozen=True, slots=True)
class PairConfirm:
    """Offloader → builder, POST pair: this side knows the code."""

    TYPE: ClassVar[str] = "pair_confirm"
    exchange: HexId
    confirmation: Proof


@dataclass(frozen=True, slots=True)
class PairDone:
    """Builder → offloader: so does this one; paired."""

    TYPE: ClassVar[str] = "pair_done"
    confirmation: Proof


@dataclass(frozen=True, slots=True)
class Refusal:
    """The answer to anything over HTTP that was not done. Not authenticated."""

    TYPE: ClassVar[str] = "refusal"
    error: AnErrorCode
    detail: Detail | None = None
    tries_left: Annotated[int, Number(0, 100)] | None = None


@dataclass(frozen=True, slots=True)
class TicketRequest:
    """Offloader → builder, POST ticket; ``sealed`` holds an Application."""

    TYPE: ClassVar[str] = "ticket_request"
    pin_sha256: Digest
    sealed: Sealed


@dataclass(frozen=True, slots=True)
class Application:
    """Inside the ticket request. ``time`` is Unix time in seconds at the offloader."""

    nonce: Nonce
    time: UnixTime


@dataclass(frozen=True, slots=True)
class TicketAnswer:
    """Builder → offloader; ``sealed`` holds a Grant."""

    TYPE: ClassVar[str] = "ticket_answer"
    sealed: Sealed


@dataclass(frozen=True, slots=True)
class Grant:
    """Inside the ticket answer: a token, or why not. ``time`` is Unix time at the builder."""

    nonce: Nonce
    time: UnixTime
    access_token: Annotated[str, Text(2048, r"\S+")] | None = None
    expires_in: Annotated[float, Number(0, 3600)] | None = None
    error: AnErrorCode | None = None
    detail: Detail | None = None


@dataclass(frozen=True, slots=True)
class Hello:
    """Offloader → builder, the first command on a connection; ``nonce`` is made for it."""

    TYPE: ClassVar[str] = f"{COMMAND_PREFIX}hello"
    offer: Offer
    nonce: Nonce


@dataclass(frozen=True, slots=True)
class HelloAnswer:
    """Builder → offloader. ``run_id`` is another after each start of the builder."""

    offer: Offer
    nonce: Nonce
    label: Label
    run_id: HexId


@dataclass(frozen=True, slots=True)
class Prove:
    """Offloader → builder, the second command; the answer is a Proven."""

    TYPE: ClassVar[str] = f"{COMMAND_PREFIX}prove"
    proof: Proof


@dataclass(frozen=True, slots=True)
class Proven:
    """Builder → offloader: its own proof."""

    proof: Proof
