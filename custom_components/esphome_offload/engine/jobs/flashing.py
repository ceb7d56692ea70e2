"""The second half of a job: from firmware to a device that runs it."""

import asyncio
from collections.abc import Awaitable, Callable
from enum import Enum, auto

from ..build.model import BuildError, Firmware, FlashRequest
from ..clock import Time, sleep
from ..const import FailureReason, Stage
from ..job_log import OWN, JobLogs
from ..reason import Reason, ReasonKey
from ..target import mac_suffix
from .attempt_sink import (
    AttemptSink,
    attempt_boundary,
    stop_if_cancelled,
)
from .ids import new_id
from .lanes import UploadLane, UploadLease
from .ledger import Ledger
from .model import FirmwareJob
from .ports import (
    ConfigurationSource,
    DeviceLink,
    Flasher,
    Presence,
    QueueSettings,
    Verdict,
)
from .remedies import Action, Decision, FailureHistory, Step
from .verifying import Verification

_SAVE_WAIT_EVERY = 900.0
"""Seconds; at most this much of a limited wait counts again after a crash."""
# A device that did not answer, and of which Home Assistant knows nothing better, is tried again.
TRY_AGAIN = 60.0


class Flashed(Enum):
    """The result of the second half, unless it failed."""

    VERIFIED = auto()
    UNVERIFIED = auto()
    """The device has accepted it, but Home Assistant does not know that device."""
    OUTDATED = auto()
    """Not flashed: the configuration was changed meanwhile."""
    GONE = auto()
    """Not flashed: the firmware is not kept any more."""


class Flashing:
    """Waits for a device, flashes it, and confirms that it runs the firmware."""

    def __init__(
        self,
        *,
        lane: UploadLane,
        ledger: Ledger,
        logs: JobLogs,
        flasher: Flasher,
        devices: DeviceLink,
        configurations: ConfigurationSource,
        settings: Callable[[], QueueSettings],
        time: Time,
    ) -> None:
        self._lane = lane
        self._ledger = ledger
        self._logs = logs
        self._flasher = flasher
        self._devices = devices
        self._configurations = configurations
        self._settings = settings
        self._time = time
        self._waiting: set[asyncio.Event] = set()

    def look_again(self) -> None:
        """Make every job that waits for its device check again."""
        for woken in self._waiting:
            woken.set()

    async def flash(
        self,
        job: FirmwareJob,
        firmware: Firmware,
        failures: FailureHistory,
        outdated: Callable[[], Awaitable[bool]],
    ) -> Flashed:
        """Flash as soon as the device is available; raises BuildError.

        ``outdated`` is called before anything is sent and returns whether to build again.
        """
        unreachable, awake = False, False
        was_flashed = job.flashed_at is not None
        while True:
            if was_flashed:
                kept = await self._kept(job, firmware)
                if kept is Verdict.CONFIRMED:
                    return Flashed.VERIFIED
                # One that is away, or asleep, is compared when it is back.
                was_flashed = kept is Verdict.NOT_BACK and not awake
            # Files may have been saved while they were built, or while a device was waited for. Not
            # with a slot: the folder may have to be waited for.
            if await outdated():
                return Flashed.OUTDATED
            self._check_node(job, firmware)
            presence = self._presence(job, firmware)
            if unreachable or not (awake or _flashable(presence)):
                awake = await self._wait_for_device(job, firmware, unreachable=unreachable)
                unreachable = False
                continue
            if was_flashed and presence is Presence.ONLINE:
                # It has come back just now.
                continue
            async with self._lane.lease(
                job.request.device_name,
                lambda reason: self._ledger.enter(job, Stage.UPLOADING, reason),
            ) as lease:
                presence = self._presence(job, firmware)
                if not _flashable(presence) and not (awake and presence is Presence.OFFLINE):
                    awake = False
                    continue
                awake = False
                try:
                    return await self._flash(job, firmware, presence, lease)
                except BuildError as err:
                    failure = err
            known = presence is not Presence.UNKNOWN
            decision = self._decide(job, failures, failure, device_known=known)
            if decision.action is Action.BUILD_AGAIN:
                return Flashed.GONE
            unreachable = decision.action is Action.WAIT_FOR_DEVICE
            await self._rest(job, decision.delay)

    def _decide(
        self,
        job: FirmwareJob,
        failures: FailureHistory,
        failure: BuildError,
        *,
        device_known: bool,
    ) -> Decision:
        """Return what to do about a failure; raises it when that is nothing."""
        decision = failures.decide(Step.FLASH, failure.failure_reason, device_known=device_known)
        builds = job.request.operation.builds
        if decision.action is Action.FAIL or (decision.action is Action.BUILD_AGAIN and not builds):
            raise failure
        self._logs.append(job.job_id, (f"{OWN}{failure}",))
        return decision

    async def _rest(self, job: FirmwareJob, seconds: float) -> None:
        if seconds:
            retry = Reason(ReasonKey.WAITS_FOR_RETRY, {"seconds": f"{seconds:.0f}"})
            self._ledger.enter(job, Stage.UPLOADING, retry)
            await sleep(self._time, seconds)

    async def _flash(
        self, job: FirmwareJob, firmware: Firmware, presence: Presence, lease: UploadLease
    ) -> Flashed:
        request = job.request
        # Again: by now it may be known what the device itself is called.
        self._check_node(job, firmware)
        verification = Verification(
            job,
            firmware,
            presence,
            self._good_after(job, firmware),
            ledger=self._ledger,
            devices=self._devices,
            settings=self._settings,
            time=self._time,
        )
        try:
            sink = AttemptSink(self._ledger, self._logs, job)
            sink.stage(Stage.UPLOADING)
            await verification.prepare()
            addresses = self._addresses(job, firmware)
            if not addresses:
                raise BuildError(FailureReason.DEVICE_OFFLINE, _away(job, Presence.DISPLACED))
            intruder = await self._devices.intruder_at(request, firmware.node, addresses)
            if intruder is not None:
                self._refuse_intruder(job, firmware, intruder)
            with attempt_boundary(sink, Reason(ReasonKey.UPLOAD_STOPPED)):
                await self._flasher.flash(
                    FlashRequest(
                        job_id=job.job_id,
                        attempt_id=new_id(),
                        configuration=request.configuration,
                        config_dir=self._configurations.config_dir,
                        firmware=firmware,
                        addresses=addresses,
                        time_zone=self._settings().time_zone,
                        mac=request.mac,
                    ),
                    sink,
                )
            self._ledger.flashed(job, verification.before)
            self._lane.uploaded(lease)
            unverified = await verification.result()
            stop_if_cancelled()
        finally:
            verification.close()
        if unverified is None:
            return Flashed.VERIFIED
        self._ledger.unverified(job, unverified)
        return Flashed.UNVERIFIED

    def _check_node(self, job: FirmwareJob, firmware: Firmware) -> None:
        """Raise BuildError (wrong_device) for firmware that is made for another device.

        A renamed device still has its old name, and firmware of before has that as well.
        """
        name = job.request.device_name
        if self._devices.gone(job.request):
            reason = Reason(ReasonKey.DEVICE_GONE, {"device": name})
            raise BuildError(FailureReason.WRONG_DEVICE, reason)
        if job.request.address is None and (rivals := self._devices.rivals(job.request)):
            parameters = {"device": name, "rivals": ", ".join(rivals)}
            reason = Reason(ReasonKey.DEVICE_AMBIGUOUS, parameters)
            raise BuildError(FailureReason.WRONG_DEVICE, reason)
        intruder = self._devices.intruder(job.request)
        if intruder is not None:
            self._refuse_intruder(job, firmware, intruder)
            return
        # The file may have been changed since the job was queued.
        now = self._configurations.node_name(job.request.configuration)
        if now is not None and job.request.mac is not None:
            # Firmware without a suffix is for none of several devices.
            now += mac_suffix(job.request.mac)
        names = (name, now, self._devices.node_name(job.request))
        node = firmware.node
        if node is not None and not any(map(node.is_of, filter(None, names))):
            raise _wrong_device(node.name, name)

    @staticmethod
    def _refuse_intruder(job: FirmwareJob, firmware: Firmware, intruder: str) -> None:
        """Raise BuildError (wrong_device) unless the firmware is made for that device as well.

        Of several devices of one configuration it is, and nevertheless only one is meant.
        """
        node = firmware.node
        if job.request.mac is not None or node is None:
            raise _wrong_device(job.request.device_name, intruder)
        if not node.is_of(intruder):
            raise _wrong_device(node.name, intruder)

    async def _kept(self, job: FirmwareJob, firmware: Firmware) -> Verdict:
        """Return whether a device that was flashed before a restart has kept the firmware.

        Until it counts as good, such a device takes no other.
        """
        seconds = self._good_after(job, firmware)
        if not seconds:
            return Verdict.UNKNOWN
        watch = self._devices.watch_restart(job.request)
        try:
            self._ledger.enter(job, Stage.VERIFYING)
            return await watch.stays(firmware.build_info, seconds)
        finally:
            watch.close()

    def _good_after(self, job: FirmwareJob, firmware: Firmware) -> float:
        """Return for how many seconds the boot loader may go back to the old firmware."""
        seconds = 0.0 if firmware.node is None else firmware.node.good_after
        if seconds or firmware.validated:
            return seconds
        # Nothing was kept of what was validated for the build.
        return self._configurations.access(job.request.configuration).good_after or 0.0

    def _addresses(self, job: FirmwareJob, firmware: Firmware) -> tuple[str, ...]:
        if job.request.address is not None:
            return (job.request.address,)
        return self._devices.addresses(job.request, firmware.node)

    def _presence(self, job: FirmwareJob, firmware: Firmware) -> Presence:
        presence = self._devices.presence(job.request)
        if presence is not Presence.BUSY and not self._addresses(job, firmware):
            return Presence.DISPLACED
        if presence is Presence.OFFLINE and job.request.address is not None:
            # Home Assistant looks for it elsewhere.
            return Presence.UNKNOWN
        return presence

    async def _wait_for_device(
        self, job: FirmwareJob, firmware: Firmware, *, unreachable: bool
    ) -> bool:
        """Wait until the device can be flashed; returns whether it takes firmware without its API.

        ``unreachable``: it did not answer just now, so wait until it has been away and is back,
        or for TRY_AGAIN seconds. Raises BuildError (device_offline) when the time is up.
        """
        woken = asyncio.Event()
        self._waiting.add(woken)
        unsubscribe = self._devices.subscribe(woken.set)
        now = self._time.monotonic()
        due = now + (TRY_AGAIN if unreachable else 0.0)
        save_at = now + _SAVE_WAIT_EVERY
        was_away = not unreachable
        asks = firmware.node is not None and firmware.node.ota_port is not None
        ask_at = due
        try:
            while True:
                presence = self._presence(job, firmware)
                was_away = was_away or presence is not Presence.ONLINE
                now = self._time.monotonic()
                rested = now >= due
                if _flashable(presence) and (rested or (was_away and presence is Presence.ONLINE)):
                    return False
                if rested and presence is Presence.OFFLINE and now >= ask_at:
                    # A crash loop of a component, or another key: the way out is new firmware.
                    if await self._takes_firmware(job, firmware):
                        return True
                    ask_at = self._time.monotonic() + TRY_AGAIN
                remaining = self._remaining(job, presence)
                self._ledger.enter(job, Stage.WAITING_DEVICE, _waits_for(job, presence))
                looks = [] if remaining is None else [remaining, _SAVE_WAIT_EVERY]
                if asks and presence is Presence.OFFLINE:
                    looks.append(max(ask_at - now, 0.0))
                if not rested:
                    looks.append(due - now)
                if now >= save_at:
                    self._ledger.save_time(job)
                    save_at = now + _SAVE_WAIT_EVERY
                await self._woken(woken, min(looks, default=None))
        finally:
            unsubscribe()
            self._waiting.discard(woken)

    async def _takes_firmware(self, job: FirmwareJob, firmware: Firmware) -> bool:
        """Return whether a device listens for firmware, although Home Assistant has lost it."""
        node = firmware.node
        if node is None or node.ota_port is None:
            return False
        return await self._devices.listens(job.request, node, node.ota_port)

    async def _woken(self, woken: asyncio.Event, seconds: float | None) -> None:
        cancel = None if seconds is None else self._time.call_later(seconds, woken.set)
        try:
            await woken.wait()
            woken.clear()
        finally:
            if cancel is not None:
                cancel()

    def _remaining(self, job: FirmwareJob, presence: Presence) -> float | None:
        """Return the seconds that the job may still wait; raises BuildError when there are none."""
        limit = self._settings().wait_for_device
        if limit is None:
            return None
        remaining = limit - self._ledger.seconds_in(job, Stage.WAITING_DEVICE)
        if remaining <= 0:
            raise BuildError(FailureReason.DEVICE_OFFLINE, _away(job, presence))
        return remaining


def _wrong_device(name: str, device: str) -> BuildError:
    """Return the error for firmware of ``name`` that is not for ``device``."""
    if name:
        reason = Reason(ReasonKey.FIRMWARE_OF_ANOTHER, {"name": name, "device": device})
    else:
        reason = Reason(ReasonKey.FIRMWARE_OF_NO_SUCH, {"device": device})
    return BuildError(FailureReason.WRONG_DEVICE, reason)


def _flashable(presence: Presence) -> bool:
    """Return whether to try; a device that Home Assistant does not know may be there."""
    return presence in (Presence.ONLINE, Presence.UNKNOWN)


def _waits_for(job: FirmwareJob, presence: Presence) -> Reason:
    keys = {
        Presence.BUSY: ReasonKey.WAITS_FOR_UPDATE,
        Presence.DISPLACED: ReasonKey.WAITS_FOR_ADDRESS,
    }
    key = keys.get(presence, ReasonKey.WAITS_FOR_DEVICE)
    return Reason(key, {"device": job.request.device_name})


def _away(job: FirmwareJob, presence: Presence) -> Reason:
    keys = {
        Presence.BUSY: ReasonKey.DEVICE_STAYS_BUSY,
        Presence.DISPLACED: ReasonKey.DEVICE_DISPLACED,
    }
    key = keys.get(presence, ReasonKey.DEVICE_STAYS_AWAY)
    return Reason(key, {"device": job.request.device_name})
