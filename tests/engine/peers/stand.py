"""A builder at a real port: Home Assistant's websocket and views in little, the real host behind.

And the wire between: a proxy that can be cut.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
import json
from pathlib import Path
import secrets
import time
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from custom_components.esphome_offload.engine.clock import SystemTime
from custom_components.esphome_offload.engine.codec import Json, encode
from custom_components.esphome_offload.engine.host.admission import Caller
from custom_components.esphome_offload.engine.protocol import transfer
from custom_components.esphome_offload.engine.protocol.definitions import (
    URL_BUNDLE,
    URL_FIRMWARE,
    URL_TICKET,
    ErrorCode,
    ProtocolError,
)
from custom_components.esphome_offload.engine.protocol.greetings import Hello, Prove, Refusal
from custom_components.esphome_offload.engine.protocol.handshake import BuilderHandshake
from custom_components.esphome_offload.engine.protocol.identity import PublicKey
from custom_components.esphome_offload.engine.protocol.messages import (
    Acknowledge,
    Attach,
    Cancel,
    Clean,
    Submit,
    SubscribeStatus,
    Unpair,
    UnpairedEvent,
    Wanted,
)
from custom_components.esphome_offload.engine.protocol.negotiation import own_offer
from custom_components.esphome_offload.engine.protocol.parsing import parse
from custom_components.esphome_offload.engine.protocol.payloads import FirmwarePart
from custom_components.esphome_offload.engine.protocol.seal import Channel
from custom_components.esphome_offload.engine.protocol.tickets import TicketDesk

from .host.lender import Lender


class Lent(Lender):
    """A lender whose clock goes."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.time = SystemTime()  # type: ignore[assignment]
        self.host = self._make()


class Stand:
    """The builder's Home Assistant. Counts what it is asked for."""

    def __init__(self, lender: Lender) -> None:
        self.lender = lender
        self.offer = own_offer("0.1.0")
        self.run_id = secrets.token_hex(16)
        self.tokens: dict[str, str] = {}
        self.commands: Counter[str] = Counter()
        self.requests: Counter[str] = Counter()
        self.bundle_bytes = 0
        self.firmware_bytes = 0
        self.firmware_length: int | None = None
        """Of what is sent in the place of the firmware."""
        self.clock_ahead = 0.0
        self.silent: set[str] = set()
        """Commands that get no answer."""
        self.refuse_tokens = False
        self.tickets = 0
        self.given_tokens: list[str] = []
        self.sockets: dict[_Socket, None] = {}
        self._desk = TicketDesk(
            lender.identity, self._key, clock=lambda: time.time() + self.clock_ahead
        )
        app = web.Application()
        app.router.add_post(URL_TICKET, self._ticket)
        app.router.add_get("/api/websocket", self._websocket)
        app.router.add_put(URL_BUNDLE, self._put)
        app.router.add_get(URL_FIRMWARE, self._get)
        self.server = TestServer(app)

    async def start(self) -> None:
        await self.lender.start()
        await self.server.start_server()

    async def stop(self) -> None:
        await self.hang_up()
        await self.server.close()
        await self.lender.host.stop()

    @property
    def port(self) -> int:
        assert self.server.port is not None
        return self.server.port

    async def hang_up(self) -> None:
        """Close all websockets."""
        for each in tuple(self.sockets):
            await each.close()

    async def restart(self) -> None:
        """Be killed and started again: builds, tokens and connections are gone."""
        await self.hang_up()
        self.tokens.clear()
        self.run_id = secrets.token_hex(16)
        await self.lender.crash()

    async def unpair(self, pin_sha256: str) -> None:
        """Remove a guest and tell it."""
        for each in tuple(self.sockets):
            await each.say_unpaired()
        await self.lender.host.remove_guest(pin_sha256)

    def caller(self, request: web.Request) -> Caller:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if token not in self.tokens:
            raise web.HTTPUnauthorized
        return Caller(self.tokens[token])

    def _key(self, pin_sha256: str) -> PublicKey | None:
        guest = self.lender.guests.get(pin_sha256)
        return None if guest is None else guest.public_key

    async def _ticket(self, request: web.Request) -> web.Response:
        self.tickets += 1

        async def issue(pin_sha256: str) -> str:
            guest = self.lender.guests.get(pin_sha256)
            assert guest is not None
            why_not = self.lender.host.lending == "off"
            if why_not:
                raise ProtocolError(ErrorCode.NOT_LENDING, "off")
            token = secrets.token_hex(16)
            self.tokens[token] = guest.user_id
            self.given_tokens.append(token)
            return token

        return web.json_response(await self._desk.handle(await request.json(), issue))

    async def _put(self, request: web.Request) -> web.Response:
        self.requests["put"] += 1
        caller = self.caller(request)

        async def pieces() -> AsyncIterator[bytes]:
            async for piece in request.content.iter_any():
                self.bundle_bytes += len(piece)
                yield piece

        try:
            await self.lender.host.receive(caller, request.match_info["attempt_id"], pieces())
        except ProtocolError as err:
            response = _refusal(err)
            response.force_close()
            return response
        return web.Response(status=204)

    async def _get(self, request: web.Request) -> web.StreamResponse:
        self.requests["get"] += 1
        caller = self.caller(request)
        part = FirmwarePart(request.match_info["part"])
        try:
            sealer = await self.lender.host.firmware(caller, request.match_info["attempt_id"], part)
        except ProtocolError as err:
            return _refusal(err)
        response = web.StreamResponse()
        response.content_length = self.firmware_length or sealer.length
        await response.prepare(request)
        async with aclosing(self.altered(transfer.send(sealer))) as batches:
            async for batch in batches:
                self.firmware_bytes += len(batch)
                await response.write(batch)
        return response

    async def altered(self, batches: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
        """Give the sealed firmware; what tests put something else in the place of."""
        async with aclosing(batches):
            async for batch in batches:
                yield batch

    async def _websocket(self, request: web.Request) -> web.WebSocketResponse:
        response = web.WebSocketResponse()
        await response.prepare(request)
        await response.send_json({"type": "auth_required", "ha_version": "2026.10.4"})
        message = await response.receive_json()
        user_id = self.tokens.get(message["access_token"])
        if user_id is None or self.refuse_tokens:
            await response.send_json({"type": "auth_invalid", "message": "no"})
            await response.close()
            return response
        await response.send_json({"type": "auth_ok", "ha_version": "2026.10.4"})
        socket = _Socket(self, response, user_id)
        self.sockets[socket] = None
        try:
            await socket.serve()
        finally:
            del self.sockets[socket]
        return response


class _Socket:
    """One connection of a guest."""

    def __init__(self, stand: Stand, response: web.WebSocketResponse, user_id: str) -> None:
        self._stand = stand
        self._response = response
        self._user_id = user_id
        self._handshake: BuilderHandshake | None = None
        self._pin: str | None = None
        self._last_id = 0
        self._status_id = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        try:
            async for message in self._response:
                raw = json.loads(message.data)
                if raw["id"] <= self._last_id:
                    await self._error(raw, "id_reuse", "ids have to grow")
                    continue
                self._last_id = raw["id"]
                self._stand.commands[raw["type"].rpartition("/")[2]] += 1
                if raw["type"].rpartition("/")[2] not in self._stand.silent:
                    self._own(self._handle(raw))
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def close(self) -> None:
        await self._response.close()

    async def say_unpaired(self) -> None:
        assert self._handshake is not None
        proof = self._handshake.session.unpair_proof
        await self._event(self._status_id, UnpairedEvent(proof))

    def _own(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _handle(self, raw: Json) -> None:
        try:
            with suppress(ConnectionError):
                await self._answer(raw)
        except ProtocolError as err:
            await self._error(raw, err.code, err.detail)

    async def _answer(self, raw: Json) -> None:  # noqa: C901, PLR0912 - each command
        host = self._stand.lender.host
        caller = Caller(self._user_id, self._pin)
        match raw["type"]:
            case Hello.TYPE:
                guest = self._stand.lender.guests.by_user(self._user_id)
                if guest is None:
                    raise ProtocolError(ErrorCode.UNKNOWN_GUEST, "no guest")
                lender = self._stand.lender
                self._handshake = BuilderHandshake(
                    Channel(lender.identity, guest.public_key),
                    self._stand.offer,
                    "workshop",
                    self._stand.run_id,
                )
                await self._result(raw, self._handshake.hello(raw))
            case Prove.TYPE:
                assert self._handshake is not None
                answer = self._handshake.prove(raw)
                guest = self._stand.lender.guests.by_user(self._user_id)
                self._pin = guest.pin_sha256 if guest else None
                await self._result(raw, answer)
            case Submit.TYPE:
                await self._result(raw, await host.submit(caller, parse(Submit, raw)))
            case Cancel.TYPE:
                await self._result(raw, await host.cancel(caller, parse(Cancel, raw)))
            case Wanted.TYPE:
                await self._result(raw, encode(await host.wanted(caller, parse(Wanted, raw))))
            case Acknowledge.TYPE:
                await self._result(raw, await host.acknowledge(caller, parse(Acknowledge, raw)))
            case Clean.TYPE:
                await self._result(raw, await host.clean(caller, parse(Clean, raw)))
            case Attach.TYPE:
                events = host.attach(caller, parse(Attach, raw))
                await self._result(raw, None)
                await self._send_all(raw, events)
            case SubscribeStatus.TYPE:
                self._status_id = int(str(raw["id"]))
                await self._result(raw, None)
                await self._send_all(raw, host.status(caller))
            case Unpair.TYPE:
                assert self._handshake is not None
                if not self._handshake.session.is_unpair_proof(parse(Unpair, raw).proof):
                    raise ProtocolError(ErrorCode.NOT_PROVEN, "no")
                await self._result(raw, None)
                await host.remove_guest(self._pin or "")
            case "ping":
                await self._response.send_json({"id": raw["id"], "type": "pong"})
            case _:
                await self._error(raw, "unknown_command", "Unknown command.")

    async def _send_all(self, raw: Json, events: AsyncGenerator[Any]) -> None:
        async with aclosing(events):
            async for event in events:
                await self._event(int(str(raw["id"])), event)
                await asyncio.sleep(0)

    async def _event(self, message_id: int, event: object) -> None:
        await self._response.send_json({"id": message_id, "type": "event", "event": encode(event)})

    async def _result(self, raw: Json, result: object) -> None:
        await self._response.send_json(
            {"id": raw["id"], "type": "result", "success": True, "result": result}
        )

    async def _error(self, raw: Json, code: str, message: str) -> None:
        with suppress(ConnectionError):
            await self._response.send_json(
                {
                    "id": raw["id"],
                    "type": "result",
                    "success": False,
                    "error": {"code": code, "message": message},
                }
            )


def _refusal(err: ProtocolError) -> web.Response:
    refusal = Refusal(err.code, err.detail[:256])
    return web.json_response(encode(refusal), status=err.code.http_status)


class Wire:
    """The TCP connections to a port, through a proxy that can be cut and mended."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._blinking: asyncio.Task[None] | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def mend(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Break all connections and refuse new ones."""
        assert self._server is not None
        self._server.close()
        for writer in tuple(self._writers):
            writer.transport.abort()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def blink(self) -> None:
        """Cut and mend, also when whoever asks for it ends with the connection."""

        async def blink() -> None:
            await self.cut()
            await self.mend()

        self._blinking = asyncio.create_task(blink())
        await asyncio.shield(self._blinking)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._to)
        for source, target in ((reader, there_writer), (there_reader, writer)):
            self._writers.add(target)
            task = asyncio.create_task(self._pump(source, target))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            with suppress(OSError):
                while data := await source.read(65536):
                    target.write(data)
                    await target.drain()
        finally:
            self._writers.discard(target)
            target.close()
