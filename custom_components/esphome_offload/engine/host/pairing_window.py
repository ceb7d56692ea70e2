"""The pairing window: for some minutes, an offloader whose owner knows the code may pair."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
import secrets

from ..listeners import Listeners
from ..protocol.errors import ErrorCode, ProtocolError
from ..protocol.limits import CODE_DIGITS, PAIRING_TRIES, PAIRING_WINDOW


class WindowEnd(StrEnum):
    """A reason why a window is not open any more."""

    PAIRED = "paired"
    CLOSED = "closed"
    EXPIRED = "expired"
    WRONG_CODES = "wrong_codes"


@dataclass(frozen=True, slots=True)
class WindowState:
    """An open window as the builder's owner sees it. ``seconds_left`` is rounded up."""

    code: str = field(repr=False)
    seconds_left: int
    tries_left: int


@dataclass(slots=True, eq=False)
class _Open:
    """An open window. ``ends`` is in seconds of the monotonic clock."""

    code: str = field(repr=False)
    ends: float
    tries_left: int = PAIRING_TRIES


class PairingWindow:
    """The builder's side of pairing; see ``protocol.pairing.Window``. Closed until ``open``.

    ``changed`` notifies when the window opens or ends, other than by time, or a code was wrong.
    ``tried_from`` is the address that used up the last try.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        """``monotonic`` gives seconds that never go back."""
        self.changed = Listeners[[]]()
        self._monotonic = monotonic
        self._open: _Open | None = None
        self._exchange: _Open | None = None
        self._tries = 0
        self._end: WindowEnd | None = None
        self._address: str | None = None
        self.tried_from: str | None = None

    def open(self) -> WindowState:
        """Open with a new code, for five minutes; an open window is closed first."""
        code = f"{secrets.randbelow(10**CODE_DIGITS):0{CODE_DIGITS}d}"
        self._open = _Open(code, self._monotonic() + PAIRING_WINDOW)
        self._end = None
        self.changed.notify()
        return WindowState(code, PAIRING_WINDOW, PAIRING_TRIES)

    def close(self) -> None:
        """Close, if it is open."""
        if self._current() is not None:
            self._shut(WindowEnd.CLOSED)

    @property
    def state(self) -> WindowState | None:
        """What is open now; None when nothing is."""
        window = self._current()
        if window is None:
            return None
        seconds_left = int(-(-(window.ends - self._monotonic()) // 1))
        return WindowState(window.code, seconds_left, window.tries_left)

    @property
    def end(self) -> WindowEnd | None:
        """Why the last window ended; None while it is open or before the first."""
        self._current()
        return self._end

    @property
    def tries_left(self) -> int:
        """How many wrong codes it takes until the window closes."""
        window = self._current()
        return 0 if window is None else window.tries_left

    def begin(self, address: str | None) -> str:
        """Start an exchange with the offloader at an address and return the code.

        Raises ProtocolError WINDOW_CLOSED, WINDOW_EXPIRED, or BUSY while another exchange runs.
        """
        window = self._require_open()
        if self._exchange is not None:
            raise ProtocolError(ErrorCode.BUSY, "another offloader is pairing")
        self._exchange, self._tries, self._address = window, window.tries_left, address
        return window.code

    def answered(self) -> None:
        """Use up a try; raises ProtocolError when the window of this exchange is over."""
        window = self._require_open()
        if self._exchange is not window:
            raise ProtocolError(ErrorCode.TIMED_OUT, "another window meanwhile")
        window.tries_left -= 1
        self.tried_from = self._address

    def succeed(self) -> None:
        """Close the window: the code was right. Raises ProtocolError like ``answered``."""
        if self._exchange is not self._require_open():
            raise ProtocolError(ErrorCode.TIMED_OUT, "another window meanwhile")
        self._shut(WindowEnd.PAIRED)

    def abandon(self) -> None:
        """End the exchange; a window whose last try it used up is closed."""
        window, self._exchange = self._exchange, None
        if window is None or self._current() is not window or window.tries_left == self._tries:
            return
        if window.tries_left == 0:
            self._shut(WindowEnd.WRONG_CODES)
        else:
            self.changed.notify()

    def _current(self) -> _Open | None:
        if self._open is not None and self._monotonic() >= self._open.ends:
            self._open = None
            self._end = WindowEnd.EXPIRED
        return self._open

    def _require_open(self) -> _Open:
        window = self._current()
        if window is None and self._end is WindowEnd.EXPIRED:
            raise ProtocolError(ErrorCode.WINDOW_EXPIRED, "the window was open too long ago")
        if window is None:
            raise ProtocolError(ErrorCode.WINDOW_CLOSED, "no window is open")
        return window

    def _shut(self, end: WindowEnd) -> None:
        self._open = None
        self._end = end
        self.changed.notify()
