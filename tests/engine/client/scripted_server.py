"""A scripted builder's end of the link, at a real port."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
import ssl
import time

from aiohttp import web
from aiohttp.test_utils import TestServer

from custom_components.esphome_offload.engine.codec import encode
from custom_components.esphome_offload.engine.host.one_time_secret import OneTimeSecret
from custom_components.esphome_offload.engine.host.pairing_window import PairingWindow
from custom_components.esphome_offload.engine.protocol.calls import Call
from custom_components.esphome_offload.engine.protocol.channel import FRAME_LIMIT, ChannelClosed
from custom_components.esphome_offload.engine.protocol.errors import ErrorCode, ProtocolError
from custom_components.esphome_offload.engine.protocol.hello import (
    URL_LINK,
    Hello,
    Introduction,
    Opening,
    Purpose,
    answer_link,
    receive_handshake,
    refuse,
    send_plain,
)
from custom_components.esphome_offload.engine.protocol.identity import Identity, PublicKey
from custom_components.esphome_offload.engine.protocol.messages import (
    Known,
    StatusEvent,
    SubscribeStatus,
    UnpairedEvent,
    Wanted,
)
from custom_components.esphome_offload.engine.protocol.negotiation import Offer, own_offer
from custom_components.esphome_offload.engine.protocol.pairing import (
    Paired,
    answer_pairing,
)
from custom_components.esphome_offload.engine.protocol.session import Session

type Serve = Callable[[Call], Awaitable[object | None]]

STATUS = StatusEvent(True, slots=1, busy=0, queue_length=0, versions=("2026.10.0",))


@dataclass
class ScriptedServer:
    """Serves each command with ``serve``, else like a builder without any builds.

    Counts the connections, the commands, and the handshakes by how they ended. Commands in
    ``silent`` are not answered. ``refusal`` is sent instead of a hello, ``link_refusal`` instead
    of a link, ``pairing_refusal`` instead of pairing. ``window_time`` are the seconds that the pairing window's clock is ahead.
    """

    identity: Identity = field(default_factory=Identity.generate)
    offer: Offer = field(default_factory=lambda: own_offer("0.1.0"))
    guests: set[PublicKey] = field(default_factory=set)
    label: str = "attic"
    said_key: PublicKey | None = None
    window_time: float = 0.0
    refusal: ErrorCode | None = None
    link_refusal: ErrorCode | None = None
    pairing_refusal: ErrorCode | None = None
    closes_at_once: bool = False
    connections: int = 0
    serve: dict[str, Serve] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)
    commands: Counter[str] = field(default_factory=Counter)
    handshakes: Counter[str] = field(default_factory=Counter)
    sessions: list[Session] = field(default_factory=list)
    status_calls: list[Call] = field(default_factory=list)
    paired: list[Paired] = field(default_factory=list)
    secret: OneTimeSecret = field(default_factory=OneTimeSecret)

    def __post_init__(self) -> None:
        self.window = PairingWindow(lambda: time.monotonic() + self.window_time)

    def become(self, identity: Identity, offer: Offer | None = None) -> None:
        """Be another builder from now on, with no guests."""
        self.identity = identity
        self.offer = offer or own_offer("0.1.0")
        self.guests.clear()
        self.window = PairingWindow(lambda: time.monotonic() + self.window_time)

    def speak(self, protocol: int) -> None:
        """Speak this protocol only."""
        self.offer = replace(self.offer, protocol=protocol, oldest_protocol=protocol)

    def open(self) -> str:
        """Open the pairing window and return the code."""
        return self.window.open().code

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get(URL_LINK, self._handle)
        self.server = TestServer(app)
        await self.server.start_server()

    async def stop(self) -> None:
        await self.hang_up()
        await self.server.close()

    @property
    def port(self) -> int:
        assert self.server.port is not None
        return self.server.port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @asynccontextmanager
    async def elsewhere(self) -> AsyncIterator[str]:
        """Give another base URL of the same builder."""
        app = web.Application()
        app.router.add_get(URL_LINK, self._handle)
        server = TestServer(app)
        await server.start_server()
        try:
            yield f"http://127.0.0.1:{server.port}"
        finally:
            await self.hang_up()
            await server.close()

    async def hang_up(self) -> None:
        """Close all connections."""
        for each in tuple(self.sessions):
            await each.close()

    async def unpair(self) -> None:
        """Tell all guests that they were removed."""
        for call in self.status_calls:
            await call.event(UnpairedEvent())

    async def _handle(self, request: web.Request) -> web.WebSocketResponse:
        self.connections += 1
        socket = web.WebSocketResponse(compress=False, max_msg_size=FRAME_LIMIT)
        await socket.prepare(request)
        try:
            await self._answer(socket)
        except ProtocolError as err:
            self.handshakes[err.code] += 1
            await refuse(socket, err.code, self.window.tries_left)
        except ChannelClosed:
            self.handshakes["closed"] += 1
        await socket.close()
        return socket

    async def _answer(self, socket: web.WebSocketResponse) -> None:
        if self.closes_at_once:
            return
        if self.refusal is not None:
            raise ProtocolError(self.refusal, "refused")
        public, open_ = self.identity.public, self.window.state is not None
        said = self.said_key or public
        hello = Hello(self.offer, public.pin_sha256, self.label, open_, said)
        raw = await send_plain(socket, encode(hello))
        introduction = Introduction(self.offer, self.label)
        opening = Opening(socket, raw, self.identity, introduction)
        message = await receive_handshake(socket)
        if (purpose := message[:1]) in (Purpose.PAIR, Purpose.PAIR_BY_SECRET):
            if self.pairing_refusal is not None:
                raise ProtocolError(self.pairing_refusal, "refused")
            window = self.window if purpose == Purpose.PAIR else self.secret.exchange()
            share = message[1:]
            await answer_pairing(opening, None, share, window, self._store, purpose=purpose)
            return
        if self.link_refusal is not None:
            raise ProtocolError(self.link_refusal, "refused")
        opened = await answer_link(opening, message[1:], self.guests.__contains__)
        self.handshakes["opened"] += 1
        session = Session(opened.channel, self._serve)
        self.sessions.append(session)
        try:
            await session.run()
        finally:
            self.sessions.remove(session)

    async def _store(self, paired: Paired) -> None:
        self.paired.append(paired)
        self.guests.add(paired.public)

    async def _serve(self, call: Call) -> object | None:
        self.commands[call.type] += 1
        if call.type in self.silent:
            await asyncio.Event().wait()
        if (serve := self.serve.get(call.type)) is not None:
            return await serve(call)
        if call.type == Wanted.TYPE:
            return Known(())
        if call.type == SubscribeStatus.TYPE:
            await call.answer()
            self.status_calls.append(call)
            await call.event(STATUS)
            await asyncio.Event().wait()
        return None


@asynccontextmanager
async def answering(
    answer: Callable[[web.Request], web.StreamResponse], context: ssl.SSLContext | None = None
) -> AsyncIterator[str]:
    """Give the base URL of another server, which answers every request in this way."""

    async def handle(request: web.Request) -> web.StreamResponse:
        return answer(request)

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", handle)
    server = TestServer(app)
    await server.start_server(ssl=context)
    try:
        yield f"{'https' if context else 'http'}://127.0.0.1:{server.port}"
    finally:
        await server.close()
