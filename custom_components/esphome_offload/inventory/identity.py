"""What a device says of itself."""

from typing import Protocol


class Identity(Protocol):
    """The names of a device; ``mac`` is lower case with colons."""

    @property
    def node_name(self) -> str:
        """Its node name."""

    @property
    def mac(self) -> str | None:
        """Its MAC address; None while that is not known."""
