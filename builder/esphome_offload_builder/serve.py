"""Running the builder as a process, until a signal ends it."""

import asyncio
from contextlib import suppress
import logging
import os
import signal
import threading
from typing import Final

from .log import log_to_stdout
from .program import StandaloneBuilder
from .settings import Settings

_LOGGER = logging.getLogger(__name__)

STOP_TIMEOUT: Final = 9.0
"""Seconds; a build ends within 5. What is stuck then is left: launchers end their builds by
themselves when this program is gone."""


def serve(settings: Settings, *, verbose: bool) -> None:
    """Run until SIGTERM or SIGINT; raises RefusedError."""
    log_to_stdout(verbose=verbose)
    asyncio.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    builder = StandaloneBuilder(settings)
    stopping = asyncio.create_task(stop.wait())
    starting = asyncio.create_task(builder.start())
    try:
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            await stopping
        _LOGGER.info("Stopping")
    finally:
        _end_at_the_latest()
        for task in (starting, stopping):
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.wait({starting, stopping})
        await builder.stop()
    _LOGGER.info("Stopped")


def _end_at_the_latest() -> None:
    """End this process after so many seconds, whatever a thread of it is stuck in."""
    timer = threading.Timer(STOP_TIMEOUT, os._exit, (1,))
    timer.daemon = True
    timer.start()
