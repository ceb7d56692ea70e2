"""Whether this machine builds for guests."""

from enum import StrEnum

from ..reason import Reason, ReasonKey


class Lending(StrEnum):
    """Paused: what runs goes on, nothing new starts."""

    ON = "on"
    PAUSED = "paused"
    OFF = "off"

    @property
    def why_not(self) -> Reason | None:
        """Why no build of a guest may start; None when it may."""
        return _WHY_NOT.get(self)


_WHY_NOT = {
    Lending.OFF: Reason(ReasonKey.NOT_LENT),
    Lending.PAUSED: Reason(ReasonKey.LENDING_PAUSED),
}
