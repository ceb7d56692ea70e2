"""What others reach over HTTP: who is here, pairing, tickets, bundles and firmware."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from http import HTTPStatus
import json
import logging
from typing import Final

from aiohttp import web
from homeassistant.components.http import KEY_HASS, KEY_HASS_USER, HomeAssistantView
from homeassistant.core import HomeAssistant, callback

from ..coordinator import DATA_COORDINATOR
from ..engine.codec import encode
from ..engine.host.admission import Caller
from ..engine.host.rate_limit import RateLimit
from ..engine.protocol.body import Sealer, sealed_size
from ..engine.protocol.definitions import (
    BUNDLE_LIMIT,
    DETAIL_LIMIT,
    HEADER_LIMIT,
    MIB,
    PAIRING_BODY_LIMIT,
    STALL_TIMEOUT,
    TICKET_BODY_LIMIT,
    URL_BUNDLE,
    URL_FIRMWARE,
    URL_INFO,
    URL_PAIR,
    URL_TICKET,
    ErrorCode,
    ProtocolError,
    clip,
)
from ..engine.protocol.greetings import Refusal
from ..engine.protocol.payloads import FirmwarePart
from ..engine.protocol.transfer import send
from .lender import Lender

_LOGGER = logging.getLogger(__name__)

# A sealed bundle of the largest size, with what stands before it.
_BUNDLE_BODY_LIMIT: Final = sealed_size(BUNDLE_LIMIT) + HEADER_LIMIT + MIB

# These bodies fit into a few packets.
_SMALL_BODY_TIMEOUT: Final = 10.0

# Four devices that are built at once fetch some twenty tickets in a few seconds.
_BURST: Final = 60
_PER_SECOND: Final = 5.0


@callback
def async_setup_peer_views(hass: HomeAssistant) -> None:
    """Register the views; each asks whether this machine is lent."""
    limit = RateLimit(_BURST, _PER_SECOND)
    for view in (
        InfoView(limit),
        PairView(limit),
        TicketView(limit),
        BundleView(),
        FirmwareView(),
    ):
        hass.http.register_view(view)


class _OpenView(HomeAssistantView):
    """Something that needs no user, and so must cost little."""

    requires_auth = False

    def __init__(self, limit: RateLimit) -> None:
        """``limit`` is shared by all of them."""
        self._limit = limit

    def _admit(self, request: web.Request) -> None:
        if not self._limit.admit(request.remote or ""):
            raise ProtocolError(ErrorCode.BUSY, "too many requests")


class InfoView(_OpenView):
    """GET info: who is here."""

    url = URL_INFO
    name = "api:esphome_offload:info"

    async def get(self, request: web.Request) -> web.Response:
        """Answer with an Info."""
        try:
            self._admit(request)
            return self.json(_lender(request).info())
        except ProtocolError as err:
            return _refusal(err)


class PairView(_OpenView):
    """POST pair: one step of a pairing."""

    url = URL_PAIR
    name = "api:esphome_offload:pair"

    async def post(self, request: web.Request) -> web.Response:
        """Answer with a PairAnswer, a PairDone or a Refusal, always with status 200."""
        try:
            self._admit(request)
            raw = await _read_json(request, PAIRING_BODY_LIMIT)
        except ProtocolError as err:
            return _refusal(err, HTTPStatus.OK)
        return self.json(await _lender(request).async_pair(raw, request.remote))


class TicketView(_OpenView):
    """POST ticket: a guest wants to connect."""

    url = URL_TICKET
    name = "api:esphome_offload:ticket"

    async def post(self, request: web.Request) -> web.Response:
        """Answer with a TicketAnswer or a Refusal, always with status 200."""
        try:
            self._admit(request)
            raw = await _read_json(request, TICKET_BODY_LIMIT)
        except ProtocolError as err:
            return _refusal(err, HTTPStatus.OK)
        return self.json(await _lender(request).async_ticket(raw, request.remote))


class BundleView(HomeAssistantView):
    """PUT bundle: a sealed bundle, which is submitted next."""

    url = URL_BUNDLE
    name = "api:esphome_offload:bundle"

    async def put(self, request: web.Request, attempt_id: str) -> web.Response:
        """Take it as it comes; nothing of it is held in memory."""
        try:
            if (request.content_length or 0) > _BUNDLE_BODY_LIMIT:
                raise _too_large()
            host = _lender(request).host
            await host.receive(_caller(request), attempt_id, _counted(request))
        except ProtocolError as err:
            response = _refusal(err)
            # Not all of the body was read.
            response.force_close()
            return response
        except OSError as err:
            _LOGGER.warning("A bundle cannot be kept: %s", err)
            return _refusal(ProtocolError(ErrorCode.NO_SPACE, "the bundle cannot be kept"))
        return web.Response(status=HTTPStatus.NO_CONTENT)


class FirmwareView(HomeAssistantView):
    """GET firmware: one file of what was built, sealed."""

    url = URL_FIRMWARE
    name = "api:esphome_offload:firmware"

    async def get(self, request: web.Request, attempt_id: str, part: str) -> web.StreamResponse:
        """Give it piece by piece; nothing of it is held in memory."""
        try:
            host = _lender(request).host
            sealer = await host.firmware(_caller(request), attempt_id, _part(part))
        except ProtocolError as err:
            return _refusal(err)
        return await _stream(request, sealer)


async def _stream(request: web.Request, sealer: Sealer) -> web.StreamResponse:
    response = web.StreamResponse()
    response.content_length = sealer.length
    response.content_type = "application/octet-stream"
    await response.prepare(request)
    try:
        async with aclosing(send(sealer)) as batches:
            async for batch in batches:
                async with asyncio.timeout(STALL_TIMEOUT):
                    await response.write(batch)
    except (ProtocolError, OSError, TimeoutError) as err:
        # The status is sent already. Whoever gets a body that is cut off keeps nothing of it.
        _LOGGER.warning("A firmware was not sent to its end: %s", err)
        if request.transport is not None:
            request.transport.abort()
        return response
    await response.write_eof()
    return response


async def _counted(request: web.Request) -> AsyncIterator[bytes]:
    """Give the body as it comes, up to the limit; the length that was announced proves nothing."""
    total = 0
    async for piece in request.content.iter_any():
        total += len(piece)
        if total > _BUNDLE_BODY_LIMIT:
            raise _too_large()
        yield piece


async def _read_json(request: web.Request, limit: int) -> object:
    """Return the decoded body; raises ProtocolError TOO_LARGE, STALLED or MALFORMED."""
    if (request.content_length or 0) > limit:
        raise _too_large()
    body = bytearray()
    try:
        async with asyncio.timeout(_SMALL_BODY_TIMEOUT):
            async for piece in request.content.iter_any():
                body += piece
                if len(body) > limit:
                    raise _too_large()
    except TimeoutError as err:
        raise ProtocolError(ErrorCode.STALLED, "the body did not come") from err
    try:
        raw: object = json.loads(body)
    # Text that is nested too deeply ends in RecursionError.
    except (ValueError, RecursionError) as err:
        raise ProtocolError(ErrorCode.MALFORMED, "not JSON") from err
    return raw


def _refusal(err: ProtocolError, status: int | None = None) -> web.Response:
    refusal = Refusal(err.code, clip(err.detail, DETAIL_LIMIT))
    return HomeAssistantView.json(encode(refusal), status or err.code.http_status)


def _part(name: str) -> FirmwarePart:
    if name not in FirmwarePart:
        raise ProtocolError(ErrorCode.FIRMWARE_NOT_READY, "there is no such part")
    return FirmwarePart(name)


def _too_large() -> ProtocolError:
    return ProtocolError(ErrorCode.TOO_LARGE, "the body is too large")


def _caller(request: web.Request) -> Caller:
    return Caller(request[KEY_HASS_USER].id)


def _lender(request: web.Request) -> Lender:
    return request.app[KEY_HASS].data[DATA_COORDINATOR].lender
