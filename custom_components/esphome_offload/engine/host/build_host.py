"""BuildHost: builds for guests while this machine is lent."""

import asyncio
from collections.abc import AsyncGenerator, Callable
import logging
from typing import Final

from ..build.cache.layout import CacheLayout, configuration_key
from ..build.model import BuildError
from ..build.slots import Slots
from ..clock import SystemTime, Time
from ..job_log import JobLogs
from ..listeners import Listeners
from ..locks import Locks
from ..protocol.errors import ErrorCode, ProtocolError
from ..protocol.messages import (
    Acknowledge,
    Attach,
    AttemptState,
    BuildEvent,
    Cancel,
    Clean,
    Fetch,
    FetchImage,
    Known,
    SendBundle,
    StatusEvent,
    Submit,
    Wanted,
)
from ..reason import Reason, ReasonKey
from ..tasks import CoalescedTask
from .attempt import AttemptKey, GuestAttempt, Submission
from .attempt_store import AttemptStore
from .disk_quota import TOOLS, GuestDiskQuota
from .event_stream import follow
from .files_in_use import FilesInUse
from .firmware_file import FirmwareFile, open_firmware, open_image
from .guests import GuestRegistry
from .inbox import Inbox, Receive
from .lending import Lending
from .ports import MakeGuestBuildServices, StateStore
from .runner import GuestBuildRunner
from .status import status_event, why_no_build
from .workspace import GuestWorkspace, GuestWorkspaces

_LOGGER = logging.getLogger(__name__)

ACTIVE: Final = 64
"""Attempts of one guest that may wait and run; each may hold a bundle of 128 MiB."""

# Measuring and deleting stop at once. What is not deleted then, perhaps a hundred thousand files, is
# in the folder that is emptied at the next start.
_EVICTION_TIMEOUT: Final = 2.0


class BuildHost:
    """The builds of all guests. Use it on the event loop only.

    ``changed`` notifies when lending, slots, builds, guests or the disk that they use change,
    ``build_ended`` when a build has ended, however; ``logs`` has the output of each by its
    ``log_id``. What a guest asks for is
    refused with a ProtocolError: UNKNOWN_GUEST when it was removed meanwhile, NOT_LENDING and,
    about an attempt that is not the guest's, UNKNOWN_ATTEMPT.
    """

    def __init__(
        self,
        *,
        guests: GuestRegistry,
        store: StateStore,
        layout: CacheLayout,
        slots: Slots,
        make_build_services: MakeGuestBuildServices,
        time: Time | None = None,
    ) -> None:
        """``layout`` and ``slots`` are this instance's. Does nothing before ``start``."""
        time = time or SystemTime()
        self.changed = Listeners[[]]()
        self.build_ended = Listeners[[]]()
        self.guests = guests
        self.slots = slots
        self.lending = Lending.OFF
        self._time = time
        self.logs = JobLogs(layout.guest_logs, time)
        self._attempts = AttemptStore(store, self.logs, time)
        self._inbox = Inbox(layout.inbox, time)
        self._workspaces = GuestWorkspaces(layout, make_build_services)
        self._disk = GuestDiskQuota(
            layout,
            time,
            FilesInUse(self._attempts, self._workspaces).hold,
            lambda: self._inbox.size,
        )
        self._builds = GuestBuildRunner(
            self._attempts,
            self._workspaces,
            slots,
            time,
            on_changed=self.changed.notify,
            on_ended=self._attempt_ended,
        )
        self._submitting = Locks()
        self._eviction = CoalescedTask(self._make_room, "esphome_offload room for guests")
        self._unsubscribes: list[Callable[[], None]] = []

    # For its owner.

    @property
    def disk_used(self) -> int:
        """Bytes that guests' trees, firmware and tools took when last measured."""
        return self._disk.used

    async def start(self) -> None:
        """Load what an earlier run left. Its processes must have been ended before."""
        await self._inbox.empty()
        await self._workspaces.clean_up()
        await self._attempts.load()
        self._builds.resume()
        self._unsubscribes = [
            self.slots.subscribe(self.changed.notify),
            self.guests.changed.subscribe(self.changed.notify),
        ]

    async def stop(self) -> None:
        """End all processes and return when everything is on disk."""
        while self._unsubscribes:
            self._unsubscribes.pop()()
        self.lending = Lending.OFF
        await self._builds.stop()
        await self._eviction.stop(_EVICTION_TIMEOUT)
        await self._workspaces.stop()
        await self._inbox.close()
        await self.logs.aclose()
        await self._attempts.close()

    async def lend(self, lending: Lending) -> None:
        """Switch; off cancels the builds of guests, and returns when they have ended."""
        self.lending = lending
        self.changed.notify()
        if lending is Lending.OFF:
            await self._builds.cancel(self.active(), Reason(ReasonKey.NOT_LENT))

    def limit_disk(self, limit: int | None) -> None:
        """Set how many bytes all guests get together; makes room soon."""
        self._disk.limit = limit
        self._eviction.request()

    async def make_room(self, limit: int) -> int:
        """Delete what is not in use until the rest takes so many bytes; returns what it takes.

        Raises OSError.
        """
        await self._disk.make_room(limit)
        return self._disk.used

    def active(self) -> tuple[GuestAttempt, ...]:
        """Return the attempts that wait or run, oldest first."""
        return tuple(each for each in self._attempts.all() if each.result is None)

    def shown(self) -> tuple[GuestAttempt, ...]:
        """Return the attempts to show to the owner, oldest first: also the last that ended."""
        return self._attempts.shown()

    async def stop_build(self, pin_sha256: str, attempt_id: str) -> None:
        """Cancel an attempt on behalf of the owner of this machine, if it has not ended."""
        key = AttemptKey(pin_sha256, attempt_id)
        attempts = [each for each in self.active() if each.key == key]
        await self._builds.cancel(attempts, Reason(ReasonKey.STOPPED_BY_OWNER))

    async def remove_guest(self, pin_sha256: str) -> None:
        """Unpair: cancel the guest's builds and delete everything that was built for it."""
        await self.guests.remove(pin_sha256)
        await self._builds.cancel(self._attempts.of(pin_sha256), Reason(ReasonKey.GUEST_REMOVED))
        for attempt in self._attempts.of(pin_sha256):
            self._builds.forget(attempt)
        self._attempts.forget_guest(pin_sha256)
        self._inbox.drop_guest(pin_sha256)
        await self._workspaces.remove(pin_sha256)

    # For guests, who are named by their pins.

    async def receive(self, pin_sha256: str, command: SendBundle, receive: Receive) -> None:
        """Receive the bundle of an attempt that is submitted next.

        Raises also ProtocolError ATTEMPT_CONFLICT, ATTEMPT_OVER, BUSY, NO_SPACE, and what
        ``receive`` raises.
        """
        self._check_guest(pin_sha256)
        key = AttemptKey(pin_sha256, command.attempt_id)
        if self._attempts.find(key) is not None:
            raise ProtocolError(ErrorCode.ATTEMPT_CONFLICT, "this attempt is submitted already")
        self._attempts.check_new(key)
        self._check_may_build(pin_sha256)
        self._disk.check_waiting()
        await self._inbox.receive(key, command.sha256, command.size, receive)
        try:
            self._check_guest(pin_sha256)  # it may have taken a while
        except ProtocolError:
            self._inbox.drop(key)
            raise

    async def submit(self, pin_sha256: str, command: Submit) -> None:
        """Build from the bundle with this digest; a second time it changes nothing.

        Raises also ProtocolError BUNDLE_NEEDED, ATTEMPT_CONFLICT, ATTEMPT_OVER, BUSY, NO_SPACE,
        MALFORMED.
        """
        self._check_guest(pin_sha256)
        key = AttemptKey(pin_sha256, command.parameters.attempt_id)
        async with self._submitting[pin_sha256]:
            known = self._attempts.find(key)
            if known is not None:
                if known.submission.sha256 != command.bundle_sha256:
                    raise _conflict()
                return
            self._attempts.check_new(key)
            self._check_may_build(pin_sha256)
            await self._check_bundle(key, command)
            self._check_guest(pin_sha256)  # looking for the bundle took a while
            received = self._inbox.find(key)
            self._inbox.submitted(key)
            submission = Submission(
                key, command.bundle_sha256, command.parameters, self._time.now()
            )
            try:
                await self._builds.start(submission, received.path if received else None)
            except BaseException as err:
                # Nothing else would drop it: the id of the attempt may be used up already.
                self._inbox.drop(key)
                if not isinstance(err, OSError):
                    raise
                raise ProtocolError(
                    ErrorCode.NO_SPACE, f"cannot be stored: {err.strerror}"
                ) from err
        self.changed.notify()

    def attach(self, pin_sha256: str, command: Attach) -> AsyncGenerator[BuildEvent]:
        """Return the events of an attempt, until it has ended; close it when it is left."""
        return follow(self._attempt(pin_sha256, command.attempt_id), self.logs, command.from_line)

    async def cancel(self, pin_sha256: str, command: Cancel) -> None:
        """Cancel an attempt; returns when no process of it is left.

        Of one that is not submitted, the bundle goes.
        """
        self._inbox.withdraw(AttemptKey(pin_sha256, command.attempt_id))
        await self._builds.cancel(
            [self._attempt(pin_sha256, command.attempt_id)], Reason(ReasonKey.CANCELLED_BY_USER)
        )

    async def wanted(self, pin_sha256: str, command: Wanted) -> Known:
        """Cancel and forget all other attempts of the guest; returns those that are known."""
        self._check_guest(pin_sha256)
        self._inbox.withdraw_others(pin_sha256, command.attempt_ids)
        attempts = self._attempts.of(pin_sha256)
        wanted = [each for each in attempts if each.key.attempt_id in command.attempt_ids]
        unwanted = [each for each in attempts if each not in wanted]
        await self._builds.cancel(unwanted, _NOT_WANTED)
        for attempt in unwanted:
            self._builds.forget(attempt)
        return Known(tuple(each.event() for each in wanted))

    async def acknowledge(self, pin_sha256: str, command: Acknowledge) -> None:
        """Forget an attempt, whose result the guest has."""
        attempt = self._attempt(pin_sha256, command.attempt_id)
        await self._builds.cancel([attempt], _NOT_WANTED)
        self._builds.forget(attempt)

    async def clean(self, pin_sha256: str, command: Clean) -> None:
        """Delete a build tree, and tools; raises also ProtocolError BUSY while they are used."""
        self._check_guest(pin_sha256)
        workspace = await self._workspaces.open(pin_sha256)
        if workspace.device(command.configuration).locked():
            raise ProtocolError(ErrorCode.BUSY, "this configuration is being built")
        try:
            await workspace.clean(command.configuration, tools=command.tools)
        except (BuildError, OSError) as err:
            why = err.strerror if isinstance(err, OSError) else err
            raise ProtocolError(ErrorCode.BUSY, f"the tree cannot be removed: {why}") from err
        self._disk.invalidate(workspace.layout.root.name, configuration_key(command.configuration))
        if command.tools:
            self._disk.invalidate(workspace.layout.root.name, TOOLS)

    async def firmware(self, pin_sha256: str, command: Fetch | FetchImage) -> FirmwareFile:
        """Return a file of firmware; raises also ProtocolError FIRMWARE_NOT_READY."""
        self._check_guest(pin_sha256)
        workspace = await self._workspaces.open(pin_sha256)
        if isinstance(command, FetchImage):
            return await open_image(command, workspace.firmware)
        return await open_firmware(
            self._attempt(pin_sha256, command.attempt_id), workspace.firmware
        )

    async def status(self, pin_sha256: str) -> AsyncGenerator[StatusEvent]:
        """Yield what this machine can do for the guest, now and at each change.

        A slow reader gets the newest only. Ends when the guest is removed.
        """
        self._check_guest(pin_sha256)
        workspace = await self._workspaces.open(pin_sha256)
        changed = asyncio.Event()
        unsubscribes = (
            self.changed.subscribe(changed.set),
            workspace.builder.subscribe(changed.set),
        )
        sent: StatusEvent | None = None
        try:
            while self.guests.get(pin_sha256) is not None:
                changed.clear()
                # Sent also when lending ends: only then the guest knows why.
                status = self._status(workspace)
                if status != sent:
                    sent = status
                    yield status
                await changed.wait()
        finally:
            for unsubscribe in unsubscribes:
                unsubscribe()

    # Checks and upkeep.

    def _status(self, workspace: GuestWorkspace) -> StatusEvent:
        builder = workspace.builder.status()
        why_not = self.lending.why_not or why_no_build(builder)
        return status_event(builder, why_not, self.slots)

    def _check_guest(self, pin_sha256: str) -> None:
        """Raise ProtocolError UNKNOWN_GUEST or NOT_LENDING."""
        if self.guests.get(pin_sha256) is None:
            raise ProtocolError(ErrorCode.UNKNOWN_GUEST, "this guest was removed")
        if self.lending is Lending.OFF:
            raise ProtocolError(ErrorCode.NOT_LENDING, "this machine is not lent any more")

    def _attempt(self, pin_sha256: str, attempt_id: str) -> GuestAttempt:
        self._check_guest(pin_sha256)
        return self._attempts.get(AttemptKey(pin_sha256, attempt_id))

    def _check_may_build(self, pin_sha256: str) -> None:
        """Raise ProtocolError NOT_LENDING or BUSY unless a new build of a guest may start."""
        why_not = self.lending.why_not
        workspace = self._workspaces.get(pin_sha256)
        if why_not is None and workspace is not None:
            why_not = why_no_build(workspace.builder.status())
        if why_not is not None:
            raise ProtocolError(ErrorCode.NOT_LENDING, str(why_not))
        active = [each for each in self.active() if each.key.pin_sha256 == pin_sha256]
        if len(active) >= ACTIVE:
            raise ProtocolError(ErrorCode.BUSY, f"{len(active)} builds of this guest wait already")

    async def _check_bundle(self, key: AttemptKey, command: Submit) -> None:
        """Raise ProtocolError ATTEMPT_CONFLICT or BUNDLE_NEEDED."""
        received = self._inbox.find(key)
        if received is not None:
            if received.sha256 != command.bundle_sha256:
                raise _conflict()
            return
        workspace = await self._workspaces.open(key.pin_sha256)
        if not await workspace.has(command.parameters.configuration, command.bundle_sha256):
            raise ProtocolError(ErrorCode.BUNDLE_NEEDED, "this bundle is not here")

    def _attempt_ended(self, attempt: GuestAttempt) -> None:
        self._inbox.drop(attempt.key)
        if attempt.result is not None and attempt.state is AttemptState.COMPLETED:
            self.guests.count_build(attempt.key.pin_sha256, attempt.result.at)
        workspace = self._workspaces.get(attempt.key.pin_sha256)
        if workspace is not None:
            key = configuration_key(attempt.submission.parameters.configuration)
            self._disk.invalidate(workspace.layout.root.name, key)
            self._eviction.request()
        self.changed.notify()
        self.build_ended.notify()

    async def _make_room(self) -> None:
        try:
            await self._disk.make_room()
        except OSError as err:
            _LOGGER.warning("Room for guests' builds cannot be made: %s", err)
        self.changed.notify()


_NOT_WANTED: Final = Reason(ReasonKey.NOT_WANTED)


def _conflict() -> ProtocolError:
    return ProtocolError(ErrorCode.ATTEMPT_CONFLICT, "this attempt has another bundle")
