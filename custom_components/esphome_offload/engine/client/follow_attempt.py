"""Following an attempt at a peer: its events, and how it ended."""

import asyncio
from collections.abc import Callable
from typing import cast

from ..protocol.messages import (
    BUILD_EVENTS,
    Attach,
    AttemptEvent,
    BuildEvent,
)
from ..protocol.parsing import parse_one_of
from .connection import Connection
from .errors import LinkLost


async def follow_attempt(
    connection: Connection,
    attempt_id: str,
    from_line: int,
    on_event: Callable[[BuildEvent], None],
) -> AttemptEvent:
    """Hand on the events of an attempt until it has ended, and return its end.

    Raises LinkLost, PeerRefused, ProtocolError for an event that makes no sense, and what
    ``on_event`` raises.
    """
    ended: asyncio.Future[AttemptEvent] = asyncio.get_running_loop().create_future()

    def listen(raw: object) -> None:
        if ended.done():
            return
        try:
            event = cast("BuildEvent | None", parse_one_of(BUILD_EVENTS, raw))
            if event is None or event.attempt_id != attempt_id:
                return
            on_event(event)
        # Else it would end the connection, and with it all that others build over it.
        except Exception as err:  # noqa: BLE001 - whoever follows gets it, the reader goes on
            ended.set_exception(err)
            return
        if isinstance(event, AttemptEvent) and event.state.final:
            ended.set_result(event)

    def lost(why: asyncio.Future[None]) -> None:
        if not ended.done():
            ended.set_exception(LinkLost(str(why.exception())))

    stop = await connection.subscribe(Attach(attempt_id, from_line), listen)
    connection.lost.add_done_callback(lost)
    try:
        return await ended
    finally:
        connection.lost.remove_done_callback(lost)
        stop()
        if ended.done() and not ended.cancelled():
            # Read here, because nobody else does when this is cancelled.
            ended.exception()
