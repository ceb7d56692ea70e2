"""The attempt ids that a guest has used: what is replayed starts nothing, also after a restart."""

from datetime import datetime, timedelta
import re
from typing import Final

from ..protocol.errors import ErrorCode, ProtocolError

KEPT_FOR: Final = timedelta(days=7)
KEPT: Final = 1000
"""Ids per guest; 36 bytes each in the store, which is written at each submit."""
_ID: Final = re.compile(r"[0-9a-f]{32}")
_AHEAD: Final = timedelta(days=1)
"""A clock as wrong as that gets no ticket."""


class UsedAttemptIds:
    """One guest's used ids; bounded, since ids bear the time at which they were made (UUID 7).

    Of those that are forgotten the latest is kept as ``horizon``: it and all before it count as
    used.
    """

    def __init__(self, times: dict[str, datetime] | None = None, horizon: str = "") -> None:
        """Take up what was stored: when each id was used, in UTC."""
        self.times = times or {}
        self.horizon = horizon

    def check(self, attempt_id: str, now: datetime) -> None:
        """Raise ProtocolError unless an id can be used.

        ATTEMPT_OVER: it was used. MALFORMED: it is of the future, or none; those of bundles come
        from addresses, where anything may stand, and become file names.
        """
        if not _ID.fullmatch(attempt_id):
            raise ProtocolError(ErrorCode.MALFORMED, "no attempt id")
        latest = _first_id(now + _AHEAD)
        if self.horizon > latest:
            # This clock was far ahead. To refuse all that comes until then would be worse than
            # to forget: what is replayed still needs a connection that is proven.
            self.horizon = ""
        if attempt_id > latest:
            raise ProtocolError(ErrorCode.MALFORMED, "an attempt id of a time to come")
        if attempt_id in self.times or attempt_id <= self.horizon:
            raise ProtocolError(ErrorCode.ATTEMPT_OVER, "this attempt id was used before")

    def add(self, attempt_id: str, now: datetime) -> None:
        """Remember an id, and forget what is old."""
        self.times[attempt_id] = now
        old = [each for each, at in self.times.items() if at < now - KEPT_FOR]
        old += sorted(self.times.keys() - set(old))[: max(0, len(self.times) - len(old) - KEPT)]
        self._forget(old)

    def forget_all(self) -> None:
        """Keep only what keeps replays out."""
        self._forget(list(self.times))

    def _forget(self, attempt_ids: list[str]) -> None:
        for each in attempt_ids:
            del self.times[each]
            self.horizon = max(self.horizon, each)


def _first_id(moment: datetime) -> str:
    """Return what the ids of a moment begin with."""
    return f"{int(moment.timestamp() * 1000):012x}"
