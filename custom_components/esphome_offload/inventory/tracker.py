"""DeviceInventory: the targets, updated while configurations or core's devices change."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import override

from homeassistant.core import CALLBACK_TYPE, HomeAssistant, callback

from .. import issues
from ..engine.devices.inspector import Inspector
from ..engine.devices.model import Configuration, ScanResult
from ..engine.devices.scanner import Scanner
from ..engine.jobs.model import JobRequest
from ..engine.target import TargetId, configuration_of, mac_of, mac_suffix, target_id
from .choices import Choice, DeviceChoices
from .configuration_folder import ConfigurationFolder, FileChanges
from .core_esphome import CoreDevice, CoreEsphome
from .identity import Identity
from .matching import Match, is_of_another, match

# A network that comes back connects all devices at once; they are matched together.
_COALESCE_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class OffloadDevice:
    """A target: a configuration and its device in core's esphome, if it has one.

    ``rivals``, ``announced``: see ``Match``. ``mac``: of one device among several of the
    configuration.
    """

    configuration: Configuration
    core: CoreDevice | None
    rivals: tuple[str, ...] = ()
    mac: str | None = None
    announced: str | None = None

    @property
    def target(self) -> TargetId:
        """What it is known by."""
        return target_id(self.configuration.file_name, self.mac)

    @property
    def name(self) -> str:
        """Its node name, with the part of the MAC address that is known."""
        suffix = "" if self.mac is None else mac_suffix(self.mac)
        return f"{self.configuration.node_name}{suffix}"

    @property
    def without_suffix(self) -> bool:
        """Whether it is not known what its name ends in, and so not where it is."""
        configuration = self.configuration
        return (
            configuration.adds_mac_suffix
            and not configuration.access.address_given
            and self.mac is None
            and self.core is None
        )

    @property
    def friendly_name(self) -> str:
        """Its name for people, made as ESPHome makes it."""
        if (name := self.configuration.friendly_name) is None:
            return self.name
        return name if self.mac is None else f"{name} {mac_suffix(self.mac)[1:]}"


class DeviceInventory(ConfigurationFolder):
    """Matches the configurations of the folder to core's devices.

    ``scanned`` is called after each scan that found a change, ``changed`` with the targets that
    were added, removed or changed. ``macs`` returns the MAC addresses of the devices that a
    configuration had last, ``announced`` those that it has besides core's, as in ``match``.
    """

    def __init__(
        self,
        hass: HomeAssistant,
        core: CoreEsphome,
        inspector: Inspector,
        *,
        scanned: Callable[[FileChanges], None],
        changed: Callable[[Collection[TargetId]], None],
        macs: Callable[[str], Collection[str]],
        announced: Callable[[Configuration], Mapping[str, str]],
    ) -> None:
        super().__init__(hass, inspector, scanned)
        self._core = core
        self._changed = changed
        self._macs = macs
        self._announced = announced
        self._devices: Mapping[TargetId, OffloadDevice] = MappingProxyType({})
        self._matches: Mapping[TargetId, Match] = MappingProxyType({})
        self._choices = DeviceChoices(hass)
        self._match_timer: Callable[[], None] | None = None

    @property
    def devices(self) -> Mapping[TargetId, OffloadDevice]:
        """All devices by target."""
        return self._devices

    @property
    def heirs(self) -> dict[TargetId, TargetId]:
        """The devices that go on with what is known of their configuration, by the latter.

        It is the only one of the configuration, or the one that it had before it had several.
        """
        several: dict[str, list[str]] = {}
        for device in self._devices.values():
            if device.mac is not None:
                several.setdefault(device.configuration.file_name, []).append(device.mac)
        heirs = {}
        for file, macs in several.items():
            had = self._macs(file)
            found = macs if len(macs) == 1 else [mac for mac in macs if mac in had]
            if len(found) == 1:
                heirs[target_id(file)] = target_id(file, found[0])
        return heirs

    def is_gone(self, target: TargetId) -> bool:
        """Return whether a target is known not to exist any more."""
        if target in self._devices or (known := self.known_files) is None:
            return False
        configuration = configuration_of(target)
        # Of what cannot be read at the moment nothing is known.
        if (found := self._configurations.get(configuration)) is None:
            return configuration not in known
        # That it has several devices may stand in a package, which only ESPHome reads.
        unsure = configuration in self._unsure and not found.adds_mac_suffix
        return mac_of(target) is None or not unsure

    def is_removed(self, mac: str) -> bool:
        """Return whether Home Assistant has no device with this MAC address."""
        return all(device.mac != mac for device in self._core.devices())

    @override
    async def async_start(self, config_dir: Path | None) -> bool:
        started = await super().async_start(config_dir)
        if started:
            self._match()
        return started

    @override
    async def _async_load(self, scanner: Scanner) -> None:
        self._matches = MappingProxyType({})
        await self._choices.async_load()
        await super()._async_load(scanner)

    @override
    def _subscribe(self) -> list[Callable[[], None]]:
        return [*super()._subscribe(), self._core.subscribe(self.match_soon)]

    @override
    @callback
    def stop(self) -> None:
        super().stop()
        self._drop_timer()

    @override
    @callback
    def delete_repairs(self) -> None:
        super().delete_repairs()
        issues.async_set_ambiguous(self._hass, {}, complete=True)

    @override
    @callback
    def _apply(self, result: ScanResult) -> None:
        before = self._configurations
        problems, unsure = self._problems, self._unsure
        super()._apply(result)
        if self._configurations is before:
            self._show_ambiguous()
        else:
            if (known := self.known_files) is not None:
                self._choices.keep_only(known)
            self._match()
        # Not before the match: it would not be known yet which targets there are.
        certain = (unsure - self._unsure) & self._configurations.keys()
        if certain or self._problems is not problems:
            self._changed(())

    @callback
    def rename(self, old: TargetId, new: TargetId) -> None:
        """Keep what was chosen for a target that is called otherwise now."""
        self._choices.rename(old, new)

    @callback
    def find(self, request: JobRequest) -> Match:
        """Return the device that a job is for, as it is now."""
        device = self._of(request)
        if device is not None and device.core is None:
            self.match_now()
            device = self._of(request)
        if device is None:
            # Several are known by now, and it names none of them.
            if request.mac is not None:
                return Match(gone=True)
            names = (each.name for each in self._of_configuration(request.configuration))
            return Match(None, tuple(names))
        if device.core is None:
            return Match(None, device.rivals, announced=device.announced)
        return Match(self._core.get(device.core.entry_id))

    def _of(self, request: JobRequest) -> OffloadDevice | None:
        device = self._devices.get(request.target)
        if device is None and request.mac is None:
            # It may have become known since.
            found = self._of_configuration(request.configuration)
            return found[0] if len(found) == 1 else None
        return device

    def _of_configuration(self, configuration: str) -> list[OffloadDevice]:
        return [
            device
            for device in self._devices.values()
            if device.configuration.file_name == configuration
        ]

    @callback
    def is_of_another(self, target: TargetId, device: Identity) -> bool:
        """Return whether a device is taken for another than that of a target."""
        known = self._configurations.get(configuration_of(target))
        return known is not None and is_of_another(
            known,
            self._configurations.values(),
            device,
            self._macs(known.file_name),
            chosen=self._chosen(target),
            mac=mac_of(target),
            names=self._names(target),
        )

    def _names(self, target: TargetId) -> set[str]:
        """Return the names that the device of a target is known by, maybe former ones."""
        own = self._devices.get(target)
        if own is not None and own.core is not None:
            return {own.core.node_name}
        if own is not None and own.announced is not None:
            return {own.announced}
        mac = mac_of(target)
        macs = self._macs(configuration_of(target)) if mac is None else (mac,)
        return {each.node_name for each in self._core.devices() if each.mac in macs}

    @callback
    def candidates(self, target: TargetId) -> tuple[CoreDevice, ...]:
        """Return the devices that a target could be, where it is unclear."""
        found = self._matches.get(target)
        return () if found is None else found.candidates

    async def async_choose(self, target: TargetId, choice: str) -> None:
        """Remember which device a target is; see ``Choice``."""
        if (known := self._configurations.get(configuration_of(target))) is not None:
            await self._choices.async_set(target, Choice(choice, known.node_name))
            self._match()

    @property
    def targets_with_choice(self) -> list[TargetId]:
        """The targets for which a person chose a device, or none."""
        return sorted(self._choices.records)

    async def async_forget_choices(self, targets: Collection[TargetId]) -> None:
        """Let the devices of targets be chosen again."""
        await self._choices.async_forget(targets)
        self._match()

    def _chosen(self, target: TargetId) -> str | None:
        configuration = self._configurations[configuration_of(target)]
        return self._choices.get(
            target, configuration.node_name, self._macs(configuration.file_name)
        )

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

    @callback
    def match_soon(self) -> None:
        """Match again in a moment."""
        if self._following and self._match_timer is None:
            timer = self._hass.loop.call_later(_COALESCE_SECONDS, self._match)
            self._match_timer = timer.cancel

    def _drop_timer(self) -> None:
        if self._match_timer is not None:
            self._match_timer()
            self._match_timer = None

    @callback
    def _match(self) -> None:
        self._drop_timer()
        matches = self._matches = match(
            self._configurations, self._core.followed(), self._macs, self._chosen, self._announced
        )
        devices = {
            target: OffloadDevice(
                self._configurations[configuration_of(target)],
                found.core,
                found.rivals,
                mac_of(target),
                found.announced,
            )
            for target, found in matches.items()
        }
        before, self._devices = self._devices, MappingProxyType(devices)
        changed = {
            target
            for target in before.keys() | devices.keys()
            if before.get(target) != devices.get(target)
        }
        self._show_ambiguous()
        if changed:
            self._changed(changed)

    @callback
    def _show_ambiguous(self) -> None:
        issues.async_set_ambiguous(
            self._hass,
            {
                target: issues.UnclearDevice(
                    self._devices[target].configuration.file_name,
                    self._devices[target].name,
                    found.rivals,
                    can_choose=any(device.mac for device in found.candidates),
                )
                for target, found in self._matches.items()
                if found.rivals and not found.settled
            },
            complete=self._scanned_all,
        )
