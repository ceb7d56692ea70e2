"""What a guest may do: the one place where that is checked."""

from dataclasses import dataclass
from enum import StrEnum

from ..protocol.errors import ErrorCode, ProtocolError
from .attempt import AttemptKey, GuestAttempt
from .attempt_store import AttemptStore
from .guests import Guest, GuestRegistry


class Lending(StrEnum):
    """Whether this machine builds for guests; paused: what runs goes on, nothing new begins."""

    ON = "on"
    PAUSED = "paused"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: a Home Assistant user, and the pin that was proven on its very connection.

    ``proven_pin`` is None over HTTP: what comes and goes there is sealed with the guest's key.
    """

    user_id: str
    proven_pin: str | None = None


class Admission:
    """Guests see, stop and fetch what is theirs, while this machine lends itself."""

    def __init__(self, guests: GuestRegistry, book: AttemptStore) -> None:
        """Lend nothing yet."""
        self._guests = guests
        self._book = book
        self.lending = Lending.OFF

    def guest(self, caller: Caller, *, sealed: bool = False) -> Guest:
        """Return the guest that asks.

        ``sealed``: what is asked for makes no sense without the guest's key, so that no proof
        is needed. Raises ProtocolError UNKNOWN_GUEST, NOT_PROVEN or NOT_LENDING.
        """
        guest = self._guests.by_user(caller.user_id)
        if guest is None:
            raise ProtocolError(ErrorCode.UNKNOWN_GUEST, "this user is no guest")
        if not sealed and caller.proven_pin != guest.pin_sha256:
            raise ProtocolError(ErrorCode.NOT_PROVEN, "this connection is not proven")
        if self.lending is Lending.OFF:
            raise ProtocolError(ErrorCode.NOT_LENDING, "this machine is not lent any more")
        return guest

    def attempt(
        self, caller: Caller, attempt_id: str, *, sealed: bool = False
    ) -> tuple[Guest, GuestAttempt]:
        """Return the guest and its attempt; raises also ProtocolError UNKNOWN_ATTEMPT."""
        guest = self.guest(caller, sealed=sealed)
        return guest, self._book.get(AttemptKey(guest.pin_sha256, attempt_id))

    def why_not_lent(self) -> str | None:
        """Return why nothing new may begin for any guest, for people; None when it may."""
        if self.lending is Lending.OFF:
            return "not lent to others any more"
        return "paused by its owner" if self.lending is Lending.PAUSED else None
