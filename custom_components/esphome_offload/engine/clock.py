"""The one way to get the time and timers: handed in, so that tests need not wait."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from time import monotonic
from typing import Protocol


class Time(Protocol):
    """A clock and its timers."""

    def now(self) -> datetime:
        """Return the present time in UTC."""

    def monotonic(self) -> float:
        """Return seconds that only ever grow, whatever is done to the machine's clock."""

    def call_later(self, seconds: float, action: Callable[[], None]) -> Callable[[], None]:
        """Call ``action`` on the event loop after so many seconds; returns cancel."""


class SystemTime:
    """The machine's clock and the running event loop's timers."""

    def now(self) -> datetime:
        """Return the present time in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds that only ever grow."""
        return monotonic()

    def call_later(self, seconds: float, action: Callable[[], None]) -> Callable[[], None]:
        """Call ``action`` on the event loop after so many seconds; returns cancel."""
        return asyncio.get_running_loop().call_later(seconds, action).cancel


async def sleep(time: Time, seconds: float) -> None:
    """Sleep by the given timers."""
    over = asyncio.Event()
    cancel = time.call_later(seconds, over.set)
    try:
        await over.wait()
    finally:
        cancel()


@asynccontextmanager
async def timeout(time: Time, seconds: float | None) -> AsyncGenerator[None]:
    """Raise TimeoutError in the context after so many seconds by the given timers."""
    async with asyncio.timeout(None) as limit:
        if seconds is None:
            yield
            return
        loop = asyncio.get_running_loop()
        cancel = time.call_later(seconds, lambda: limit.reschedule(loop.time()))
        try:
            yield
        finally:
            cancel()
