"""An offloader with real keys, which reaches the builder's Home Assistant over real sockets."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
import gzip
import hashlib
import io
from pathlib import Path
import tarfile
from typing import Any
import uuid

from aiohttp import ClientWebSocketResponse
from aiohttp.test_utils import TestClient

from custom_components.esphome_offload.engine.codec import Json
from custom_components.esphome_offload.engine.protocol.bodies import IncomingFile
from custom_components.esphome_offload.engine.protocol.channel import FRAME_LIMIT
from custom_components.esphome_offload.engine.protocol.hello import (
    URL_LINK,
    Hello,
    Introduction,
    Opening,
    open_link,
    read_hello,
)
from custom_components.esphome_offload.engine.protocol.identity import Identity, PublicKey
from custom_components.esphome_offload.engine.protocol.messages import (
    Attach,
    Fetch,
    SendBundle,
    Submit,
    SubscribeStatus,
)
from custom_components.esphome_offload.engine.protocol.negotiation import own_offer
from custom_components.esphome_offload.engine.protocol.pairing import Paired, pair, read_code
from custom_components.esphome_offload.engine.protocol.parsing import parse
from custom_components.esphome_offload.engine.protocol.payloads import (
    BuildParameters,
    FirmwareHeader,
)
from custom_components.esphome_offload.engine.protocol.session import Session

CONFIGURATION = "lamp.yaml"


def new_attempt_id() -> str:
    return uuid.uuid7().hex


class OffloaderClient:
    """One instance that wants to build elsewhere. ``client`` reaches the builder's HTTP server."""

    def __init__(self, client: TestClient, folder: Path, label: str = "offloader") -> None:
        self.client = client
        self.folder = folder
        self.label = label
        self.identity = Identity.generate()
        self.offer = own_offer("1.2.3")
        self.builder: PublicKey | None = None

    async def pair(self, code: str) -> Paired:
        """Pair as the config flow does; raises PairingError and Refused."""
        read = read_code(code)
        assert read is not None
        async with self._greeted() as (opening, hello):
            paired = await pair(opening, hello, read)
        self.builder = paired.public
        return paired

    async def hello(self) -> Hello:
        """Return what the builder says first; raises Refused."""
        async with self._greeted() as (_, hello):
            return hello

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[OffloaderLink]:
        """Connect, subscribed to the status; raises Refused and ChannelClosed."""
        assert self.builder is not None
        async with self._greeted() as (opening, _):
            session = Session((await open_link(opening, self.builder)).channel)
            running = asyncio.create_task(session.run())
            link = OffloaderLink(self, session)
            try:
                await session.subscribe(SubscribeStatus(), link.note_status)
                yield link
            finally:
                await session.close()
                await running

    def bundle(self, attempt_id: str, content: bytes) -> Path:
        """Make a bundle with one configuration in it; the same content has the same digest."""
        path = self.folder / f"{self.label}-{attempt_id}.tar.gz"
        with (
            path.open("wb") as file,
            gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w") as archive,
        ):
            member = tarfile.TarInfo(CONFIGURATION)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        return path

    @asynccontextmanager
    async def _greeted(self) -> AsyncIterator[tuple[Opening, Hello]]:
        socket: ClientWebSocketResponse
        async with self.client.ws_connect(URL_LINK, max_msg_size=FRAME_LIMIT) as socket:
            hello, said = await read_hello(socket, self.offer)
            introduction = Introduction(self.offer, self.label)
            yield Opening(socket, said, self.identity, introduction), hello


class OffloaderLink:
    """An established link."""

    def __init__(self, offloader: OffloaderClient, session: Session) -> None:
        self.offloader = offloader
        self.session = session
        self.statuses: list[Json] = []

    def note_status(self, event: object) -> None:
        assert isinstance(event, dict)
        self.statuses.append(event)

    async def refusal(self) -> str:
        """Return why the builder takes nothing, when it has said so."""
        async with asyncio.timeout(10):
            while not self.statuses or self.statuses[-1]["available"]:  # noqa: ASYNC110 - as below
                await asyncio.sleep(0.01)
        key: str = self.statuses[-1]["why_not"]["key"]
        return key

    async def submit(self, content: bytes = b"esphome:\n", **changes: Any) -> str:
        """Have something built; returns the attempt's id."""
        attempt_id = new_attempt_id()
        path = self.offloader.bundle(attempt_id, content)
        packed = path.read_bytes()
        sha256 = hashlib.sha256(packed).hexdigest()
        await self.session.send_file(SendBundle(attempt_id, sha256, len(packed)), path, len(packed))
        parameters = BuildParameters(
            **{
                "job_id": uuid.uuid4().hex,
                "attempt_id": attempt_id,
                "configuration": CONFIGURATION,
                "device_name": "lamp",
                "esphome_version": "2026.10.0",
                "time_zone": "Europe/Vienna",
                **changes,
            }
        )
        await self.session.call(Submit(parameters, sha256))
        return attempt_id

    async def built(self, attempt_id: str) -> list[Json]:
        """Follow an attempt to its end; returns its events."""
        events: list[Json] = []
        ended = asyncio.Event()

        def note(event: object) -> None:
            assert isinstance(event, dict)
            events.append(event)
            if event.get("state") in ("completed", "failed", "cancelled"):
                ended.set()

        await self.session.subscribe(Attach(attempt_id), note)
        async with asyncio.timeout(10):
            await ended.wait()
        return events

    async def fetch(self, attempt_id: str) -> bytes:
        """Fetch the firmware."""
        target = self.offloader.folder / attempt_id

        def accept(raw: object) -> IncomingFile:
            header = parse(FirmwareHeader, raw)
            return IncomingFile(target, header.size, header.sha256)

        await self.session.fetch_file(Fetch(attempt_id), accept)
        return target.read_bytes()

    async def lost(self) -> None:
        """Return when the builder has closed the connection."""
        async with asyncio.timeout(10):
            while self.session.lost is None:  # noqa: ASYNC110 - a session notifies no one of that
                await asyncio.sleep(0.01)
