"""LinkServer: the builder's end of the link, for any aiohttp application.

Strangers cost little: their number is limited, what is computed for them takes turns, and nothing
is logged or stored for them.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
import logging
from typing import Final

from aiohttp import web

from ..clock import SystemTime, Time
from ..codec import Json, encode
from ..protocol.channel import FRAME_LIMIT, ChannelClosed, Piece, close
from ..protocol.errors import ErrorCode, ProtocolError
from ..protocol.hello import (
    Hello,
    Introduction,
    Opened,
    Opening,
    Program,
    Purpose,
    Refused,
    answer_link,
    receive_handshake,
    refuse,
    send_plain,
)
from ..protocol.identity import Identity, PublicKey
from ..protocol.limits import HANDSHAKE_TIMEOUT
from ..protocol.negotiation import Offer
from ..protocol.pairing import Paired, answer_pairing
from ..protocol.session import SILENCE, Session
from ..tasks import BackgroundTasks
from ..text import one_line
from .build_host import BuildHost
from .commands import GuestCommands
from .guest_sessions import GuestSession, GuestSessions
from .lending import Lending
from .one_time_secret import OneTimeSecret
from .pairing_window import PairingWindow
from .strangers import Stranger, Strangers, Turns

_LOGGER = logging.getLogger(__name__)

_CLOSE_TIMEOUT: Final = 2.0
"""Seconds for the other end to agree that a websocket is closed."""


@dataclass(frozen=True, slots=True)
class Served:
    """The builder behind a server. ``label`` gives the name that other instances show for it.

    ``secret`` pairs one offloader without a code, once it was renewed.
    """

    identity: Identity
    offer: Offer
    label: Callable[[], str]
    host: BuildHost
    window: PairingWindow
    program: Program = Program.HOME_ASSISTANT
    secret: OneTimeSecret = field(default_factory=OneTimeSecret)


@dataclass(frozen=True, slots=True)
class _Established:
    """A link of a guest, and the first message on it."""

    served: Served
    opened: Opened
    first: Json | Piece


class LinkServer:
    """Serves guests and pairs offloaders while ``served`` is set and lent.

    ``newest_guest`` is the label of the offloader that was paired last.
    """

    def __init__(self, time: Time | None = None) -> None:
        self.served: Served | None = None
        self.sessions = GuestSessions()
        self.newest_guest: str | None = None
        self._time = time or SystemTime()
        self._strangers = Strangers()
        self._turns = Turns()
        self._tasks = BackgroundTasks()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve one websocket, for as long as it lasts."""
        socket = web.WebSocketResponse(
            compress=False, max_msg_size=FRAME_LIMIT, timeout=_CLOSE_TIMEOUT
        )
        if request.body_exists:
            # aiohttp would read it all after the answer, and log what cannot be decompressed.
            request.protocol.force_close()
            return web.Response(status=HTTPStatus.BAD_REQUEST)
        if not socket.can_prepare(request).ok:
            return web.Response(status=HTTPStatus.UPGRADE_REQUIRED)
        if (stranger := self._strangers.admit(request)) is None:
            await self._turns.wait()
            return web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE)
        established = None
        try:
            established = await self._open(request, socket, stranger)
        except ChannelClosed, OSError, TimeoutError:
            pass  # a stranger leaves no line in the log
        finally:
            self._strangers.leave(stranger)
        if established is not None:
            await self._serve(established)
        if not socket.prepared:
            return web.Response(status=HTTPStatus.SERVICE_UNAVAILABLE)
        await close(socket)
        return socket

    async def unpair(self, pin_sha256: str, *, notify: bool = True) -> None:
        """Remove a guest with its connections and all that was built for it.

        With ``notify`` it gets UnpairedEvent first.
        """
        if (served := self.served) is None:
            return
        # From then on nothing is answered any more.
        await served.host.guests.remove(pin_sha256)
        await self.sessions.close(pin_sha256, notify=notify)
        await served.host.remove_guest(pin_sha256)

    async def close(self) -> None:
        """End all connections."""
        self._strangers.close()
        await self.sessions.close_all()
        await self._tasks.wait()

    # Strangers.

    async def _open(
        self, request: web.Request, socket: web.WebSocketResponse, stranger: Stranger
    ) -> _Established | None:
        async with asyncio.timeout(HANDSHAKE_TIMEOUT) as limit:
            await self._turns.wait()
            if stranger.evicted:
                return None
            await socket.prepare(request)
            served = self.served
            if served is None or served.host.lending is Lending.OFF:
                await refuse(socket, ErrorCode.NOT_LENDING)
                return None
            opening = await self._say_hello(served, socket)
            stranger.waiting = True
            try:
                message = await receive_handshake(socket)
            except ProtocolError, Refused:
                message = b""
            stranger.waiting = False
            await self._turns.wait()
            purpose, content = message[:1], message[1:]
            if purpose in (Purpose.PAIR, Purpose.PAIR_BY_SECRET):
                limit.reschedule(None)  # it has a limit of its own
                await self._pair(served, opening, purpose, request.remote, content)
            elif purpose == Purpose.LINK:
                return await self._open_link(served, opening, content, stranger)
            else:
                await refuse(socket, ErrorCode.UNKNOWN_GUEST)
            return None

    async def _say_hello(self, served: Served, socket: web.WebSocketResponse) -> Opening:
        label = served.label()
        pairing = served.window.state is not None
        public = served.identity.public
        hello = Hello(served.offer, public.pin_sha256, label, pairing, public)
        said = await send_plain(socket, encode(hello))
        introduction = Introduction(served.offer, label, served.program)
        return Opening(socket, said, served.identity, introduction)

    async def _open_link(
        self, served: Served, opening: Opening, message: bytes, stranger: Stranger
    ) -> _Established | None:
        def is_guest(key: PublicKey) -> bool:
            return served.host.guests.may_connect(key.pin_sha256)

        try:
            opened = await answer_link(opening, message, is_guest)
        except ProtocolError as err:
            await refuse(opening.socket, err.code)
            return None
        stranger.waiting = True
        try:
            # Only this shows that the guest is there: all before may be a recording.
            first = await opened.channel.receive()
        except ProtocolError:
            return None
        return _Established(served, opened, first)

    async def _pair(
        self,
        served: Served,
        opening: Opening,
        purpose: bytes,
        address: str | None,
        share: bytes,
    ) -> None:
        by_secret = purpose == Purpose.PAIR_BY_SECRET
        window = served.secret.exchange() if by_secret else served.window

        async def store(paired: Paired) -> None:
            self.newest_guest = paired.label
            await served.host.guests.add(paired.public, paired.label, self._time.now())
            if by_secret:
                served.secret.used.notify(paired.public.pin_sha256)

        try:
            await answer_pairing(opening, address, share, window, store, purpose=purpose)
        except ProtocolError as err:
            await refuse(opening.socket, err.code, window.tries_left)

    # Guests.

    async def _serve(self, established: _Established) -> None:
        opened, host = established.opened, established.served.host
        pin_sha256, label = opened.peer.pin_sha256, opened.introduction.label
        is_guest = await host.guests.admit(opened.peer, label, self._time.now())
        if not is_guest or host.lending is Lending.OFF:
            await opened.channel.close()
            return

        def unpair() -> None:
            self._tasks.start(
                self.unpair(pin_sha256, notify=False), "esphome_offload unpair a guest"
            )

        commands = GuestCommands(host, pin_sha256, unpair)
        session = Session(opened.channel, commands.serve)
        try:
            with self.sessions.open(GuestSession(pin_sha256, session, commands)):
                host.guests.mark_connected(pin_sha256, label, self._time.now())
                _LOGGER.info("%s has connected", one_line(label, 64))
                why = await session.run(first=established.first, silence=SILENCE)
                _LOGGER.info("The connection of %s has ended: %s", one_line(label, 64), why)
        finally:
            host.guests.mark_disconnected(pin_sha256, self._time.now())
