"""A secret that pairs one offloader without a code: it is handed over by somebody both trust."""

from collections.abc import Callable
from dataclasses import dataclass, field
import secrets
from typing import Final

from ..clock import SystemTime
from ..listeners import Listeners
from ..protocol.errors import ErrorCode, ProtocolError
from ..protocol.pairing import Window

SECRET_LIFETIME: Final = 24 * 3600
"""Seconds."""

_BYTES: Final = 32


class OneTimeSecret:
    """The secret of a builder, which is worth nothing until ``renew`` and after its first use.

    Nobody can guess it, so wrong tries neither count nor close anything, and several offloaders
    may try at the same time. ``used`` notifies with the pin of the offloader that was paired.
    """

    def __init__(self, monotonic: Callable[[], float] | None = None) -> None:
        """``monotonic`` gives seconds that never go back."""
        self.used = Listeners[[str]]()
        self._monotonic = monotonic or SystemTime().monotonic
        self._value: str | None = None
        self._ends = 0.0

    @property
    def value(self) -> str | None:
        """The secret; None when there is none, or it is too old."""
        return self._value if self._monotonic() < self._ends else None

    def renew(self) -> str:
        """Replace the secret by a new one and return it."""
        self._value = secrets.token_urlsafe(_BYTES)
        self._ends = self._monotonic() + SECRET_LIFETIME
        return self._value

    def revoke(self) -> None:
        """Make the secret worthless."""
        self._value = None

    def exchange(self) -> Window:
        """Return the window for one offloader that tries to pair by the secret."""
        return _Exchange(self)


@dataclass(slots=True, eq=False)
class _Exchange:
    """One try, with the secret as it was when the try began."""

    secret: OneTimeSecret
    begun_with: str | None = field(default=None, repr=False)

    def begin(self, address: str | None) -> str:
        self.begun_with = self.secret.value
        return self._require()

    def answered(self) -> None:
        self._require()

    def succeed(self) -> None:
        self._require()
        self.secret.revoke()

    def abandon(self) -> None:
        pass

    @property
    def tries_left(self) -> int:
        """They are not counted."""
        return 0

    def _require(self) -> str:
        value = self.begun_with
        if value is None or value != self.secret.value:
            raise ProtocolError(ErrorCode.WINDOW_CLOSED, "no such secret, or it was used")
        return value
