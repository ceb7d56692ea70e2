"""Opening a websocket at a builder's address, up to its hello and the encrypted channel."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from types import SimpleNamespace
from typing import Final

import aiohttp
from yarl import URL

from ..protocol.channel import FRAME_LIMIT, ChannelClosed
from ..protocol.errors import ProtocolError, said_of_other
from ..protocol.hello import (
    URL_LINK,
    Hello,
    Introduction,
    Opened,
    Opening,
    Refused,
    open_link,
    read_hello,
)
from ..protocol.identity import Identity, PublicKey
from ..protocol.limits import HANDSHAKE_TIMEOUT

# Connecting has the time of a handshake; a peer that does not answer a close is left soon.
_TIMEOUT: Final = aiohttp.ClientTimeout(total=HANDSHAKE_TIMEOUT)
_WEBSOCKET_TIMEOUT: Final = aiohttp.ClientWSTimeout(ws_close=2.0)


class DialFailure(StrEnum):
    """A reason why no builder answers at an address, the least telling first.

    All are hints, since nothing is encrypted yet. TOO_OLD and TOO_NEW are said of the builder.
    """

    CANNOT_CONNECT = "cannot_connect"
    CERTIFICATE = "certificate"
    NO_OFFLOAD = "no_offload"
    REDIRECTED = "redirected"
    MALFORMED = "malformed"
    BUSY = "busy"
    NOT_LENDING = "not_lending"
    TOO_OLD = "too_old"
    TOO_NEW = "too_new"


class DialError(Exception):
    """An address (``url``) at which no builder answers; ``detail`` is for the log.

    ``https`` is set where the same host asks to be talked to by https instead.
    """

    def __init__(
        self, failure: DialFailure, url: str, detail: str = "", https: str | None = None
    ) -> None:
        super().__init__(detail or failure)
        self.failure = failure
        self.url = url
        self.https = https


@dataclass(frozen=True, slots=True)
class Caller:
    """The identity and introduction of this end."""

    identity: Identity
    introduction: Introduction


@dataclass(frozen=True, slots=True)
class Answered:
    """A builder that said hello; nothing of that is proven."""

    hello: Hello
    opening: Opening


@asynccontextmanager
async def dial(
    session: aiohttp.ClientSession, url: str, caller: Caller
) -> AsyncGenerator[Answered]:
    """Connect to the builder at a base URL and read its hello; close it at the end.

    A redirect is a failure: it could lead anywhere. Raises DialError.
    """
    try:
        socket = await _connect(session, url)
    except aiohttp.ClientConnectorCertificateError as err:
        raise DialError(DialFailure.CERTIFICATE, url, str(err)) from err
    except aiohttp.WSServerHandshakeError as err:
        raise DialError(DialFailure.NO_OFFLOAD, url, f"status {err.status}") from err
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as err:
        raise DialError(DialFailure.CANNOT_CONNECT, url, repr(err)) from err
    try:
        try:
            hello, raw = await read_hello(socket, caller.introduction.offer)
        except ChannelClosed as err:
            raise DialError(DialFailure.CANNOT_CONNECT, url, str(err)) from err
        except Refused as err:
            raise DialError(_failure(said_of_other(err.code)), url, "refused") from err
        except ProtocolError as err:
            raise DialError(_failure(err.code), url, err.detail) from err
        yield Answered(hello, Opening(socket, raw, caller.identity, caller.introduction))
    finally:
        await socket.close()


@asynccontextmanager
async def dial_link(
    session: aiohttp.ClientSession, url: str, caller: Caller, peer: PublicKey
) -> AsyncGenerator[Opened]:
    """Establish a link with the holder of a key at a base URL; close it at the end.

    Raises DialError, ChannelClosed, Refused and ProtocolError TOO_OLD, TOO_NEW (said of the
    builder), MALFORMED.
    """
    async with dial(session, url, caller) as answered:
        yield await open_link(answered.opening, peer)


async def _connect(session: aiohttp.ClientSession, url: str) -> aiohttp.ClientWebSocketResponse:
    # aiohttp follows redirects of a websocket, and has no option against it. So this session,
    # on the connector of the one handed in, refuses them; it sends and keeps no cookies.
    no_redirects = aiohttp.TraceConfig()
    no_redirects.on_request_redirect.append(_refuse_redirect)
    own = aiohttp.ClientSession(
        connector=session.connector,
        connector_owner=False,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=_TIMEOUT,
        trace_configs=[no_redirects],
    )
    try:
        return await own.ws_connect(
            url + URL_LINK, timeout=_WEBSOCKET_TIMEOUT, compress=0, max_msg_size=FRAME_LIMIT
        )
    finally:
        own.detach()


async def _refuse_redirect(
    _session: aiohttp.ClientSession,
    _context: SimpleNamespace,
    params: aiohttp.TraceRequestRedirectParams,
) -> None:
    params.response.close()
    before = params.url
    try:
        after = before.join(URL(params.response.headers.get("Location", "")))
    except ValueError:
        after = URL()
    upgraded = (before.scheme, after.scheme, after.host) == ("http", "https", before.host)
    raise DialError(
        DialFailure.REDIRECTED if upgraded else DialFailure.NO_OFFLOAD,
        str(before.origin()),
        "sent on to another address",
        str(after.origin()) if upgraded else None,
    )


def _failure(code: str) -> DialFailure:
    return DialFailure(code) if code in DialFailure else DialFailure.MALFORMED
