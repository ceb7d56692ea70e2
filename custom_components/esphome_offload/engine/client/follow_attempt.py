"""Following an attempt at a peer: its events, and how it ended."""

import asyncio
from collections.abc import Callable
from typing import cast

from ..protocol.channel import ChannelClosed
from ..protocol.messages import BUILD_EVENTS, Attach, AttemptEvent, BuildEvent
from ..protocol.parsing import parse_one_of
from ..protocol.session import Session


async def follow_attempt(
    session: Session, attempt_id: str, from_line: int, on_event: Callable[[BuildEvent], None]
) -> AttemptEvent:
    """Hand on the events of an attempt until it has ended, and return its end.

    Raises ChannelClosed, CommandRefused, ProtocolError for an event that makes no sense, and what
    ``on_event`` raises.
    """
    # A failure is a result, too: an exception that nobody fetched, as after a cancellation, is
    # logged by asyncio.
    ended: asyncio.Future[AttemptEvent | Exception] = asyncio.get_running_loop().create_future()

    def listen(raw: object) -> None:
        if ended.done():
            return
        try:
            event = cast("BuildEvent | None", parse_one_of(BUILD_EVENTS, raw))
            if event is None or event.attempt_id != attempt_id:
                return
            on_event(event)
        # Whatever it is, it is raised below: in the session it would end the connection, and all
        # other builds with it.
        except Exception as err:  # noqa: BLE001
            ended.set_result(err)
            return
        if isinstance(event, AttemptEvent) and event.state.final:
            ended.set_result(event)

    unsubscribe = await session.subscribe(Attach(attempt_id, from_line), listen)
    lost = asyncio.ensure_future(session.wait_lost())
    try:
        await asyncio.wait((ended, lost), return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            raise ChannelClosed(lost.result())
        end = ended.result()
        if isinstance(end, Exception):
            raise end
        return end
    finally:
        lost.cancel()
        unsubscribe()
