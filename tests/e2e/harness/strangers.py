"""Connections of strangers to the link of a builder, by the hundred."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from itertools import cycle
import os
import random

import aiohttp

from custom_components.esphome_offload.engine.codec import encode_json
from custom_components.esphome_offload.engine.protocol.channel import ChannelClosed
from custom_components.esphome_offload.engine.protocol.errors import ProtocolError
from custom_components.esphome_offload.engine.protocol.hello import (
    URL_LINK,
    Introduction,
    Purpose,
    Refused,
    prologue,
    read_hello,
)
from custom_components.esphome_offload.engine.protocol.identity import Identity, PublicKey
from custom_components.esphome_offload.engine.protocol.negotiation import own_offer
from custom_components.esphome_offload.engine.protocol.noise import Handshake

from .any_builder import AnyBuilder

_INTRODUCTION = Introduction(own_offer("0.1.0"), "stranger")
# A stranger is refused, cut off, or not accepted at all.
_EXPECTED = (aiohttp.ClientError, OSError, TimeoutError, ChannelClosed, ProtocolError, Refused)

type _Say = Callable[[aiohttp.ClientWebSocketResponse, PublicKey], Awaitable[None]]


async def _nothing(_socket: aiohttp.ClientWebSocketResponse, _builder: PublicKey) -> None:
    """Send nothing."""


async def _garbage(socket: aiohttp.ClientWebSocketResponse, _builder: PublicKey) -> None:
    for head in (b"", Purpose.LINK, Purpose.PAIR):
        await socket.send_bytes(head + os.urandom(random.randrange(1, 400)))
    await socket.send_str("{" * 1000)


async def _half_handshake(socket: aiohttp.ClientWebSocketResponse, builder: PublicKey) -> None:
    _, hello = await read_hello(socket, _INTRODUCTION.offer)
    own = Identity.generate()
    handshake = Handshake.link(own, builder, prologue(Purpose.LINK, hello))
    await socket.send_bytes(Purpose.LINK + handshake.write(encode_json(_INTRODUCTION)))


# None connects without a request.
_KINDS: tuple[_Say | None, ...] = (_nothing, _garbage, _half_handshake, None)


@asynccontextmanager
async def strangers(
    builder: AnyBuilder, count: int, path: str = URL_LINK
) -> AsyncIterator[asyncio.Task[None]]:
    """Connect strangers at once; yield the task that ends when all of them have connected.

    They come from many addresses and stay until the context ends, unless they are sent away. At
    another websocket than the link they all send nothing.
    """
    url = f"{builder.url}{path}"
    public = builder.identity.public
    async with AsyncExitStack() as stack:
        sessions = [
            await stack.enter_async_context(
                aiohttp.ClientSession(
                    connector=aiohttp.TCPConnector(local_addr=(f"127.0.1.{number}", 0), limit=0)
                )
            )
            for number in range(1, 101)
        ]

        async def connect(session: aiohttp.ClientSession, say: _Say) -> None:
            with suppress(*_EXPECTED):
                socket = await session.ws_connect(url)
                await say(socket, public)

        async def idle(number: int) -> None:
            """Connect, and send nothing, not even a request."""
            with suppress(*_EXPECTED):
                _, writer = await asyncio.open_connection(
                    "127.0.0.1", builder.port, local_addr=(f"127.0.2.{number % 250}", 0)
                )
                stack.callback(writer.close)

        async def all_of_them() -> None:
            kinds = cycle(_KINDS if path == URL_LINK else (_nothing,))
            arrivals = []
            for number, say in zip(range(count), kinds, strict=False):
                session = sessions[number % len(sessions)]
                arrivals.append(idle(number) if say is None else connect(session, say))
            await asyncio.gather(*arrivals)

        task = asyncio.create_task(all_of_them())
        try:
            yield task
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
