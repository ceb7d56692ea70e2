"""The clock and the timers, handed in so that tests need not wait."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol


class Time(Protocol):
    """The clock and the timers, so that tests need not wait."""

    def now(self) -> datetime:
        """Return the present time in UTC."""

    def call_later(self, seconds: float, action: Callable[[], None]) -> Callable[[], None]:
        """Call ``action`` on the event loop in so many seconds; returns cancel."""


class SystemTime:
    """The machine's clock and the running event loop's timers."""

    def now(self) -> datetime:
        """Return the present time in UTC."""
        return datetime.now(UTC)

    def call_later(self, seconds: float, action: Callable[[], None]) -> Callable[[], None]:
        """Call ``action`` on the event loop in so many seconds; returns cancel."""
        return asyncio.get_running_loop().call_later(seconds, action).cancel


async def sleep(time: Time, seconds: float) -> None:
    """Sleep by the given timers."""
    over = asyncio.Event()
    cancel = time.call_later(seconds, over.set)
    try:
        await over.wait()
    finally:
        cancel()
