"""The one owner of tasks that run in the background, and waiting that cannot be interrupted."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
import logging
from typing import Any

_LOGGER = logging.getLogger(__name__)


class BackgroundTasks:
    """Tasks that their owner starts, and cancels or awaits at its end.

    A task that ends with an exception is logged.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def __bool__(self) -> bool:
        """Return whether a task runs."""
        return bool(self._tasks)

    def start(self, work: Coroutine[None, None, None], name: str) -> asyncio.Task[None]:
        """Run ``work`` as a task of this name."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    async def wait(self, timeout: float | None = None) -> bool:
        """Wait until all tasks end; returns False when ``timeout`` seconds pass first."""
        if not self._tasks:
            return True
        _, pending = await asyncio.wait(tuple(self._tasks), timeout=timeout)
        return not pending

    async def cancel(self, timeout: float | None = None) -> bool:
        """Cancel all tasks and wait for them like ``wait``."""
        for task in tuple(self._tasks):
            task.cancel()
        return await self.wait(timeout)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _LOGGER.error("%s failed", task.get_name(), exc_info=error)


class CoalescedTask:
    """Work that runs soon after a request, and once more if it is requested while it runs."""

    def __init__(self, work: Callable[[], Coroutine[None, None, None]], name: str) -> None:
        self._work = work
        self._name = name
        self._tasks = BackgroundTasks()
        self._requested = False
        self._running = False
        self._stopped = False

    def request(self) -> None:
        """Run the work soon; returns at once. Ignored after ``stop``."""
        self._requested = True
        if not self._running and not self._stopped:
            self._running = True
            self._tasks.start(self._run(), self._name)

    async def stop(self, timeout: float | None = None) -> bool:
        """Cancel the work; returns False when it has not ended after ``timeout`` seconds."""
        self._stopped = True
        return await self._tasks.cancel(timeout)

    async def _run(self) -> None:
        try:
            while self._requested:
                self._requested = False
                await self._work()
        finally:
            self._running = False


async def uninterrupted[T](work: Awaitable[T], on_cancel: Callable[[], None] | None = None) -> T:
    """Return what ``work`` returns; when cancelled, however often, wait for its end first.

    ``on_cancel`` is called at the first cancellation. What the work then returns or raises is dropped.
    """
    running = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        if on_cancel is not None:
            on_cancel()
        await wait_through(running)
        raise


async def wait_through(running: asyncio.Future[Any]) -> None:
    """Wait for the end of a task, and ignore cancellations meanwhile and how it ended."""
    while not running.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([running])
    if not running.cancelled():
        # Retrieved, or asyncio would log it.
        running.exception()


async def stop_all(*parts: Awaitable[object]) -> None:
    """Stop parts at the same time; one that fails is logged, and keeps no other from stopping."""
    for result in await asyncio.gather(*parts, return_exceptions=True):
        if isinstance(result, Exception):
            _LOGGER.error("A part could not be stopped", exc_info=result)
