"""Somebody on the way between two instances who reads all that is sent and puts in their own."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import count
import json

import aiohttp
from aiohttp import web
from aiohttp.typedefs import Handler

from . import ports
from .client import Json
from .pair import Pair
from .relay import Relay

_HOST = "127.0.0.1"
_API = "/api/esphome_offload"
_LARGEST = 256 * 1024 * 1024
_ANSWER = 30.0
_SENT_ON = ("Authorization", "Content-Type")

# Gets the attempt's id and the sealed firmware; returns what is sent on in its place.
type Forge = Callable[[str, bytes], Awaitable[bytes]]


class Meddler:
    """A proxy to the port of a builder, for what one offloader sends over plain http.

    All lists are in the order in which things were sent.
    """

    def __init__(self, target: Callable[[], int]) -> None:
        """``target`` returns the builder's port. Nothing is listened on before ``start``."""
        (self.port,) = ports.pick()
        self.tickets: list[tuple[Json, Json]] = []
        """Each request for a ticket with the answer to it."""
        self.tokens: list[str] = []
        """The access tokens that the offloader used."""
        self.submits: list[Json] = []
        """The submit commands, as they stood on the wire."""
        self.bundles: dict[str, bytes] = {}
        """The sealed bundles, by attempt."""
        self.firmware: dict[str, bytes] = {}
        """The sealed firmware that the builder sent, by attempt."""
        self.forge: Forge | None = None
        self.repeat = False
        """Whether each submit is sent on twice."""
        self.repeated: list[Json] = []
        """What the builder answered to the second ones."""
        self._target = target
        self._passages: list[_Passage] = []
        self._session: aiohttp.ClientSession | None = None
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Begin to listen."""
        self._session = aiohttp.ClientSession(headers={"Accept-Encoding": "identity"})
        app = web.Application(client_max_size=_LARGEST, middlewares=[_without_builder])
        app.router.add_get("/api/websocket", self._websocket)
        app.router.add_route("*", "/{path:.*}", self._http)
        # What is held up goes nowhere any more; with 0 it would be waited for without limit.
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, _HOST, self.port).start()

    async def stop(self) -> None:
        """Break what goes through and listen no more."""
        if self._runner is not None:
            await self._runner.cleanup()
        if self._session is not None:
            await self._session.close()

    async def ask(
        self, method: str, path: str, token: str | None = None, **arguments: Json
    ) -> tuple[int, bytes]:
        """Ask the builder for something of our own accord; returns status and body."""
        assert self._session is not None
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        url = f"http://{_HOST}:{self._target()}{path}"
        async with self._session.request(method, url, headers=headers, **arguments) as answer:
            return answer.status, await answer.read()

    async def put_again(self, attempt_id: str, token: str) -> tuple[int, Json]:
        """Send a bundle that went by before; returns status and refusal."""
        path = f"{_API}/bundle/{attempt_id}"
        status, body = await self.ask("PUT", path, token, data=self.bundles[attempt_id])
        return status, json.loads(body or "null")

    async def inject(self, command: Json) -> Json:
        """Put a command into the connection that the offloader has proven; returns the answer."""
        return await self._passages[-1].inject(command)

    async def _http(self, request: web.Request) -> web.Response:
        assert self._session is not None
        body = await request.read()
        headers = {name: request.headers[name] for name in _SENT_ON if name in request.headers}
        if "Authorization" in headers:
            self.tokens.append(headers["Authorization"].removeprefix("Bearer "))
        async with self._session.request(
            request.method,
            f"http://{_HOST}:{self._target()}{request.raw_path}",
            data=body or None,
            headers=headers,
            allow_redirects=False,
        ) as answer:
            content = await answer.read()
        if answer.status < 300:
            content = await self._note(request, body, content)
        return web.Response(
            status=answer.status, body=content, headers={"Content-Type": answer.content_type}
        )

    async def _note(self, request: web.Request, body: bytes, content: bytes) -> bytes:
        match request.path.removeprefix(f"{_API}/").split("/"):
            case ["ticket"]:
                self.tickets.append((json.loads(body), json.loads(content)))
            case ["bundle", attempt_id]:
                self.bundles[attempt_id] = body
            case ["firmware", attempt_id, _]:
                self.firmware[attempt_id] = content
                if self.forge is not None:
                    return await self.forge(attempt_id, content)
        return content

    async def _websocket(self, request: web.Request) -> web.WebSocketResponse:
        assert self._session is not None
        here = web.WebSocketResponse(max_msg_size=0)
        url = f"http://{_HOST}:{self._target()}{request.raw_path}"
        async with self._session.ws_connect(url, max_msg_size=0) as there:
            await here.prepare(request)
            passage = _Passage(self, here, there)
            self._passages.append(passage)
            await passage.last()
        await here.close()
        return here


@web.middleware
async def _without_builder(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer as proxies do when what is behind them is down."""
    try:
        return await handler(request)
    except aiohttp.ClientError as err:
        raise web.HTTPBadGateway from err


class _Passage:
    """One websocket. Its commands are numbered anew, so that there is room for our own."""

    def __init__(
        self,
        meddler: Meddler,
        here: web.WebSocketResponse,
        there: aiohttp.ClientWebSocketResponse,
    ) -> None:
        self._meddler = meddler
        self._here = here
        self._there = there
        self._numbers = count(1)
        self._theirs: dict[int, int] = {}
        self._ours: dict[int, asyncio.Future[Json]] = {}

    async def last(self) -> None:
        """Carry on until either side hangs up."""
        both = [asyncio.create_task(each) for each in (self._onwards(), self._back())]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in both:
                each.cancel()
            await asyncio.gather(*both, return_exceptions=True)
            for answer in self._ours.values():
                answer.cancel()

    async def inject(self, command: Json) -> Json:
        number = next(self._numbers)
        answer = self._ours[number] = asyncio.get_running_loop().create_future()
        await self._there.send_json({**command, "id": number})
        async with asyncio.timeout(_ANSWER):
            return await answer

    async def _onwards(self) -> None:
        async for frame in self._here:
            message = frame.json()
            if message["type"] == "auth":
                self._meddler.tokens.append(message["access_token"])
            if "id" in message:
                number = next(self._numbers)
                self._theirs[number] = message["id"]
                await self._there.send_json({**message, "id": number})
            else:
                await self._there.send_json(message)
            if message["type"] == "esphome_offload/build/submit":
                self._meddler.submits.append(message)
                if self._meddler.repeat:
                    self._meddler.repeated.append(await self.inject(message))

    async def _back(self) -> None:
        async for frame in self._there:
            message = frame.json()
            number = message.get("id")
            if number in self._ours:
                if not self._ours[number].done():
                    self._ours[number].set_result(message)
            elif number in self._theirs:
                await self._here.send_json({**message, "id": self._theirs[number]})
            else:
                await self._here.send_json(message)


@asynccontextmanager
async def meddling(pair: Pair, relay: Relay) -> AsyncIterator[Meddler]:
    """Have all that the pi sends to the workshop go through a meddler."""
    straight = relay.target
    meddler = Meddler(straight)
    await meddler.start()
    try:
        await _lead(pair, relay, lambda: meddler.port)
        yield meddler
    finally:
        await _lead(pair, relay, straight)
        await meddler.stop()


async def _lead(pair: Pair, relay: Relay, target: Callable[[], int]) -> None:
    relay.target = target
    await relay.cut()
    await relay.restore()
    # Connects at once; by itself it would wait longer each time.
    await pair.pi.client.reload(pair.entry_id)
    await pair.connected()
