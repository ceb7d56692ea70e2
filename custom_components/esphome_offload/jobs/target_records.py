"""TargetRecords: what is kept by target goes with it, and goes when it does."""

from collections.abc import Mapping
from contextlib import suppress

from homeassistant.core import HomeAssistant, callback

from .. import issues, registry
from ..const import DOMAIN
from ..engine.build.services import BuildServices
from ..engine.job_log import JobLogs
from ..engine.jobs.model import FirmwareJob
from ..engine.jobs.queue import JobQueue
from ..engine.jobs.refusal import JobRefused
from ..engine.target import TargetId, target_id
from ..inventory.configuration_folder import FileChanges
from ..inventory.device_firmware import DeviceFirmware
from ..inventory.device_settings import DeviceSettings
from ..inventory.rollbacks import RollbackWatch
from ..inventory.tracker import DeviceInventory


class TargetRecords:
    """Entities, repairs, jobs, firmware and choices, while configurations and devices change."""

    def __init__(
        self,
        hass: HomeAssistant,
        *,
        inventory: DeviceInventory,
        queue: JobQueue,
        firmware: DeviceFirmware,
        device_settings: DeviceSettings,
        rollbacks: RollbackWatch,
        build_services: BuildServices,
        logs: JobLogs,
    ) -> None:
        self._hass = hass
        self._inventory = inventory
        self._queue = queue
        self._firmware = firmware
        self._device_settings = device_settings
        self._rollbacks = rollbacks
        self._build_services = build_services
        self._logs = logs
        self._heirs: Mapping[TargetId, TargetId] = {}

    @callback
    def files_changed(self, entry_id: str, changes: FileChanges) -> None:
        """Follow configuration files that were renamed; drop jobs of removed ones that wait."""
        for new, old in changes.renamed.items():
            self._rename(entry_id, target_id(old), target_id(new))
            self._hass.async_create_background_task(
                self._build_services.firmware.rename(old, new), f"{DOMAIN} rename {old}"
            )
        for job in self._waiting():
            if job.request.configuration in changes.removed:
                self._drop(job, f"{job.request.configuration} was removed")

    @callback
    def devices_changed(self, entry_id: str) -> None:
        """Link entities to the devices that there are now, and follow those that became known."""
        heirs = self._inventory.heirs
        for old, new in heirs.items() - self._heirs.items():
            self._rename(entry_id, old, new)
        self._heirs = heirs
        self._remove_stale(entry_id)
        for job in self._waiting():
            mac, gone = job.request.mac, self._inventory.is_gone(job.request.target)
            if gone and mac is not None:
                if self._inventory.is_removed(mac):
                    self._drop(job, f"{job.request.device_name} was removed from Home Assistant")
                else:
                    # Its device is no more one of the configuration: it fails, and need not wait.
                    self._queue.kick()
        registry.async_relink(self._hass, entry_id, self._inventory.devices)

    def _remove_stale(self, entry_id: str) -> None:
        """Remove what is kept of targets that do not exist any more.

        What a device runs is kept as long as its configuration, in case it comes back.
        """
        if (known := self._inventory.known_files) is not None:
            registry.async_remove_stale(self._hass, entry_id, self._inventory.is_gone)
            issues.async_remove_stale(self._hass, self._inventory.is_gone)
            self._firmware.keep_only(known)
            self._device_settings.keep_only(known)
            self._rollbacks.keep_only(known)

    def _rename(self, entry_id: str, old: TargetId, new: TargetId) -> None:
        registry.async_rename(self._hass, entry_id, old, new)
        issues.async_rename(self._hass, old, new)
        self._queue.rename(old, new)
        self._rollbacks.rename(old, new)
        self._firmware.rename(old, new)
        self._device_settings.rename(old, new)
        self._inventory.rename(old, new)

    def _waiting(self) -> list[FirmwareJob]:
        return [job for job in self._queue.jobs() if not job.terminal and job.waiting]

    def _drop(self, job: FirmwareJob, why: str) -> None:
        self._logs.append(job.job_id, (why,))
        self._hass.async_create_background_task(
            self._async_drop(job.job_id), f"{DOMAIN} drop {job.job_id}"
        )

    async def _async_drop(self, job_id: str) -> None:
        with suppress(JobRefused):  # it has ended meanwhile
            await self._queue.cancel(job_id)
