"""BuildHost: the builder's side of all pairings; what guests ask for ends up here."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from contextlib import asynccontextmanager
import logging
from typing import Final

from ..build.cache.layout import CacheLayout, configuration_key
from ..build.model import BuildError
from ..build.slots import Slots
from ..clock import SystemTime, Time
from ..job_log import JobLogs
from ..protocol.body import Sealer
from ..protocol.errors import ErrorCode, ProtocolError
from ..protocol.identity import Identity
from ..protocol.messages import (
    Acknowledge,
    Attach,
    AttemptState,
    BuildEvent,
    Cancel,
    Clean,
    Known,
    StatusEvent,
    Submit,
    Wanted,
)
from ..protocol.payloads import BuildParameters, FirmwarePart
from ..protocol.seal import Channel
from .admission import Admission, Caller, Lending
from .attempt import AttemptKey, GuestAttempt, Submission
from .attempt_store import AttemptStore
from .disk_quota import TOOLS, GuestDiskQuota
from .event_stream import follow
from .firmware_parts import seal_firmware
from .guests import Guest, GuestRegistry
from .inbox import Inbox, open_parameters
from .ports import MakeGuestBuildServices, StateStore
from .runner import GuestBuildRunner
from .status import status_event, why_no_build
from .workspace import GuestWorkspace, GuestWorkspaces

_LOGGER = logging.getLogger(__name__)

ACTIVE: Final = 64
"""Attempts of one guest that may wait and run; each may hold a bundle of 128 MiB."""

# Measuring stops at once. What is being deleted, perhaps a hundred thousand files, is in the folder
# that is emptied at the next start.
_TIDY_TIMEOUT: Final = 2.0


class BuildHost:
    """Builds for guests while this machine is lent. Use it on the event loop only.

    Whatever a guest asks for says who asks, and is refused with a ProtocolError: UNKNOWN_GUEST,
    NOT_PROVEN, NOT_LENDING and, about an attempt that is not the guest's, UNKNOWN_ATTEMPT.
    """

    def __init__(
        self,
        *,
        identity: Identity,
        guests: GuestRegistry,
        store: StateStore,
        layout: CacheLayout,
        slots: Slots,
        make_build_services: MakeGuestBuildServices,
        time: Time | None = None,
    ) -> None:
        """Do nothing before ``start``. ``layout`` and ``slots`` are this instance's."""
        time = time or SystemTime()
        self.guests = guests
        self.slots = slots
        self._identity = identity
        self._time = time
        self._logs = JobLogs(layout.guest_logs, time)
        self._book = AttemptStore(store, self._logs, time)
        self._inbox = Inbox(layout.inbox, time)
        self._rooms = GuestWorkspaces(layout, make_build_services)
        self._disk = GuestDiskQuota(layout, time, self._hold, lambda: self._inbox.size)
        self._builds = GuestBuildRunner(self._book, self._rooms, slots, time, self._ended)
        self._admission = Admission(guests, self._book)
        self._submitting: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._listeners: list[Callable[[], None]] = []
        self._tidying: asyncio.Task[None] | None = None
        self._room_wanted = False
        self._unsubscribes: list[Callable[[], None]] = []

    # Its owner's side.

    @property
    def lending(self) -> Lending:
        """Whether this machine is lent."""
        return self._admission.lending

    @property
    def disk_used(self) -> int:
        """Bytes that guests' trees, firmware and tools took when last measured."""
        return self._disk.used

    async def start(self) -> None:
        """Take up what an earlier run left. Its processes must have been ended before."""
        await self._inbox.empty()
        await self._rooms.tidy()
        await self._book.load()
        self._builds.take_up()
        self._unsubscribes = [
            self.slots.subscribe(self._notify),
            self.guests.subscribe(self._notify),
        ]

    async def stop(self) -> None:
        """End all processes and return when everything is on disk."""
        while self._unsubscribes:
            self._unsubscribes.pop()()
        self._admission.lending = Lending.OFF
        await self._builds.stop()
        if self._tidying is not None:
            self._tidying.cancel()
            await asyncio.wait([self._tidying], timeout=_TIDY_TIMEOUT)
        await self._inbox.close()
        await self._logs.aclose()
        await self._book.close()

    async def lend(self, lending: Lending) -> None:
        """Switch; off ends what runs for guests, and returns when it has ended."""
        self._admission.lending = lending
        self._notify()
        if lending is Lending.OFF:
            await self._builds.cancel(self.active(), "The builder is not lent any more")

    def limit_disk(self, limit: int | None) -> None:
        """Set how many bytes all guests get together; makes room soon."""
        self._disk.limit = limit
        self._make_room()

    def active(self) -> tuple[GuestAttempt, ...]:
        """Return the attempts that wait or run, oldest first."""
        return tuple(each for each in self._book.all() if each.result is None)

    async def remove_guest(self, pin_sha256: str) -> Guest | None:
        """Unpair: end its builds, delete what was built for it; returns the former guest."""
        guest = await self.guests.remove(pin_sha256)
        await self._builds.cancel(self._book.of(pin_sha256), "The pairing was ended")
        for attempt in self._book.of(pin_sha256):
            self._builds.forget(attempt)
        self._book.forget_guest(pin_sha256)
        self._inbox.drop_guest(pin_sha256)
        await self._rooms.remove(pin_sha256)
        return guest

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call ``listener`` when lending, slots, builds or guests changed; returns unsubscribe."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    # The guests' side.

    async def receive(self, caller: Caller, attempt_id: str, pieces: AsyncIterable[bytes]) -> None:
        """Take the sealed bundle of an attempt that is submitted next.

        Raises also ProtocolError ATTEMPT_CONFLICT, ATTEMPT_OVER, BUSY, NO_SPACE, TOO_LARGE,
        TAMPERED, MALFORMED, STALLED, and what ``pieces`` raises.
        """
        guest = self._admission.guest(caller, sealed=True)
        key = AttemptKey(guest.pin_sha256, attempt_id)
        if self._book.find(key) is not None:
            raise ProtocolError(ErrorCode.ATTEMPT_CONFLICT, "this attempt is submitted already")
        self._book.check_new(key)
        self._may_begin(guest)
        self._disk.check_waiting()
        await self._inbox.receive(self._channel(guest), key, pieces)
        try:
            # It may have taken a while.
            self._admission.guest(caller, sealed=True)
        except ProtocolError:
            self._inbox.drop(key)
            raise

    async def submit(self, caller: Caller, command: Submit) -> None:
        """Build what a bundle's sealed header says; a second time it changes nothing.

        Raises also ProtocolError BUNDLE_NEEDED, ATTEMPT_CONFLICT, ATTEMPT_OVER, BUSY, NO_SPACE,
        TAMPERED, MALFORMED.
        """
        guest = self._admission.guest(caller)
        key = AttemptKey(guest.pin_sha256, command.attempt_id)
        async with self._submitting[guest.pin_sha256]:
            known = self._book.find(key)
            if known is not None:
                if known.order.sha256 != command.sha256:
                    raise _conflict()
                return
            self._book.check_new(key)
            self._may_begin(guest)
            parameters = await self._parameters(guest, key, command)
            # Looking for the bundle took a while.
            self._admission.guest(caller)
            received = self._inbox.find(key)
            self._inbox.submitted(key)
            order = Submission(key, command.sha256, parameters, self._time.now())
            try:
                await self._builds.start(order, received.path if received else None)
            except OSError as err:
                raise ProtocolError(ErrorCode.NO_SPACE, f"cannot be noted: {err}") from err
        self._notify()

    def attach(self, caller: Caller, command: Attach) -> AsyncGenerator[BuildEvent]:
        """Return what there is to tell of an attempt, and will be; close it when it is left."""
        _, attempt = self._admission.attempt(caller, command.attempt_id)
        return follow(attempt, self._logs, command.from_line)

    async def cancel(self, caller: Caller, command: Cancel) -> None:
        """End an attempt; returns when no process of it is left."""
        _, attempt = self._admission.attempt(caller, command.attempt_id)
        await self._builds.cancel([attempt], "Cancelled")

    async def wanted(self, caller: Caller, command: Wanted) -> Known:
        """End and forget all other attempts of the guest; returns those that are there."""
        guest = self._admission.guest(caller)
        attempts = self._book.of(guest.pin_sha256)
        wanted = [each for each in attempts if each.key.attempt_id in command.attempt_ids]
        unwanted = [each for each in attempts if each not in wanted]
        await self._builds.cancel(unwanted, "Nobody wants it any more")
        for attempt in unwanted:
            self._builds.forget(attempt)
        return Known(tuple(each.event() for each in wanted))

    async def acknowledge(self, caller: Caller, command: Acknowledge) -> None:
        """Forget an attempt, whose result the guest has."""
        _, attempt = self._admission.attempt(caller, command.attempt_id)
        await self._builds.cancel([attempt], "Nobody wants it any more")
        self._builds.forget(attempt)

    async def clean(self, caller: Caller, command: Clean) -> None:
        """Forget a build tree; raises also ProtocolError BUSY while it is used."""
        guest = self._admission.guest(caller)
        room = await self._rooms.open(guest.pin_sha256)
        if room.device(command.configuration).locked():
            raise ProtocolError(ErrorCode.BUSY, "this configuration is being built")
        try:
            await room.clean(command.configuration)
        except (BuildError, OSError) as err:
            raise ProtocolError(ErrorCode.BUSY, f"the tree cannot be removed: {err}") from err
        self._disk.invalidate(room.layout.root.name, configuration_key(command.configuration))

    async def firmware(self, caller: Caller, attempt_id: str, part: FirmwarePart) -> Sealer:
        """Return a file of an attempt's firmware, to be sent sealed to its guest.

        Raises also ProtocolError FIRMWARE_NOT_READY, TOO_LARGE.
        """
        guest, attempt = self._admission.attempt(caller, attempt_id, sealed=True)
        room = await self._rooms.open(guest.pin_sha256)
        return await seal_firmware(self._channel(guest), attempt, part, room.firmware)

    async def status(self, caller: Caller) -> AsyncGenerator[StatusEvent]:
        """Give what this machine can do for the guest, now and at each change.

        Only the newest is kept for a listener that is slow. Ends by raising ProtocolError when
        the guest is one no more.
        """
        guest = self._admission.guest(caller)
        room = await self._rooms.open(guest.pin_sha256)
        changed = asyncio.Event()
        unsubscribes = (self.subscribe(changed.set), room.builder.subscribe(changed.set))
        told: StatusEvent | None = None
        try:
            while True:
                changed.clear()
                # Told also when lending ends: only then the guest knows why.
                status = self._status(room)
                if status != told:
                    told = status
                    yield status
                await changed.wait()
                if self.guests.get(guest.pin_sha256) is None:
                    raise ProtocolError(ErrorCode.UNKNOWN_GUEST, "this guest was removed")
        finally:
            for unsubscribe in unsubscribes:
                unsubscribe()

    # Between them.

    def _status(self, room: GuestWorkspace) -> StatusEvent:
        builder = room.builder.status()
        why_not = self._admission.why_not_lent() or why_no_build(builder)
        return status_event(builder, why_not, self.slots)

    def _may_begin(self, guest: Guest) -> None:
        """Raise ProtocolError NOT_LENDING or BUSY unless a new build of a guest may begin."""
        why_not = self._admission.why_not_lent()
        room = self._rooms.get(guest.pin_sha256)
        if why_not is None and room is not None:
            why_not = why_no_build(room.builder.status())
        if why_not is not None:
            raise ProtocolError(ErrorCode.NOT_LENDING, why_not)
        active = [each for each in self.active() if each.key.pin_sha256 == guest.pin_sha256]
        if len(active) >= ACTIVE:
            raise ProtocolError(ErrorCode.BUSY, f"{len(active)} builds of this guest wait already")

    async def _parameters(self, guest: Guest, key: AttemptKey, command: Submit) -> BuildParameters:
        received = self._inbox.find(key)
        if received is not None:
            if received.sha256 != command.sha256:
                raise _conflict()
            return received.parameters
        if command.header is not None:
            sha256, parameters = open_parameters(self._channel(guest), key, command.header)
            if sha256 != command.sha256:
                raise _conflict()
            room = await self._rooms.open(guest.pin_sha256)
            if await room.has(parameters.configuration, sha256):
                return parameters
        raise ProtocolError(ErrorCode.BUNDLE_NEEDED, "this bundle is not here")

    def _channel(self, guest: Guest) -> Channel:
        return Channel(self._identity, guest.public_key)

    def _ended(self, attempt: GuestAttempt) -> None:
        self._inbox.drop(attempt.key)
        if attempt.state is AttemptState.COMPLETED:
            self.guests.built(attempt.key.pin_sha256)
        room = self._rooms.get(attempt.key.pin_sha256)
        if room is not None:
            key = configuration_key(attempt.order.parameters.configuration)
            self._disk.invalidate(room.layout.root.name, key)
            self._make_room()
        self._notify()

    def _make_room(self) -> None:
        """Keep to the limit soon."""
        self._room_wanted = True
        if self._tidying is None or self._tidying.done():
            self._tidying = asyncio.create_task(self._keep_to_limit())

    async def _keep_to_limit(self) -> None:
        while self._room_wanted:
            self._room_wanted = False
            try:
                await self._disk.make_room()
            except OSError as err:
                _LOGGER.warning("Room for guests' builds cannot be made: %s", err)

    @asynccontextmanager
    async def _hold(self, folder: str, key: str) -> AsyncIterator[bool]:
        """Keep a device's files from being used, unless they are: until then it gives False.

        The files of an attempt are in use until its guest has the result.
        """
        room = self._rooms.named(folder)
        attempts = [each for each in self._book.all() if each.key.pin_sha256[:32] == folder]
        if key == TOOLS:
            yield not any(each.result is None for each in attempts)
            return
        needed = {configuration_key(each.order.parameters.configuration) for each in attempts}
        if key in needed or (room is not None and room.lock(key).locked()):
            yield False
        elif room is None:
            yield True
        else:
            async with room.lock(key):
                yield True

    def _notify(self) -> None:
        for listener in tuple(self._listeners):
            listener()


def _conflict() -> ProtocolError:
    return ProtocolError(ErrorCode.ATTEMPT_CONFLICT, "this attempt has another bundle")
