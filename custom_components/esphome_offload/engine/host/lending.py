"""Whether this machine accepts builds of guests."""

from enum import StrEnum

from ..reason import Reason, ReasonKey


class Lending(StrEnum):
    """Draining: what runs goes on, nothing new starts. Off: nothing is served."""

    ON = "on"
    DRAINING = "draining"
    OFF = "off"

    @property
    def why_not(self) -> Reason | None:
        """Why no build of a guest may start; None when it may."""
        return _WHY_NOT.get(self)


_WHY_NOT = {
    Lending.OFF: Reason(ReasonKey.NOT_LENT),
    Lending.DRAINING: Reason(ReasonKey.ACCEPTS_NO_BUILDS),
}
