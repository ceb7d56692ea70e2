"""EarlierFailures: the devices whose last installation failed, and those for which it would again."""

from typing import Final

from homeassistant.core import HomeAssistant

from .. import issues
from ..coordinator import OffloadCoordinator
from ..engine.const import FailureReason, JobStatus
from ..engine.jobs.model import FirmwareJob
from ..engine.jobs.ports import FolderUnavailableError
from ..engine.target import TargetId

_LASTING: Final = frozenset(
    {
        FailureReason.CONFIG_INVALID,
        FailureReason.BUNDLE_INCOMPLETE,
        FailureReason.COMPILE_FAILED,
        FailureReason.NO_FIRMWARE,
        FailureReason.UPLOAD_REFUSED,
        FailureReason.WRONG_DEVICE,
        FailureReason.ROLLED_BACK,
    }
)
"""What happens again with the same version and files; all else may be over by itself."""


class EarlierFailures:
    """Knows them by the last installation of each device, which is kept over restarts."""

    def __init__(self, hass: HomeAssistant, coordinator: OffloadCoordinator) -> None:
        self._hass = hass
        self._coordinator = coordinator
        self._repeating: frozenset[TargetId] = frozenset()

    def failed(self, target: TargetId) -> bool:
        """Return whether the last installation of a device failed, or did not stay."""
        job = self._coordinator.queue.last_install(target)
        if job is None:
            return False
        return job.status is JobStatus.FAILED or issues.async_is_rolled_back(self._hass, target)

    def repeats(self, target: TargetId) -> bool:
        """Return whether it would fail again, as of the last ``async_refresh``."""
        return target in self._repeating

    async def async_refresh(self) -> None:
        """Compare versions and files with those that failed."""
        self._repeating = frozenset(
            [
                target
                for target in tuple(self._coordinator.devices)
                if self.failed(target) and await self._repeats(target)
            ]
        )

    async def _repeats(self, target: TargetId) -> bool:
        coordinator = self._coordinator
        job = coordinator.queue.last_install(target)
        if job is None or coordinator.versions.wanted(target) != job.request.esphome_version:
            return False
        if job.status is JobStatus.FAILED and job.outcome.failure_reason not in _LASTING:
            return False
        fingerprint = _fingerprint(job)
        if fingerprint is None:
            return False
        inventory, configuration = coordinator.inventory, job.request.configuration
        try:
            now = await inventory.fingerprint(configuration)
            return now == fingerprint or await inventory.same_files(configuration, fingerprint)
        except FolderUnavailableError:
            return True


def _fingerprint(job: FirmwareJob) -> str | None:
    """Return the state of the configuration that a job was about."""
    return (job.attempts[-1].fingerprint if job.attempts else None) or job.fingerprint
