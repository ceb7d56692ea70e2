"""A guest's end of the link, on a real websocket."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
import hashlib
from pathlib import Path

import aiohttp

from custom_components.esphome_offload.engine.protocol.bodies import IncomingFile
from custom_components.esphome_offload.engine.protocol.channel import FRAME_LIMIT, Channel
from custom_components.esphome_offload.engine.protocol.hello import (
    Hello,
    Introduction,
    Opening,
    open_link,
    read_hello,
)
from custom_components.esphome_offload.engine.protocol.identity import Identity, PublicKey
from custom_components.esphome_offload.engine.protocol.messages import Fetch, SendBundle, Submit
from custom_components.esphome_offload.engine.protocol.negotiation import own_offer
from custom_components.esphome_offload.engine.protocol.parsing import parse
from custom_components.esphome_offload.engine.protocol.payloads import FirmwareHeader
from custom_components.esphome_offload.engine.protocol.session import Session
from custom_components.esphome_offload.engine.tasks import BackgroundTasks

from .builder import GuestCalls

OFFER = own_offer("1.2.3")


@asynccontextmanager
async def websocket(url: str) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    async with (
        aiohttp.ClientSession() as client,
        client.ws_connect(url, compress=0, max_msg_size=FRAME_LIMIT) as socket,
    ):
        yield socket


async def greeted(
    socket: aiohttp.ClientWebSocketResponse, identity: Identity, label: str = "offloader"
) -> tuple[Opening, Hello]:
    """Read the hello."""
    hello, said = await read_hello(socket, OFFER)
    return Opening(socket, said, identity, Introduction(OFFER, label)), hello


async def opened(
    socket: aiohttp.ClientWebSocketResponse,
    identity: Identity,
    builder: PublicKey,
    label: str = "offloader",
) -> Channel:
    """Open the link; nothing is sent on it yet."""
    opening, _ = await greeted(socket, identity, label)
    return (await open_link(opening, builder)).channel


class GuestLink:
    """An established link of a guest."""

    def __init__(self, session: Session, calls: GuestCalls) -> None:
        self.session = session
        self.calls = calls

    async def submit(self, content: bytes = b"lamp", attempt_id: str | None = None) -> str:
        """Send a bundle and submit it."""
        attempt_id = attempt_id or self.calls.builder.new_id()
        bundle = self.calls.bundle({"lamp.yaml": content})
        command = SendBundle(attempt_id, bundle.sha256, bundle.size)
        await self.session.send_file(command, bundle.path, bundle.size)
        await self.session.call(Submit(self.calls.parameters(attempt_id), bundle.sha256))
        return attempt_id

    async def fetch(self, attempt_id: str, target: Path) -> bytes:
        """Fetch the firmware."""

        def accept(raw: object) -> IncomingFile:
            header = parse(FirmwareHeader, raw)
            return IncomingFile(target, header.size, header.sha256)

        await self.session.fetch_file(Fetch(attempt_id), accept)
        return target.read_bytes()


@asynccontextmanager
async def guest_link(
    url: str, calls: GuestCalls, label: str = "offloader"
) -> AsyncIterator[GuestLink]:
    """Connect a guest."""
    tasks = BackgroundTasks()
    async with websocket(url) as socket:
        channel = await opened(socket, calls.identity, calls.builder.identity.public, label)
        session = Session(channel)

        async def run() -> None:
            await session.run()

        tasks.start(run(), "a guest's session")
        try:
            yield GuestLink(session, calls)
        finally:
            await session.close()
            await tasks.wait()


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
