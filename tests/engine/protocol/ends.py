"""Two ends of a real websocket on this machine, for the tests of what crosses it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer

from custom_components.esphome_offload.engine.protocol.channel import FRAME_LIMIT, Channel
from custom_components.esphome_offload.engine.protocol.hello import (
    Hello,
    Introduction,
    Opened,
    Opening,
    answer_link,
    open_link,
    prologue,
    read_hello,
    receive_handshake,
    send_plain,
)
from custom_components.esphome_offload.engine.protocol.identity import Identity, PublicKey
from custom_components.esphome_offload.engine.protocol.negotiation import own_offer
from custom_components.esphome_offload.engine.codec import encode

OFFLOADER = Identity.generate()
BUILDER = Identity.generate()
OFFER = own_offer("1.2.3")
TO_BUILDER = Introduction(OFFER, "offloader")
TO_OFFLOADER = Introduction(OFFER, "builder", "0" * 32)

type Serve = Callable[[web.WebSocketResponse], Awaitable[None]]


@asynccontextmanager
async def websocket(serve: Serve) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    """Give the client's end of a websocket whose other end ``serve`` has."""

    async def handle(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(compress=False, max_msg_size=FRAME_LIMIT)
        await socket.prepare(request)
        await serve(socket)
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


def hello(*, pairing: bool = False) -> Hello:
    return Hello(OFFER, BUILDER.pin_sha256, "builder", pairing)


@dataclass
class Ends:
    """An established link."""

    offloader: Opened
    builder: Opened


def is_guest(key: PublicKey) -> bool:
    return key == OFFLOADER.public


async def answer(socket: web.WebSocketResponse) -> Opened:
    said = await send_plain(socket, encode(hello()))
    message = await receive_handshake(socket)
    opening = Opening(socket, said, BUILDER, TO_OFFLOADER)
    return await answer_link(opening, message[1:], is_guest)


async def connect(
    socket: aiohttp.ClientWebSocketResponse,
    own: Identity = OFFLOADER,
    peer: PublicKey = BUILDER.public,
) -> Opened:
    _, said = await read_hello(socket, OFFER)
    return await open_link(Opening(socket, said, own, TO_BUILDER), peer)


@asynccontextmanager
async def link() -> AsyncIterator[Ends]:
    """Give both ends of an established link."""
    opened: asyncio.Future[Opened] = asyncio.get_running_loop().create_future()
    over = asyncio.Event()

    async def serve(socket: web.WebSocketResponse) -> None:
        opened.set_result(await answer(socket))
        await over.wait()

    async with websocket(serve) as socket:
        try:
            yield Ends(await connect(socket), await opened)
        finally:
            over.set()
