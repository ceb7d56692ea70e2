"""OffloadCoordinator owns devices, jobs and builders, and notifies the entities."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
import logging
from pathlib import Path
from types import MappingProxyType
from typing import Unpack, override

from homeassistant.config_entries import ConfigEntry
from homeassistant.core import CALLBACK_TYPE, Context, HomeAssistant, callback
from homeassistant.helpers.update_coordinator import BaseDataUpdateCoordinatorProtocol
from homeassistant.util.hass_dict import HassKey

from . import issues
from .const import DOMAIN
from .engine.build.services import BuildServices
from .engine.const import Operation
from .engine.devices.inspector import EsphomeInspector
from .engine.job_log import JobLogs
from .engine.jobs.model import FirmwareJob, JobEvent, JobRequest
from .engine.jobs.pool import BuilderPool
from .engine.jobs.queue import JobQueue
from .engine.jobs.refusal import JobRefused
from .engine.target import TargetId
from .engine.tasks import CoalescedTask, stop_all
from .inventory.configuration_changes import ConfigurationChanges
from .inventory.configuration_folder import FileChanges
from .inventory.core_esphome import CoreEsphome
from .inventory.device_firmware import DeviceFirmware
from .inventory.device_link import core_device_link
from .inventory.device_settings import DeviceSettings
from .inventory.failed_installs import FailedInstalls
from .inventory.new_versions import NewVersions
from .inventory.present_hashes import PresentHashes
from .inventory.rollbacks import RollbackWatch
from .inventory.target_listeners import TargetListeners
from .inventory.tracker import DeviceInventory, OffloadDevice
from .inventory.versions import VersionTracker
from .jobs.events import JobAnnouncer
from .jobs.payload import JobDetails, RequestOptions
from .jobs.requests import JobRequests
from .jobs.target_records import TargetRecords
from .lending.lender import Lender
from .options import OffloadOptions
from .peering.entry import PeerConfigEntry
from .peering.peers import Peering
from .stores.storage import job_journal
from .texts.errors import validation_error

type OffloadConfigEntry = ConfigEntry[OffloadCoordinator]
type AnyConfigEntry = OffloadConfigEntry | PeerConfigEntry

_LOGGER = logging.getLogger(__name__)

DATA_COORDINATOR: HassKey[OffloadCoordinator] = HassKey(DOMAIN)


class OffloadCoordinator(BaseDataUpdateCoordinatorProtocol):
    """The owner of everything that outlives a config entry. It lives as long as Home Assistant.

    ``options`` is None while no entry "this instance" is loaded; ``settings`` are then the last.
    """

    def __init__(self, hass: HomeAssistant, build_services: BuildServices, logs: JobLogs) -> None:
        self.hass = hass
        self.build_services = build_services
        self.logs = logs
        self.builders = BuilderPool()
        self._pruning = CoalescedTask(self._async_prune_cache, f"{DOMAIN} cache pruning")
        self.lender = Lender(hass, build_services, self._pruning.request)
        self.options: OffloadOptions | None = None
        self.settings = OffloadOptions(config_dir=None)
        self._entry: OffloadConfigEntry | None = None
        self.listeners = TargetListeners(hass)
        self._rollbacks = RollbackWatch(hass, build_services.origins.forget)
        self._announcer = JobAnnouncer(hass)
        self.device_settings = DeviceSettings(hass, self.listeners.notify)
        self.versions = VersionTracker(
            hass, build_services.versions, self.device_settings, self.listeners.notify
        )
        self.new_versions = NewVersions(hass, self.versions, self.listeners)
        self.firmware = DeviceFirmware(
            hass,
            lambda: self.devices,
            self._firmware_changed,
            lambda: self.inventory.match_soon(),  # noqa: PLW0108 - it is made after this
        )
        self.inventory = DeviceInventory(
            hass,
            CoreEsphome(hass),
            EsphomeInspector(
                build_services.layout,
                build_services.processes,
                build_services.toolchains,
                Path(hass.config.config_dir),
            ),
            scanned=self._files_changed,
            changed=self._devices_changed,
            macs=self.firmware.macs,
            announced=self.firmware.announced,
        )
        self.queue = JobQueue(
            persistence=job_journal(hass),
            logs=logs,
            builders=self.builders,
            flasher=build_services.flasher,
            firmware=build_services.firmware,
            origins=build_services.origins,
            hashes=PresentHashes(hass, self.firmware, build_services.config_hashes, self.inventory),
            devices=core_device_link(hass, self.inventory),
            configurations=self.inventory,
            settings=lambda: self.settings.of_queue(hass.config.time_zone, self.peering.expected),
            on_event=self._job_event,
            end_leftovers=build_services.start,
        )
        build_services.firmware.in_use = self.queue.firmware_in_use
        self._changes = ConfigurationChanges(
            hass,
            self.firmware,
            build_services.config_hashes,
            self.inventory,
            idle=lambda: not build_services.builder.slots.busy,
            in_use=self.queue.uses,
        )
        self._failed_installs = FailedInstalls(
            hass, self.inventory, self.queue, self.builders, self.firmware, versions=self.versions
        )
        self._records = TargetRecords(
            hass,
            inventory=self.inventory,
            queue=self.queue,
            firmware=self.firmware,
            device_settings=self.device_settings,
            rollbacks=self._rollbacks,
            build_services=build_services,
            logs=logs,
        )
        self._requests = JobRequests(
            device=self._device,
            installed_version=self.installed_version,
            inventory=self.inventory,
            builders=self.builders,
            versions=self.versions,
            firmware=build_services.firmware,
        )
        self.peering = Peering(hass, self.builders, build_services, self.queue.wanted_attempts)

    @property
    def devices(self) -> Mapping[TargetId, OffloadDevice]:
        """The devices by target; empty while no "this instance" is loaded."""
        return MappingProxyType({}) if self._entry is None else self.inventory.devices

    async def async_start(self) -> None:
        """Load the jobs; ``async_attach`` releases them."""
        self.queue.hold()
        self.builders.register(self.build_services.builder)
        await self.device_settings.async_load()
        await self.versions.async_load()
        await self.new_versions.async_start()
        await self.peering.async_start()
        await self.queue.start()
        await self.lender.async_start()
        for job in self.queue.jobs():
            self._rollbacks.note(job)
        await self.firmware.async_load(self.queue.jobs())

    async def async_stop(self) -> None:
        """Stop at the shutdown of Home Assistant: keep every job for the next start.

        Home Assistant waits 20 seconds, and each part has a time limit of its own.
        """
        self.inventory.stop()
        self.versions.stop()
        # Options that are being applied meanwhile start nothing any more.
        self.options = None
        await stop_all(
            self.queue.stop(),
            self.lender.async_stop(),
            self._changes.async_stop(),
            self.firmware.async_stop(),
            self.peering.async_stop(),
            self._pruning.stop(),
        )
        # After the jobs: one whose process ends before it is stopped would count as failed.
        await stop_all(self.build_services.aclose(), self.logs.aclose())

    async def async_attach(self, entry: OffloadConfigEntry) -> None:
        """Attach "this instance" and release the queue; returns after the first scan of its folder."""
        self._entry = entry
        self.peering.start_grace()
        await self._async_apply(entry)
        if self._entry is entry and self.options is not None:
            self.queue.release()
            await self.firmware.async_start()
            self._changes.start()
            self._failed_installs.start()

    async def async_detach(self, entry: OffloadConfigEntry) -> None:
        """Hold the queue; running jobs go on unless the owner disabled the entry."""
        self.queue.hold()
        self.inventory.stop()
        self.versions.stop()
        self._failed_installs.stop()
        await self._changes.async_stop()
        await self.firmware.async_stop()
        self._entry = None
        self.options = None
        if entry.disabled_by is None:
            await self.lender.async_hold()
        else:
            self._delete_repairs()
            await self.lender.async_apply(None)
            await self.queue.cancel_all()

    async def async_forget(self) -> None:
        """Cancel all jobs, unpair all guests and peers: "this instance" was removed."""
        await self.queue.cancel_all()
        issues.async_remove_stale(self.hass)
        self._delete_repairs()
        await self.lender.async_forget()
        await self.peering.async_remove_entries()

    def _delete_repairs(self) -> None:
        """Delete the repairs about the folder and the first device, which nothing follows now.

        Not at each stop: Home Assistant remembers of a repair that it is to be ignored.
        """
        self.inventory.delete_repairs()
        issues.async_set_canary_missing(self.hass, missing=False)
        issues.async_set_canary_blocks(self.hass, "", None)

    async def async_renew_identity(self) -> None:
        """Replace the identity and reload the peers, to be paired again; raises IdentityError."""
        await self.lender.async_renew_identity()
        self.peering.reload()

    async def async_apply_options(self, entry: OffloadConfigEntry) -> None:
        """Apply changed options at once; running jobs go on."""
        await self._async_apply(entry)
        self.queue.kick()

    async def _async_apply(self, entry: OffloadConfigEntry) -> None:
        options = OffloadOptions.from_entry(entry.data, entry.options)
        before, self.options, self.settings = self.options, options, options
        self.build_services.apply(entry.title, options.parallel_builds, options.compiler_cache_gib)
        if before is None or before.config_dir != options.config_dir:
            folder = options.config_dir
            await self.inventory.async_start(
                None if folder is None else Path(self.hass.config.path(str(folder)))
            )
            if self.options is not options:
                # Detached, stopped, or changed again while the folder was scanned.
                return
            self._records.devices_changed(entry.entry_id)
        self.versions.start(options)
        await self.lender.async_apply(options)

    async def async_submit(
        self,
        target: TargetId,
        operation: Operation,
        *,
        context: Context | None = None,
        **options: Unpack[RequestOptions],
    ) -> FirmwareJob:
        """Check a request and queue it; see ``async_prepare`` and ``submit``.

        Returns when the job is on disk.
        """
        context = context or Context(user_id=options.get("user_id"))
        options.setdefault("user_id", context.user_id)
        job = self.submit(await self.async_prepare(target, operation, **options), context)
        await self.queue.flush()
        return job

    async def async_prepare(
        self, target: TargetId, operation: Operation, **options: Unpack[RequestOptions]
    ) -> JobRequest:
        """Check a request and return it ready to be submitted.

        Raises ServiceValidationError, translated, saying what to do.
        """
        return await self._requests.async_prepare(target, operation, **options)

    @callback
    def submit(self, request: JobRequest, context: Context) -> FirmwareJob:
        """Queue a prepared request; every job is submitted here.

        ``context`` goes with the job's events. Raises ServiceValidationError.
        """
        self._device(request.target)  # it may have been removed meanwhile
        try:
            with self._announcer.on_behalf_of(context):
                return self.queue.submit(replace(request, batch=request.batch or context.id))
        except JobRefused as refused:
            raise validation_error(
                f"job_{refused.reason.value}",
                device=request.device_name,
                job_id="" if refused.job is None else refused.job.job_id,
            ) from refused

    async def async_cancel(self, job_id: str) -> FirmwareJob:
        """Cancel a job; returns when all its work has ended."""
        try:
            return await self.queue.cancel(job_id)
        except JobRefused as refused:
            raise validation_error(
                refused.reason.value,
                job_id=job_id,
                devices=job_id if refused.job is None else refused.job.request.device_name,
            ) from refused

    async def async_wait(self, job: FirmwareJob) -> FirmwareJob:
        """Wait until a job is terminal or waits for its device; cancelling this does not cancel it."""
        return await self.queue.wait(job.job_id)

    def installed_version(self, target: TargetId) -> str | None:
        """Return the ESPHome version that a device runs, as far as is known."""
        running = self.firmware.running(target)
        return None if running is None else running.esphome_version

    def job_details(self, job: FirmwareJob) -> JobDetails:
        """Return all fields of a job, ready for JSON."""
        return self._announcer.details(job, self.queue.forecast(job))

    @callback
    @override
    def async_add_listener(
        self, update_callback: CALLBACK_TYPE, context: Callable[[], TargetId] | None = None
    ) -> CALLBACK_TYPE:
        """Call ``update_callback`` after changes of devices, versions and jobs; returns unsubscribe.

        With ``context``, which returns a target, only after those that concern it.
        """
        return self.listeners.subscribe(update_callback, context)

    def _device(self, target: TargetId) -> OffloadDevice:
        if self.options is None or self.options.config_dir is None:
            raise validation_error("no_config_folder")
        if (device := self.devices.get(target)) is None:
            raise validation_error("unknown_configuration", configuration=target)
        return device

    @callback
    def _job_event(self, event: JobEvent, job: FirmwareJob) -> None:
        if job.terminal:
            self._rollbacks.note(job)
            self.firmware.note_job(job)
            self._changes.request()
            if job.outcome.verified:
                # The next job may start at once, from the version that the device has now.
                self.inventory.match_now()
            if job.attempts:
                self._pruning.request()
        self._announcer.announce(event, job)
        self.listeners.notify((job.request.target,))

    async def _async_prune_cache(self) -> None:
        """Keep the cache within its budgets, after a build: none waits for the disk."""
        known = None if self._entry is None else self.inventory.known_files
        in_use = (job.request.configuration for job in self.queue.jobs() if not job.terminal)
        try:
            # None are known before a scan, and at the mount point of a share that is not mounted.
            await self.build_services.make_room(known.union(in_use) if known else None)
        except OSError as err:
            _LOGGER.warning("The cache cannot be pruned: %s", err)

    @callback
    def _files_changed(self, changes: FileChanges) -> None:
        if self._entry is not None:
            self._records.files_changed(self._entry.entry_id, changes)

    @callback
    def _devices_changed(self, targets: Collection[TargetId]) -> None:
        if self._entry is not None:
            self._records.devices_changed(self._entry.entry_id)
            self._rollbacks.check(self.inventory.devices)
            self.firmware.devices_changed(targets)
            self.listeners.of_list.notify()
        self._firmware_changed(targets)

    @callback
    def _firmware_changed(self, targets: Collection[TargetId]) -> None:
        self._changes.request()
        self.listeners.notify(targets)
