"""The attempt ids that a guest has used: what is submitted again starts nothing, also after a restart."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, Final

from ..codec import Keyed, Text
from ..protocol.errors import ErrorCode, ProtocolError
from ..protocol.fields import AttemptId

KEPT_FOR: Final = timedelta(days=7)
KEPT: Final = 1000
"""Ids per guest; 36 bytes each in the store, which is written at each submit."""
_FUTURE: Final = timedelta(days=1)
"""How far a guest's clock may be ahead of ours."""


@dataclass(slots=True)
class UsedAttemptIds:
    """The used ids of a guest; bounded, since ids hold the time at which they were made (UUID 7).

    ``times`` says when each was used. Of those that are dropped the latest is kept as
    ``horizon``: it and all before it count as used.
    """

    times: Annotated[dict[AttemptId, datetime], Keyed(2 * KEPT)] = field(default_factory=dict)
    horizon: Annotated[str, Text(32, r"[0-9a-f]*")] = ""

    def check(self, attempt_id: str, now: datetime) -> None:
        """Raise ProtocolError unless an id can be used.

        ATTEMPT_OVER: it was used. MALFORMED: it is of the future.
        """
        latest = _first_id(now + _FUTURE)
        # Our clock was far ahead. To refuse everything until then would be worse than to forget.
        if self.horizon > latest:
            self.horizon = ""
        if attempt_id > latest:
            raise ProtocolError(ErrorCode.MALFORMED, "an attempt id of the future")
        if attempt_id in self.times or attempt_id <= self.horizon:
            raise ProtocolError(ErrorCode.ATTEMPT_OVER, "this attempt id was used before")

    def add(self, attempt_id: str, now: datetime) -> None:
        """Remember an id, and drop what is old."""
        self.times[attempt_id] = now
        old = [each for each, at in self.times.items() if at < now - KEPT_FOR]
        old += sorted(self.times.keys() - set(old))[: max(0, len(self.times) - len(old) - KEPT)]
        self._drop(old)

    def drop_all(self) -> None:
        """Keep only the horizon."""
        self._drop(list(self.times))

    def _drop(self, attempt_ids: list[str]) -> None:
        for each in attempt_ids:
            del self.times[each]
            self.horizon = max(self.horizon, each)


def _first_id(moment: datetime) -> str:
    """Return what the ids of a moment begin with."""
    return f"{int(moment.timestamp() * 1000):012x}"
