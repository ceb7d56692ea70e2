"""Work in a thread that ends when its caller is cancelled."""

import asyncio
from collections.abc import Callable
import threading

from .tasks import uninterrupted


async def in_thread[T](work: Callable[[threading.Event], T]) -> T:
    """Return what ``work`` returns; it gets an event that tells it to stop.

    When cancelled, the event is set and ``work`` is waited for: what it uses must not be cleared
    away early.
    """
    stop = threading.Event()
    return await uninterrupted(asyncio.to_thread(work, stop), stop.set)
