"""Calls: the commands of the other end of a session, while they are served."""

from collections.abc import Awaitable, Callable
from pathlib import Path

from ..codec import Json, encode
from ..text import one_line
from .bodies import Bodies, IncomingFile
from .channel import Channel
from .errors import ErrorCode, ProtocolError
from .limits import DETAIL_LIMIT


class CommandRefused(Exception):  # noqa: N818 - a refusal is an answer
    """The other end refused a command; ``detail`` is its own word, clean, for the log."""

    def __init__(self, code: ErrorCode, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class Call:
    """A command of the other end, while it is served."""

    def __init__(self, channel: Channel, bodies: Bodies, command_id: int, message: Json) -> None:
        self._channel = channel
        self._bodies = bodies
        self._id = command_id
        self.message = message
        self.answered = False

    @property
    def type(self) -> str:
        """The name of the command."""
        return str(self.message.get("type"))

    async def answer(self, result: object | None = None) -> None:
        """Send the result now: what follows are the events of a subscription."""
        self.answered = True
        content = None if result is None else encode(result)
        await self._send("result", success=True, result=content)

    async def refuse(self, err: ProtocolError) -> None:
        """Send an error as the result."""
        error = {"code": err.code, "message": one_line(err.detail, DETAIL_LIMIT)}
        await self._send("result", success=False, error=error)

    async def event(self, event: object) -> None:
        """Send an event; returns when the channel has taken it."""
        await self._send("event", event=encode(event))

    async def receive_file(self, file: IncomingFile) -> None:
        """Receive the body of this command; raises like ``IncomingBody.write``."""
        with self._bodies.incoming(self._id) as body:
            # The other end waits for this before it sends.
            await self._send("event", event={})
            await body.write(file)

    async def send_file(self, header: object, path: Path, size: int) -> None:
        """Send ``header`` as an event and a file after it; raises like ``OutgoingBody.read``."""
        with self._bodies.outgoing(self._id) as body:
            await self.event(header)
            await body.read(path, size)

    async def _send(self, kind: str, **content: object) -> None:
        await self._channel.send({"id": self._id, "type": kind, **content})


type Handler = Callable[[Call], Awaitable[object | None]]
"""Serves a command and returns its result (a message or None); raises ProtocolError.

It is cancelled when the other end wants no more of it, or the session ends.
"""
