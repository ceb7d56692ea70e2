"""An offloader with real keys, as far as a builder can tell; it speaks over real sockets."""

import asyncio
from collections import defaultdict, deque
import gzip
import hashlib
import io
import itertools
from pathlib import Path
import tarfile
from typing import Any, Self
import uuid

from aiohttp import ClientWebSocketResponse, WSMsgType
from aiohttp.test_utils import TestClient
from custom_components.esphome_offload.engine.protocol.body import Sealer
from custom_components.esphome_offload.engine.protocol.handshake import OffloaderHandshake, Session
from custom_components.esphome_offload.engine.protocol.seal import Channel, Purpose
from custom_components.esphome_offload.engine.protocol.tickets import TicketApplication
from custom_components.esphome_offload.engine.protocol.transfer import receive

from custom_components.esphome_offload.engine.codec import Json, encode
from custom_components.esphome_offload.engine.protocol.definitions import (
    BUNDLE_LIMIT,
    FIRMWARE_LIMIT,
    URL_BUNDLE,
    URL_FIRMWARE,
    URL_PAIR,
    URL_TICKET,
)
from custom_components.esphome_offload.engine.protocol.identity import Identity, PublicKey
from custom_components.esphome_offload.engine.protocol.messages import Attach, Submit
from custom_components.esphome_offload.engine.protocol.negotiation import own_offer
from custom_components.esphome_offload.engine.protocol.pairing import Paired, PairingClient
from custom_components.esphome_offload.engine.protocol.payloads import BodyHeader, BuildParameters

CONFIGURATION = "lamp.yaml"


class CommandRefusedError(Exception):
    """The builder answered with an error."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def new_attempt_id() -> str:
    return uuid.uuid7().hex


class Offloader:
    """One instance that wants to build elsewhere. ``client`` reaches the builder's HTTP server."""

    def __init__(self, client: TestClient, folder: Path, label: str = "pi") -> None:
        self.client = client
        self.folder = folder
        self.label = label
        self.identity = Identity.generate()
        self.offer = own_offer("0.1.0")
        self.builder: PublicKey | None = None

    @property
    def channel(self) -> Channel:
        assert self.builder is not None
        return Channel(self.identity, self.builder)

    async def pair(self, code: str) -> Paired:
        """Pair as the config flow does; raises PairingError."""
        pairing = PairingClient(self.identity, self.offer, self.label, self._post_pair)
        paired = await pairing.pair(code)
        self.builder = paired.public
        return paired

    async def ticket(self) -> str:
        """Get an access token; raises ProtocolError."""
        application = TicketApplication(self.channel)
        answer = await self._post(URL_TICKET, application.message)
        return application.open(answer).access_token

    async def connect(self, *, prove: bool = True, token: str | None = None) -> Wire:
        """Open a websocket, by default one that is proven."""
        wire = await Wire.open(self.client, token or await self.ticket())
        if prove:
            await wire.handshake(self)
        return wire

    def bundle(self, attempt_id: str, content: bytes = b"esphome:\n", **changes: Any) -> Sealer:
        """Make and seal a bundle with one configuration in it."""
        path = self.folder / f"{self.label}-{attempt_id}.tar.gz"
        with (
            path.open("wb") as file,
            # The same bundle has the same digest.
            gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w") as archive,
        ):
            member = tarfile.TarInfo(CONFIGURATION)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
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
        return Sealer(self.channel, Purpose.BUNDLE, path, parameters, limit=BUNDLE_LIMIT)

    async def upload(self, attempt_id: str, sealer: Sealer) -> tuple[int, Json | None]:
        """PUT a bundle; returns status and refusal."""
        body = b"".join(sealer.batches())
        return await self.put(attempt_id, body, await self.ticket())

    async def put(self, attempt_id: str, body: bytes, token: str | None) -> tuple[int, Json | None]:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        response = await self.client.put(
            URL_BUNDLE.format(attempt_id=attempt_id), data=body, headers=headers
        )
        refused = response.content_type == "application/json"
        return response.status, await response.json() if refused else None

    async def fetch(self, attempt_id: str, part: str = "ota") -> tuple[bytes, BodyHeader]:
        """GET and open a firmware; raises CommandRefusedError and ProtocolError."""
        response = await self.get(attempt_id, part, await self.ticket())
        if response.status != 200:
            raise CommandRefusedError((await response.json())["error"])
        target = self.folder / f"{self.label}-{attempt_id}.{part}"
        header = await receive(
            self.channel,
            Purpose.FIRMWARE,
            response.content.iter_any(),
            target,
            limit=FIRMWARE_LIMIT,
        )
        content = target.read_bytes()
        assert hashlib.sha256(content).hexdigest() == header.sha256
        return content, header

    async def get(self, attempt_id: str, part: str, token: str | None) -> Any:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        url = URL_FIRMWARE.format(attempt_id=attempt_id, part=part)
        return await self.client.get(url, headers=headers)

    async def submit(self, wire: Wire, **changes: Any) -> str:
        """Have something built; returns the attempt's id."""
        attempt_id = new_attempt_id()
        sealer = self.bundle(attempt_id, **changes)
        status, refusal = await self.upload(attempt_id, sealer)
        assert (status, refusal) == (204, None)
        await wire.call(Submit(attempt_id, sealer.sha256))
        return attempt_id

    async def _post_pair(self, message: Json) -> object:
        return await self._post(URL_PAIR, message)

    async def _post(self, url: str, message: Json) -> Any:
        response = await self.client.post(url, json=message)
        assert response.status == 200
        return await response.json()


class Wire:
    """A websocket of Home Assistant's, open at the builder."""

    def __init__(self, socket: ClientWebSocketResponse) -> None:
        self.socket = socket
        self.session: Session | None = None
        self._ids = itertools.count(1)
        self._events: defaultdict[int, deque[Json]] = defaultdict(deque)

    @classmethod
    async def open(cls, client: TestClient, token: str) -> Self:
        socket = await client.ws_connect("/api/websocket")
        assert (await socket.receive_json())["type"] == "auth_required"
        await socket.send_json({"type": "auth", "access_token": token})
        answer = await socket.receive_json()
        if answer["type"] != "auth_ok":
            raise CommandRefusedError(answer["type"])
        return cls(socket)

    async def handshake(self, offloader: Offloader) -> None:
        handshake = OffloaderHandshake(offloader.channel, offloader.offer)
        prove = handshake.prove(await self.send(handshake.hello))
        self.session = handshake.finish(await self.send(prove))

    async def call(self, command: object) -> Any:
        """Send one of the commands of peers/messages.py and return its result."""
        return await self.send(encode(command))

    async def send(self, message: Json) -> Any:
        """Send a command and return its result; raises CommandRefusedError."""
        return (await self._ask(message))[1]

    async def subscribe(self, command: object) -> int:
        """Send a command whose answer are events; returns their number."""
        return (await self._ask(encode(command)))[0]

    async def event(self, number: int) -> Json:
        """Return the next event of a subscription."""
        while not self._events[number]:
            await self._take()
        return self._events[number].popleft()

    async def built(self, attempt_id: str, from_line: int = 0) -> list[Json]:
        """Follow an attempt to its end; returns its events."""
        number = await self.subscribe(Attach(attempt_id, from_line))
        return await self.until_state(number, "completed", "failed", "cancelled")

    async def until_state(self, number: int, *states: str) -> list[Json]:
        """Return the events of an attempt up to one of these states."""
        events = [await self.event(number)]
        while events[-1].get("state") not in states:
            events.append(await self.event(number))
        return events

    async def closed(self) -> None:
        """Return when the builder has closed the connection."""
        async with asyncio.timeout(5):
            while True:
                message = await self.socket.receive()
                if message.type in (WSMsgType.CLOSE, WSMsgType.CLOSING, WSMsgType.CLOSED):
                    return

    async def _ask(self, message: Json) -> tuple[int, Any]:
        number = next(self._ids)
        await self.socket.send_json({"id": number, **message})
        while (answer := await self._take()) is None or answer["id"] != number:
            pass
        if not answer["success"]:
            raise CommandRefusedError(answer["error"]["code"])
        return number, answer["result"]

    async def _take(self) -> Json | None:
        message = await self.socket.receive_json(timeout=5)
        if message["type"] == "event":
            self._events[message["id"]].append(message["event"])
            return None
        answer: Json = message
        return answer
