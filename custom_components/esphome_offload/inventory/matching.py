"""Which live device a configuration is for: decided by what it says, never by a guess."""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address

from ..engine.devices.model import Configuration, CoreDevice
from ..engine.target import TargetId, configuration_of, is_mac, mac_suffix, target_id
from .choices import NO_DEVICE
from .core_esphome import mac_suffix_stem
from .identity import Identity


@dataclass(frozen=True, slots=True)
class Match:
    """The device of a configuration, None if Home Assistant has none.

    ``rivals`` say why it is unclear: other configurations of the same node name, or several
    devices that it could be for. Nothing is flashed then. ``candidates`` are the devices among
    which a person may choose; ``settled``: the choice was none of them. ``announced`` is the node
    name of a device that Home Assistant does not have, and has heard of in the network. ``gone``:
    it was one of several devices, and its configuration has it no more.
    """

    core: CoreDevice | None = None
    rivals: tuple[str, ...] = ()
    candidates: tuple[CoreDevice, ...] = ()
    settled: bool = False
    announced: str | None = None
    gone: bool = False


def match(
    configurations: Mapping[str, Configuration],
    devices: Iterable[CoreDevice],
    macs: Callable[[str], Collection[str]] = lambda _file_name: (),
    chosen: Callable[[TargetId], str | None] = lambda _target: None,
    announced: Callable[[Configuration], Mapping[str, str]] = lambda _configuration: {},
) -> dict[TargetId, Match]:
    """Return the match of each target: of each configuration, or of each of its devices.

    What a person chose decides (``chosen``, as in ``DeviceChoices``), also while that device is
    not there; else an address that it gives, if the device there has its name or is the one that
    it had. The node name alone does only if exactly one configuration and one device have it. A
    configuration that was renamed keeps the devices that it had (``macs``), which have its former
    name until they are flashed. ``announced`` returns the node names of devices of a configuration
    that were heard of in the network, by MAC address.
    """
    files: defaultdict[str, list[Configuration]] = defaultdict(list)
    for configuration in configurations.values():
        files[configuration.node_name].append(configuration)
    index = _Index(devices, files)
    matches: dict[TargetId, Match] = {}
    for name, configuration in configurations.items():
        had = macs(name)
        rivals = [each for each in files[configuration.node_name] if each is not configuration]
        found = {
            (target := target_id(name, device.mac)): _match_one(device, rivals, chosen(target))
            for device in _several(configuration, index, had)
        }
        if configuration.adds_mac_suffix and not configuration.access.address_given:
            for mac, node_name in announced(configuration).items():
                if mac not in index.by_mac and node_name not in files:
                    others = tuple(sorted(each.file_name for each in rivals))
                    found[target_id(name, mac)] = Match(None, others, announced=node_name)
        if not found:
            target = target_id(name)
            found[target] = _match(configuration, index, rivals, chosen(target), had)
        matches |= found
    _give_heirs(matches, configurations, index, macs, chosen)
    _refuse_shared(matches, chosen)
    return matches


def _give_heirs(
    matches: dict[TargetId, Match],
    configurations: Mapping[str, Configuration],
    index: _Index,
    macs: Callable[[str], Collection[str]],
    chosen: Callable[[TargetId], str | None],
) -> None:
    """Match configurations that were renamed to the devices that they had."""
    taken = {found.core.entry_id for found in matches.values() if found.core is not None}
    had: dict[TargetId, list[CoreDevice]] = {}
    for target, found in matches.items():
        configuration = configurations[configuration_of(target)]
        if found == Match() and chosen(target) is None and not configuration.access.address_given:
            former = (index.by_mac.get(mac) for mac in macs(configuration.file_name))
            had[target] = [
                device
                for device in former
                if device and device.entry_id not in taken and not index.is_owned(device)
            ]
    for target, devices in had.items():
        if len(devices) == 1:
            others = sorted(each for each in had if each != target and devices[0] in had[each])
            matches[target] = (
                Match(None, tuple(others), tuple(devices)) if others else Match(devices[0])
            )
        elif devices:
            # They had a suffix, and are to have none.
            names = tuple(sorted(device.node_name for device in devices))
            matches[target] = Match(None, names, tuple(devices))


def _refuse_shared(
    matches: dict[TargetId, Match], chosen: Callable[[TargetId], str | None]
) -> None:
    """Make unclear what else would be one device for two targets; a choice wins."""
    owners: defaultdict[str, list[TargetId]] = defaultdict(list)
    for target, found in matches.items():
        if found.core is not None:
            owners[found.core.entry_id].append(target)
    for targets in owners.values():
        for target in targets if len(targets) > 1 else ():
            core = matches[target].core
            if core is not None and (core.mac is None or chosen(target) != core.mac):
                others = tuple(
                    sorted({configuration_of(each) for each in targets if each != target})
                )
                matches[target] = Match(None, others, (core,))


def is_named(device: Identity, configuration: Configuration) -> bool:
    """Return whether a device has the name of a configuration."""
    names = [device.node_name]
    if configuration.adds_mac_suffix and (stem := mac_suffix_stem(device)) is not None:
        names.append(stem)
    return configuration.node_name in names


def is_at(device: CoreDevice, address: str) -> bool:
    """Return whether a device is known to be at an address, or is called so."""
    name, host = device.node_name, device.host
    places = {name, f"{name}.local"}
    if host is not None and (device.online or not _is_ip(host)):
        places.add(host)
    if device.online:
        places.update(device.connected_at)
    return _plain(address) in map(_plain, places)


def is_of_another(
    configuration: Configuration,
    configurations: Collection[Configuration],
    device: Identity,
    macs: Collection[str],
    *,
    chosen: str | None = None,
    mac: str | None = None,
    names: Collection[str] = (),
) -> bool:
    """Return whether a device, found at the address of a configuration, is taken for another.

    It has the name of another configuration, or it is none of those that were renamed (``macs``).
    The one that a person chose is none. With ``mac`` only the device with that MAC address is
    meant. One that does not tell its MAC address must have the name of the configuration, or one
    that the device is known by (``names``).
    """
    if mac is not None and device.mac is not None:
        return device.mac != mac
    if chosen is not None and device.mac == chosen:
        return False
    exact = any(each.node_name == device.node_name for each in configurations)
    own = device.node_name == configuration.node_name or not exact
    if mac is None and own and is_named(device, configuration):
        return False
    if device.mac is None:
        if mac is not None:
            names = {*names, f"{configuration.node_name}{mac_suffix(mac)}"}
        others = {each.node_name for each in configurations if each != configuration}
        return device.node_name not in names or device.node_name in others
    replaced = bool(macs) and device.mac not in macs
    return replaced or any(is_named(device, each) for each in configurations)


class _Index:
    """The devices by name, by its stem before a MAC suffix, and by address.

    A device that has the name of a configuration is not one of those with its stem.
    """

    def __init__(
        self, devices: Iterable[CoreDevice], files: Mapping[str, Collection[Configuration]]
    ) -> None:
        """``files`` are all configurations by their node name."""
        self._files = files
        self.by_name: defaultdict[str, list[CoreDevice]] = defaultdict(list)
        self.by_stem: defaultdict[str, list[CoreDevice]] = defaultdict(list)
        self.by_mac: dict[str, CoreDevice] = {}
        self.by_address: defaultdict[str, list[CoreDevice]] = defaultdict(list)
        for device in devices:
            self.by_name[device.node_name].append(device)
            if device.mac is not None:
                self.by_mac[device.mac] = device
            stem = mac_suffix_stem(device)
            if stem is not None and device.node_name not in files:
                self.by_stem[stem].append(device)
            for address in {device.host, *device.connected_at} - {None}:
                self.by_address[_plain(address or "")].append(device)

    def named(self, configuration: Configuration) -> list[CoreDevice]:
        """Return the devices that have the name of a configuration."""
        named = self.by_name.get(configuration.node_name, [])
        if configuration.adds_mac_suffix or (not named and configuration.access.ota is None):
            # Until ESPHome was asked it is not known whether it adds one.
            named = [*named, *self.by_stem.get(configuration.node_name, [])]
        return named

    def is_owned(self, device: CoreDevice) -> bool:
        """Return whether a configuration has the name of a device, maybe without a suffix."""
        stems = self._files.get(mac_suffix_stem(device) or "", ())
        return device.node_name in self._files or any(each.adds_mac_suffix for each in stems)


def _several(
    configuration: Configuration, index: _Index, macs: Collection[str]
) -> list[CoreDevice]:
    """Return the devices of a configuration that are targets of their own."""
    if configuration.access.address_given:
        return []
    named = index.named(configuration)
    if not configuration.adds_mac_suffix and all(
        device.node_name == configuration.node_name for device in named
    ):
        return []
    former = (index.by_mac[mac] for mac in macs if mac in index.by_mac)
    renamed = (device for device in former if device not in named and not index.is_owned(device))
    return [device for device in (*named, *renamed) if is_mac(device.mac)]


def _match_one(device: CoreDevice, rivals: list[Configuration], choice: str | None) -> Match:
    """Return the match of one device of a configuration."""
    if choice == device.mac or not (rivals or choice):
        return Match(device)
    names = tuple(sorted(each.file_name for each in rivals)) or (device.host or device.node_name,)
    return Match(None, names, (device,), settled=choice == NO_DEVICE)


def _match(
    configuration: Configuration,
    index: _Index,
    others: list[Configuration],
    choice: str | None,
    macs: Collection[str],
) -> Match:
    """Return the match of a configuration; ``others`` are those of the same node name."""
    if choice is not None and (device := index.by_mac.get(choice)) is not None:
        return Match(device)
    possible = named = index.named(configuration)
    access = configuration.access
    if access.address_given and access.address is not None:
        address = _plain(access.address)
        at = index.by_address.get(address, [])
        if len(at) == 1:
            (there,) = possible = at
            if there not in named and (there.mac is None or there.mac not in macs):
                return Match(None, (there.node_name,), (there, *named), settled=choice == NO_DEVICE)
        elif others or len(named) > 1:
            possible = []
        else:
            possible = [each for each in named if not _is_elsewhere(each, access.address)]
        others = [each for each in others if _plain(each.access.address or "") == address]
    rivals = sorted(each.file_name for each in others)
    # A device that was not chosen is not taken instead of one that is away.
    if not rivals and (len(possible) > 1 or (possible and choice is not None)):
        rivals = sorted(device.host or device.node_name for device in possible)
    if rivals:
        return Match(None, tuple(rivals), tuple(possible), settled=choice == NO_DEVICE)
    return Match(possible[0] if possible else None)


def _is_elsewhere(device: CoreDevice, address: str) -> bool:
    """Return whether a device is known to be at another address than a given one."""
    known = [each for each in (*device.connected_at, device.host) if each and _is_ip(each)]
    return _is_ip(address) and bool(known) and _plain(address) not in map(_plain, known)


def _is_ip(address: str) -> bool:
    return _compressed(address.partition("%")[0]) is not None


def _plain(address: str) -> str:
    """Return an address without its zone, in the one way in which it can be written."""
    host = address.partition("%")[0]
    return _compressed(host) or host.lower().removesuffix(".")


@lru_cache(maxsize=4096)
def _compressed(host: str) -> str | None:
    """Return an IP address in the one way in which it can be written; None for anything else."""
    try:
        return ip_address(host).compressed
    except ValueError:
        return None
