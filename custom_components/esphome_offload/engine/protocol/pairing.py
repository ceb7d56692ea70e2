"""Pairing: the builder's owner reads out a code, the offloader's owner types it."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
import hmac
import re
import secrets
import time
from typing import Final

from ..codec import Json, encode
from .definitions import (
    CODE_DIGITS,
    DETAIL_LIMIT,
    LABEL_LIMIT,
    PAIRING_EXCHANGE_TIMEOUT,
    PAIRING_TRIES,
    PAIRING_WINDOW,
    ErrorCode,
    ProtocolError,
    Role,
    clip,
    said_of_other,
)
from .greetings import (
    PairAnswer,
    PairConfirm,
    PairDone,
    PairStart,
    Refusal,
)
from .identity import Identity, PublicKey
from .negotiation import (
    Agreement,
    Offer,
    negotiate,
    negotiate_first,
)
from .parsing import parse, parse_one_of
from .spake import Exchange, Party

# The package that does SPAKE2 takes slightly longer for some codes than for others. So few
# exchanges tell nothing, and a person needs one.
_EXCHANGES_PER_WINDOW: Final = 10


class PairingFailure(StrEnum):
    """Why the offloader's owner is not paired; TOO_OLD and TOO_NEW are said of the builder."""

    WRONG_CODE = "wrong_code"
    WINDOW_CLOSED = "window_closed"
    WINDOW_EXPIRED = "window_expired"
    BUSY = "busy"
    TIMED_OUT = "timed_out"
    SAME_IDENTITY = "same_identity"
    TOO_OLD = "too_old"
    TOO_NEW = "too_new"
    MALFORMED = "malformed"


class PairingError(Exception):
    """Pairing did not succeed; it can be tried again."""

    def __init__(
        self, failure: PairingFailure, detail: str = "", tries_left: int | None = None
    ) -> None:
        """Keep what the flow shows; ``detail`` is for the log."""
        super().__init__(detail or failure)
        self.failure = failure
        self.tries_left = tries_left


class WindowEnd(StrEnum):
    """Why a window is not open any more."""

    PAIRED = "paired"
    CLOSED = "closed"
    EXPIRED = "expired"
    WRONG_CODES = "wrong_codes"
    TOO_MANY_EXCHANGES = "too_many_exchanges"


@dataclass(frozen=True, slots=True)
class WindowState:
    """What the builder's owner sees. ``seconds_left`` is rounded up."""

    code: str = field(repr=False)
    seconds_left: int
    tries_left: int


@dataclass(frozen=True, slots=True)
class Paired:
    """The other side of a new pairing; ``version`` is the integration's there."""

    public: PublicKey
    label: str
    version: str
    agreement: Agreement


def normalize_code(text: str) -> str:
    """Return a typed code without spaces and dashes; raises PairingError WRONG_CODE if it is none."""
    code = re.sub(r"[\s-]", "", text)
    if not re.fullmatch(rf"[0-9]{{{CODE_DIGITS}}}", code):
        raise PairingError(PairingFailure.WRONG_CODE, "a code has eight digits")
    return code


@dataclass(slots=True, eq=False)
class _Open:
    """An open window."""

    code: str = field(repr=False)
    ends: float
    tries_left: int = PAIRING_TRIES
    exchanges: int = 0


@dataclass(slots=True, eq=False)
class _Running:
    """An exchange that waits for the offloader's confirmation."""

    exchange_id: str
    ends: float
    exchange: Exchange | None = None
    paired: Paired | None = None


class PairingWindow:
    """The builder's side. Used on the event loop only; the arithmetic goes to a thread.

    ``on_change`` is called when a try was wrong or the window opened or ended, other than by
    time (nothing runs while nobody asks). ``on_paired`` is called before the offloader is told.
    """

    def __init__(
        self,
        identity: Identity,
        offer: Offer,
        label: Callable[[], str],
        *,
        on_paired: Callable[[Paired], None],
        on_change: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin closed.

        ``label`` gives what others call this side, ``clock`` seconds that never go back.
        """
        self._identity = identity
        self._offer = offer
        self._label = label
        self._on_paired = on_paired
        self._on_change = on_change
        self._clock = clock
        self._open: _Open | None = None
        self._running: _Running | None = None
        self._end: WindowEnd | None = None

    def open(self) -> WindowState:
        """Open with a new code, for five minutes; an open window is closed first."""
        code = f"{secrets.randbelow(10**CODE_DIGITS):0{CODE_DIGITS}d}"
        self._running = None
        self._open = _Open(code, self._clock() + PAIRING_WINDOW)
        self._end = None
        self._on_change()
        return WindowState(code, PAIRING_WINDOW, PAIRING_TRIES)

    def close(self) -> None:
        """Close, if it is open."""
        if self._look() is not None:
            self._shut(WindowEnd.CLOSED)

    @property
    def state(self) -> WindowState | None:
        """What is open now, None when nothing is."""
        window = self._look()
        if window is None:
            return None
        seconds_left = int(-(-(window.ends - self._clock()) // 1))
        return WindowState(window.code, seconds_left, window.tries_left)

    @property
    def end(self) -> WindowEnd | None:
        """Why the last window ended, None while it is open or before the first."""
        self._look()
        return self._end

    async def handle(self, raw: object) -> Json:
        """Answer one POST; never raises for what the other side did."""
        message: PairAnswer | PairDone | Refusal
        try:
            message = await self._answer(raw)
        except ProtocolError as err:
            tries_left = None
            if err.code is ErrorCode.WRONG_CODE:
                tries_left = self._open.tries_left if self._open is not None else 0
            message = Refusal(err.code, clip(err.detail, DETAIL_LIMIT), tries_left)
        return encode(message)

    async def _answer(self, raw: object) -> PairAnswer | PairDone:
        if isinstance(raw, dict) and raw.get("type") == PairStart.TYPE:
            agreement = negotiate_first(self._offer, raw)
            return await self._start(parse(PairStart, raw), agreement)
        if isinstance(raw, dict) and raw.get("type") == PairConfirm.TYPE:
            return self._confirm(parse(PairConfirm, raw))
        raise ProtocolError(ErrorCode.MALFORMED, "not a message of pairing")

    async def _start(self, start: PairStart, agreement: Agreement) -> PairAnswer:
        window = self._require_open()
        public = _public(start.public_key)
        if self._running is not None and self._clock() < self._running.ends:
            raise ProtocolError(ErrorCode.BUSY, "somebody else is pairing")
        window.exchanges += 1
        if window.exchanges > _EXCHANGES_PER_WINDOW:
            self._shut(WindowEnd.TOO_MANY_EXCHANGES)
            raise ProtocolError(ErrorCode.WINDOW_CLOSED, "too many exchanges")
        own = Party(self._offer, self._identity.public, clip(self._label(), LABEL_LIMIT))
        other = Party(start.offer, public, start.label)
        running = _Running(secrets.token_hex(16), self._clock() + PAIRING_EXCHANGE_TIMEOUT)
        self._running = running
        try:
            exchange = await asyncio.to_thread(
                _answer_share, window.code, self._identity, own, other, start.share
            )
        except BaseException:
            if self._running is running:
                self._running = None
            raise
        # It may have been closed, and opened with another code, meanwhile.
        if self._require_open() is not window or self._running is not running:
            raise ProtocolError(ErrorCode.TIMED_OUT, "another window or exchange meanwhile")
        running.exchange = exchange
        running.paired = Paired(public, start.label, start.offer.version, agreement)
        return PairAnswer(
            running.exchange_id,
            own.offer,
            own.public.raw,
            own.label,
            exchange.share,
        )

    def _confirm(self, confirm: PairConfirm) -> PairDone:
        # Between the look at the window and the count of the try nothing else may run: no await.
        window = self._require_open()
        running = self._running
        if (
            running is None
            or running.exchange is None
            or running.paired is None
            or not hmac.compare_digest(running.exchange_id, confirm.exchange)
        ):
            raise ProtocolError(ErrorCode.TIMED_OUT, "no such exchange any more")
        self._running = None
        if self._clock() >= running.ends:
            raise ProtocolError(ErrorCode.TIMED_OUT, "the exchange took too long")
        if not running.exchange.confirmed_by(confirm.confirmation):
            window.tries_left -= 1
            if window.tries_left == 0:
                self._shut(WindowEnd.WRONG_CODES)
            else:
                self._on_change()
            raise ProtocolError(ErrorCode.WRONG_CODE, "the code is another")
        self._on_paired(running.paired)
        self._shut(WindowEnd.PAIRED)
        return PairDone(running.exchange.confirmation)

    def _look(self) -> _Open | None:
        if self._open is not None and self._clock() >= self._open.ends:
            self._open = None
            self._running = None
            self._end = WindowEnd.EXPIRED
        return self._open

    def _require_open(self) -> _Open:
        window = self._look()
        if window is None and self._end is WindowEnd.EXPIRED:
            raise ProtocolError(ErrorCode.WINDOW_EXPIRED, "the window was open too long ago")
        if window is None:
            raise ProtocolError(ErrorCode.WINDOW_CLOSED, "no window is open")
        return window

    def _shut(self, end: WindowEnd) -> None:
        self._open = None
        self._running = None
        self._end = end
        self._on_change()


class PairingClient:
    """The offloader's side. ``post`` sends one JSON object and returns the decoded answer.

    What ``post`` raises (unreachable, not JSON) goes through.
    """

    def __init__(
        self,
        identity: Identity,
        offer: Offer,
        label: str,
        post: Callable[[Json], Awaitable[object]],
    ) -> None:
        """Do nothing yet."""
        self._identity = identity
        self._party = Party(offer, identity.public, clip(label, LABEL_LIMIT))
        self._post = post

    async def pair(self, typed: str) -> Paired:
        """Pair with whoever shows this code; raises PairingError."""
        code = normalize_code(typed)
        limit = asyncio.timeout(2 * PAIRING_EXCHANGE_TIMEOUT)
        try:
            async with limit:
                return await self._pair(code)
        except ProtocolError as err:
            raise PairingError(_failure(err.code), err.detail) from err
        except TimeoutError as err:
            if not limit.expired():
                raise
            raise PairingError(PairingFailure.TIMED_OUT, "no answer") from err

    async def _pair(self, code: str) -> Paired:
        exchange = await asyncio.to_thread(
            Exchange, Role.OFFLOADER, code, self._identity, self._party
        )
        start = PairStart(
            self._party.offer, self._identity.public.raw, self._party.label, exchange.share
        )
        raw = await self._ask(start)
        negotiate_first(self._party.offer, raw)
        answer = parse(PairAnswer, raw)
        agreement = negotiate(self._party.offer, answer.offer)
        other = Party(answer.offer, _public(answer.public_key), answer.label)
        await asyncio.to_thread(exchange.finish, other, answer.share)
        confirm = PairConfirm(answer.exchange, exchange.confirmation)
        done = parse(PairDone, await self._ask(confirm))
        if not exchange.confirmed_by(done.confirmation):
            raise ProtocolError(ErrorCode.WRONG_CODE, "the builder does not know the code")
        return Paired(other.public, answer.label, answer.offer.version, agreement)

    async def _ask(self, message: PairStart | PairConfirm) -> object:
        raw = await self._post(encode(message))
        refusal = parse_one_of((Refusal,), raw)
        if refusal is not None:
            code = said_of_other(refusal.error)
            raise PairingError(_failure(code), refusal.detail or "", refusal.tries_left)
        return raw


def _answer_share(code: str, own: Identity, party: Party, other: Party, share: bytes) -> Exchange:
    exchange = Exchange(Role.BUILDER, code, own, party)
    exchange.finish(other, share)
    return exchange


def _public(raw: bytes) -> PublicKey:
    try:
        return PublicKey(raw)
    except ValueError as err:
        raise ProtocolError(ErrorCode.MALFORMED, str(err)) from err


def _failure(code: ErrorCode) -> PairingFailure:
    return PairingFailure(code) if code in PairingFailure else PairingFailure.MALFORMED
