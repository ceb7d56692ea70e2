"""A scripted builder's end of the link, at a real port."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import override

from aiohttp import web
from aiohttp.test_utils import TestServer

from custom_components.esphome_offload.engine.codec import encode
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
    Window,
    answer_pairing,
)
from custom_components.esphome_offload.engine.protocol.session import Session

type Serve = Callable[[Call], Awaitable[object | None]]

STATUS = StatusEvent(True, slots=1, busy=0, queue_length=0, versions=("2026.10.0",))


class CodeWindow(Window):
    """A pairing window that stays open."""

    def __init__(self, code: str) -> None:
        self.code = code
        self.tries = 3

    @override
    def begin(self) -> str:
        return self.code

    @override
    def answered(self) -> None:
        self.tries -= 1

    @override
    def succeed(self) -> None:
        return

    @override
    def abandon(self) -> None:
        return

    @property
    @override
    def tries_left(self) -> int:
        return self.tries


@dataclass
class ScriptedServer:
    """Serves each command with ``serve``, else like a builder without any builds.

    Counts the commands, and the handshakes by how they ended. Commands in ``silent`` are not
    answered. ``refusal`` is sent instead of a hello.
    """

    identity: Identity = field(default_factory=Identity.generate)
    offer: Offer = field(default_factory=lambda: own_offer("0.1.0"))
    guests: set[PublicKey] = field(default_factory=set)
    window: CodeWindow | None = None
    refusal: ErrorCode | None = None
    serve: dict[str, Serve] = field(default_factory=dict)
    silent: set[str] = field(default_factory=set)
    commands: Counter[str] = field(default_factory=Counter)
    handshakes: Counter[str] = field(default_factory=Counter)
    sessions: list[Session] = field(default_factory=list)
    status_calls: list[Call] = field(default_factory=list)
    paired: list[Paired] = field(default_factory=list)

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

    async def hang_up(self) -> None:
        """Close all connections."""
        for each in tuple(self.sessions):
            await each.close()

    async def unpair(self) -> None:
        """Tell all guests that they were removed."""
        for call in self.status_calls:
            await call.event(UnpairedEvent())

    async def _handle(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(compress=False, max_msg_size=FRAME_LIMIT)
        await socket.prepare(request)
        try:
            await self._answer(socket)
        except ProtocolError as err:
            self.handshakes[err.code] += 1
            await refuse(socket, err.code, self.window.tries_left if self.window else None)
        except ChannelClosed:
            self.handshakes["closed"] += 1
        await socket.close()
        return socket

    async def _answer(self, socket: web.WebSocketResponse) -> None:
        if self.refusal is not None:
            raise ProtocolError(self.refusal, "refused")
        hello = Hello(self.offer, self.identity.pin_sha256, "builder", self.window is not None)
        raw = await send_plain(socket, encode(hello))
        introduction = Introduction(self.offer, "builder", "0" * 32)
        opening = Opening(socket, raw, self.identity, introduction)
        message = await receive_handshake(socket)
        if message[:1] == Purpose.PAIR:
            if self.window is None:
                raise ProtocolError(ErrorCode.WINDOW_CLOSED, "closed")
            await answer_pairing(opening, message[1:], self.window, self._store)
            return
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
