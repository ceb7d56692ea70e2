"""PeerLink: the offloader's end of one pairing, connected whenever that is possible."""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from enum import StrEnum
import logging
from pathlib import Path
import random
from typing import Final, Never

import aiohttp

from ..clock import SystemTime, Time, timeout
from ..listeners import Listeners
from ..protocol.bodies import IncomingFile
from ..protocol.calls import CommandRefused
from ..protocol.channel import ChannelClosed
from ..protocol.errors import ErrorCode, ProtocolError
from ..protocol.hello import Introduction, Opened, Refused, open_link
from ..protocol.identity import PublicKey
from ..protocol.limits import WANTED_LIMIT
from ..protocol.messages import (
    LINK_EVENTS,
    Acknowledge,
    AttemptEvent,
    BuildEvent,
    Cancel,
    Clean,
    Fetch,
    FetchImage,
    SendBundle,
    StatusEvent,
    Submit,
    SubscribeStatus,
    Unpair,
    UnpairedEvent,
    Wanted,
)
from ..protocol.negotiation import Agreement
from ..protocol.parsing import parse_one_of
from ..protocol.session import COMMAND_TIMEOUT, Session
from ..reason import Reason, ReasonKey
from ..tasks import BackgroundTasks
from .back_off import BackOff
from .dial import Caller, DialError, dial
from .follow_attempt import follow_attempt
from .link_failure import PairAgain, judge

_LOGGER = logging.getLogger(__name__)

FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 60.0
"""Seconds between two tries to connect; each is twice the one before."""
STABLE: Final = 60.0
"""Seconds after which a connection counts as a good one, and the pauses start again."""
REFUSALS: Final = 3
"""Refusals in a row that are believed: each could come from anybody in between."""
CANCEL_TIMEOUT: Final = 8.0
"""All processes have ended within 5 s there, and then it answers."""
SUBMIT_TIMEOUT: Final = 60.0
"""It looks at the disk for the bundle; a board that swaps may be slow at that."""
_BUNDLES_AT_ONCE: Final = 2
"""More at once would only share the line."""


class LinkState(StrEnum):
    """The state of a link. REFUSED and INCOMPATIBLE end by themselves when it connects."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    INCOMPATIBLE = "incompatible"
    REFUSED = "refused"
    """It does not know this instance, or is not the one that was paired with: pair again."""
    STOPPED = "stopped"


class PeerLink:
    """The link of one pairing. Use it on the event loop only.

    ``url`` is where the peer is; ``set_url`` changes it.
    ``why`` is why it is not connected, None before the first try has ended; ``code`` is what the
    builder gave as the reason, if it did. ``status`` is the last one, also when that was long ago,
    ``agreement`` what both ends speak while connected, ``introduction`` what the peer last said of
    itself. Commands raise ChannelClosed, and
    CommandRefused unless said otherwise.
    """

    def __init__(
        self,
        *,
        url: str,
        caller: Caller,
        peer_key: PublicKey,
        label: str,
        session: aiohttp.ClientSession,
        wanted: Callable[[], Iterable[str]],
        time: Time | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """``url`` has no slash at the end.

        ``wanted`` gives the attempts that are still of use: after each connect all others are
        ended there. ``jitter`` gives numbers from 0 to 1. Raises ProtocolError SAME_IDENTITY.
        """
        if peer_key == caller.identity.public:
            raise ProtocolError(ErrorCode.SAME_IDENTITY, "the peer has our identity")
        self.pin_sha256 = peer_key.pin_sha256
        self.label = label
        self.state = LinkState.STOPPED
        self.why: Reason | None = None
        self.code: ErrorCode | None = None
        self.status: StatusEvent | None = None
        self.agreement: Agreement | None = None
        self.introduction: Introduction | None = None
        self.url = url
        self._caller = caller
        self._peer_key = peer_key
        self._http = session
        self._wanted = wanted
        self._time = time or SystemTime()
        self._listeners = Listeners[[]]()
        self._woken = asyncio.Event()
        self._back_off = BackOff(FIRST_PAUSE, LONGEST_PAUSE, jitter)
        self._refusals = 0
        self._session: Session | None = None
        self._sending = asyncio.Semaphore(_BUNDLES_AT_ONCE)
        self._tasks = BackgroundTasks()

    # State.

    @property
    def connected(self) -> bool:
        """Whether commands can be sent."""
        return self.state is LinkState.CONNECTED

    @property
    def given_up(self) -> bool:
        """Whether it is not worth waiting for."""
        return self.state not in (LinkState.CONNECTING, LinkState.CONNECTED)

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call ``listener`` when state, reason or status changed; returns unsubscribe."""
        return self._listeners.subscribe(listener)

    # Start, stop and address.

    async def start(self) -> None:
        """Connect, and stay connected until ``stop``."""
        if self.state is LinkState.STOPPED:
            self._set_state(LinkState.CONNECTING, None)
            self._tasks.start(self._run(), f"esphome_offload link {self.pin_sha256[:8]}")

    async def stop(self) -> None:
        """Disconnect; returns when nothing runs any more."""
        await self._tasks.cancel()
        self._set_state(LinkState.STOPPED, Reason(ReasonKey.PEER_NOT_CONNECTED))

    def wake(self) -> None:
        """Try to connect now instead of later: the peer has just announced itself."""
        if not self.connected:
            self._woken.set()

    def set_url(self, url: str) -> None:
        """Use another address from now on; refusals at the old one do not count for it."""
        if url == self.url:
            return
        self.url = url
        self._refusals = 0
        self._woken.set()
        if self._session is not None:
            self._tasks.start(self._session.close(), "esphome_offload link close")
        elif self.state is not LinkState.STOPPED:
            self._set_state(LinkState.CONNECTING, Reason(ReasonKey.PEER_NOT_CONNECTED))

    async def wait_connected(self, seconds: float) -> None:
        """Return when commands can be sent; raises ChannelClosed when that does not come to be."""
        changed = asyncio.Event()
        unsubscribe = self.subscribe(changed.set)
        try:
            async with timeout(self._time, max(0.0, seconds)):
                while not self.connected:
                    if self.given_up:
                        raise self._not_connected()
                    changed.clear()
                    await changed.wait()
        except TimeoutError as err:
            raise self._not_connected() from err
        finally:
            unsubscribe()

    # Commands.

    async def submit(self, command: Submit) -> None:
        """Submit an attempt."""
        await self._call(command, SUBMIT_TIMEOUT)

    async def send_bundle(self, command: SendBundle, path: Path) -> None:
        """Send a bundle; raises also ProtocolError and OSError when it cannot be read."""
        async with self._sending:
            await self._connected().send_file(command, path, command.size)

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
        except CommandRefused as err:
            if err.code is not ErrorCode.UNKNOWN_ATTEMPT:
                raise

    async def fetch(
        self, command: Fetch | FetchImage, accept: Callable[[object], IncomingFile]
    ) -> None:
        """Write a file of a firmware; see ``Session.fetch_file``."""
        await self._connected().fetch_file(command, accept)

    def acknowledge(self, attempt_id: str) -> None:
        """Send soon that the result is kept here; should that fail, the next connect does it."""

        async def acknowledge() -> None:
            with suppress(ChannelClosed, CommandRefused):
                await self._call(Acknowledge(attempt_id))

        self._tasks.start(acknowledge(), "esphome_offload acknowledge")

    async def clean(self, configuration: str, *, tools: bool = False) -> None:
        """Delete the build tree of a configuration there, and ``tools``."""
        await self._call(Clean(configuration, tools))

    async def unpair(self) -> None:
        """End the pairing there."""
        await self._call(Unpair())

    async def _call(self, command: object, timeout: float = COMMAND_TIMEOUT) -> None:
        await self._connected().call(command, timeout=timeout)

    def _connected(self) -> Session:
        if self._session is None:
            raise self._not_connected()
        return self._session

    def _not_connected(self) -> ChannelClosed:
        return ChannelClosed(str(self.why or Reason(ReasonKey.PEER_NOT_CONNECTED)))

    # Connecting.

    async def _run(self) -> None:
        while True:
            try:
                await self._connect_and_stay()
            except (
                DialError,
                Refused,
                ProtocolError,
                ChannelClosed,
                CommandRefused,
                PairAgain,
            ) as err:
                pause = self._note_failure(err)
            await self._pause(pause)

    async def _connect_and_stay(self) -> Never:
        async with dial(self._http, self.url, self._caller) as answered:
            if (pin := answered.hello.pin_sha256) == self._caller.identity.pin_sha256:
                raise PairAgain(ReasonKey.PEER_COPIED)
            if pin != self.pin_sha256:
                raise PairAgain(ReasonKey.PEER_REPLACED)
            await self._stay(await open_link(answered.opening, self._peer_key))

    async def _stay(self, opened: Opened) -> Never:
        """Stay connected until the link is lost; raises the cause."""
        session = Session(opened.channel, time=self._time)
        loop = asyncio.get_running_loop()
        tasks = (loop.create_task(session.run()), loop.create_task(session.keep_alive()))
        unpaired = False

        def listen(raw: object) -> None:
            nonlocal unpaired
            try:
                event = parse_one_of(LINK_EVENTS, raw)
            except ProtocolError as err:
                _LOGGER.debug("%s sent an event that makes no sense: %s", self.label, err)
                return
            if isinstance(event, StatusEvent):
                self.status = event
                self._listeners.notify()
            elif isinstance(event, UnpairedEvent):
                unpaired = True
                session.lose("unpaired")

        since = self._time.monotonic()
        try:
            await session.call(Wanted(tuple(self._wanted())[-WANTED_LIMIT:]))
            await session.subscribe(SubscribeStatus(), listen)
            self._session, self.agreement = session, opened.agreement
            self.introduction = opened.introduction
            self._refusals = 0
            self._woken.clear()
            self._set_state(LinkState.CONNECTED, None)
            why = await session.wait_lost()
        finally:
            self._session = self.agreement = None
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if self._time.monotonic() - since >= STABLE:
                self._back_off.reset()
        if unpaired:
            raise PairAgain(ReasonKey.PEER_UNPAIRED)
        raise ChannelClosed(why)

    def _note_failure(self, err: Exception) -> float:
        """Note why there is no connection; returns the seconds until the next try."""
        code, key = judge(err)
        self._refusals = self._refusals + 1 if code is ErrorCode.UNKNOWN_GUEST else 0
        if key is ReasonKey.PEER_UNPAIRED:
            # It came over the channel, so it is the builder's own word.
            self._refusals = REFUSALS
        if code in (ErrorCode.TOO_OLD, ErrorCode.TOO_NEW):
            # Anybody could have said so: it is not believed for longer than the rest.
            state, pause = LinkState.INCOMPATIBLE, LONGEST_PAUSE
        elif self._refusals >= REFUSALS:
            state, pause = LinkState.REFUSED, LONGEST_PAUSE
        elif self.state is LinkState.REFUSED:
            # It stays refused until it connects: what failed now may be the network.
            return LONGEST_PAUSE
        else:
            state, pause = LinkState.CONNECTING, self._back_off.next()
        _LOGGER.debug("%s: %s (%s); next try in %.1f s", self.label, key, err, pause)
        if self.state is not state is not LinkState.CONNECTING:
            _LOGGER.warning("%s: %s", self.label, key.text)
        self._set_state(state, Reason(key), code)
        return pause

    async def _pause(self, seconds: float) -> None:
        """Wait so long, or until woken."""
        cancel = self._time.call_later(seconds, self._woken.set)
        try:
            await self._woken.wait()
        finally:
            cancel()
            self._woken.clear()

    def _set_state(
        self, state: LinkState, why: Reason | None, code: ErrorCode | None = None
    ) -> None:
        changed = (state, why, code) != (self.state, self.why, self.code)
        self.state, self.why, self.code = state, why, code
        if changed:
            self._listeners.notify()
