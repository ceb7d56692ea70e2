"""A builder as the network sees it: its window and its desk behind a real HTTP server."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
import time

from aiohttp import web
from aiohttp.test_utils import TestServer

from custom_components.esphome_offload.engine.codec import Json, encode
from custom_components.esphome_offload.engine.protocol.definitions import (
    URL_INFO,
    URL_PAIR,
    URL_TICKET,
    ErrorCode,
    ProtocolError,
)
from custom_components.esphome_offload.engine.protocol.greetings import Info, Refusal
from custom_components.esphome_offload.engine.protocol.identity import Identity, PublicKey
from custom_components.esphome_offload.engine.protocol.negotiation import Offer, own_offer
from custom_components.esphome_offload.engine.protocol.pairing import Paired, PairingWindow
from custom_components.esphome_offload.engine.protocol.tickets import TicketDesk


class BuilderServer:
    """What a test sets before it asks; ``guests`` are those that were paired."""

    def __init__(self, identity: Identity | None = None, label: str = "workshop") -> None:
        self.label = label
        self.lending = True
        self.clock_ahead = 0.0
        self.window_time = 0.0
        self.asked: list[str] = []
        self.refuse_ticket: ErrorCode | None = None
        self.become(identity or Identity.generate())
        self.url = ""

    def become(self, identity: Identity, offer: Offer | None = None) -> None:
        """Start over with this identity."""
        self.identity = identity
        self.offer = offer or own_offer("0.1.0")
        self.guests: dict[str, PublicKey] = {}
        self.window = PairingWindow(
            identity,
            self.offer,
            lambda: self.label,
            on_paired=self._paired,
            clock=lambda: time.monotonic() + self.window_time,
        )
        self._desk = TicketDesk(
            identity, self.guests.get, clock=lambda: time.time() + self.clock_ahead
        )

    def speak(self, protocol: int) -> None:
        """Speak this protocol only."""
        self.become(self.identity, replace(self.offer, protocol=protocol, oldest_protocol=protocol))

    def open(self) -> str:
        """Open the window and return the code."""
        return self.window.open().code

    def _paired(self, paired: Paired) -> None:
        self.guests[paired.public.pin_sha256] = paired.public

    @property
    def app(self) -> web.Application:
        app = web.Application()
        app.router.add_get(URL_INFO, self._info)
        app.router.add_post(URL_PAIR, self._pair)
        app.router.add_post(URL_TICKET, self._ticket)
        return app

    async def _info(self, _request: web.Request) -> web.Response:
        self.asked.append(URL_INFO)
        if not self.lending:
            return web.json_response(
                encode(Refusal(ErrorCode.NOT_LENDING)), status=ErrorCode.NOT_LENDING.http_status
            )
        pairing = self.window.state is not None
        info = Info(self.offer, self.identity.pin_sha256, self.label, pairing)
        return web.json_response(encode(info))

    async def _pair(self, request: web.Request) -> web.Response:
        self.asked.append(URL_PAIR)
        return web.json_response(await self.window.handle(await request.json()))

    async def _ticket(self, request: web.Request) -> web.Response:
        self.asked.append(URL_TICKET)

        async def issue(_pin: str) -> str:
            if self.refuse_ticket is not None:
                raise ProtocolError(self.refuse_ticket, "no")
            return "a-token"

        answer: Json = await self._desk.handle(await request.json(), issue)
        return web.json_response(answer)


@asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[str]:
    """Serve on 127.0.0.1 and give the base URL."""
    async with TestServer(app, host="127.0.0.1") as server:
        yield str(server.make_url("/")).rstrip("/")


def answering(handler: Callable[[web.Request], web.StreamResponse]) -> web.Application:
    """Return an application that answers everything in this way."""

    async def handle(request: web.Request) -> web.StreamResponse:
        return handler(request)

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", handle)
    return app
