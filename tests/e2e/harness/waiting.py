"""The one way these tests wait for a state."""

import asyncio
from collections.abc import Awaitable, Callable
import time

# A limit decides nothing while everything works: it ends a test that would wait for ever. It is
# generous because two cores may have ten processes that want them.
PATIENCE = 180.0


async def until[T](
    look: Callable[[], Awaitable[T | None]], what: str, seconds: float = PATIENCE
) -> T:
    """Return what the coroutine function ``look`` returns once that is not None or False."""
    deadline = time.monotonic() + seconds
    while True:
        found = await look()
        if found is not None and found is not False:
            return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:.0f} s for {what}")
        await asyncio.sleep(0.1)
