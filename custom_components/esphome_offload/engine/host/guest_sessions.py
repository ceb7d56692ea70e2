"""GuestSessions: the established connections of all guests."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

from ..protocol.channel import ChannelClosed
from ..protocol.session import Session
from ..tasks import BackgroundTasks
from .commands import GuestCommands

PER_GUEST: Final = 4
"""Connections of one guest: with more, the oldest, which may be dead, is closed."""
_NOTIFY_TIMEOUT: Final = 1.0
"""Seconds; a guest that does not read in this time learns it when it connects again."""


@dataclass(frozen=True, slots=True, eq=False)
class GuestSession:
    """A connection of a guest."""

    pin_sha256: str
    session: Session
    commands: GuestCommands


class GuestSessions:
    """The connections of guests, oldest first. A guest is served on each of its connections."""

    def __init__(self) -> None:
        self._all: dict[GuestSession, None] = {}
        self._tasks = BackgroundTasks()

    @contextmanager
    def open(self, session: GuestSession) -> Iterator[None]:
        """Count a session for as long as the context lasts."""
        for oldest in self._of(session.pin_sha256)[: 1 - PER_GUEST or None]:
            del self._all[oldest]
            self._tasks.start(oldest.session.close(), "esphome_offload close an old connection")
        self._all[session] = None
        try:
            yield
        finally:
            self._all.pop(session, None)

    def connected(self, pin_sha256: str) -> bool:
        """Return whether a guest is connected."""
        return bool(self._of(pin_sha256))

    async def close(self, pin_sha256: str, *, notify: bool) -> None:
        """Close the connections of a guest; with ``notify`` it gets UnpairedEvent first."""
        await asyncio.gather(*(_close(each, notify=notify) for each in self._of(pin_sha256)))

    async def close_all(self) -> None:
        """Close all connections."""
        await asyncio.gather(*(_close(each, notify=False) for each in tuple(self._all)))
        await self._tasks.wait()

    def _of(self, pin_sha256: str) -> list[GuestSession]:
        return [each for each in self._all if each.pin_sha256 == pin_sha256]


async def _close(session: GuestSession, *, notify: bool) -> None:
    if notify:
        with suppress(ChannelClosed, TimeoutError):
            async with asyncio.timeout(_NOTIFY_TIMEOUT):
                await session.commands.send_unpaired()
    await session.session.close()
