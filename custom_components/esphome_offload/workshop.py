"""Workshop: all that compiles and flashes, put together for one instance."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from .builders.layout import CacheLayout
from .builders.model import Builder
from .jobs.ports import FirmwareKeeper, Flasher


class VersionSource(Protocol):
    """Knows which ESPHome versions there are."""

    async def newest(self, *, prerelease: bool) -> str:
        """Return the newest version; raises VersionError."""

    async def check(self, version: str) -> None:
        """Raise VersionError unless the version exists and runs on this Python."""


@dataclass(frozen=True, slots=True)
class Workshop:
    """What the coordinator hands to the queue, and what it sets and closes itself.

    ``toolchains`` lists the installed ESPHome versions, ``end_leftovers`` ends the processes of
    a killed Home Assistant, ``aclose`` ends whatever still runs.
    """

    builder: Builder
    flasher: Flasher
    firmware: FirmwareKeeper
    versions: VersionSource
    toolchains: Callable[[], tuple[str, ...]]
    set_slots: Callable[[int], None]
    end_leftovers: Callable[[], Awaitable[object]]
    aclose: Callable[[], Awaitable[None]]


def make_workshop(layout: CacheLayout) -> Workshop:
    """Put the real ones together; all that they write is in ``layout``."""
    raise NotImplementedError
