"""Whether this machine builds for guests."""

from enum import StrEnum


class Lending(StrEnum):
    """Paused: what runs goes on, nothing new starts."""

    ON = "on"
    PAUSED = "paused"
    OFF = "off"

    @property
    def why_not(self) -> str | None:
        """Why no build of a guest may start, for people; None when it may."""
        return _WHY_NOT.get(self)


_WHY_NOT = {
    Lending.OFF: "not lent to others any more",
    Lending.PAUSED: "paused by its owner",
}
