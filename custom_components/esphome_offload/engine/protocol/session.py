"""Session: commands, answers, events and bodies on one channel.

One end sends commands, the other serves them. The messages have the form of Home Assistant's
websocket API: ``id`` and ``type`` of the command; ``result`` with ``success`` and ``result`` or
``error``; ``event``.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
import logging
from pathlib import Path
from typing import Any, Final

from ..clock import SystemTime, Time, sleep, timeout as timeout_by
from ..codec import Json, encode
from ..tasks import BackgroundTasks, uninterrupted
from ..text import one_line
from .bodies import Bodies, IncomingBody, IncomingFile
from .calls import Call, CommandRefused, Handler
from .channel import Channel, ChannelClosed, Piece
from .errors import ErrorCode, ProtocolError
from .limits import DETAIL_LIMIT, KEEP_TIMEOUT, STALL_TIMEOUT

_LOGGER = logging.getLogger(__name__)

COMMAND_TIMEOUT: Final = 30.0
"""Seconds; commands are answered from memory or after a few looks at the disk."""
HEARTBEAT: Final = 30.0
"""Seconds between two pings, which ask the other end's event loop as well."""
PONG_TIMEOUT: Final = 20.0
"""Seconds; a board that swaps may hang for some."""
SILENCE: Final = 3 * HEARTBEAT
"""Seconds without any message after which the end that serves takes a connection for dead."""
CALLS: Final = 128
"""Commands of one peer that are served at the same time."""

type Listener = Callable[[object], None]
"""Gets the decoded event of a command."""


class Session:
    """One end of a channel, from ``run`` until it is lost. Use it on the event loop only.

    ``lost`` is why there is no connection any more, for the log; None while there is one.
    """

    def __init__(
        self, channel: Channel, handler: Handler | None = None, *, time: Time | None = None
    ) -> None:
        """Serve the other end's commands with ``handler``, or refuse them."""
        self.channel = channel
        self._time = time or SystemTime()
        self._handler: Handler = handler or _refuse_all
        self._last_id = 0
        self._results: dict[int, asyncio.Future[object]] = {}
        self._listeners: dict[int, Listener] = {}
        self._bodies = Bodies(channel)
        self._served: dict[int, asyncio.Task[None]] = {}
        self._tasks = BackgroundTasks()
        self._pong = asyncio.Event()
        self._pong_due: asyncio.Task[None] | None = None
        self.lost: str | None = None
        self._ended = asyncio.Event()

    # Running.

    async def run(self, *, first: Json | Piece | None = None, silence: float | None = None) -> str:
        """Receive until the connection is lost, and return why.

        ``first`` is what was received already. ``silence`` are the seconds without a message
        after which the connection counts as lost.
        """
        try:
            if first is not None:
                self._accept(first)
            while True:
                async with asyncio.timeout(silence):
                    received = await self.channel.receive()
                self._accept(received)
                # What is buffered is received without suspending; a flood would block the loop.
                await asyncio.sleep(0)
        except TimeoutError:
            self.lose("nothing came for too long")
        except ChannelClosed as err:
            self.lose(str(err))
        except ProtocolError as err:
            self.lose(f"the other end does not keep to the protocol: {err.detail}")
        finally:
            self.lose("the connection was closed here")
            await self.close()
        return self.lost or ""

    async def keep_alive(self) -> None:
        """Ping the other end until the connection is lost."""
        while self.lost is None:
            await sleep(self._time, HEARTBEAT)
            self._pong.clear()
            try:
                async with timeout_by(self._time, PONG_TIMEOUT):
                    await self.channel.send({"type": "ping"})
                    await self._pong.wait()
            except TimeoutError:
                self.lose(f"it did not answer for {PONG_TIMEOUT:.0f} s")
            except ChannelClosed as err:
                self.lose(str(err))

    def lose(self, why: str) -> None:
        """Mark the connection as lost: all that wait get ChannelClosed, nothing is served."""
        if self.lost is not None:
            return
        self.lost = why
        self._pong.set()
        self._ended.set()
        self._listeners.clear()
        for result in self._results.values():
            if not result.done():
                result.set_exception(ChannelClosed(why))
        self._bodies.fail(ChannelClosed(why))
        for task in self._served.values():
            task.cancel()

    async def wait_lost(self) -> str:
        """Wait until the connection is lost, and return why."""
        await self._ended.wait()
        return self.lost or ""

    async def close(self) -> None:
        """Close the connection and wait for all that was served on it."""
        self.lose("the connection was closed here")
        try:
            await self.channel.close()
        finally:
            # A web server may cancel its handler as often as it likes.
            await uninterrupted(self._tasks.cancel())

    # Commands of this end. All raise ChannelClosed and CommandRefused.

    async def call(
        self,
        command: object,
        *,
        timeout: float | None = COMMAND_TIMEOUT,
        listener: Listener | None = None,
    ) -> object:
        """Send a command and return its result; its events before that go to ``listener``.

        An end that does not answer in time has lost its connection: what it says later would
        be an answer to something that was given up.
        """
        return await self._call(self._next_id(), command, timeout, listener)

    async def subscribe(self, command: object, listener: Listener) -> Callable[[], None]:
        """Send a command whose events go on after its result; returns unsubscribe."""
        command_id = self._next_id()
        await self._call(command_id, command, COMMAND_TIMEOUT, listener, keep=True)
        return lambda: self._unsubscribe(command_id)

    async def send_file(self, command: object, path: Path, size: int) -> object:
        """Send a command and its body, once the other end wants it; returns the result.

        Raises also what ``OutgoingBody.read`` raises.
        """
        command_id = self._next_id()
        wanted, listen = _first_event()
        with self._bodies.outgoing(command_id) as body:
            async with _running(self._call(command_id, command, None, listen)) as result:
                async with self._no_longer_than(STALL_TIMEOUT, "a body is not asked for"):
                    await _first(result, wanted)
                if not result.done():
                    async with _running(body.read(path, size)) as reading:
                        await _first(result, reading)
                        if not result.done():
                            await reading
                async with self._no_longer_than(KEEP_TIMEOUT, "a body is not confirmed"):
                    return await result

    async def fetch_file(self, command: object, accept: Callable[[object], IncomingFile]) -> None:
        """Send a command and write the body that answers it.

        ``accept`` gets the header before any of the body is taken, and refuses by raising. Raises
        also what that and ``IncomingBody.write`` raise.
        """
        command_id = self._next_id()
        header, listen = _first_event()
        with self._bodies.incoming(command_id) as body:
            async with _running(self._call(command_id, command, None, listen)) as result:
                async with self._no_longer_than(STALL_TIMEOUT, "a body does not begin"):
                    await _first(result, header)
                if header.done():
                    # A command that failed has no whole body either.
                    result.add_done_callback(lambda done: _pass_failure(done, body))
                    await body.write(accept(header.result()))
                async with self._no_longer_than(STALL_TIMEOUT, "a body does not end"):
                    await result
                if not header.done():
                    raise ProtocolError(ErrorCode.MALFORMED, "a body without a header")

    # Internals.

    @asynccontextmanager
    async def _no_longer_than(self, seconds: float, why: str) -> AsyncGenerator[None]:
        """Raise ProtocolError STALLED after so many seconds: its disk may hang, and not the link."""
        try:
            async with timeout_by(self._time, seconds):
                yield
        except TimeoutError as err:
            raise ProtocolError(ErrorCode.STALLED, why) from err

    def _next_id(self) -> int:
        self._last_id += 1
        return self._last_id

    async def _call(
        self,
        command_id: int,
        command: object,
        timeout: float | None,
        listener: Listener | None,
        *,
        keep: bool = False,
    ) -> object:
        if self.lost is not None:
            raise ChannelClosed(self.lost)
        result: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._results[command_id] = result
        if listener is not None:
            self._listeners[command_id] = listener
        answered = False
        try:
            async with timeout_by(self._time, timeout):
                await self.channel.send({"id": command_id, **encode(command)})
                await result
            answered = True
        except TimeoutError as err:
            why = f"it did not answer for {timeout:.0f} s"
            self.lose(why)
            raise ChannelClosed(why) from err
        except ChannelClosed as err:
            self.lose(str(err))
            raise
        except CommandRefused:
            answered = keep = True
            self._listeners.pop(command_id, None)
            raise
        finally:
            self._results.pop(command_id, None)
            if not (answered and keep):
                self._listeners.pop(command_id, None)
            if not answered:
                self._unsubscribe(command_id)
        return result.result()

    def _unsubscribe(self, command_id: int) -> None:
        self._listeners.pop(command_id, None)
        if self.lost is None:
            self._send_soon({"id": command_id, "type": "unsubscribe"})

    def _send_soon(self, message: Json) -> asyncio.Task[None]:
        async def send() -> None:
            try:
                await self.channel.send(message)
            except ChannelClosed as err:
                self.lose(str(err))

        return self._tasks.start(send(), "esphome_offload link answer")

    def _accept(self, received: Json | Piece) -> None:
        if self.lost is not None:
            return  # it is being closed
        if isinstance(received, Piece):
            self._bodies.accept(received)
        else:
            self._dispatch(received)

    def _dispatch(self, message: Json) -> None:
        kind = message.get("type")
        if kind in ("ping", "pong"):
            self._accept_ping(kind)
            return
        command_id = message.get("id")
        # Ids name bodies, too, in four bytes.
        if type(command_id) is not int or not 0 < command_id < 2**32:
            raise ProtocolError(ErrorCode.MALFORMED, "a message without an id")
        if kind == "event":
            if (listener := self._listeners.get(command_id)) is not None:
                listener(message.get("event"))
        elif kind == "result":
            self._accept_result(command_id, message)
        elif kind == "body_ack":
            self._bodies.acknowledge(command_id, message.get("bytes"))
        elif kind == "unsubscribe":
            if (served := self._served.get(command_id)) is not None:
                served.cancel()
        else:
            self._serve(command_id, message)

    def _accept_ping(self, kind: object) -> None:
        if kind == "pong":
            self._pong.set()
        elif self._pong_due is None or self._pong_due.done():
            self._pong_due = self._send_soon({"type": "pong"})

    def _accept_result(self, command_id: int, message: Json) -> None:
        result = self._results.get(command_id)
        if result is None or result.done():
            if message.get("success") is False and command_id in self._listeners:
                # Without it the subscription would look alive for ever.
                self.lose("a subscription failed at the other end")
            return
        if message.get("success") is True:
            result.set_result(message.get("result"))
        else:
            result.set_exception(_refusal(message.get("error")))

    def _serve(self, command_id: int, message: Json) -> None:
        if command_id in self._served:
            raise ProtocolError(ErrorCode.MALFORMED, "an id that is in use")
        if len(self._served) >= CALLS:
            raise ProtocolError(ErrorCode.BUSY, "too many commands at once")
        call = Call(self.channel, self._bodies, command_id, message)
        task = self._tasks.start(self._handle(call), "esphome_offload link command")
        self._served[command_id] = task
        task.add_done_callback(lambda _: self._served.pop(command_id, None))

    async def _handle(self, call: Call) -> None:
        try:
            try:
                result = await self._handler(call)
                if not call.answered:
                    await call.answer(result)
            except ProtocolError as err:
                await call.refuse(err)
            except ChannelClosed:
                raise
            # A fault in one command must end neither the link nor other builds on it.
            except Exception:
                _LOGGER.exception("A command of the other end of a link failed")
                await call.refuse(ProtocolError(ErrorCode.INTERNAL, "it failed"))
        except ChannelClosed as err:
            self.lose(str(err))


async def _refuse_all(call: Call) -> None:
    raise ProtocolError(ErrorCode.MALFORMED, "no commands are served here")


@asynccontextmanager
async def _running[T](work: Coroutine[None, None, T]) -> AsyncGenerator[asyncio.Task[T]]:
    """Run ``work`` as a task, which ends with the context at the latest."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _first_event() -> tuple[asyncio.Future[object], Listener]:
    """Return a future of the first event of a command, and the listener that sets it."""
    first: asyncio.Future[object] = asyncio.get_running_loop().create_future()

    def listen(event: object) -> None:
        if not first.done():
            first.set_result(event)

    return first, listen


def _pass_failure(result: asyncio.Future[object], body: IncomingBody) -> None:
    if not result.cancelled() and (error := result.exception()) is not None:
        body.fail(error if isinstance(error, Exception) else ChannelClosed(repr(error)))


def _refusal(error: object) -> CommandRefused:
    raw = error if isinstance(error, dict) else {}
    code, detail = raw.get("code"), raw.get("message")
    # A code that only a later protocol knows says no more than that something was wrong.
    known = ErrorCode(code) if isinstance(code, str) and code in ErrorCode else ErrorCode.MALFORMED
    return CommandRefused(known, one_line(f"{detail}", DETAIL_LIMIT))


async def _first(*futures: asyncio.Future[Any]) -> None:
    """Return when the first of these is done."""
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
