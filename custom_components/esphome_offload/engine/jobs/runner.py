"""JobRunner: runs one job from the queue to its end."""

from ..build.model import BuildError, Firmware
from ..const import FailureReason, Operation
from ..tasks import uninterrupted
from .attempt_sink import stop_if_cancelled
from .building import Building
from .flashing import Flashed, Flashing
from .lanes import DispatchGate
from .ledger import Ledger
from .model import FirmwareJob
from .remedies import FailureHistory

_MOST_BUILDS = 5
"""For a configuration that changes during each build; then it is flashed, and shows as changed."""
_DOUBTS = frozenset(
    {
        FailureReason.INTEGRITY,
        FailureReason.NOT_VERIFIED,
        FailureReason.ROLLED_BACK,
        FailureReason.WRONG_DEVICE,
    }
)
"""Whoever installs again after one of these hopes for other firmware."""


class JobRunner:
    """Builds and flashes as the operation asks, with the remedies for failures."""

    def __init__(
        self, *, ledger: Ledger, gate: DispatchGate, building: Building, flashing: Flashing
    ) -> None:
        self._ledger = ledger
        self._gate = gate
        self._building = building
        self._flashing = flashing

    async def run(self, job: FirmwareJob, *, recovered: bool) -> None:
        """Run a queued job until it is completed or failed; cancelling leaves its status as it is.

        ``recovered``: the job is from an earlier run of Home Assistant.
        """
        try:
            if recovered:
                await self._gate.passed()
                if job.request.operation is not Operation.CLEAN:
                    await self._building.fingerprint(job)
            verified = await self._operate(job)
        except BuildError as err:
            stop_if_cancelled()
            # At once: a job that a shutdown leaves as it is would flash the same again.
            self._ledger.fail(job, err.failure_reason, err.reason, err.exit_code)
            if err.failure_reason in _DOUBTS:
                await uninterrupted(self._building.doubt(job))
        else:
            self._ledger.complete(job, verified=verified)

    async def _operate(self, job: FirmwareJob) -> bool | None:
        """Return whether a flash was verified, None without one."""
        match job.request.operation:
            case Operation.CLEAN:
                await self._start(job)
                await self._building.clean(job)
                return None
            case Operation.COMPILE:
                if await self._unchanged(job) is None:
                    await self._building.build(job, FailureHistory())
                return None
            case Operation.UPLOAD:
                await self._start(job)
                return await self._upload(job)
            case Operation.INSTALL:
                return await self._install(job)

    async def _start(self, job: FirmwareJob) -> None:
        """Start a job that needs no builder."""
        await self._gate.passed()
        self._ledger.start(job)

    async def _upload(self, job: FirmwareJob) -> bool:
        failures = FailureHistory()
        firmware = await self._building.kept(job, failures)
        if firmware is None:
            firmware = await self._building.latest(job)
            self._ledger.built(job, firmware.sha256, firmware.build_info, None)

        async def outdated() -> bool:
            await self._building.fingerprint(job)
            return False

        flashed = await self._flashing.flash(job, firmware, failures, outdated)
        return flashed is Flashed.VERIFIED

    async def _install(self, job: FirmwareJob) -> bool:
        failures = FailureHistory()

        builds = 0

        async def outdated() -> bool:
            return await self._building.outdated(job) and builds < _MOST_BUILDS

        firmware = await self._kept(job, failures)
        if firmware is not None and await outdated():
            firmware = None
        elif firmware is None:
            firmware = await self._unchanged(job)
        while True:
            if firmware is None:
                builds += 1
                firmware = await self._building.build(job, failures)
            flashed = await self._flashing.flash(job, firmware, failures, outdated)
            if flashed not in (Flashed.OUTDATED, Flashed.GONE):
                return flashed is Flashed.VERIFIED
            firmware = None

    async def _unchanged(self, job: FirmwareJob) -> Firmware | None:
        await self._gate.passed()
        return await self._building.unchanged(job)

    async def _kept(self, job: FirmwareJob, failures: FailureHistory) -> Firmware | None:
        if job.firmware_sha256 is None:
            return None
        firmware = await self._building.kept(job, failures)
        if firmware is not None:
            await self._start(job)
        return firmware
