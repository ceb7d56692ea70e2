"""One connection to Home Assistant's websocket API at a peer."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
import json
import logging
from typing import Final, Self, cast

import aiohttp

from ..codec import Json, encode
from ..protocol.definitions import MIB, ErrorCode
from .errors import LinkLost, PeerRefused, TokenRefusedError

_LOGGER = logging.getLogger(__name__)

MESSAGE_LIMIT: Final = 16 * MIB
HEARTBEAT: Final = 30.0
"""Seconds between two pings of Home Assistant's own, which ask its event loop as well."""
PONG_TIMEOUT: Final = 20.0
"""Seconds; a board that swaps may hang for some."""
CONNECT_TIMEOUT: Final = 20.0
"""Seconds for TCP, TLS and the upgrade; a busy small board may need several."""
AUTH_TIMEOUT: Final = 10.0
"""What Home Assistant itself allows."""
COMMAND_TIMEOUT: Final = 30.0
"""Commands are answered from memory or after one look at the disk."""
CLOSE_TIMEOUT: Final = 2.0

type Listener = Callable[[object], None]
"""Gets the decoded event of a subscription."""


class Connection:
    """From ``open`` until either side closes it. Ids begin anew with each."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """Use ``open``."""
        self._socket = socket
        self._last_id = 0
        self._pending: dict[int, asyncio.Future[object]] = {}
        self._listeners: dict[int, Listener] = {}
        self._lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Nobody may be waiting when it goes.
        self._lost.add_done_callback(lambda lost: lost.exception())
        self._tasks: tuple[asyncio.Task[None], ...] = ()

    @classmethod
    async def open(cls, session: aiohttp.ClientSession, url: str, token: str) -> Self:
        """Connect and log in; raises LinkLost or TokenRefusedError."""
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                socket = await session.ws_connect(
                    f"{url}/api/websocket",
                    max_msg_size=MESSAGE_LIMIT,
                    timeout=aiohttp.ClientWSTimeout(ws_close=CLOSE_TIMEOUT),
                )
        except TimeoutError as err:
            raise LinkLost("it does not answer") from err
        except (aiohttp.ClientError, OSError, ValueError) as err:
            raise LinkLost(f"it cannot be reached: {err}") from err
        connection = cls(socket)
        try:
            await connection._log_in(token)
        except BaseException:
            await socket.close()
            raise
        connection._tasks = (
            asyncio.create_task(connection._read()),
            asyncio.create_task(connection._ping()),
        )
        return connection

    @property
    def lost(self) -> asyncio.Future[None]:
        """Gets LinkLost as its exception when the connection has ended; shield it."""
        return self._lost

    async def call(self, command: object, timeout: float = COMMAND_TIMEOUT) -> object:
        """Send a command and return what it gives; raises LinkLost or PeerRefused.

        A peer that does not answer in time has lost its connection: what it says later would
        be an answer to something that was given up.
        """
        return await self._call(self._next_id(), encode(command), timeout)

    async def subscribe(self, command: object, listener: Listener) -> Callable[[], None]:
        """Send a command whose events go to ``listener``, from before its answer on.

        Returns what stops listening; raises like ``call``.
        """
        message_id = self._next_id()
        self._listeners[message_id] = listener

        def stop() -> None:
            self._listeners.pop(message_id, None)

        try:
            await self._call(message_id, encode(command), COMMAND_TIMEOUT)
        except BaseException:
            stop()
            raise
        return stop

    def abort(self, why: str) -> None:
        """Let everybody know that it is lost; whoever opened it closes it."""
        self._lose(why)

    async def close(self, why: str = "the connection was closed here") -> None:
        """End it; whoever waits gets LinkLost."""
        self._lose(why)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._socket.close()

    async def _log_in(self, token: str) -> None:
        try:
            async with asyncio.timeout(AUTH_TIMEOUT):
                await self._expect("auth_required")
                await self._socket.send_json({"type": "auth", "access_token": token})
                await self._expect("auth_ok")
        except TimeoutError as err:
            raise LinkLost("it does not let us log in") from err
        except (aiohttp.ClientError, OSError) as err:
            raise LinkLost(f"the connection broke: {err}") from err

    async def _expect(self, kind: str) -> None:
        message = await self._socket.receive()
        said = _decode(message.data) if message.type is aiohttp.WSMsgType.TEXT else {}
        if said.get("type") == "auth_invalid":
            raise TokenRefusedError
        if said.get("type") != kind:
            raise LinkLost("what answers there is no Home Assistant")

    def _next_id(self) -> int:
        self._last_id += 1
        return self._last_id

    async def _call(self, message_id: int, message: Json, timeout: float) -> object:
        if self._lost.done():
            raise self._why()
        answer: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        self._pending[message_id] = answer
        try:
            async with asyncio.timeout(timeout):
                await self._socket.send_str(json.dumps({"id": message_id, **message}))
                return await answer
        except TimeoutError as err:
            why = f"it did not answer for {timeout:.0f} s"
            self._lose(why)
            raise LinkLost(why) from err
        except (aiohttp.ClientError, OSError) as err:
            self._lose(f"the connection broke: {err}")
            raise self._why() from err
        finally:
            self._pending.pop(message_id, None)

    async def _read(self) -> None:
        """Hand on what comes until nothing more does."""
        why = "the peer closed the connection"
        try:
            while True:
                message = await self._socket.receive()
                if message.type is not aiohttp.WSMsgType.TEXT:
                    if message.type is aiohttp.WSMsgType.ERROR:
                        why = f"the connection broke: {message.data}"
                    return
                self._dispatch(_decode(message.data))
                # What is buffered is received without suspending; a flood would block the loop.
                await asyncio.sleep(0)
        except (aiohttp.ClientError, OSError, ValueError) as err:
            why = f"the connection broke: {err}"
        finally:
            self._lose(why)

    async def _ping(self) -> None:
        """See to it that a connection that is dead does not look alive."""
        while not self._lost.done():
            await asyncio.sleep(HEARTBEAT)
            with suppress(LinkLost, PeerRefused):
                await self._call(self._next_id(), {"type": "ping"}, PONG_TIMEOUT)

    def _dispatch(self, message: Json) -> None:
        message_id = message.get("id")
        if not isinstance(message_id, int):
            return
        if message.get("type") == "event":
            if (listener := self._listeners.get(message_id)) is not None:
                listener(message.get("event"))
        elif message.get("type") in {"result", "pong"}:
            answer = self._pending.get(message_id)
            if answer is None or answer.done():
                return
            if message.get("type") == "pong" or message.get("success") is True:
                answer.set_result(message.get("result"))
            else:
                answer.set_exception(_refusal(message.get("error")))

    def _lose(self, why: str) -> None:
        if self._lost.done():
            return
        self._lost.set_exception(LinkLost(why))
        self._listeners.clear()
        for answer in self._pending.values():
            if not answer.done():
                answer.set_exception(LinkLost(why))

    def _why(self) -> LinkLost:
        return LinkLost(str(self._lost.exception()))


def _decode(text: object) -> Json:
    """Return a message; what is none of Home Assistant's is as good as an empty one."""
    try:
        message = json.loads(cast("str", text))
    except (ValueError, RecursionError) as err:
        raise ValueError("not JSON") from err
    return message if isinstance(message, dict) else {}


def _refusal(error: object) -> PeerRefused:
    raw = error if isinstance(error, dict) else {}
    code, detail = raw.get("code"), raw.get("message")
    # A code of Home Assistant's own, or of a later protocol.
    known = ErrorCode(code) if isinstance(code, str) and code in ErrorCode else ErrorCode.MALFORMED
    return PeerRefused(known, str(detail)[:1000] if known == code else f"{code}: {detail}"[:1000])
