"""What the builder's end needs from outside and is handed in."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from ..build.cache.layout import CacheLayout
from ..build.model import Builder, Firmware


class StateStore(Protocol):
    """Where something is kept that survives a restart; JSON-ready."""

    async def load(self) -> dict[str, object] | None:
        """Return what was stored last."""

    def save_soon(self, state: Callable[[], dict[str, object]]) -> None:
        """Store what ``state()`` returns."""

    async def save_now(self, state: dict[str, object]) -> None:
        """Store at once, as well as can be done."""

    async def save_durably(self, state: dict[str, object]) -> None:
        """Store at once and return when it is on disk; raises OSError."""


class FirmwareLoader(Protocol):
    """The firmware that was built for one guest."""

    async def load(self, configuration: str, sha256: str) -> Firmware | None:
        """Return one firmware, None when it is gone; raises BuildError when it was altered."""


@dataclass(frozen=True, slots=True)
class GuestBuildServices:
    """What builds for one guest, all below ``layout``."""

    layout: CacheLayout
    builder: Builder
    firmware: FirmwareLoader


type MakeGuestBuildServices = Callable[[CacheLayout], Awaitable[GuestBuildServices]]
