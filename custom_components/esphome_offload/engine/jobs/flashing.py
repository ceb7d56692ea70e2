"""The second half of a job: from firmware to a device that runs it."""

import asyncio
from collections.abc import Awaitable, Callable
from enum import Enum, auto

from ..build.model import BuildError, Firmware, FlashRequest
from ..clock import Time, sleep
from ..const import FailureReason, Stage
from ..job_log import JobLogs
from .attempt import (
    AttemptSink,
    attempt_boundary,
    new_id,
    stop_if_cancelled,
)
from .failures import Action, Failures, Step
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

# A device that did not answer, and of which Home Assistant knows nothing better, is tried again.
TRY_AGAIN = 60.0


class Flashed(Enum):
    """How the second half went, when it did not fail."""

    VERIFIED = auto()
    UNVERIFIED = auto()
    """Taken by the device, but Home Assistant does not know it and cannot tell."""
    OUTDATED = auto()
    """Not flashed: the configuration is another one by now."""


class Flashing:
    """Waits for a device, flashes it, sees it come back."""

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
        """Keep what is needed."""
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
        """Have every job that waits for its device look whether it still has to."""
        for woken in self._waiting:
            woken.set()

    async def flash(
        self,
        job: FirmwareJob,
        firmware: Firmware,
        failures: Failures,
        outdated: Callable[[], Awaitable[bool]],
    ) -> Flashed:
        """Flash as soon as the device is there; raises BuildError.

        ``outdated`` is asked after each wait whether the firmware has to be built again.
        """
        unreachable = False
        while True:
            waited = await self._device_there(job, unreachable=unreachable)
            if waited and await outdated():
                return Flashed.OUTDATED
            async with self._lane.lease(
                job.request.device_name,
                lambda what: self._ledger.enter(job, Stage.UPLOADING, what),
            ) as lease:
                presence = self._presence(job)
                if not _flashable(presence):
                    continue
                try:
                    return await self._flash(job, firmware, lease)
                except BuildError as err:
                    failure = err
            decision = failures.decide(
                Step.FLASH, failure.failure_reason, device_known=presence is not Presence.UNKNOWN
            )
            if decision.action is Action.FAIL:
                raise failure
            self._logs.append(job.job_id, (f"== {failure}",))
            unreachable = decision.action is Action.WAIT_FOR_DEVICE
            if decision.delay:
                self._ledger.enter(job, Stage.UPLOADING, f"another try in {decision.delay:.0f} s")
                await sleep(self._time, decision.delay)

    async def _flash(self, job: FirmwareJob, firmware: Firmware, lease: UploadLease) -> Flashed:
        request = job.request
        # Before the flash: a device on a good network is back within a second.
        watch = self._devices.watch_restart(request.device_name)
        try:
            sink = AttemptSink(self._ledger, self._logs, job)
            sink.stage(Stage.UPLOADING)
            with attempt_boundary(sink, "The upload"):
                await self._flasher.flash(
                    FlashRequest(
                        job_id=job.job_id,
                        attempt_id=new_id(),
                        configuration=request.configuration,
                        config_dir=self._configurations.config_dir,
                        firmware=firmware,
                        address=request.address or self._devices.address(request.device_name),
                        time_zone=self._settings().time_zone,
                    ),
                    sink,
                )
            self._ledger.flashed(job)
            self._lane.uploaded(lease)
            verdict = await watch.confirm(firmware.build_info)
            stop_if_cancelled()
        finally:
            watch.close()
        if verdict is Verdict.CONFIRMED:
            return Flashed.VERIFIED
        if verdict is Verdict.UNKNOWN:
            return Flashed.UNVERIFIED
        what = (
            "came back, but with another build"
            if verdict is Verdict.ANOTHER_BUILD
            else "was flashed, but did not come back"
        )
        raise BuildError(FailureReason.NOT_VERIFIED, f"{request.device_name} {what}")

    def _presence(self, job: FirmwareJob) -> Presence:
        presence = self._devices.presence(job.request.device_name)
        if presence is Presence.OFFLINE and job.request.address is not None:
            # Home Assistant looks for it elsewhere.
            return Presence.UNKNOWN
        return presence

    async def _device_there(self, job: FirmwareJob, *, unreachable: bool) -> bool:
        """Return when the device can be flashed, and whether that had to be waited for.

        ``unreachable``: it did not answer just now, so wait until it has been away and is back,
        or a while has passed. Raises BuildError (device_offline) when waiting is over.
        """
        if not unreachable and _flashable(self._presence(job)):
            return False
        woken = asyncio.Event()
        self._waiting.add(woken)
        unsubscribe = self._devices.subscribe(woken.set)
        due = self._time.now().timestamp() + TRY_AGAIN if unreachable else 0.0
        was_away = not unreachable
        try:
            while True:
                presence = self._presence(job)
                was_away = was_away or presence is not Presence.ONLINE
                rested = self._time.now().timestamp() >= due
                if _flashable(presence) and (rested or (was_away and presence is Presence.ONLINE)):
                    return True
                remaining = self._remaining(job, presence)
                self._ledger.enter(job, Stage.WAITING_DEVICE, _waits_for(job, presence))
                if not rested:
                    rest = due - self._time.now().timestamp()
                    remaining = rest if remaining is None else min(rest, remaining)
                await self._woken(woken, remaining)
        finally:
            unsubscribe()
            self._waiting.discard(woken)

    async def _woken(self, woken: asyncio.Event, seconds: float | None) -> None:
        cancel = None if seconds is None else self._time.call_later(seconds, woken.set)
        try:
            await woken.wait()
            woken.clear()
        finally:
            if cancel is not None:
                cancel()

    def _remaining(self, job: FirmwareJob, presence: Presence) -> float | None:
        """Return for how long the job may still wait; raises BuildError when it may not."""
        limit = self._settings().wait_for_device
        if limit is None:
            return None
        remaining = limit - job.seconds_in(Stage.WAITING_DEVICE, self._time.now())
        if remaining <= 0:
            name = job.request.device_name
            why = "is being updated by somebody else" if presence is Presence.BUSY else "is offline"
            raise BuildError(
                FailureReason.DEVICE_OFFLINE,
                f"{name} {why}; the firmware is built and can be uploaded later",
            )
        return remaining


def _flashable(presence: Presence) -> bool:
    """Whether to try: also a device that Home Assistant does not know may be there."""
    return presence in (Presence.ONLINE, Presence.UNKNOWN)


def _waits_for(job: FirmwareJob, presence: Presence) -> str:
    name = job.request.device_name
    if presence is Presence.BUSY:
        return f"{name}, which is being updated by somebody else"
    return f"{name} to be reachable"
