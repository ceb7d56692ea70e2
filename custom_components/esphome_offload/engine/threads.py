"""Work in a thread that is not left running when nobody waits for it any more."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
import threading


async def in_thread[T](work: Callable[[threading.Event], T]) -> T:
    """Return what ``work`` returns; it gets an event that says: stop, nobody wants it any more.

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
            # Said nowhere: nobody wants it any more.
            running.exception()
        raise
