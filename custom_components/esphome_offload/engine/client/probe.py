"""Visiting a builder over plain HTTP: who is there, pairing, and whether it still knows us."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from enum import StrEnum
import json
from typing import Final

import aiohttp
from yarl import URL

from ..codec import Json
from ..protocol.definitions import (
    HANDSHAKE_TIMEOUT,
    TICKET_BODY_LIMIT,
    URL_INFO,
    URL_PAIR,
    URL_TICKET,
    ProtocolError,
    said_of_other,
)
from ..protocol.greetings import Info, Refusal
from ..protocol.identity import Identity, PublicKey
from ..protocol.negotiation import Offer, negotiate_first
from ..protocol.pairing import PairingClient
from ..protocol.parsing import parse, parse_one_of
from ..protocol.seal import Channel
from ..protocol.tickets import Ticket, TicketApplication

_TIMEOUT: Final = aiohttp.ClientTimeout(total=HANDSHAKE_TIMEOUT)
_REDIRECTS: Final = frozenset({301, 302, 307, 308})


class ProbeFailure(StrEnum):
    """Why a visit came to nothing, the least telling first; TOO_OLD, TOO_NEW: the builder is."""

    CANNOT_CONNECT = "cannot_connect"
    CERTIFICATE = "certificate"
    NO_OFFLOAD = "no_offload"
    MALFORMED = "malformed"
    BUSY = "busy"
    NOT_LENDING = "not_lending"
    TOO_OLD = "too_old"
    TOO_NEW = "too_new"


class ProbeError(Exception):
    """Nobody there, or nobody to talk to; ``detail`` is for the log, ``url`` is where."""

    def __init__(self, trouble: ProbeFailure, url: str, detail: str = "") -> None:
        """Keep what a form shows."""
        super().__init__(detail or trouble)
        self.trouble = trouble
        self.url = url


class _MovedError(ProbeError):
    """The same host says: over https instead."""


async def find(session: aiohttp.ClientSession, urls: Sequence[str], own: Offer) -> tuple[str, Info]:
    """Return the first of these base URLs where a builder is, and what it says of itself.

    Nothing of the answer is proven. All are asked at once, since a host that drops what it does
    not know lets each of them wait. Raises ProbeError with the most telling trouble.
    """
    tasks = [asyncio.create_task(_look(session, url, own)) for url in urls]
    worst: ProbeError | None = None
    try:
        for task in tasks:
            try:
                return await task
            except ProbeError as err:
                if worst is None or _telling(err) > _telling(worst):
                    worst = err
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert worst is not None  # noqa: S101 - there is always one address
    raise worst


def pairing(
    session: aiohttp.ClientSession, url: str, identity: Identity, own: Offer, label: str
) -> PairingClient:
    """Return what pairs with the builder at ``url``, as ``label``; it also raises ProbeError."""

    async def post(message: Json) -> object:
        return await _request(session, "POST", url, URL_PAIR, message)

    return PairingClient(identity, own, label, post)


async def prove(
    session: aiohttp.ClientSession, url: str, identity: Identity, peer: PublicKey
) -> None:
    """Return when the peer is at ``url``, knows us and lets us in.

    Raises ProbeError or ProtocolError. ClockSkewError and NOT_LENDING come sealed: whoever
    raises those is the peer.
    """
    await ticket(session, url, Channel(identity, peer))


async def ticket(session: aiohttp.ClientSession, url: str, channel: Channel) -> Ticket:
    """Return a ticket for one connection; raises like ``prove``."""
    application = TicketApplication(channel)
    return application.open(await _request(session, "POST", url, URL_TICKET, application.message))


async def ping(session: aiohttp.ClientSession, url: str, path: str) -> None:
    """Ask for ``path`` at ``url`` and take no notice of what comes of it."""
    with suppress(aiohttp.ClientError, TimeoutError, OSError, ValueError):
        async with session.get(url + path, timeout=_TIMEOUT, allow_redirects=False):
            pass


def _telling(err: ProbeError) -> int:
    return list(ProbeFailure).index(err.trouble)


async def _look(session: aiohttp.ClientSession, url: str, own: Offer) -> tuple[str, Info]:
    try:
        return url, await _info(session, url, own)
    except _MovedError as moved:
        return moved.url, await _info(session, moved.url, own)


async def _info(session: aiohttp.ClientSession, url: str, own: Offer) -> Info:
    raw = await _request(session, "GET", url, URL_INFO)
    try:
        _raise_refusal(parse_one_of((Refusal,), raw))
        negotiate_first(own, raw)
        return parse(Info, raw)
    except ProtocolError as err:
        trouble = ProbeFailure(err.code) if err.code in ProbeFailure else ProbeFailure.MALFORMED
        raise ProbeError(trouble, url, err.detail) from err


def _raise_refusal(refusal: Refusal | None) -> None:
    if refusal is not None:
        raise ProtocolError(said_of_other(refusal.error), refusal.detail or "refused")


async def _request(
    session: aiohttp.ClientSession, method: str, url: str, path: str, message: Json | None = None
) -> object:
    """Return the decoded JSON of an answer, whatever its status; raises ProbeError."""
    try:
        async with session.request(
            method, url + path, json=message, timeout=_TIMEOUT, allow_redirects=False
        ) as response:
            if response.status in _REDIRECTS:
                _follow(url, response)
            if response.status == 404:
                raise ProbeError(ProbeFailure.NO_OFFLOAD, url, "404")
            content = await response.content.read(TICKET_BODY_LIMIT + 1)
            while len(content) <= TICKET_BODY_LIMIT and not response.content.at_eof():
                content += await response.content.read(TICKET_BODY_LIMIT + 1)
    except aiohttp.ClientConnectorCertificateError as err:
        raise ProbeError(ProbeFailure.CERTIFICATE, url, str(err)) from err
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as err:
        raise ProbeError(ProbeFailure.CANNOT_CONNECT, url, repr(err)) from err
    try:
        if len(content) > TICKET_BODY_LIMIT:
            raise ProbeError(ProbeFailure.NO_OFFLOAD, url, "too much of an answer")
        return json.loads(content)
    except (ValueError, RecursionError) as err:
        raise ProbeError(ProbeFailure.NO_OFFLOAD, url, f"status {response.status}") from err


def _follow(url: str, response: aiohttp.ClientResponse) -> None:
    """Raise _MovedError where a proxy sends plain http on to https, ProbeError elsewhere."""
    there = response.url.join(URL(response.headers.get("Location", "")))
    if (
        there.scheme == "https"
        and response.url.scheme == "http"
        and there.host == response.url.host
    ):
        raise _MovedError(ProbeFailure.NO_OFFLOAD, str(there.origin()), "sent on to https")
    raise ProbeError(ProbeFailure.NO_OFFLOAD, url, f"sent on to {there.origin()}")
