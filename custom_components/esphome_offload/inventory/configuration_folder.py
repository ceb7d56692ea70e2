"""ConfigurationFolder: the configurations in ESPHome's folder, read while they change."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import override

from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers.event import async_track_time_interval

from .. import issues
from ..const import DOMAIN
from ..engine.device_access import DeviceAccess
from ..engine.devices.inspector import Inspector
from ..engine.devices.model import Configuration, ScanResult
from ..engine.devices.scanner import FolderUnavailableError as Unavailable, Scanner
from ..engine.jobs.ports import ConfigurationSource, FolderUnavailableError
from ..engine.reason import Reason
from ..stores.storage import StatePersistence

_SCAN_INTERVAL = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class FileChanges:
    """The changes that a scan found: removed files, and old names of renamed files by new name."""

    removed: frozenset[str]
    renamed: Mapping[str, str]


class ConfigurationFolder(ConfigurationSource):
    """Scans the folder; ``scanned`` is called after each scan that found a change."""

    def __init__(
        self, hass: HomeAssistant, inspector: Inspector, scanned: Callable[[FileChanges], None]
    ) -> None:
        self._hass = hass
        self._inspector = inspector
        self._store = StatePersistence(hass, "configurations")
        self._scanned = scanned
        self._config_dir: Path | None = None
        self._scanner: Scanner | None = None
        self._following = False
        self._scan_lock = asyncio.Lock()
        self._configurations: Mapping[str, Configuration] = MappingProxyType({})
        self._problems: Mapping[str, Reason] = MappingProxyType({})
        self._unsure = frozenset[str]()
        self._scanned_once = self._scanned_all = False
        self._unavailable = False
        self._first_scan: asyncio.Task[None] | None = None
        self._fetching: asyncio.Task[None] | None = None
        self._unsubscribes: list[Callable[[], None]] = []

    @property
    def known_files(self) -> frozenset[str] | None:
        """All files that are devices or may be, unreadable ones included.

        None while that is not known: before the first scan, and while the folder is unavailable.
        """
        if self._scanner is not None and (not self._scanned_once or self._unavailable):
            return None
        return self._unsure.union(self._problems, self._configurations)

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
    def all_files(self, configuration: str) -> object | None:
        return None if self._scanner is None else self._scanner.all_files(configuration)

    @override
    def node_name(self, configuration: str) -> str | None:
        return None if self._scanner is None else self._scanner.node_name(configuration)

    @override
    def access(self, configuration: str) -> DeviceAccess:
        known = self._configurations.get(configuration)
        return DeviceAccess() if known is None else known.access

    async def async_start(self, config_dir: Path | None) -> bool:
        """Follow a folder (None: there is none); returns after a first, quick scan.

        ESPHome is asked after that, in the background. Returns False when another folder was
        chosen meanwhile.
        """
        self.stop()
        if self._scanner is None or config_dir != self._config_dir:
            if self._scanner is not None:
                self.delete_repairs()
            self._configurations = MappingProxyType({})
            self._unsure = frozenset()
            self._scanned_once = self._scanned_all = False
            self._scanner = None
            if config_dir is not None:
                scanner = self._scanner = Scanner(config_dir, self._inspector)
                self._config_dir = config_dir
                await self._async_load(scanner)
                if self._scanner is not scanner:
                    return False
        if config_dir is not None:
            self._following = True
            self._unsubscribes = self._subscribe()
            await self._async_scan(ask=False)
            if self._following and self._inspector.version is not None:
                self._first_scan = self._hass.async_create_background_task(
                    self.async_rescan(), f"{DOMAIN} ask ESPHome about all configurations"
                )
        return True

    @callback
    def stop(self) -> None:
        """Stop following the folder; its devices stay known to the jobs that still run."""
        self._following = False
        for unsubscribe in self._unsubscribes:
            unsubscribe()
        self._unsubscribes = []
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

    async def async_rescan(self) -> None:
        """Scan the folder now."""
        await self._async_scan(ask=True)

    async def _async_load(self, scanner: Scanner) -> None:
        """Load what was known of the folder before a restart."""
        await scanner.restore(await self._store.load())

    def _subscribe(self) -> list[Callable[[], None]]:
        """Start to follow the folder; returns what ends that."""
        return [
            async_track_time_interval(
                self._hass, self._async_interval, _SCAN_INTERVAL, cancel_on_shutdown=True
            )
        ]

    async def _async_scan(self, *, ask: bool) -> None:
        async with self._scan_lock:
            scanner = self._scanner
            if scanner is None or not self._following:
                return
            result = await scanner.scan(ask=ask)
            if self._scanner is scanner:
                self._scanned_all |= ask
                if self._following:  # else it was stopped during the scan
                    self._apply(result)
            if scanner.unsaved:
                await self._store.save_now(await scanner.stored())

    async def _async_interval(self, _now: datetime) -> None:
        if not self._scan_lock.locked():  # never two scans of a slow folder at a time
            await self.async_rescan()
        if self._scanner is not None and (self._fetching is None or self._fetching.done()):
            self._fetching = self._hass.async_create_background_task(
                self._scanner.fetch_packages(), f"{DOMAIN} fetch remote packages"
            )

    @callback
    def _apply(self, result: ScanResult) -> None:
        self._show_folder(result.unavailable)
        if result.problems != self._problems:
            self._show_problems(result.problems)
        self._unsure = result.unsure
        self._scanned_once = True
        before = self._configurations
        now = result.configurations
        if now != before:
            self._configurations = MappingProxyType(dict(now))
            removed = before.keys() - now.keys()
            self._scanned(FileChanges(frozenset(removed), _renamed(before, now)))

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
