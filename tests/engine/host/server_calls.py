"""What guests, offloaders and strangers do at a builder's link."""

from collections.abc import Callable

import aiohttp
import pytest

from custom_components.esphome_offload.engine.protocol.errors import ErrorCode
from custom_components.esphome_offload.engine.protocol.hello import (
    Refused,
)
from custom_components.esphome_offload.engine.protocol.identity import Identity
from custom_components.esphome_offload.engine.protocol.pairing import (
    Paired,
    pair,
)

from .builder import BuilderMachine
from .guest_link import greeted, opened, websocket

type Event = dict[str, object]


def recording(events: list[Event]) -> Callable[[object], None]:
    def listen(event: object) -> None:
        assert isinstance(event, dict)
        events.append(event)

    return listen


async def refusal(url: str, identity: Identity, builder: BuilderMachine) -> ErrorCode:
    with pytest.raises(Refused) as refused:
        async with websocket(url) as socket:
            await opened(socket, identity, builder.identity.public)
    return refused.value.code


async def answer_to(url: str, first: bytes | str) -> aiohttp.WSMessage:
    """Return what the builder says to a first message."""
    async with websocket(url) as socket:
        await socket.receive()
        await (socket.send_str(first) if isinstance(first, str) else socket.send_bytes(first))
        answer = await socket.receive(timeout=5)
        assert (await socket.receive(timeout=5)).type is aiohttp.WSMsgType.CLOSE
        return answer


async def pair_with(url: str, code: str, identity: Identity | None = None) -> Paired:
    async with websocket(url) as socket:
        opening, hello = await greeted(socket, identity or Identity.generate())
        return await pair(opening, hello, code)
