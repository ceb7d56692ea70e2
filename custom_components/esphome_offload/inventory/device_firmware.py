"""DeviceFirmware: what each device runs, and whether its configuration changed since."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
import logging
from typing import Annotated, Final

from homeassistant.core import HomeAssistant, callback
from homeassistant.util.network import is_ip_address

from ..engine.codec import CodecError, Text, decode, encode
from ..engine.const import JobStatus
from ..engine.devices.model import Configuration
from ..engine.jobs.model import FirmwareJob
from ..engine.target import TargetId, configuration_of, is_mac, mac_suffix, moved
from ..stores.storage import StatePersistence
from .announced_firmware import AnnouncedFirmware, FirmwareAnnouncements
from .matching import is_named
from .running_firmware import (
    PresentHash,
    RunningFirmware,
    after_announcement,
    after_connection,
    change_id,
    is_changed,
)
from .tracker import OffloadDevice

_LOGGER = logging.getLogger(__name__)

_MOST_UNMATCHED: Final = 1000
_MOST_OF_CONFIGURATION: Final = 50
"""Anybody in the network can announce devices."""


@dataclass(frozen=True, slots=True)
class _Record:
    """What is stored of a target."""

    running: RunningFirmware | None = None
    present: PresentHash | None = None
    mac: Annotated[str, Text(64)] | None = None
    announced: Annotated[str, Text(64)] | None = None
    """The node name of a device that Home Assistant does not have, and has heard of."""


class DeviceFirmware:
    """Keeps in ``.storage/esphome_offload.firmware`` what devices run.

    ``changed`` is called with the targets for which something changed, ``found`` when a device
    has announced itself that may be one of several of a configuration.
    """

    def __init__(
        self,
        hass: HomeAssistant,
        devices: Callable[[], Mapping[TargetId, OffloadDevice]],
        changed: Callable[[Collection[TargetId]], None],
        found: Callable[[], None],
    ) -> None:
        self._devices = devices
        self._changed = changed
        self._found = found
        self._store = StatePersistence(hass, "firmware")
        self._records: dict[TargetId, _Record] = {}
        self._by_configuration: dict[str, list[TargetId]] | None = None
        self._announcements = FirmwareAnnouncements(hass, self._announced)
        # Of devices whose configuration has not been found yet.
        self._unmatched: dict[str, AnnouncedFirmware] = {}
        # Of those with a MAC suffix the MAC addresses and names, by the name without it.
        self._suffixed: defaultdict[str, dict[str, str]] = defaultdict(dict)
        self._indexed: Mapping[TargetId, OffloadDevice] | None = None
        self._index: dict[str, list[TargetId]] = {}

    async def async_load(self, jobs: Iterable[FirmwareJob]) -> None:
        """Load what was known before the restart, else what the jobs have flashed."""
        for name, raw in (await self._store.load() or {}).items():
            try:
                self._records[TargetId(name)] = decode(_Record, raw)
            except CodecError as err:
                _LOGGER.warning("What was known of the device of %s is damaged: %s", name, err)
        known = frozenset(self._records)
        for job in jobs:
            if job.request.target not in known:
                self.note_job(job)

    async def async_start(self) -> None:
        """Listen to what devices announce."""
        await self._announcements.async_start()

    async def async_stop(self) -> None:
        """Stop listening; what is known stays known."""
        await self._announcements.async_stop()
        await self._store.save_now(self._content())

    def running(self, target: TargetId) -> RunningFirmware | None:
        """Return what a device runs, as far as is known: it never contradicts the device."""
        known = self._record(target).running
        device = self._devices().get(target)
        core = None if device is None else device.core
        if core is not None and (core.online or known is None):
            return after_connection(known, core)
        return known

    def present(self, target: TargetId) -> PresentHash | None:
        """Return the last hash of the configuration of a target."""
        return self._record(target).present

    def present_of(
        self, configuration: str, fingerprint: str, esphome_version: str
    ) -> PresentHash | None:
        """Return the hash of this state of a configuration if it is known for any target."""
        wanted = fingerprint, esphome_version
        for record in self._records_of(configuration):
            present = record.present
            if present and (present.fingerprint, present.esphome_version) == wanted:
                return present
        return None

    def change_id(self, target: TargetId) -> str | None:
        """Return what tells the change of a configuration from others; None: it has not changed."""
        running, present = self.running(target), self.present(target)
        if present is None or not is_changed(running, present):
            return None
        return change_id(present, running)

    def is_changed(self, target: TargetId) -> bool | None:
        """Return whether a configuration changed since its device was flashed; None: unknown."""
        return is_changed(self.running(target), self.present(target))

    def macs(self, configuration: str) -> tuple[str, ...]:
        """Return the MAC addresses of the devices that a configuration had last."""
        records = self._records_of(configuration)
        return tuple(record.mac for record in records if record.mac is not None)

    def announced(self, configuration: Configuration) -> dict[str, str]:
        """Return the names of devices of a configuration that have announced themselves.

        They are by MAC address, without those that Home Assistant has.
        """
        found = {
            record.mac: record.announced
            for record in self._records_of(configuration.file_name)
            if record.mac and record.announced
        }
        heard_of = self._suffixed.get(configuration.node_name, {})
        return dict([*found.items(), *heard_of.items()][:_MOST_OF_CONFIGURATION])

    @callback
    def forget_announced(self, target: TargetId) -> bool:
        """Forget a device that has announced itself; returns whether it is such a one."""
        record = self._record(target)
        if record.announced is None:
            return False
        self._set(target, replace(record, announced=None))
        self._found()
        return True

    @callback
    def note_job(self, job: FirmwareJob) -> None:
        """Take over what a job has flashed."""
        if job.status is JobStatus.COMPLETED and job.request.operation.flashes:
            record = self._record(job.request.target)
            running, present = RunningFirmware.flashed(job), record.present
            if running.fingerprint is not None and running.local_hash is not None:
                present = PresentHash(
                    running.fingerprint, running.esphome_version, running.local_hash
                )
            record = replace(record, running=running, present=present)
            self._set(job.request.target, record)

    @callback
    def set_present(self, target: TargetId, present: PresentHash) -> None:
        """Set the hash of the configuration of a target as it is now."""
        record = self._record(target)
        running = record.running
        if (
            running is not None
            and running.fingerprint == present.fingerprint
            and running.esphome_version == present.esphome_version
        ):
            running = replace(running, local_hash=present.config_hash)
        self._set(target, replace(record, running=running, present=present))

    @callback
    def devices_changed(self, targets: Collection[TargetId]) -> None:
        """Take over what devices say that are connected, and what new ones have announced."""
        owners: defaultdict[str, set[TargetId]] = defaultdict(set)
        for target, record in self._records.items():
            if record.mac is not None:
                owners[record.mac].add(target)
        for target, device in self._devices().items():
            if target not in targets or device.core is None:
                continue
            record, mac = self._record(target), device.mac
            if device.core.online:
                record = replace(record, running=after_connection(record.running, device.core))
                # One that is only at the address of a configuration may be another one.
                if mac is None and is_named(device.core, device.configuration):
                    mac = device.core.mac
            if mac is not None:
                # No other configuration claims a device that has the name of this one.
                for other in owners[mac] - {target}:
                    self._set(other, replace(self._record(other), mac=None), notify=False)
                owners[mac] = {target}
                record = replace(record, mac=mac, announced=None)
            self._set(target, record, notify=False)
        for announced in tuple(self._unmatched.values()):
            self._announced(announced)

    @callback
    def rename(self, old: TargetId, new: TargetId) -> None:
        """Move what is known to another target; see ``moved``."""
        records = {
            moved(target, old, new): record
            for target, record in self._records.items()
            if moved(target, old, new) == target or moved(target, old, new) not in self._records
        }
        if records != self._records:
            self._records = records
            self._by_configuration = None
            self._save()

    @callback
    def keep_only(self, configurations: Collection[str]) -> None:
        """Forget configurations that do not exist any more."""
        gone = [
            target for target in self._records if configuration_of(target) not in configurations
        ]
        for target in gone:
            del self._records[target]
        if gone:
            self._by_configuration = None
            self._save()

    @callback
    def _announced(self, announced: AnnouncedFirmware) -> None:
        if (target := self._device_of(announced)) is None:
            self._keep_unmatched(announced)
            return
        self._drop_unmatched(announced.node_name)
        record = self._record(target)
        record = replace(record, running=after_announcement(record.running, announced))
        device = self._devices()[target]
        if device.announced is not None:
            record = replace(record, mac=device.mac, announced=announced.node_name)
            if device.announced != announced.node_name:
                self._found()
        self._set(target, record)

    def _keep_unmatched(self, announced: AnnouncedFirmware) -> None:
        name, mac = announced.node_name, announced.mac
        if self._unmatched.get(name) == announced:
            # The oldest ones are dropped, and this one is still there.
            self._unmatched[name] = self._unmatched.pop(name)
            return
        self._drop_unmatched(name)
        if len(self._unmatched) >= _MOST_UNMATCHED:
            self._drop_unmatched(next(iter(self._unmatched)))
        self._unmatched[name] = announced
        if mac is not None and is_mac(mac) and name.endswith(mac_suffix(mac)):
            self._suffixed[announced.stem][mac] = name
            self._found()

    def _drop_unmatched(self, node_name: str) -> None:
        former = self._unmatched.pop(node_name, None)
        if former is None or former.mac is None:
            return
        heard_of = self._suffixed.get(former.stem, {})
        if heard_of.get(former.mac) == node_name:
            del heard_of[former.mac]
            if not heard_of:
                del self._suffixed[former.stem]
            self._found()

    def _device_of(self, announced: AnnouncedFirmware) -> TargetId | None:
        """Return the only target whose device this can be."""
        devices = self._devices()
        if self._indexed is not devices:
            self._indexed, self._index = devices, {}
            for target, device in devices.items():
                self._index.setdefault(_identity(device), []).append(target)
        by_mac = [
            target
            for target in self._index.get(announced.mac or "", [])
            if _has_own_name(announced, devices[target])
        ]
        found = by_mac or self._index.get(announced.node_name, [])
        if len(found) != 1 or (not by_mac and _is_elsewhere(announced, devices[found[0]])):
            return None
        return found[0]

    def _records_of(self, configuration: str) -> list[_Record]:
        """Return what is known of all targets of a configuration."""
        if self._by_configuration is None:
            self._by_configuration = {}
            for target in self._records:
                self._by_configuration.setdefault(configuration_of(target), []).append(target)
        return [self._records[target] for target in self._by_configuration.get(configuration, ())]

    def _record(self, target: TargetId) -> _Record:
        return self._records.get(target, _Record())

    def _set(self, target: TargetId, record: _Record, *, notify: bool = True) -> None:
        if record != self._record(target):
            if target not in self._records:
                self._by_configuration = None
            self._records[target] = record
            self._save()
            if notify:
                self._changed((target,))

    def _save(self) -> None:
        self._store.save_soon(self._content)

    def _content(self) -> dict[str, object]:
        return {target: _encode(record) for target, record in self._records.items()}


@lru_cache(maxsize=4096)
def _encode(record: _Record) -> object:
    """Return the stored form; most records are the same as when they were stored last."""
    return encode(record)


def _identity(device: OffloadDevice) -> str:
    """Return the MAC address of a device, or its node name while that is not known."""
    if device.mac is not None:
        return device.mac
    if device.core is None:
        return device.configuration.node_name
    return device.core.mac or device.core.node_name


def _has_own_name(announced: AnnouncedFirmware, device: OffloadDevice) -> bool:
    """Return whether a device that only announces itself does so by a name of its own.

    Anybody can announce its MAC address, and it is flashed where that name leads to.
    """
    return device.announced is None or announced.node_name in (device.announced, device.name)


def _is_elsewhere(announced: AnnouncedFirmware, device: OffloadDevice) -> bool:
    """Return whether a configuration gives an IP address at which this device is not."""
    access = device.configuration.access
    if not (access.address_given and access.address and announced.addresses):
        return False
    return is_ip_address(access.address) and access.address not in announced.addresses
