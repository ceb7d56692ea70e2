"""Verification: from before a flash until it is known what the device runs."""

from collections.abc import Callable

from ..build.model import BuildError, BuildInfo, Firmware
from ..clock import Time, sleep
from ..const import FailureReason, Stage
from ..reason import Reason, ReasonKey
from .ledger import Ledger
from .model import FirmwareJob
from .ports import DeviceLink, Presence, QueueSettings, Verdict

ANNOUNCED_WITHIN = 60.0
"""Seconds for a device that Home Assistant does not know to announce what it runs."""
_ASK_AGAIN = 5.0
_FAILURES = {
    Verdict.WENT_BACK: (FailureReason.ROLLED_BACK, ReasonKey.WENT_BACK),
    Verdict.ANOTHER_BUILD: (FailureReason.NOT_VERIFIED, ReasonKey.ANOTHER_BUILD_RUNS),
    Verdict.NOT_BACK: (FailureReason.NOT_VERIFIED, ReasonKey.DEVICE_NOT_BACK),
}


class Verification:
    """The verification of one flash; ``close`` it in any case."""

    def __init__(
        self,
        job: FirmwareJob,
        firmware: Firmware,
        presence: Presence,
        good_after: float,
        *,
        ledger: Ledger,
        devices: DeviceLink,
        settings: Callable[[], QueueSettings],
        time: Time,
    ) -> None:
        """Start to watch: a device on a good network is back within a second.

        ``presence`` is that of the device before the flash, ``good_after`` as in ``Node``.
        """
        self._job = job
        self._name = job.request.device_name
        self._firmware = firmware
        self._presence = presence
        self._good_after = good_after
        self._ledger = ledger
        self._devices = devices
        self._settings = settings
        self._time = time
        self._watch = devices.watch_restart(job.request)
        self._announced: BuildInfo | None = None

    @property
    def before(self) -> BuildInfo | None:
        """The build that the device ran before the flash."""
        return self._watch.before or self._announced

    def close(self) -> None:
        """Stop watching."""
        self._watch.close()

    async def prepare(self) -> None:
        """Ask a device without an API what it announces before the flash."""
        if self._presence is not Presence.ONLINE:
            self._announced = await self._devices.announced(self._job.request)

    async def result(self) -> Reason | None:
        """Return None when the device runs the firmware, or why that cannot be known.

        Raises BuildError: not_verified, rolled_back.
        """
        verdict = await self._verdict()
        if verdict is Verdict.CONFIRMED:
            return None
        if verdict is Verdict.UNKNOWN:
            return await self._by_announcement(ANNOUNCED_WITHIN)
        if verdict is Verdict.NOT_BACK:
            # It had its time already.
            why = await self._by_announcement(0.0)
            if why is None or self._presence is not Presence.ONLINE or await self._answers():
                return why
        failure_reason, key = _FAILURES[verdict]
        parameters = {"device": self._name}
        if verdict is Verdict.WENT_BACK:
            why_restarted = await self._devices.restart_reason(self._job.request)
            if why_restarted is not None:
                key = ReasonKey.WENT_BACK_AFTER
                parameters["restart"] = why_restarted
        raise BuildError(failure_reason, Reason(key, parameters))

    async def _verdict(self) -> Verdict:
        """Wait until the device runs the firmware, and will not go back to the old one."""
        build_info, seconds = self._firmware.build_info, self._good_after
        verdict = await self._watch.confirm(build_info, goes_back=seconds > 0)
        if verdict is not Verdict.CONFIRMED or not seconds:
            return verdict
        if not self._settings().wait_for_good_boot:
            return verdict
        parameters = {"device": self._name, "seconds": f"{seconds:.0f}"}
        waits_for = Reason(ReasonKey.WAITS_FOR_GOOD_BOOT, parameters)
        self._ledger.enter(self._job, Stage.VERIFYING, waits_for)
        return await self._watch.stays(build_info, seconds)

    async def _by_announcement(self, seconds: float) -> Reason | None:
        """Return None when a device that cannot be connected to announces the firmware."""
        key = ReasonKey.UNVERIFIED_UNKNOWN if seconds else ReasonKey.UNVERIFIED_API
        unverified = Reason(key, {"device": self._name})
        built, before = self._firmware.build_info, self._announced or self._watch.before
        if before is None or _tells(before, built):
            # It says nothing, or the same as before: that is no sign of a new build.
            return unverified
        end = self._time.monotonic() + seconds
        while True:
            announced = await self._devices.announced(self._job.request)
            if announced is not None and _tells(announced, built):
                return None
            if self._time.monotonic() >= end:
                return unverified
            await sleep(self._time, _ASK_AGAIN)

    async def _answers(self) -> bool:
        """Return whether it is the API that Home Assistant cannot use, not the firmware.

        In its safe mode a device takes firmware, and has no API.
        """
        node = self._firmware.node
        port = None if node is None else node.api_port or node.ota_port
        if node is None or port is None:
            return False
        return await self._devices.listens(self._job.request, node, port)


def _tells(said: BuildInfo, built: BuildInfo) -> bool:
    """Return whether a device that says this of itself may run that build.

    What it announces is the version and the hash of the configuration; a hash of 0 is unknown.
    """
    if said.esphome_version != built.esphome_version:
        return False
    return not said.config_hash or said.config_hash == built.config_hash
