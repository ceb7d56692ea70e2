"""PeerLink: the offloader's side of one pairing, connected whenever that can be."""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from enum import StrEnum
import logging
from pathlib import Path
import random
from typing import Final

import aiohttp

from ..clock import SystemTime, Time
from ..protocol.body import Sealer
from ..protocol.definitions import (
    WANTED_LIMIT,
    Capability,
    ErrorCode,
    ProtocolError,
)
from ..protocol.handshake import Session
from ..protocol.identity import Identity, PublicKey
from ..protocol.messages import (
    LINK_EVENTS,
    Acknowledge,
    AttemptEvent,
    BuildEvent,
    Cancel,
    Clean,
    Known,
    StatusEvent,
    Submit,
    SubscribeStatus,
    Unpair,
    UnpairedEvent,
    Wanted,
)
from ..protocol.negotiation import Offer
from ..protocol.parsing import parse, parse_one_of
from ..protocol.payloads import BodyHeader, FirmwarePart
from ..protocol.seal import Channel
from .connection import Connection
from .dial import (
    BackOff,
    GaveUpError,
    TokenTroubleError,
    connect,
)
from .errors import LinkLost, PeerRefused
from .follow_attempt import follow_attempt
from .http_client import PeerDoor

_LOGGER = logging.getLogger(__name__)

FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 60.0
"""Seconds between two tries to connect; each is twice the one before."""
STABLE: Final = 60.0
"""Seconds after which a connection counts as a good one, and the pauses begin anew."""
CANCEL_TIMEOUT: Final = 8.0
"""Everything is gone within 5 s there, and then it answers."""
SUBMIT_TIMEOUT: Final = 60.0
"""It looks at the disk for the bundle; a board that swaps may be slow at that."""
UPDATE_LOOK: Final = 3600.0
"""Seconds until a peer of another protocol is looked at again: somebody may have updated it."""


class LinkState(StrEnum):
    """Where a link stands. The last three stay until somebody does something."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    INCOMPATIBLE = "incompatible"
    REFUSED = "refused"
    """It does not know us, or is not whom we paired with: pair again."""
    STOPPED = "stopped"


class PeerLink:
    """One pairing. Use it on the event loop only.

    ``why`` says to people why it is not connected, ``code`` to machines where there is one;
    ``status`` is what the peer said last, also when that was long ago.
    """

    def __init__(
        self,
        *,
        url: str,
        identity: Identity,
        peer_key: PublicKey,
        label: str,
        offer: Offer,
        session: aiohttp.ClientSession,
        wanted: Callable[[], Iterable[str]],
        time: Time | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """Do nothing before ``start``.

        ``url`` has no slash at the end. ``wanted`` gives the attempts that are still of use:
        after each connect all others are ended there. ``jitter`` gives numbers from 0 to 1.
        Raises ProtocolError SAME_IDENTITY.
        """
        self.channel = Channel(identity, peer_key)
        self.pin_sha256 = peer_key.pin_sha256
        self.label = label
        self.state = LinkState.STOPPED
        self.why: str | None = "not started"
        self.code: ErrorCode | None = None
        self.status: StatusEvent | None = None
        self._url = url
        self._offer = offer
        self._http = session
        self._wanted = wanted
        self._time = time or SystemTime()
        self._door = PeerDoor(session, self.channel, lambda: self._url)
        self._listeners: list[Callable[[], None]] = []
        self._woken = asyncio.Event()
        self._back_off = BackOff(FIRST_PAUSE, LONGEST_PAUSE, jitter)
        self._connection: Connection | None = None
        self._session: Session | None = None
        self._task: asyncio.Task[None] | None = None
        self._errands: set[asyncio.Task[None]] = set()

    # What it is.

    @property
    def url(self) -> str:
        """Where the peer is."""
        return self._url

    @property
    def connected(self) -> bool:
        """Whether commands can be sent."""
        return self.state is LinkState.CONNECTED

    @property
    def given_up(self) -> bool:
        """Whether it will not connect by itself."""
        return self.state not in {LinkState.CONNECTING, LinkState.CONNECTED}

    @property
    def session(self) -> Session | None:
        """What was agreed on for the present connection."""
        return self._session

    def has(self, capability: Capability) -> bool:
        """Whether both sides have a capability."""
        return self._session is not None and self._session.agreement.has(capability)

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call ``listener`` when state, reason or status changed; returns unsubscribe."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    # Its life.

    async def start(self) -> None:
        """Begin to connect, and stay connected until ``stop``."""
        if self._task is None:
            self._become(LinkState.CONNECTING, "not connected yet")
            self._task = asyncio.create_task(
                self._run(), name=f"esphome_offload link {self.pin_sha256[:8]}"
            )

    async def stop(self) -> None:
        """Disconnect; returns when nothing runs any more."""
        tasks = [*self._errands, *([self._task] if self._task is not None else [])]
        self._task = None
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._become(LinkState.STOPPED, "stopped")

    def wake(self) -> None:
        """Connect now instead of later: somebody has just seen the peer."""
        if self.state in {LinkState.CONNECTING, LinkState.INCOMPATIBLE}:
            self._woken.set()

    def set_url(self, url: str) -> None:
        """Use another address from now on; a refusal at the old one says nothing about it."""
        if url == self._url:
            return
        self._url = url
        self._woken.set()
        if self._connection is not None:
            self._connection.abort("the address was changed")

    async def wait_connected(self, seconds: float) -> None:
        """Return when commands can be sent; raises LinkLost when that does not come to be."""
        changed = asyncio.Event()
        unsubscribe = self.subscribe(changed.set)
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                while not self.connected:
                    if self.given_up:
                        raise LinkLost(self.why or "not connected")
                    changed.clear()
                    await changed.wait()
        except TimeoutError as err:
            raise LinkLost(self.why or "not connected") from err
        finally:
            unsubscribe()

    # What it is told to do. All raise LinkLost, and PeerRefused unless said otherwise.

    async def submit(self, attempt_id: str, sha256: str, header: bytes | None = None) -> None:
        """Have an attempt built whose bundle was sent, or is there already (``header``)."""
        await self._call(Submit(attempt_id, sha256, header), SUBMIT_TIMEOUT)

    async def send_bundle(self, attempt_id: str, sealer: Sealer) -> None:
        """Send a bundle; raises also what reading it raises."""
        await self._door.put_bundle(attempt_id, sealer)

    async def follow(
        self, attempt_id: str, from_line: int, on_event: Callable[[BuildEvent], None]
    ) -> AttemptEvent:
        """Hand on the events of an attempt until it has ended, and return its end.

        Raises also ProtocolError for an event that makes no sense.
        """
        return await follow_attempt(self._connected(), attempt_id, from_line, on_event)

    async def cancel(self, attempt_id: str) -> None:
        """End an attempt; returns when no process of it is left there."""
        try:
            await self._call(Cancel(attempt_id), CANCEL_TIMEOUT)
        except PeerRefused as err:
            if err.code is not ErrorCode.UNKNOWN_ATTEMPT:
                raise

    async def fetch(
        self,
        attempt_id: str,
        part: FirmwarePart,
        target: Path,
        accept: Callable[[BodyHeader], None],
    ) -> BodyHeader:
        """Write a part of the firmware to ``target``; see PeerDoor."""
        return await self._door.fetch(attempt_id, part, target, accept)

    def acknowledge(self, attempt_id: str) -> None:
        """Say soon that the result is kept here; should that fail, the next connect says so."""
        task = asyncio.create_task(self._acknowledge(attempt_id))
        self._errands.add(task)
        task.add_done_callback(self._errands.discard)

    async def clean(self, configuration: str) -> None:
        """Have the build tree of a configuration forgotten."""
        await self._call(Clean(configuration))

    async def unpair(self) -> None:
        """Have this guest forgotten there."""
        connection, session = self._connected(), self._session
        assert session is not None  # noqa: S101 - set together with the connection
        await connection.call(Unpair(session.unpair_proof))

    async def _call(self, command: object, timeout: float | None = None) -> object:
        connection = self._connected()
        return await (
            connection.call(command) if timeout is None else connection.call(command, timeout)
        )

    async def _acknowledge(self, attempt_id: str) -> None:
        with suppress(LinkLost, PeerRefused):
            await self._call(Acknowledge(attempt_id))

    def _connected(self) -> Connection:
        if self._connection is None or not self.connected:
            raise LinkLost(self.why or "not connected")
        return self._connection

    # How it comes to be connected.

    async def _run(self) -> None:
        while True:
            pause: float | None
            try:
                pause = await self._connect_and_stay()
            except GaveUpError as err:
                incompatible = err.code in {ErrorCode.TOO_OLD, ErrorCode.TOO_NEW}
                state = LinkState.INCOMPATIBLE if incompatible else LinkState.REFUSED
                _LOGGER.warning("%s: %s", self.label, err)
                # A wake-up of before is no news.
                self._woken.clear()
                self._become(state, str(err), err.code)
                pause = UPDATE_LOOK if incompatible else None
            await self._pause(pause)
            if not self.connected:
                self._become(LinkState.CONNECTING, self.why or "not connected", self.code)

    async def _connect_and_stay(self) -> float:
        """Return after how many seconds to try again, once the connection is lost."""
        try:
            connection, session = await connect(
                self._http,
                self._door,
                self._url,
                channel=self.channel,
                offer=self._offer,
                label=self.label,
            )
        except LinkLost as err:
            pause = LONGEST_PAUSE if isinstance(err, TokenTroubleError) else self._back_off.next()
            _LOGGER.debug("%s: %s; next try in %.1f s", self.label, err, pause)
            self._become(LinkState.CONNECTING, str(err), err.code)
            return pause
        since = self._time.now()
        try:
            await self._stay(connection, session)
        except LinkLost as err:
            if (self._time.now() - since).total_seconds() >= STABLE:
                self._back_off.reset()
            self._become(LinkState.CONNECTING, str(err), err.code)
        except PeerRefused as err:
            self._become(LinkState.CONNECTING, f"it refused: {err.detail}", err.code)
        finally:
            self._connection = self._session = None
            await connection.close()
        return self._back_off.next()

    async def _stay(self, connection: Connection, session: Session) -> None:
        """Be connected until that ends; raises LinkLost, PeerRefused or GaveUpError."""
        unpaired: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def listen(raw: object) -> None:
            try:
                event = parse_one_of(LINK_EVENTS, raw)
            except ProtocolError as err:
                _LOGGER.warning("%s said something that makes no sense: %s", self.label, err)
                return
            if isinstance(event, StatusEvent):
                self.status = event
                self._notify()
            elif isinstance(event, UnpairedEvent) and not unpaired.done():
                if session.is_unpair_proof(event.proof):
                    unpaired.set_result(None)
                else:
                    _LOGGER.warning("Somebody else ends the pairing with %s: ignored", self.label)

        wanted = tuple(self._wanted())[-WANTED_LIMIT:]
        known, _ = await asyncio.gather(
            connection.call(Wanted(wanted)), connection.subscribe(SubscribeStatus(), listen)
        )
        _LOGGER.debug("%s has %d of our builds", self.label, len(_parse_known(known)))
        self._connection, self._session = connection, session
        self._woken.clear()
        self._become(LinkState.CONNECTED, None)
        await asyncio.wait({connection.lost, unpaired}, return_when=asyncio.FIRST_COMPLETED)
        if unpaired.done():
            raise GaveUpError(ErrorCode.UNKNOWN_GUEST, "its owner ended the pairing; pair again")
        await connection.lost

    async def _pause(self, seconds: float | None) -> None:
        """Wait so long, or until woken."""
        cancel = None if seconds is None else self._time.call_later(seconds, self._woken.set)
        try:
            await self._woken.wait()
        finally:
            if cancel is not None:
                cancel()
            self._woken.clear()

    def _become(self, state: LinkState, why: str | None, code: ErrorCode | None = None) -> None:
        changed = (state, why, code) != (self.state, self.why, self.code)
        self.state, self.why, self.code = state, why, code
        if changed:
            self._notify()

    def _notify(self) -> None:
        for listener in tuple(self._listeners):
            listener()


def _parse_known(raw: object) -> tuple[AttemptEvent, ...]:
    try:
        return parse(Known, raw).attempts
    except ProtocolError as err:
        raise LinkLost(f"it says something that makes no sense: {err.detail}", err.code) from err
