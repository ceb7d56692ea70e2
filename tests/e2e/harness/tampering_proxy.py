"""A proxy between two instances that records the frames of their link and tampers with them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum

import aiohttp
from aiohttp import web

from . import ports
from .any_builder import AnyBuilder
from .pair import Pair
from .relay import Relay
from .waiting import PATIENCE

_HOST = "127.0.0.1"
_SENT_ON = ("Authorization", "Content-Type")


class Direction(StrEnum):
    """Which way a frame goes."""

    TO_BUILDER = "to_builder"
    TO_OFFLOADER = "to_offloader"


@dataclass(frozen=True, slots=True)
class Frame:
    """A message of a websocket, unmasked. ``number`` counts in its direction, from 0."""

    connection: int
    direction: Direction
    number: int
    data: bytes
    is_text: bool = False


type Change = Callable[[Frame], Sequence[Frame]]
"""Returns what is sent on in place of a frame."""


def flip(frame: Frame, bit: int | None = None) -> list[Frame]:
    """Flip a bit of a frame, by default one in its middle."""
    position = len(frame.data) * 4 if bit is None else bit % (len(frame.data) * 8)
    data = bytearray(frame.data)
    # The lowest bits of a text: it stays one.
    data[position // 8] ^= 1 if frame.is_text else 1 << position % 8
    changed = Frame(frame.connection, frame.direction, frame.number, bytes(data), frame.is_text)
    return [changed]


def flip_first(frame: Frame) -> list[Frame]:
    """Flip the first bit of a frame."""
    return flip(frame, 0)


def flip_last(frame: Frame) -> list[Frame]:
    """Flip the last bit of a frame."""
    return flip(frame, -1)


def drop(_frame: Frame) -> list[Frame]:
    """Drop a frame."""
    return []


def repeat(frame: Frame) -> list[Frame]:
    """Send a frame twice."""
    return [frame, frame]


class Swap:
    """Send a frame after the one that follows it."""

    def __init__(self) -> None:
        self._held: Frame | None = None

    def __call__(self, frame: Frame) -> list[Frame]:
        if self._held is None:
            self._held = frame
            return []
        held, self._held = self._held, None
        return [frame, held]


class Fault:
    """A change of the first frame that ``which`` is true for; ``done`` is set when it was made."""

    def __init__(self, which: Callable[[Frame], bool], change: Change) -> None:
        self._which = which
        self._change = change
        self._connection: int | None = None
        self.done = asyncio.Event()

    @property
    def connection(self) -> int:
        """The number of the connection whose frame was changed."""
        assert self._connection is not None
        return self._connection

    def __call__(self, frame: Frame) -> Sequence[Frame]:
        """Return what is sent on in place of a frame."""
        if self.done.is_set() or not self._which(frame):
            return [frame]
        self._connection = frame.connection
        result = self._change(frame)
        # A swap needs two frames.
        if result or not isinstance(self._change, Swap):
            self.done.set()
        return result


class TamperingProxy:
    """A proxy to the port of a builder, for what one offloader sends over plain http."""

    def __init__(self, target: Callable[[], int]) -> None:
        """``target`` returns the builder's port; ``start`` begins to listen."""
        (self.port,) = ports.pick()
        self.frames: list[Frame] = []
        """All frames, in the order in which they came."""
        self.bodies: list[bytes] = []
        """The heads and bodies of all requests and answers that are no websockets."""
        self.fault: Fault | None = None
        self.redirect: str | None = None
        """The URL to which websockets are redirected; None passes them on to the builder."""
        self.redirected = asyncio.Event()
        self._connections = 0
        self._connected = asyncio.Condition()
        self._target = target
        self._session: aiohttp.ClientSession | None = None
        self._runner: web.AppRunner | None = None

    @property
    def connections(self) -> int:
        """The number of websockets that were opened."""
        return self._connections

    async def start(self) -> None:
        """Listen on the port."""
        self._session = aiohttp.ClientSession(headers={"Accept-Encoding": "identity"})
        app = web.Application(client_max_size=1 << 28)
        app.router.add_route("*", "/{path:.*}", self._request)
        # What is still open at the end is broken; 0 would mean to wait for it without limit.
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, _HOST, self.port).start()

    async def stop(self) -> None:
        """Break all connections and stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()
        if self._session is not None:
            await self._session.close()

    async def connection_after(self, number: int) -> None:
        """Wait for a connection that is newer than the one with this number."""
        async with asyncio.timeout(PATIENCE), self._connected:
            await self._connected.wait_for(lambda: self._connections > number + 1)

    def record(self, direction: Direction) -> bytes:
        """Return all that went in one direction, bodies of other requests in both."""
        frames = b"".join(frame.data for frame in self.frames if frame.direction is direction)
        return frames + b"".join(self.bodies)

    async def _request(self, request: web.Request) -> web.StreamResponse:
        assert self._session is not None
        try:
            if request.headers.get("Upgrade", "").lower() == "websocket":
                return await self._websocket(request)
            return await self._plain(request)
        except aiohttp.ClientError as err:
            # As proxies do when what is behind them is down.
            raise web.HTTPBadGateway from err

    async def _plain(self, request: web.Request) -> web.Response:
        assert self._session is not None
        body = await request.read()
        headers = {name: request.headers[name] for name in _SENT_ON if name in request.headers}
        async with self._session.request(
            request.method,
            f"http://{_HOST}:{self._target()}{request.raw_path}",
            data=body or None,
            headers=headers,
            allow_redirects=False,
        ) as answer:
            content = await answer.read()
        self.bodies += [str(request.raw_path).encode(), str(headers).encode(), body, content]
        return web.Response(
            status=answer.status, body=content, headers={"Content-Type": answer.content_type}
        )

    async def _websocket(self, request: web.Request) -> web.StreamResponse:
        assert self._session is not None
        if self.redirect is not None:
            self.redirected.set()
            raise web.HTTPTemporaryRedirect(self.redirect)
        self.bodies.append(str(dict(request.headers)).encode())
        here = web.WebSocketResponse(max_msg_size=0, autoping=False)
        url = f"http://{_HOST}:{self._target()}{request.raw_path}"
        async with self._session.ws_connect(url, max_msg_size=0, autoping=False) as there:
            await here.prepare(request)
            async with self._connected:
                number = self._connections
                self._connections += 1
                self._connected.notify_all()
            both = [
                asyncio.create_task(self._carry(here, there, number, Direction.TO_BUILDER)),
                asyncio.create_task(self._carry(there, here, number, Direction.TO_OFFLOADER)),
            ]
            try:
                await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for each in both:
                    each.cancel()
                await asyncio.gather(*both, return_exceptions=True)
        await here.close()
        return here

    async def _carry(
        self,
        source: web.WebSocketResponse | aiohttp.ClientWebSocketResponse,
        sink: web.WebSocketResponse | aiohttp.ClientWebSocketResponse,
        connection: int,
        direction: Direction,
    ) -> None:
        number = 0
        async for message in source:
            match message.type:
                case aiohttp.WSMsgType.PING:
                    await sink.ping(message.data)
                case aiohttp.WSMsgType.PONG:
                    await sink.pong(message.data)
                case aiohttp.WSMsgType.TEXT | aiohttp.WSMsgType.BINARY:
                    is_text = message.type is aiohttp.WSMsgType.TEXT
                    data = message.data.encode() if is_text else message.data
                    frame = Frame(connection, direction, number, data, is_text)
                    number += 1
                    self.frames.append(frame)
                    for each in [frame] if self.fault is None else self.fault(frame):
                        await _send(sink, each)
                case _:
                    return


async def _send(
    sink: web.WebSocketResponse | aiohttp.ClientWebSocketResponse, frame: Frame
) -> None:
    if frame.is_text:
        await sink.send_str(frame.data.decode(errors="replace"))
    else:
        await sink.send_bytes(frame.data)


@asynccontextmanager
async def tampering(pair: Pair[AnyBuilder], relay: Relay) -> AsyncIterator[TamperingProxy]:
    """Lead the offloader to its builder through a proxy."""
    straight = relay.target
    proxy = TamperingProxy(straight)
    await proxy.start()
    try:
        await _lead(pair, relay, lambda: proxy.port)
        yield proxy
    finally:
        await _lead(pair, relay, straight)
        await proxy.stop()


async def _lead(pair: Pair[AnyBuilder], relay: Relay, target: Callable[[], int]) -> None:
    relay.target = target
    await relay.cut()
    await relay.restore()
    await pair.reconnect()
