"""The interfaces that the builder's end is handed in from outside."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from ..build.cache.layout import CacheLayout
from ..build.services import GuestBuildServices


class StateStore(Protocol):
    """A store of a JSON-ready state that survives a restart."""

    async def load(self) -> dict[str, object] | None:
        """Return what was stored last."""

    def save_soon(self, state: Callable[[], dict[str, object]]) -> None:
        """Store what ``state()`` returns."""

    async def save_now(self, state: dict[str, object]) -> None:
        """Store at once, as well as can be done."""

    async def save_durably(self, state: dict[str, object]) -> None:
        """Store at once and return when it is on disk; raises OSError."""


type MakeGuestBuildServices = Callable[[CacheLayout], Awaitable[GuestBuildServices]]
