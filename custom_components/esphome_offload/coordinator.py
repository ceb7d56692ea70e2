"""OffloadCoordinator owns devices, jobs and builders; Home Assistant talks to it alone."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType

from homeassistant.config_entries import ConfigEntry
from homeassistant.core import Context, HomeAssistant, callback
from homeassistant.util.hass_dict import HassKey

from . import issues as job_issues, registry
from .cache_pruner import CachePruner
from .const import DOMAIN
from .engine.build.services import BuildServices
from .engine.const import REQUESTED_AUTO, JobStatus, Operation
from .engine.job_log import JobLogs
from .engine.jobs.model import FirmwareJob, JobEvent, JobRequest
from .engine.jobs.pool import BuilderPool
from .engine.jobs.ports import QueueSettings
from .engine.jobs.queue import JobQueue, JobRefused
from .errors import validation_error
from .events import JobAnnouncer
from .inventory.core_esphome import CoreEsphome
from .inventory.device_link import CoreDeviceLink
from .inventory.tracker import DeviceChanges, DeviceInventory, OffloadDevice
from .inventory.versions import VersionTracker
from .job_payload import JobDetails
from .lending.lender import Lender
from .options import OffloadOptions
from .peering.entry import PeerConfigEntry
from .peering.peers import Peering
from .storage import JobPersistence

type OffloadConfigEntry = ConfigEntry[OffloadCoordinator]
type AnyConfigEntry = OffloadConfigEntry | PeerConfigEntry

DATA_COORDINATOR: HassKey[OffloadCoordinator] = HassKey(DOMAIN)


class OffloadCoordinator:
    """The one owner. It lives as long as Home Assistant; config entries come and go.

    ``options`` is None while no entry "this instance" is loaded.
    """

    def __init__(self, hass: HomeAssistant, build_services: BuildServices, logs: JobLogs) -> None:
        """Put the parts together; nothing runs before ``async_start``."""
        self.hass = hass
        self.build_services = build_services
        self.logs = logs
        self.builders = BuilderPool()
        self._housekeeping = CachePruner(hass, build_services.make_room, self._kept_configurations)
        self.lender = Lender(hass, build_services, self._housekeeping.soon)
        self.options: OffloadOptions | None = None
        self._settings = OffloadOptions(config_dir=None)
        self._entry: OffloadConfigEntry | None = None
        self._listeners: list[Callable[[], None]] = []
        self._job_listeners: list[Callable[[str], None]] = []
        self._flashed: dict[str, str] = {}
        self._announcer = JobAnnouncer(hass)
        core = CoreEsphome(hass)
        self._versions = VersionTracker(hass, build_services.versions, self._notify)
        self._tracker = DeviceInventory(
            hass, core, scanned=self._configurations_changed, changed=self._devices_changed
        )
        self.queue = JobQueue(
            persistence=JobPersistence(hass),
            logs=logs,
            builders=self.builders,
            flasher=build_services.flasher,
            firmware=build_services.firmware,
            devices=CoreDeviceLink(core),
            configurations=self._tracker,
            settings=self._queue_settings,
            on_event=self._job_event,
            end_leftovers=build_services.start,
        )
        self.peering = Peering(hass, self.builders, build_services, self.queue.wanted_attempts)

    @property
    def devices(self) -> Mapping[str, OffloadDevice]:
        """What can be flashed, by configuration file name; empty while nothing is attached."""
        return MappingProxyType({}) if self._entry is None else self._tracker.devices

    @property
    def unreadable(self) -> frozenset[str]:
        """The files in the configuration folder that cannot be read for the moment."""
        return self._tracker.problems

    @property
    def latest_version(self) -> str | None:
        """The ESPHome version that is installed when nobody asks for one; None while unknown."""
        return self._versions.latest

    async def async_start(self) -> None:
        """Load the jobs. They wait for ``async_attach``, which says where the files are."""
        self.queue.hold()
        self.builders.register(self.build_services.builder)
        await self._versions.async_load()
        await self.queue.start()
        await self.lender.async_start()
        for job in self.queue.jobs():
            self._note_flashed(job)

    async def async_stop(self) -> None:
        """Home Assistant stops: end every process, keep every job for the next start."""
        self._tracker.stop()
        self._versions.stop()
        await self.lender.async_stop()
        await self.queue.stop()
        await self.peering.async_stop()
        await self._housekeeping.async_stop()
        await self.build_services.aclose()
        await self.logs.aclose()

    async def async_attach(self, entry: OffloadConfigEntry) -> None:
        """Begin to work for "this instance"; returns when its folder was scanned once."""
        self._entry = entry
        self.peering.start_grace()
        await self._async_apply(entry)
        self.queue.release()

    async def async_detach(self, entry: OffloadConfigEntry) -> None:
        """Start nothing more; what runs goes on, unless the owner disabled the entry."""
        self.queue.hold()
        self._tracker.stop()
        self._versions.stop()
        self._entry = None
        self.options = None
        if entry.disabled_by is None:
            await self.lender.async_hold()
        else:
            await self.lender.async_apply(None)
            await self.queue.cancel_all()

    async def async_forget(self) -> None:
        """Cancel all jobs, unpair all guests and peers: "this instance" was removed."""
        await self.queue.cancel_all()
        job_issues.async_forget(self.hass)
        await self.lender.async_forget()
        await self.peering.async_remove_entries()

    async def async_renew_identity(self) -> None:
        """Be another instance for all others from now on; raises IdentityError."""
        await self.lender.async_renew_identity()
        self.peering.reload()

    async def async_apply_options(self, entry: OffloadConfigEntry) -> None:
        """Heed changed options at once; running jobs go on."""
        await self._async_apply(entry)
        self.queue.kick()

    async def _async_apply(self, entry: OffloadConfigEntry) -> None:
        options = OffloadOptions.from_entry(entry.data, entry.options)
        before, self.options = self.options, options
        self._settings = options
        self.build_services.builder.slots.set_count(options.parallel_builds)
        if before is None or before.config_dir != options.config_dir:
            folder = options.config_dir
            await self._tracker.async_start(
                None if folder is None else Path(self.hass.config.path(str(folder)))
            )
            self._remove_stale(entry)
            registry.async_relink(self.hass, entry.entry_id, self._tracker.devices)
        self._versions.start(entry, options)
        await self.lender.async_apply(options)

    async def async_submit(
        self,
        configuration: str,
        operation: Operation,
        *,
        version: str | None = None,
        source: str = REQUESTED_AUTO,
        clean: bool = False,
        address: str | None = None,
        user_id: str | None = None,
        context: Context | None = None,
    ) -> FirmwareJob:
        """Check a wish and queue it; see ``async_prepare`` and ``submit``."""
        context = context or Context(user_id=user_id)
        request = await self.async_prepare(
            configuration,
            operation,
            version=version,
            source=source,
            clean=clean,
            address=address,
            user_id=user_id or context.user_id,
        )
        return self.submit(request, context)

    async def async_prepare(
        self,
        configuration: str,
        operation: Operation,
        *,
        version: str | None = None,
        source: str = REQUESTED_AUTO,
        clean: bool = False,
        address: str | None = None,
        user_id: str | None = None,
    ) -> JobRequest:
        """Check a wish and return it ready to be submitted.

        ``source`` is "auto" or a builder's id. Raises ServiceValidationError, translated, saying
        what to do.
        """
        device = self._device(configuration)
        name = device.configuration.node_name
        if source != REQUESTED_AUTO and self.builders.get(source) is None:
            raise validation_error("unknown_source", device=name, source=source)
        target = await self._async_target_version(configuration, name, operation, version)
        return JobRequest(
            operation=operation,
            configuration=configuration,
            device_name=name,
            esphome_version=target,
            requested_source=source,
            clean=clean,
            address=address,
            from_version=self.installed_version(configuration),
            user_id=user_id,
        )

    @callback
    def submit(self, request: JobRequest, context: Context) -> FirmwareJob:
        """Queue what was prepared: the one door to the queue.

        ``context`` goes with the job's events. Raises ServiceValidationError.
        """
        self._device(request.configuration)  # it may have gone meanwhile
        try:
            with self._announcer.on_behalf_of(context):
                return self.queue.submit(request)
        except JobRefused as refused:
            raise validation_error(
                f"job_{refused.reason.value}",
                device=request.device_name,
                job_id="" if refused.job is None else refused.job.job_id,
            ) from refused

    async def async_cancel(self, job_id: str) -> FirmwareJob:
        """Cancel a job; returns when all of it has ended."""
        try:
            return await self.queue.cancel(job_id)
        except JobRefused as refused:
            raise validation_error(
                refused.reason.value,
                job_id=job_id,
                devices=job_id if refused.job is None else refused.job.request.device_name,
            ) from refused

    async def async_wait(self, job: FirmwareJob) -> FirmwareJob:
        """Wait until a job is terminal or waits for its device; cancelling this leaves it be."""
        return await self.queue.wait(job.job_id)

    def installed_version(self, configuration: str) -> str | None:
        """Return the ESPHome version that a device runs, else the one last put on it."""
        device = self.devices.get(configuration)
        if device is not None and device.core is not None and device.core.esphome_version:
            return device.core.esphome_version
        return self.flashed_version(configuration)

    def flashed_version(self, configuration: str) -> str | None:
        """Return the ESPHome version that we last put on a device."""
        return self._flashed.get(configuration)

    @callback
    def restore_flashed(self, configuration: str, version: str) -> None:
        """Take over what was known before a restart, unless a job says better."""
        self._flashed.setdefault(configuration, version)

    def job_details(self, job: FirmwareJob) -> JobDetails:
        """Return all fields of a job, ready for JSON."""
        return self._announcer.details(job)

    @callback
    def async_add_listener(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call ``listener`` when devices or the newest version changed; returns unsubscribe."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    @callback
    def async_subscribe_jobs(self, listener: Callable[[str], None]) -> Callable[[], None]:
        """Call ``listener`` with the configuration whose job changed; returns unsubscribe."""
        self._job_listeners.append(listener)
        return lambda: self._job_listeners.remove(listener)

    def _device(self, configuration: str) -> OffloadDevice:
        if self.options is None or self.options.config_dir is None:
            raise validation_error("no_config_folder")
        if (device := self.devices.get(configuration)) is None:
            raise validation_error("unknown_configuration", configuration=configuration)
        return device

    async def _async_target_version(
        self, configuration: str, device_name: str, operation: Operation, version: str | None
    ) -> str:
        if operation is Operation.UPLOAD:
            if (firmware := await self.build_services.firmware.latest(configuration)) is None:
                raise validation_error("nothing_built", device=device_name)
            return firmware.build_info.esphome_version
        if not operation.builds:
            return self.latest_version or ""
        return await self._versions.async_target(version, device_name)

    def _queue_settings(self) -> QueueSettings:
        options = self._settings
        return QueueSettings(
            parallel_uploads=options.parallel_uploads,
            wait_for_device=options.device_patience,
            wait_for_builder=options.wait_for_builder_minutes * 60.0,
            fall_back_to_local=options.no_builder.builds_here,
            time_zone=self.hass.config.time_zone,
            peers_expected=self.peering.expected,
        )

    @callback
    def _job_event(self, event: JobEvent, job: FirmwareJob) -> None:
        if job.terminal:
            self._note_flashed(job)
            if job.outcome.verified:
                # The next job may begin in this very moment, from the version seen just now.
                self._tracker.match_now()
            if job.request.operation.builds:
                self._housekeeping.soon()
        self._announcer.announce(event, job)
        for listener in tuple(self._job_listeners):
            listener(job.request.configuration)

    def _kept_configurations(self) -> frozenset[str] | None:
        """Return those that are there or in use; None while nobody can know."""
        known = None if self._entry is None else self._tracker.known_files
        if not known:
            # Not scanned yet, or the folder is where a share is not mounted.
            return None
        active = (job.request.configuration for job in self.queue.jobs() if not job.terminal)
        return known.union(active)

    def _note_flashed(self, job: FirmwareJob) -> None:
        if job.status is JobStatus.COMPLETED and job.request.operation.flashes:
            self._flashed[job.request.configuration] = job.request.esphome_version

    @callback
    def _configurations_changed(self, changes: DeviceChanges) -> None:
        if self._entry is None:
            return
        for new, old in changes.renamed.items():
            registry.async_rename(self.hass, old, new)
            self.queue.rename(old, new)
            self.hass.async_create_background_task(
                self.build_services.firmware.rename(old, new), f"{DOMAIN} rename {old}"
            )
            if (version := self._flashed.pop(old, None)) is not None:
                self._flashed[new] = version
        self._remove_stale(self._entry)
        for configuration in changes.gone:
            job = self.queue.active(configuration)
            if job is not None and job.waiting:
                self.logs.append(job.job_id, (f"{configuration} is gone, so nobody waits on",))
                self._entry.async_create_background_task(
                    self.hass, self._async_drop(job.job_id), f"{DOMAIN} drop {job.job_id}"
                )

    async def _async_drop(self, job_id: str) -> None:
        with suppress(JobRefused):  # it has ended meanwhile
            await self.queue.cancel(job_id)

    def _remove_stale(self, entry: OffloadConfigEntry) -> None:
        if (known := self._tracker.known_files) is not None:
            registry.async_remove_stale(self.hass, entry.entry_id, known)
            job_issues.async_forget(self.hass, known)

    @callback
    def _devices_changed(self) -> None:
        if self._entry is not None:
            registry.async_relink(self.hass, self._entry.entry_id, self._tracker.devices)
        self._notify()

    @callback
    def _notify(self) -> None:
        for listener in tuple(self._listeners):
            listener()
