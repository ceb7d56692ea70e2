"""The two requests that the app makes to Supervisor."""

from dataclasses import dataclass
from http import HTTPMethod
from typing import Annotated, Final

import aiohttp

from ..engine.codec import CodecError, Json, Number, Text, decode, encode
from ..engine.protocol.app_discovery import AppDiscovery
from ..engine.text import one_line
from ..settings import Supervisor

SERVICE: Final = "esphome_offload"
"""The integration that Home Assistant starts with the offer."""

_TIMEOUT: Final = aiohttp.ClientTimeout(total=30)


class SupervisorError(Exception):
    """Supervisor did not do what it was asked; says why, for the log."""


@dataclass(frozen=True, slots=True)
class AppInfo:
    """Where Supervisor reaches this app, and on which port it expects the page."""

    ip_address: Annotated[str, Text(64)]
    ingress_port: Annotated[int, Number(1, 65535)]


class SupervisorClient:
    """Requests to Supervisor, as this app; all raise SupervisorError."""

    def __init__(self, session: aiohttp.ClientSession, supervisor: Supervisor) -> None:
        self._session = session
        self._supervisor = supervisor

    async def app_info(self) -> AppInfo:
        """Return what Supervisor knows of this app."""
        answer = await self._ask(HTTPMethod.GET, "/addons/self/info")
        try:
            return decode(AppInfo, answer.get("data"))
        except CodecError as err:
            raise SupervisorError(f"what it says of this app is not understood: {err}") from err

    async def offer(self, discovery: AppDiscovery) -> None:
        """Have Home Assistant told of this app; what it was told before is replaced."""
        body: Json = {"service": SERVICE, "config": encode(discovery)}
        await self._ask(HTTPMethod.POST, "/discovery", body)

    async def _ask(self, method: str, path: str, body: Json | None = None) -> Json:
        headers = {"Authorization": f"Bearer {self._supervisor.token}"}
        url = f"{self._supervisor.url}{path}"
        try:
            async with self._session.request(
                method, url, json=body, headers=headers, timeout=_TIMEOUT, allow_redirects=False
            ) as response:
                answer: object = await response.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, ValueError) as err:
            raise SupervisorError(f"it did not answer: {err!r}") from err
        if not isinstance(answer, dict) or answer.get("result") != "ok":
            message = answer.get("message") if isinstance(answer, dict) else answer
            raise SupervisorError(f"it refuses: {one_line(str(message), 200)}")
        return answer
