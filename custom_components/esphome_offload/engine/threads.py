"""Work in a thread that ends when its caller is cancelled."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
import threading


async def in_thread[T](work: Callable[[threading.Event], T]) -> T:
    """Return what ``work`` returns; it gets an event that tells it to stop.

    When cancelled, the event is set and ``work`` is waited for; what it then returns or raises is
    dropped.
    """
    stop = threading.Event()
    running = asyncio.ensure_future(asyncio.to_thread(work, stop))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        stop.set()
        while not running.done():
            # Cancelled once more: what it uses must not be cleared away early.
            with suppress(asyncio.CancelledError):
                await asyncio.wait([running])
        if not running.cancelled():
            # Retrieved, or asyncio would log it.
            running.exception()
        raise
