"""Work in threads: one that ends when its caller is cancelled, one that may never end."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
import errno
import threading

from .tasks import uninterrupted


async def in_thread[T](work: Callable[[threading.Event], T]) -> T:
    """Return what ``work`` returns; it gets an event that tells it to stop.

    When cancelled, the event is set and ``work`` is waited for: what it uses must not be cleared
    away early, and what it changes under a lock must not be changed after the lock was given to
    somebody else.
    """
    stop = threading.Event()
    return await uninterrupted(asyncio.to_thread(work, stop), stop.set)


class UnreliableThreads:
    """Work that may hang for ever, as with a share whose server is gone: nobody waits for that.

    While one piece of work hangs, no other is started.
    """

    def __init__(self) -> None:
        self._last: asyncio.Future[None] | None = None

    async def run[T](self, work: Callable[[], T], seconds: float) -> T:
        """Return what ``work`` returns; raises TimeoutError after so many seconds, and OSError."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(seconds):
            while self._last is not None and not self._last.done():
                await asyncio.wait([self._last])
            ended: asyncio.Future[None] = loop.create_future()
            results: list[T] = []
            errors: list[BaseException] = []

            def run() -> None:
                try:
                    results.append(work())
                except BaseException as error:  # noqa: BLE001 - raised where it is waited for
                    errors.append(error)
                with suppress(RuntimeError):  # the loop was closed meanwhile
                    loop.call_soon_threadsafe(_end, ended)

            # Not of a pool: it would be waited for at the end of the program.
            thread = threading.Thread(target=run, name="unreliable work", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                raise OSError(errno.EAGAIN, "no thread can be started") from error
            self._last = ended
            await asyncio.shield(ended)
        if errors:
            raise errors[0]
        return results[0]


def _end(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
