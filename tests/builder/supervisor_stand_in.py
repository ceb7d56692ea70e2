"""A stand-in for Supervisor: the two requests that an app makes to it, and nothing else."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer
from esphome_offload_builder.settings import Supervisor

from .running import free_port

TOKEN = "0123456789abcdef" * 7


@dataclass
class SupervisorStandIn:
    """Answers as Supervisor does; ``refusals`` are sent first, one for each request."""

    ingress_port: int = field(default_factory=free_port)
    messages: list[dict[str, Any]] = field(default_factory=list)
    refusals: list[object] = field(default_factory=list)
    url: str = ""

    @property
    def access(self) -> Supervisor:
        return Supervisor(self.url, TOKEN)

    @property
    def config(self) -> dict[str, Any]:
        """What Home Assistant is told now."""
        config: dict[str, Any] = self.messages[-1]["config"]
        return config

    async def told(self, messages: int) -> dict[str, Any]:
        """Return what it was told, once there are so many messages."""
        async with asyncio.timeout(20):
            while len(self.messages) < messages:  # noqa: ASYNC110 - polled
                await asyncio.sleep(0.01)
        assert len(self.messages) == messages
        return self.config

    async def info(self, request: web.Request) -> web.Response:
        data = {"ip_address": "127.0.0.1", "ingress_port": self.ingress_port, "slug": "app"}
        return self._answer(request, data)

    async def discovery(self, request: web.Request) -> web.Response:
        response = self._answer(request, {"uuid": "0" * 32})
        if response.status == 200:
            self.messages.append(await request.json())
        return response

    def _answer(self, request: web.Request, data: object) -> web.Response:
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return web.Response(status=401)
        if self.refusals:
            refusal = self.refusals.pop(0)
            if isinstance(refusal, web.Response):
                return refusal
            return web.json_response({"result": "error", "message": refusal}, status=400)
        return web.json_response({"result": "ok", "data": data})

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        application = web.Application()
        application.router.add_get("/addons/self/info", self.info)
        application.router.add_post("/discovery", self.discovery)
        async with TestServer(application, host="127.0.0.1") as server:
            self.url = str(server.make_url("")).rstrip("/")
            yield
