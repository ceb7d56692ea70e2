"""From an address to a connection on which both sides have proven their keys."""

from collections.abc import Callable
from typing import Final

import aiohttp

from ..protocol.definitions import (
    HANDSHAKE_TIMEOUT,
    ErrorCode,
    ProtocolError,
    said_of_other,
    update_sentence,
)
from ..protocol.handshake import OffloaderHandshake, Session
from ..protocol.negotiation import Offer
from ..protocol.seal import Channel
from ..protocol.tickets import ClockSkewError
from .connection import Connection
from .errors import LinkLost, PeerRefused, TokenRefusedError
from .http_client import PeerDoor

_STRANGER: Final = {
    ErrorCode.UNKNOWN_GUEST: "it does not know this instance any more; pair again",
    ErrorCode.TAMPERED: "it is not the instance that was paired with; pair again",
    ErrorCode.NOT_PROVEN: "it is not the instance that was paired with; pair again",
    ErrorCode.SAME_IDENTITY: "it has the identity of this instance; make a new one and pair again",
}
_PASSING: Final = {
    ErrorCode.NOT_LENDING: "its owner does not lend it now",
    ErrorCode.BUSY: "it is too busy to answer",
}


class GaveUpError(Exception):
    """There is no use in trying again; TOO_OLD and TOO_NEW are said of the peer."""

    def __init__(self, code: ErrorCode, why: str) -> None:
        """Keep the code beside what people are told."""
        super().__init__(why)
        self.code = code


class TokenTroubleError(LinkLost):
    """Home Assistant there took a fresh token for a wrong one; too often, and it locks us out."""


async def connect(
    http: aiohttp.ClientSession,
    door: PeerDoor,
    url: str,
    *,
    channel: Channel,
    offer: Offer,
    label: str,
) -> tuple[Connection, Session]:
    """Return a proven connection; raises LinkLost or GaveUpError.

    Each call asks for a ticket of its own: a token that was refused is never used again.
    """
    try:
        token = await door.token(fresh=True)
    except ClockSkewError as err:
        order = "behind" if err.seconds > 0 else "ahead of"
        raise LinkLost(
            f"its clock is {abs(err.seconds):.0f} s {order} this one; set both by a time server",
            err.code,
        ) from err
    except ProtocolError as err:
        raise _judge(err.code, err.detail, label) from err
    try:
        connection = await Connection.open(http, url, token)
    except TokenRefusedError as err:
        raise TokenTroubleError("Home Assistant there does not let us in") from err
    try:
        return connection, await _prove(connection, channel, offer, label)
    except BaseException:
        await connection.close()
        raise


async def _prove(connection: Connection, channel: Channel, offer: Offer, label: str) -> Session:
    handshake = OffloaderHandshake(channel, offer)
    try:
        hello = await connection.call(handshake.hello, HANDSHAKE_TIMEOUT)
        prove = handshake.prove(hello)
        return handshake.finish(await connection.call(prove, HANDSHAKE_TIMEOUT))
    except PeerRefused as err:
        if err.detail.startswith("unknown_command"):
            raise LinkLost("ESPHome Offload does not run there") from err
        if err.code is ErrorCode.NOT_PROVEN:
            # It says so also when it was too slow itself.
            raise LinkLost("it does not accept our proof", err.code) from err
        raise _judge(said_of_other(err.code), err.detail, label) from err
    except ProtocolError as err:
        raise _judge(err.code, err.detail, label) from err


def _judge(code: ErrorCode, detail: str, label: str) -> LinkLost | GaveUpError:
    if code in {ErrorCode.TOO_OLD, ErrorCode.TOO_NEW}:
        return GaveUpError(code, update_sentence(code, label))
    if (why := _STRANGER.get(code)) is not None:
        return GaveUpError(code, why)
    return LinkLost(_PASSING.get(code, f"it refused the connection: {detail}"), code)


class BackOff:
    """How long to wait until the next try: each time twice as long, a little at random."""

    def __init__(self, first: float, longest: float, jitter: Callable[[], float]) -> None:
        """Begin with about ``first`` seconds; ``jitter`` gives numbers from 0 to 1."""
        self._first = first
        self._longest = longest
        self._jitter = jitter
        self._tries = 0

    def reset(self) -> None:
        """Begin anew."""
        self._tries = 0

    def next(self) -> float:
        """Return the seconds to wait now; of many that lost the same peer, not all come at once."""
        pause = min(self._longest, self._first * 2.0**self._tries)
        self._tries = min(self._tries + 1, 32)
        return pause * (0.5 + 0.5 * self._jitter())
