"""RollbackWatch: notices devices that run the firmware again that was replaced."""

from collections.abc import Callable, Container, Coroutine, Mapping
from contextlib import suppress

from homeassistant.core import HomeAssistant, callback

from .. import issues
from ..const import DOMAIN
from ..engine.devices.model import CoreDevice
from ..engine.jobs.model import FirmwareJob
from ..engine.target import TargetId, configuration_of, moved
from .device_link import same_build
from .tracker import OffloadDevice


class RollbackWatch:
    """Creates a repair for each; it goes away when the device runs anything else.

    A boot loader may go back long after the job has ended, and while Home Assistant is stopped.
    """

    def __init__(
        self, hass: HomeAssistant, doubt: Callable[[str], Coroutine[None, None, None]]
    ) -> None:
        """``doubt`` has a configuration built anew, also if nothing changes."""
        self._hass = hass
        self._doubt = doubt
        self._doubted: set[str] = set()
        self._jobs: dict[TargetId, FirmwareJob] = {}

    @callback
    def note(self, job: FirmwareJob) -> None:
        """Remember a job that has ended, if it brought firmware to its device."""
        if job.flashed_at is not None:
            self._jobs[job.request.target] = job

    @callback
    def rename(self, old: TargetId, new: TargetId) -> None:
        """Move what is known to another target; see ``moved``."""
        self._jobs = {moved(target, old, new): job for target, job in self._jobs.items()}

    @callback
    def keep_only(self, configurations: Container[str]) -> None:
        """Forget configurations that do not exist any more."""
        self._jobs = {
            target: job
            for target, job in self._jobs.items()
            if configuration_of(target) in configurations
        }

    @callback
    def check(self, devices: Mapping[TargetId, OffloadDevice]) -> None:
        """Compare what the devices run with what was flashed last."""
        for target, device in devices.items():
            job = self._jobs.get(target)
            if job is not None and device.core is not None and device.core.online:
                back = _runs_replaced(job, device.core)
                if back and job.job_id not in self._doubted:
                    self._doubted.add(job.job_id)
                    # Whoever installs again hopes for other firmware.
                    self._hass.async_create_task(
                        self._build_again(configuration_of(target)), f"{DOMAIN} rollback"
                    )
                issues.async_set_rolled_back(self._hass, job, back=back)

    async def _build_again(self, configuration: str) -> None:
        with suppress(OSError):
            await self._doubt(configuration)


def _runs_replaced(job: FirmwareJob, device: CoreDevice) -> bool:
    old, new = job.replaced, job.build_info
    if old is None or new is None or not (old.build_time and device.build_time):
        return False
    return same_build(device, old) and not same_build(device, new)
