"""DeviceInventory: the configurations and their devices, updated while either changes."""

import asyncio
from collections.abc import Callable, Collection, Container, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import override

from homeassistant.core import CALLBACK_TYPE, HomeAssistant, callback
from homeassistant.helpers.event import async_track_time_interval

from .. import issues
from ..const import DOMAIN
from ..engine.device_access import DeviceAccess
from ..engine.devices.inspector import Inspector
from ..engine.devices.model import Configuration, ScanResult
from ..engine.devices.scanner import FolderUnavailableError as Unavailable, Scanner
from ..engine.jobs.model import JobRequest
from ..engine.jobs.ports import ConfigurationSource, FolderUnavailableError
from ..engine.reason import Reason
from ..storage import StatePersistence
from .choices import DeviceChoices
from .core_esphome import CoreDevice, CoreEsphome
from .matching import Match, is_of_another, match

_SCAN_INTERVAL = timedelta(seconds=30)

# A network that comes back connects all devices at once; they are matched together.
_COALESCE_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class OffloadDevice:
    """A configuration and its device in core's esphome, if it has one.

    ``rivals``: see ``Match``.
    """

    configuration: Configuration
    core: CoreDevice | None
    rivals: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class DeviceChanges:
    """The changes that a scan found: removed files, and old names of renamed files by new name."""

    removed: frozenset[str]
    renamed: Mapping[str, str]


class DeviceInventory(ConfigurationSource):
    """Scans the configuration folder and matches it to core's devices.

    ``scanned`` is called after each scan that found a change, ``changed`` with the configurations
    whose devices were added, removed or changed; ``last_mac`` returns the MAC address of the device
    that a configuration had last.
    """

    def __init__(
        self,
        hass: HomeAssistant,
        core: CoreEsphome,
        inspector: Inspector,
        *,
        scanned: Callable[[DeviceChanges], None],
        changed: Callable[[Container[str]], None],
        last_mac: Callable[[str], str | None],
    ) -> None:
        self._hass = hass
        self._core = core
        self._inspector = inspector
        self._store = StatePersistence(hass, "configurations")
        self._scanned = scanned
        self._changed = changed
        self._last_mac = last_mac
        self._config_dir: Path | None = None
        self._scanner: Scanner | None = None
        self._following = False
        self._scan_lock = asyncio.Lock()
        self._configurations: Mapping[str, Configuration] = MappingProxyType({})
        self._devices: Mapping[str, OffloadDevice] = MappingProxyType({})
        self._matches: Mapping[str, Match] = MappingProxyType({})
        self._choices = DeviceChoices(hass)
        self._problems: Mapping[str, Reason] = MappingProxyType({})
        self._scanned_once = self._scanned_all = False
        self._unavailable = False
        self._first_scan: asyncio.Task[None] | None = None
        self._fetching: asyncio.Task[None] | None = None
        self._unsubscribes: list[Callable[[], None]] = []
        self._match_timer: asyncio.TimerHandle | None = None

    @property
    def devices(self) -> Mapping[str, OffloadDevice]:
        """All devices by configuration file name."""
        return self._devices

    @property
    def known_files(self) -> frozenset[str] | None:
        """All files that are devices or may be, unreadable ones included.

        None while that is not known: before the first scan, and while the folder is unavailable.
        """
        if self._scanner is not None and (not self._scanned_once or self._unavailable):
            return None
        unsure = frozenset[str]() if self._scanner is None else self._scanner.result.unsure
        return unsure.union(self._problems, self._configurations)

    @property
    def problems(self) -> Mapping[str, Reason]:
        """The files that cannot be read at the moment, and why."""
        return self._problems

    @property
    @override
    def config_dir(self) -> Path:
        if self._config_dir is None:
            raise LookupError("no configuration folder was ever set")
        return self._config_dir

    @override
    async def fingerprint(self, configuration: str) -> str | None:
        if (scanner := self._scanner) is None:
            return None
        try:
            return await scanner.fingerprint(configuration)
        except Unavailable as error:
            raise FolderUnavailableError from error

    @override
    async def same_files(self, configuration: str, fingerprint: str) -> bool:
        try:
            return self._scanner is not None and await self._scanner.same_files(
                configuration, fingerprint
            )
        except Unavailable as error:
            raise FolderUnavailableError from error

    def files_state(self, configuration: str) -> object:
        """Return what is equal as long as no file of a configuration changes; without I/O."""
        return None if self._scanner is None else self._scanner.state(configuration)

    @override
    def node_name(self, configuration: str) -> str | None:
        return None if self._scanner is None else self._scanner.node_name(configuration)

    @override
    def access(self, configuration: str) -> DeviceAccess:
        known = self._configurations.get(configuration)
        return DeviceAccess() if known is None else known.access

    async def async_start(self, config_dir: Path | None) -> None:
        """Follow a folder (None: there is none); returns after a first, quick scan.

        ESPHome is asked after that, in the background.
        """
        self.stop()
        if self._scanner is None or config_dir != self._config_dir:
            if self._scanner is not None:
                self.delete_repairs()
            self._configurations = MappingProxyType({})
            self._matches = MappingProxyType({})
            self._scanned_once = self._scanned_all = False
            self._scanner = None
            if config_dir is not None:
                scanner = self._scanner = Scanner(config_dir, self._inspector)
                self._config_dir = config_dir
                await self._choices.async_load()
                await scanner.restore(await self._store.load())
                if self._scanner is not scanner:  # another folder was chosen meanwhile
                    return
        if config_dir is not None:
            self._following = True
            self._unsubscribes = [
                async_track_time_interval(
                    self._hass, self._async_interval, _SCAN_INTERVAL, cancel_on_shutdown=True
                ),
                self._core.subscribe(self._match_soon),
            ]
            await self._async_scan(ask=False)
            if self._following and self._inspector.version is not None:
                self._first_scan = self._hass.async_create_background_task(
                    self.async_rescan(), f"{DOMAIN} ask ESPHome about all configurations"
                )
        self._match()

    @callback
    def stop(self) -> None:
        """Stop following the folder; its devices stay known to the jobs that still run."""
        self._following = False
        for unsubscribe in self._unsubscribes:
            unsubscribe()
        self._unsubscribes = []
        if self._match_timer is not None:
            self._match_timer.cancel()
            self._match_timer = None
        for task in (self._first_scan, self._fetching):
            if task is not None:
                task.cancel()
        self._first_scan = self._fetching = None

    @callback
    def delete_repairs(self) -> None:
        """Delete the repairs about the folder, which is not followed any more.

        Not at each stop: Home Assistant remembers of a repair that it is to be ignored.
        """
        self._show_problems({})
        self._show_folder(None)
        issues.async_set_ambiguous(self._hass, {}, complete=True)

    async def async_rescan(self) -> None:
        """Scan the folder now."""
        await self._async_scan(ask=True)

    async def _async_scan(self, *, ask: bool) -> None:
        async with self._scan_lock:
            scanner = self._scanner
            if scanner is None or not self._following:
                return
            result = await scanner.scan(ask=ask)
            if self._scanner is scanner:
                self._scanned_all |= ask
                self._apply(result)
            if scanner.unsaved:
                await self._store.save_now(await scanner.stored())

    @callback
    def find(self, request: JobRequest) -> Match:
        """Return the device of the configuration of a job, as it is now."""
        device = self._devices.get(request.configuration)
        if device is not None and device.core is None:
            self.match_now()
            device = self._devices.get(request.configuration)
        if device is None or device.core is None:
            return Match() if device is None else Match(None, device.rivals)
        return Match(self._core.get(device.core.entry_id))

    @callback
    def is_of_another(self, configuration: str, device: CoreDevice) -> bool:
        """Return whether a device is known not to be that of a configuration."""
        known = self._configurations.get(configuration)
        return known is not None and is_of_another(
            known,
            self._configurations.values(),
            device,
            self._last_mac(configuration),
            self._chosen(configuration),
        )

    @callback
    def candidates(self, configuration: str) -> tuple[CoreDevice, ...]:
        """Return the devices that a configuration could be for, where it is unclear."""
        found = self._matches.get(configuration)
        return () if found is None else found.candidates

    async def async_choose(self, configuration: str, choice: str) -> None:
        """Remember which device a configuration is for; see ``DeviceChoices``."""
        if (known := self._configurations.get(configuration)) is not None:
            await self._choices.async_choose(known, choice)
            self._match()

    @property
    def files_with_choice(self) -> list[str]:
        """The configurations for which a person chose a device, or none."""
        return self._choices.files

    async def async_forget_choices(self, configurations: Collection[str]) -> None:
        """Let the devices of configurations be chosen again."""
        await self._choices.async_forget(configurations)
        self._match()

    def _chosen(self, configuration: str) -> str | None:
        return self._choices.get(self._configurations[configuration], self._last_mac(configuration))

    @callback
    def live_devices(self) -> Sequence[CoreDevice]:
        """Return all devices of core's esphome."""
        return self._core.devices()

    @callback
    def updating(self, device: CoreDevice) -> bool:
        """Return whether core itself is updating a device."""
        return self._core.updating(device)

    @callback
    def subscribe(self, listener: Callable[[], None]) -> CALLBACK_TYPE:
        """Call ``listener`` whenever any live device may have changed; returns unsubscribe."""
        return self._core.subscribe(listener)

    @callback
    def match_now(self) -> None:
        """Apply pending changes of core's devices at once."""
        if self._match_timer is not None:
            self._match()

    async def _async_interval(self, _now: datetime) -> None:
        if not self._scan_lock.locked():  # never two scans of a slow folder at a time
            await self.async_rescan()
        if self._scanner is not None and (self._fetching is None or self._fetching.done()):
            self._fetching = self._hass.async_create_background_task(
                self._scanner.fetch_packages(), f"{DOMAIN} fetch remote packages"
            )

    @callback
    def _apply(self, result: ScanResult) -> None:
        if not self._following:  # stopped during the scan
            return
        self._show_folder(result.unavailable)
        if result.problems != self._problems:
            self._show_problems(result.problems)
            self._changed(())
        self._scanned_once = True
        before = self._configurations
        now = result.configurations
        if now == before:
            self._show_ambiguous()
            return
        self._configurations = MappingProxyType(dict(now))
        removed = before.keys() - now.keys()
        changes = DeviceChanges(frozenset(removed), _renamed(before, now))
        self._choices.rename(changes.renamed)
        if (known := self.known_files) is not None:
            self._choices.keep_only(known)
        self._scanned(changes)
        self._match()

    @callback
    def _match_soon(self) -> None:
        if self._match_timer is None:
            self._match_timer = self._hass.loop.call_later(_COALESCE_SECONDS, self._match)

    @callback
    def _match(self) -> None:
        if self._match_timer is not None:
            self._match_timer.cancel()
            self._match_timer = None
        matches = self._matches = match(
            self._configurations, self._core.devices(), self._last_mac, self._chosen
        )
        devices = {
            name: OffloadDevice(configuration, matches[name].core, matches[name].rivals)
            for name, configuration in self._configurations.items()
        }
        before, self._devices = self._devices, MappingProxyType(devices)
        changed = {
            name for name in before.keys() | devices.keys() if before.get(name) != devices.get(name)
        }
        self._show_ambiguous()
        if changed:
            self._changed(changed)

    @callback
    def _show_ambiguous(self) -> None:
        issues.async_set_ambiguous(
            self._hass,
            {
                name: issues.UnclearDevice(
                    self._configurations[name].node_name,
                    found.rivals,
                    can_choose=any(device.mac for device in found.candidates),
                )
                for name, found in self._matches.items()
                if found.rivals and not found.settled
            },
            complete=self._scanned_all,
        )

    @callback
    def _show_folder(self, reason: Reason | None) -> None:
        # The devices of a missing folder, such as a share that is not mounted, are kept.
        self._unavailable = reason is not None
        issues.async_set_folder_unavailable(self._hass, str(self._config_dir), reason)

    @callback
    def _show_problems(self, problems: Mapping[str, Reason]) -> None:
        issues.async_set_unreadable(self._hass, self._problems, problems)
        self._problems = MappingProxyType(dict(problems))


def _renamed(
    before: Mapping[str, Configuration], now: Mapping[str, Configuration]
) -> dict[str, str]:
    """Pair removed files with new ones by node name, where exactly one of each has it."""
    removed: dict[str, list[str]] = {}
    for name in before.keys() - now.keys():
        removed.setdefault(before[name].node_name, []).append(name)
    new: dict[str, list[str]] = {}
    for name in now.keys() - before.keys():
        new.setdefault(now[name].node_name, []).append(name)
    return {
        new[node][0]: names[0]
        for node, names in removed.items()
        if len(names) == 1 and len(new.get(node, ())) == 1
    }
