"""Subscriptions of websocket clients that send no faster than the client reads."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sized
from contextlib import aclosing
from typing import Any, Final

from homeassistant.components import websocket_api
from homeassistant.core import HomeAssistant

from ..const import DOMAIN
from ..engine.job_log import JobLogs

OUTPUT_INTERVAL: Final = 0.1
"""Seconds between two events with output."""
_LINES_PER_EVENT: Final = 500
_BYTES_PER_EVENT: Final = 96 * 1024

# Home Assistant disconnects a client with 4096 unread messages, or 1024 for 10 seconds. With
# this many unread nothing more is sent; the rest is read from the log later.
_MAX_UNREAD: Final = 16

# How often the unread messages of a slow client are counted.
_LOOK_EVERY: Final = 0.05

# When the unread messages cannot be counted any more: Home Assistant's heartbeat cuts a client
# off that reads nothing for 83 seconds, so that at this pace it never has even 100 unread.
_BLIND_INTERVAL: Final = 1.0


class ThrottledSubscription:
    """Sends events to one subscriber, no faster than the interval and than it reads."""

    def __init__(
        self, connection: websocket_api.ActiveConnection, msg_id: int, interval: float
    ) -> None:
        """``interval`` is in seconds."""
        self._connection = connection
        self._msg_id = msg_id
        self._interval = interval

    def own(self, hass: HomeAssistant, work: Coroutine[Any, Any, None]) -> None:
        """Run ``work`` until it ends, or the subscription or the connection does."""
        task = hass.async_create_background_task(work, f"{DOMAIN} websocket subscription")
        self._connection.subscriptions[self._msg_id] = task.cancel

    def send(self, event: dict[str, Any]) -> None:
        """Send one event."""
        self._connection.send_event(self._msg_id, event)

    async def send_output(
        self,
        logs: JobLogs,
        log_id: str,
        next_line: int,
        *,
        woken: asyncio.Event,
        ended: Callable[[], bool],
        about: Callable[[], Mapping[str, object]],
    ) -> None:
        """Send a log from a line on until it has ended, with what ``about`` returns; see ``follow``."""
        pages = logs.follow(
            log_id,
            next_line,
            woken=woken,
            ended=ended,
            limit=_LINES_PER_EVENT,
            size=_BYTES_PER_EVENT,
            pause=self.ready,
        )
        async with aclosing(pages):
            async for page in pages:
                self.send(
                    {
                        **about(),
                        "first_line": page.first_line,
                        "lines": list(page.lines),
                        "next_line": page.next_line,
                        "terminal": page.last,
                    }
                )

    async def ready(self) -> None:
        """Return when the next event may be sent."""
        pause = self._interval
        while True:
            unread = _unread(self._connection)
            await asyncio.sleep(_BLIND_INTERVAL if unread is None else pause)
            if unread is None or len(unread) <= _MAX_UNREAD:
                return
            pause = max(pause, _LOOK_EVERY)


def _unread(connection: websocket_api.ActiveConnection) -> Sized | None:
    """Return the messages that wait to be sent; None when Home Assistant keeps them elsewhere."""
    queue = getattr(_handler(connection), "_message_queue", None)
    return queue if isinstance(queue, Sized) else None


def _handler(connection: websocket_api.ActiveConnection) -> object:
    """Return what Home Assistant keeps behind a connection; None when that cannot be found."""
    # Since 2026.11 ``send_message`` is the connection's own, with the handler's behind it.
    send = getattr(connection, "_send_message", connection.send_message)
    return getattr(send, "__self__", None)
