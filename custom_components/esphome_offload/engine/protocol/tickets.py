"""Tickets: how a guest, and nobody else, gets an access token that lives a minute."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
import hmac
import math
import secrets
import time
from typing import Final

from ..codec import Json, encode, encode_json
from .definitions import (
    CLOCK_TOLERANCE,
    DETAIL_LIMIT,
    TICKET_LIFETIME,
    ErrorCode,
    ProtocolError,
    clip,
)
from .greetings import (
    Application,
    Grant,
    Refusal,
    TicketAnswer,
    TicketRequest,
)
from .identity import Identity, PublicKey
from .parsing import parse, parse_json, parse_one_of
from .seal import Channel, Purpose

_NONCES_PER_GUEST: Final = 128


class ClockSkewError(ProtocolError):
    """The clocks are too far apart; ``seconds`` is how far this one is ahead of the peer's."""

    def __init__(self, seconds: float) -> None:
        """Keep the difference."""
        super().__init__(ErrorCode.CLOCK_SKEW, f"this clock is {seconds:+.0f} s from the peer's")
        self.seconds = seconds


@dataclass(frozen=True, slots=True)
class Ticket:
    """What the offloader got; the token is for Home Assistant's websocket at the builder."""

    access_token: str = field(repr=False)
    expires_in: float


class TicketApplication:
    """The offloader's side: one request and the answer to it."""

    def __init__(self, channel: Channel, *, clock: Callable[[], float] = time.time) -> None:
        """Seal the request now; ``clock`` gives Unix time in seconds."""
        self._channel = channel
        self._clock = clock
        self._nonce = secrets.token_bytes(32)
        application = encode_json(Application(self._nonce, clock()))
        sealed = channel.seal(Purpose.TICKET_REQUEST, application)
        self.message: Json = encode(TicketRequest(channel.own.pin_sha256, sealed))

    def open(self, raw: object) -> Ticket:
        """Return the ticket, or raise ProtocolError (ClockSkewError for CLOCK_SKEW).

        UNKNOWN_GUEST, BUSY and MALFORMED may come from anybody in between: act on them by
        stopping and asking a person, never by forgetting the peer.
        """
        refusal = parse_one_of((Refusal,), raw)
        if refusal is not None:
            raise ProtocolError(refusal.error, refusal.detail or "refused")
        answer = parse(TicketAnswer, raw)
        grant = parse_json(Grant, self._channel.open(Purpose.TICKET_ANSWER, answer.sealed))
        if not hmac.compare_digest(grant.nonce, self._nonce):
            raise ProtocolError(ErrorCode.REPLAYED, "the answer to another request")
        if grant.error is ErrorCode.CLOCK_SKEW:
            raise ClockSkewError(self._clock() - grant.time)
        if grant.error is not None:
            raise ProtocolError(grant.error, grant.detail or "refused")
        if grant.access_token is None or grant.expires_in is None:
            raise ProtocolError(ErrorCode.MALFORMED, "neither a token nor a reason")
        return Ticket(grant.access_token, grant.expires_in)


@dataclass(slots=True)
class _Seen:
    """The nonces of one guest that could still be replayed.

    Everything up to ``floor`` counts as seen: that is what keeps a replay out after its nonce
    was dropped, also when this clock was set back.
    """

    times: dict[bytes, float] = field(default_factory=dict)
    floor: float = -math.inf

    def admit(self, nonce: bytes, at: float, now: float) -> bool:
        """Return whether this is new, and remember it."""
        if self.floor > now + CLOCK_TOLERANCE:
            # This clock was far ahead. To keep all guests out until that time comes would be
            # worse than a replay, whose answer only the guest can read.
            self.times.clear()
            self.floor = -math.inf
        for old in [each for each, time_ in self.times.items() if time_ < now - CLOCK_TOLERANCE]:
            self._drop(old)
        if nonce in self.times or at <= self.floor:
            return False
        self.times[nonce] = at
        if len(self.times) > _NONCES_PER_GUEST:
            self._drop(min(self.times, key=self.times.__getitem__))
        return True

    def _drop(self, nonce: bytes) -> None:
        self.floor = max(self.floor, self.times.pop(nonce))


class TicketDesk:
    """The builder's side. ``guest_key`` gives a paired guest's key by its pin."""

    def __init__(
        self,
        identity: Identity,
        guest_key: Callable[[str], PublicKey | None],
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Begin; ``clock`` gives Unix time in seconds."""
        self._identity = identity
        self._guest_key = guest_key
        self._clock = clock
        self._seen: dict[str, _Seen] = {}

    def forget(self, pin_sha256: str) -> None:
        """Drop what is remembered of a guest that was removed."""
        self._seen.pop(pin_sha256, None)

    async def handle(self, raw: object, issue: Callable[[str], Awaitable[str]]) -> Json:
        """Answer one POST; never raises for what the other side did.

        ``issue`` is called with the pin of a guest that may come in and returns an access token
        that lives TICKET_LIFETIME; it may refuse by raising ProtocolError.
        """
        try:
            request = parse(TicketRequest, raw)
            channel = self._channel(request.pin_sha256)
            application = parse_json(
                Application, channel.open(Purpose.TICKET_REQUEST, request.sealed)
            )
        except ProtocolError as err:
            return encode(Refusal(err.code, clip(err.detail, DETAIL_LIMIT)))
        try:
            self._check(request.pin_sha256, application)
            token = await issue(request.pin_sha256)
        except ProtocolError as err:
            grant = Grant(
                application.nonce,
                self._clock(),
                error=err.code,
                detail=clip(err.detail, DETAIL_LIMIT),
            )
        else:
            grant = Grant(
                application.nonce,
                self._clock(),
                access_token=token,
                expires_in=TICKET_LIFETIME,
            )
        return encode(TicketAnswer(channel.seal(Purpose.TICKET_ANSWER, encode_json(grant))))

    def _channel(self, pin_sha256: str) -> Channel:
        key = self._guest_key(pin_sha256)
        if key is None:
            raise ProtocolError(ErrorCode.UNKNOWN_GUEST, "no guest has this pin")
        return Channel(self._identity, key)

    def _check(self, pin_sha256: str, application: Application) -> None:
        now = self._clock()
        ahead = application.time - now
        if abs(ahead) > CLOCK_TOLERANCE:
            raise ProtocolError(
                ErrorCode.CLOCK_SKEW, f"the guest's clock is {ahead:+.0f} s from the builder's"
            )
        seen = self._seen.setdefault(pin_sha256, _Seen())
        if not seen.admit(application.nonce, application.time, now):
            raise ProtocolError(ErrorCode.REPLAYED, "this request was made before")
