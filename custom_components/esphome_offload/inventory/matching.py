"""Which live device a configuration is for: decided by what it says, never by a guess."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address

from ..engine.devices.model import Configuration, CoreDevice
from .choices import NO_DEVICE
from .core_esphome import mac_suffix_stem


@dataclass(frozen=True, slots=True)
class Match:
    """The device of a configuration, None if Home Assistant has none.

    ``rivals`` say why it is unclear: other configurations of the same node name, or several
    devices that it could be for. Nothing is flashed then. ``candidates`` are the devices among
    which a person may choose; ``settled``: the choice was none of them.
    """

    core: CoreDevice | None = None
    rivals: tuple[str, ...] = ()
    candidates: tuple[CoreDevice, ...] = ()
    settled: bool = False


def match(
    configurations: Mapping[str, Configuration],
    devices: Iterable[CoreDevice],
    last_mac: Callable[[str], str | None] = lambda _file_name: None,
    chosen: Callable[[str], str | None] = lambda _file_name: None,
) -> dict[str, Match]:
    """Return the match of each configuration.

    What a person chose decides (``chosen``, as in ``DeviceChoices``), also while that device is
    not there; else an address that it gives, if the device there has its name or is the one that
    it had. The node name alone does only if exactly one configuration and one device have it. A
    configuration that was renamed keeps the device that it had (``last_mac``), which has its
    former name until it is flashed.
    """
    index = _Index(devices)
    files: defaultdict[str, list[str]] = defaultdict(list)
    for name, configuration in configurations.items():
        files[configuration.node_name].append(name)
    matches = {
        name: _match(
            configuration, index, files[configuration.node_name], chosen(name), last_mac(name)
        )
        for name, configuration in configurations.items()
    }
    taken = {found.core.entry_id for found in matches.values() if found.core is not None}
    heirs: defaultdict[str, list[str]] = defaultdict(list)
    for name, found in matches.items():
        mac = last_mac(name)
        if (
            found == Match()
            and mac is not None
            and chosen(name) is None
            and not configurations[name].access.address_given
        ):
            heirs[mac].append(name)
    for mac, names in heirs.items():
        former = index.by_mac.get(mac)
        if former is None or former.entry_id in taken or former.node_name in files:
            continue
        for name in names:
            rivals = tuple(sorted(each for each in names if each != name))
            matches[name] = Match(None, rivals, (former,)) if rivals else Match(former)
    return matches


def is_named(device: CoreDevice, configuration: Configuration) -> bool:
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
    configurations: Iterable[Configuration],
    device: CoreDevice,
    last_mac: str | None,
    chosen: str | None = None,
) -> bool:
    """Return whether a device, found at the address of a configuration, is known to be another.

    It has the name of another configuration, or it is not the device that was renamed. The one
    that a person chose is none.
    """
    if is_named(device, configuration) or (chosen is not None and device.mac == chosen):
        return False
    replaced = last_mac is not None and device.mac is not None and device.mac != last_mac
    return replaced or any(is_named(device, each) for each in configurations)


class _Index:
    """The devices by name, by its stem before a MAC suffix, and by address."""

    def __init__(self, devices: Iterable[CoreDevice]) -> None:
        self.by_name: defaultdict[str, list[CoreDevice]] = defaultdict(list)
        self.by_stem: defaultdict[str, list[CoreDevice]] = defaultdict(list)
        self.by_mac: dict[str, CoreDevice] = {}
        self.by_address: defaultdict[str, list[CoreDevice]] = defaultdict(list)
        for device in devices:
            self.by_name[device.node_name].append(device)
            if device.mac is not None:
                self.by_mac[device.mac] = device
            if (stem := mac_suffix_stem(device)) is not None:
                self.by_stem[stem].append(device)
            for address in {device.host, *device.connected_at} - {None}:
                self.by_address[_plain(address or "")].append(device)


def _match(
    configuration: Configuration,
    index: _Index,
    files: list[str],
    choice: str | None,
    last_mac: str | None,
) -> Match:
    if choice is not None and (device := index.by_mac.get(choice)) is not None:
        return Match(device)
    name = configuration.node_name
    named = index.by_name.get(name, [])
    if configuration.adds_mac_suffix or (not named and configuration.access.ota is None):
        named = [*named, *index.by_stem.get(name, [])]
    access = configuration.access
    possible = named
    rivals = sorted(file for file in files if file != configuration.file_name)
    if access.address_given and access.address is not None:
        at = index.by_address.get(_plain(access.address), [])
        if len(at) == 1:
            (there,) = possible = at
            if there not in named and (there.mac is None or there.mac != last_mac):
                return Match(None, (there.node_name,), (there, *named), settled=choice == NO_DEVICE)
        elif rivals or len(named) > 1:
            possible = []
        else:
            possible = [each for each in named if not _is_elsewhere(each, access.address)]
        rivals = []
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
    try:
        ip_address(address.partition("%")[0])
    except ValueError:
        return False
    return True


def _plain(address: str) -> str:
    """Return an address without its zone, in the one way in which it can be written."""
    host = address.partition("%")[0]
    return ip_address(host).compressed if _is_ip(host) else host.lower().removesuffix(".")
