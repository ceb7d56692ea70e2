"""Negotiation of the protocol: an older peer is served, or refused with a clear reason."""

from dataclasses import dataclass
from typing import Annotated

from ..codec import Many, Number, Text
from .errors import ErrorCode, ProtocolError
from .limits import CAPABILITIES_LIMIT, OLDEST_PROTOCOL, PROTOCOL, VERSION_LIMIT
from .parsing import parse


@dataclass(frozen=True, slots=True)
class Offer:
    """The protocols that one end speaks; this form is the same in every protocol, for ever.

    ``protocol`` is the newest and ``oldest_protocol`` the oldest that it speaks. Capabilities are
    names of what is used only when both ends have it; there are none yet. ``version`` is that of
    the integration, for people.
    """

    protocol: Annotated[int, Number(1, 1_000_000)]
    oldest_protocol: Annotated[int, Number(1, 1_000_000)]
    capabilities: Annotated[
        tuple[Annotated[str, Text(64, r"[a-z0-9_]+")], ...], Many(CAPABILITIES_LIMIT)
    ]
    version: Annotated[str, Text(VERSION_LIMIT)]


@dataclass(frozen=True, slots=True)
class Agreement:
    """The protocol and the capabilities that both sides have."""

    protocol: int
    capabilities: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Greeting:
    """The part that is read before anything else of a first message."""

    offer: Offer


def own_offer(version: str) -> Offer:
    """Return what this instance speaks; ``version`` is the integration's."""
    return Offer(PROTOCOL, OLDEST_PROTOCOL, (), version)


def negotiate(own: Offer, other: Offer) -> Agreement:
    """Return what both know; the newest protocol that both speak wins.

    Raises ProtocolError TOO_OLD or TOO_NEW, said of the other side.
    """
    if other.oldest_protocol > other.protocol:
        raise ProtocolError(ErrorCode.MALFORMED, "an offer that holds nothing")
    protocol = min(own.protocol, other.protocol)
    if protocol < own.oldest_protocol:
        raise ProtocolError(
            ErrorCode.TOO_OLD, f"speaks {other.protocol}, {own.oldest_protocol} is needed"
        )
    if protocol < other.oldest_protocol:
        raise ProtocolError(
            ErrorCode.TOO_NEW, f"wants {other.oldest_protocol}, {own.protocol} is spoken here"
        )
    return Agreement(protocol, frozenset(own.capabilities) & frozenset(other.capabilities))


def negotiate_first(own: Offer, raw: object) -> Agreement:
    """Negotiate before the rest of a first message, which may be of an unknown protocol, is read.

    Raises ProtocolError TOO_OLD, TOO_NEW or MALFORMED.
    """
    return negotiate(own, parse(_Greeting, raw).offer)
