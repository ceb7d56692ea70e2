"""A running builder in this process, and a guest of it: the other end is the integration's engine."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
import socket

import aiohttp
from esphome_offload_builder.program import StandaloneBuilder
from esphome_offload_builder.settings import DataFolder, Settings

from custom_components.esphome_offload.engine.client.dial import Caller, dial
from custom_components.esphome_offload.engine.client.link import PeerLink
from custom_components.esphome_offload.engine.protocol.hello import Introduction, Purpose
from custom_components.esphome_offload.engine.protocol.identity import Identity, PublicKey
from custom_components.esphome_offload.engine.protocol.negotiation import own_offer
from custom_components.esphome_offload.engine.protocol.pairing import Paired, pair

CONTAINED_OR_NOT = True
"""Nothing is built here for anybody, so it does not matter whether it could be contained."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def settings_of(root: Path, **changes: object) -> Settings:
    values: dict[str, object] = {
        "folder": DataFolder(root / "data"),
        "name": "attic",
        "host": "127.0.0.1",
        "port": free_port(),
        "uncontained": CONTAINED_OR_NOT,
        "announce": False,
        **changes,
    }
    return Settings(**values)  # type: ignore[arg-type]


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[StandaloneBuilder]:
    builder = StandaloneBuilder(settings)
    try:
        await builder.start()
        yield builder
    finally:
        await builder.stop()


class Guest:
    """An offloader."""

    def __init__(self, settings: Settings, http: aiohttp.ClientSession) -> None:
        self.identity = Identity.generate()
        self.caller = Caller(self.identity, Introduction(own_offer("1.2.3"), "living room"))
        self.url = f"http://127.0.0.1:{settings.port}"
        self.http = http

    async def pair(self, code: str, purpose: bytes = Purpose.PAIR) -> Paired:
        async with dial(self.http, self.url, self.caller) as answered:
            return await pair(answered.opening, answered.hello, code, purpose=purpose)

    @asynccontextmanager
    async def connected(self, public: PublicKey) -> AsyncIterator[PeerLink]:
        link = PeerLink(
            url=self.url,
            caller=self.caller,
            peer_key=public,
            label="attic",
            session=self.http,
            wanted=tuple,
        )
        await link.start()
        try:
            async with asyncio.timeout(20):
                await link.wait_connected(20)
                while link.status is None:  # noqa: ASYNC110 - polled
                    await asyncio.sleep(0.01)
            yield link
        finally:
            await link.stop()
