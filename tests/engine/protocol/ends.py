"""Two ends of a real websocket on this machine, for the tests of what crosses it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer

from custom_components.esphome_offload.engine.codec import encode
from custom_components.esphome_offload.engine.protocol.channel import (
    FRAME_LIMIT,
    Socket,
)
from custom_components.esphome_offload.engine.protocol.hello import (
    Hello,
    Introduction,
    Opened,
    Opening,
    answer_link,
    open_link,
    read_hello,
    receive_handshake,
    send_plain,
)
from custom_components.esphome_offload.engine.protocol.identity import Identity, PublicKey
from custom_components.esphome_offload.engine.protocol.negotiation import own_offer

from ..fuzzing import MemorySocket

OFFLOADER = Identity.generate()
BUILDER = Identity.generate()
OFFER = own_offer("1.2.3")
TO_BUILDER = Introduction(OFFER, "offloader")
TO_OFFLOADER = Introduction(OFFER, "builder")

type Serve = Callable[[web.WebSocketResponse], Awaitable[None]]


@asynccontextmanager
async def websocket(serve: Serve) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """Give the offloader's end of a websocket; ``serve`` has the builder's."""

    async def handle(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(compress=False, max_msg_size=FRAME_LIMIT)
        await socket.prepare(request)
        await serve(socket)
        await socket.close()
        return socket

    app = web.Application()
    app.router.add_get("/", handle)
    server = TestServer(app)
    await server.start_server()
    try:
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(
                server.make_url("/"), compress=0, max_msg_size=FRAME_LIMIT
            ) as socket,
        ):
            yield socket
    finally:
        await server.close()


class Wire:
    """A websocket on whose way binary messages can be altered.

    ``alter`` gets the number of a message and the message, and returns what arrives instead.
    ``sent`` are all that were sent.
    """

    def __init__(
        self, socket: Socket, alter: Callable[[int, bytes], list[bytes]] = lambda _, data: [data]
    ) -> None:
        self._socket = socket
        self._alter = alter
        self.sent: list[bytes] = []

    async def send_bytes(self, data: bytes) -> None:
        number = len(self.sent)
        self.sent.append(data)
        for each in self._alter(number, data):
            await self._socket.send_bytes(each)

    async def send_str(self, data: str) -> None:
        await self._socket.send_str(data)

    async def receive(self) -> aiohttp.WSMessage:
        return await self._socket.receive()

    async def close(self, *, code: int = 1000, message: bytes = b"") -> bool:
        return await self._socket.close(code=code, message=message)

    def get_extra_info(self, name: str, default: object = None) -> object:
        return self._socket.get_extra_info(name, default)


@dataclass
class Ends:
    """An established link."""

    offloader: Opened
    builder: Opened


def is_guest(key: PublicKey) -> bool:
    return key == OFFLOADER.public


async def answer(socket: Socket) -> Opened:
    """Establish the builder's end of a link; raises ProtocolError."""
    hello = Hello(OFFER, BUILDER.pin_sha256, "builder", pairing=False)
    said = await send_plain(socket, encode(hello))
    message = await receive_handshake(socket)
    return await answer_link(Opening(socket, said, BUILDER, TO_OFFLOADER), message[1:], is_guest)


async def connect(
    socket: Socket, own: Identity = OFFLOADER, peer: PublicKey = BUILDER.public
) -> Opened:
    """Establish the offloader's end of a link."""
    _, said = await read_hello(socket, OFFER)
    return await open_link(Opening(socket, said, own, TO_BUILDER), peer)


@asynccontextmanager
async def link(
    alter: Callable[[int, bytes], list[bytes]] = lambda _, data: [data],
) -> AsyncIterator[Ends]:
    """Give both ends of a link; ``alter`` is for what the offloader sends once it is established."""
    opened: asyncio.Future[Opened] = asyncio.get_running_loop().create_future()
    over = asyncio.Event()

    async def serve(socket: web.WebSocketResponse) -> None:
        opened.set_result(await answer(socket))
        await over.wait()

    # The first message is the handshake's.
    def after_handshake(number: int, data: bytes) -> list[bytes]:
        return alter(number - 1, data) if number else [data]

    async with websocket(serve) as socket:
        try:
            yield Ends(await connect(Wire(socket, after_handshake)), await opened)
        finally:
            over.set()


@dataclass
class MemoryEnds(Ends):
    """An established link in memory, and its sockets: the offloader's, the builder's."""

    sockets: tuple[MemorySocket, MemorySocket]


@asynccontextmanager
async def memory_link() -> AsyncIterator[MemoryEnds]:
    """Give both ends of a link that needs no network."""
    sockets = MemorySocket.pair()
    answering = asyncio.create_task(answer(sockets[1]))
    opened = await connect(sockets[0])
    try:
        yield MemoryEnds(opened, await answering, sockets)
    finally:
        await sockets[0].close()
