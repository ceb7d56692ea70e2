"""PeerDoor: what goes to a peer over plain HTTP: asking for tickets, and bodies both ways."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
import json
import logging
from pathlib import Path
import time
from typing import Final

import aiohttp

from ..protocol.body import Sealer
from ..protocol.definitions import (
    FIRMWARE_LIMIT,
    STALL_TIMEOUT,
    URL_BUNDLE,
    URL_FIRMWARE,
    ErrorCode,
    ProtocolError,
    said_of_other,
)
from ..protocol.greetings import Refusal
from ..protocol.parsing import parse
from ..protocol.payloads import BodyHeader, FirmwarePart
from ..protocol.seal import Channel, Purpose
from ..protocol.transfer import receive, send
from .errors import LinkLost, PeerRefused
from .probe import ProbeError, ProbeFailure, ticket

_LOGGER = logging.getLogger(__name__)

TOKEN_AGE: Final = 45.0
"""Seconds; a token lives for 60, and a request on a slow line needs a few to arrive."""
_CONNECT_TIMEOUT: Final = 20.0
_BUNDLES_AT_ONCE: Final = 2
"""A builder takes no more from one guest; more would only share the line."""
_REFUSAL_LIMIT: Final = 8 * 1024

_TROUBLES: Final = {
    ProbeFailure.CANNOT_CONNECT: "it cannot be reached",
    ProbeFailure.CERTIFICATE: "its certificate is not trusted here",
    ProbeFailure.NO_OFFLOAD: "ESPHome Offload does not run there",
    ProbeFailure.MALFORMED: "it gives no answer that makes sense",
    ProbeFailure.BUSY: "it is too busy to answer",
}


class PeerDoor:
    """Gets in at a peer by its address, which may change."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        channel: Channel,
        url: Callable[[], str],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``url`` gives the base URL without a slash at the end, ``clock`` counts seconds."""
        self._session = session
        self._channel = channel
        self._url = url
        self._clock = clock
        self._token: str | None = None
        self._token_until = 0.0
        self._asking = asyncio.Lock()
        self._sending = asyncio.Semaphore(_BUNDLES_AT_ONCE)

    async def token(self, *, fresh: bool = False) -> str:
        """Return an access token that lives for some seconds more; ``fresh``: a new one.

        Raises LinkLost, or what the peer answers: ProtocolError, ClockSkewError.
        """
        async with self._asking:
            if fresh or self._token is None or self._clock() >= self._token_until:
                self._token = None
                asked = self._clock()
                try:
                    given = await ticket(self._session, self._url(), self._channel)
                except ProbeError as err:
                    _LOGGER.debug("No ticket from %s: %s", err.url, err)
                    raise LinkLost(_TROUBLES.get(err.trouble, err.trouble)) from err
                self._token = given.access_token
                self._token_until = asked + min(TOKEN_AGE, given.expires_in * 0.75)
            return self._token

    async def put_bundle(self, attempt_id: str, sealer: Sealer) -> None:
        """Send a sealed bundle, straight from the disk.

        Raises LinkLost, PeerRefused, and what ``sealer`` raises when it reads.
        """
        async with self._sending:
            await self._put(attempt_id, sealer)

    async def _put(self, attempt_id: str, sealer: Sealer) -> None:
        loop = asyncio.get_running_loop()
        limit = asyncio.timeout(_CONNECT_TIMEOUT)
        broken: list[Exception] = []

        async def batches() -> AsyncIterator[bytes]:
            try:
                async with aclosing(send(sealer)) as pieces:
                    async for piece in pieces:
                        limit.reschedule(loop.time() + STALL_TIMEOUT)
                        yield piece
            except (ProtocolError, OSError) as err:
                broken.append(err)
                raise

        headers = {"Content-Length": str(sealer.length)}
        try:
            async with (
                limit,
                self._session.put(
                    self._url() + URL_BUNDLE.format(attempt_id=attempt_id),
                    data=batches(),
                    headers=headers | await self._authorization(),
                    # Time-outs of aiohttp's own count while a body is being sent.
                    timeout=aiohttp.ClientTimeout(total=None),
                    allow_redirects=False,
                ) as response,
            ):
                await self._check(response)
        except (aiohttp.ClientError, OSError) as err:
            if broken:
                raise broken[0] from err
            if isinstance(err, TimeoutError):
                raise LinkLost("it takes no more of the bundle") from err
            raise LinkLost(f"the bundle was cut off: {err}") from err

    async def fetch(
        self,
        attempt_id: str,
        part: FirmwarePart,
        target: Path,
        accept: Callable[[BodyHeader], None],
    ) -> BodyHeader:
        """Write a part of a firmware to ``target``, which is not there unless all is right.

        ``accept`` sees the header before the body and refuses by raising. Raises LinkLost,
        PeerRefused, ProtocolError (TAMPERED, MALFORMED, TOO_LARGE, NO_SPACE), OSError.
        """
        url = self._url() + URL_FIRMWARE.format(attempt_id=attempt_id, part=part)
        pieces = self._get(url)
        async with aclosing(pieces):
            try:
                return await receive(
                    self._channel,
                    Purpose.FIRMWARE,
                    pieces,
                    target,
                    limit=FIRMWARE_LIMIT,
                    accept=accept,
                )
            except ProtocolError as err:
                if err.code is ErrorCode.STALLED:
                    raise LinkLost("it sends no more of the firmware") from err
                raise

    async def _get(self, url: str) -> AsyncGenerator[bytes]:
        """Give a body as it comes; its own errors only, not those of whoever takes it."""
        try:
            async with self._session.get(
                url,
                headers=await self._authorization(),
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=_CONNECT_TIMEOUT, sock_read=STALL_TIMEOUT
                ),
                allow_redirects=False,
            ) as response:
                await self._check(response)
                async for piece in response.content.iter_any():
                    yield piece
        except (aiohttp.ClientError, OSError) as err:
            raise LinkLost(f"the firmware was cut off: {err!r}") from err

    async def _authorization(self) -> dict[str, str]:
        try:
            return {"Authorization": f"Bearer {await self.token()}"}
        except ProtocolError as err:
            raise PeerRefused(err.code, err.detail) from err

    async def _check(self, response: aiohttp.ClientResponse) -> None:
        """Raise unless the answer is the one that was asked for."""
        if response.status in {200, 204}:
            return
        if response.status == 401:
            self._token = None
            raise LinkLost("it does not take our access token any more")
        content = await response.content.read(_REFUSAL_LIMIT)
        try:
            refusal = parse(Refusal, json.loads(content))
        except (ProtocolError, ValueError, RecursionError) as err:
            # Home Assistant stops, or something else answers there.
            raise LinkLost(f"it answers with status {response.status}") from err
        raise PeerRefused(said_of_other(refusal.error), refusal.detail or "refused")
