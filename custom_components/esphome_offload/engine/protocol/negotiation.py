"""Which protocol two sides speak: an older peer is served, or refused with a clear word."""

from collections.abc import Iterable
from dataclasses import dataclass
import json
from typing import Annotated

from ..codec import Many, Number, Text
from .definitions import (
    CAPABILITIES_LIMIT,
    OLDEST_PROTOCOL,
    PROTOCOL,
    VERSION_LIMIT,
    Capability,
    ErrorCode,
    ProtocolError,
)
from .parsing import parse


@dataclass(frozen=True, slots=True)
class Offer:
    """What one side can speak; this form is the same in every protocol, for ever.

    ``protocol`` is the newest and ``oldest_protocol`` the oldest that it speaks, ``version``
    that of the integration, for people.
    """

    protocol: Annotated[int, Number(1, 1_000_000)]
    oldest_protocol: Annotated[int, Number(1, 1_000_000)]
    capabilities: Annotated[
        tuple[Annotated[str, Text(64, r"[a-z0-9_]+")], ...], Many(CAPABILITIES_LIMIT)
    ]
    version: Annotated[str, Text(VERSION_LIMIT)]

    def binding(self) -> bytes:
        """Return the bytes that stand for this offer in a transcript."""
        return json.dumps(
            [self.protocol, self.oldest_protocol, list(self.capabilities), self.version]
        ).encode()


@dataclass(frozen=True, slots=True)
class Agreement:
    """What both sides know."""

    protocol: int
    capabilities: frozenset[str]

    def has(self, capability: Capability) -> bool:
        """Whether both sides have it."""
        return capability in self.capabilities


@dataclass(frozen=True, slots=True)
class _Greeting:
    """The part that is read before anything else of a first message."""

    offer: Offer


def own_offer(version: str, capabilities: Iterable[Capability] = tuple(Capability)) -> Offer:
    """Return what this instance speaks; ``version`` is the integration's."""
    names = tuple(sorted(each.value for each in capabilities))
    return Offer(PROTOCOL, OLDEST_PROTOCOL, names, version)


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
