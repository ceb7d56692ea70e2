"""Configurations, what is wrong with them, and live devices."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..device_access import DeviceAccess
from ..reason import Reason


@dataclass(frozen=True, slots=True)
class Configuration:
    """An ESPHome configuration that describes a device.

    ``file_name`` is relative to the configuration folder, ``node_name`` is ESPHome's name of the
    device (without the part of the MAC address that it adds when ``adds_mac_suffix``). ``files``
    are all YAML files that the configuration consists of, itself first, secrets included.
    ``min_version`` is the oldest ESPHome that it asks for, ``access`` how its device is reached.
    """

    file_name: str
    node_name: str
    friendly_name: str | None
    comment: str | None
    platform: str | None
    deep_sleep: bool
    files: tuple[Path, ...]
    adds_mac_suffix: bool = False
    min_version: str | None = None
    access: DeviceAccess = field(default_factory=DeviceAccess)


@dataclass(frozen=True, slots=True)
class ScanResult:
    """The configurations of a folder, and what is wrong with files, by file name.

    A configuration stays in ``configurations`` while it or a file that it includes is broken;
    ``problems`` then has the broken file. ``unsure`` are files that may be devices even if they are
    not in ``configurations``: ESPHome has not been asked yet, or they cannot be read completely.
    ``unavailable`` is why the folder cannot be used at the moment; all else is then as it was
    before.
    """

    configurations: Mapping[str, Configuration] = field(default_factory=dict)
    problems: Mapping[str, Reason] = field(default_factory=dict)
    unavailable: Reason | None = None
    unsure: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class CoreDevice:
    """A device that Home Assistant's own ``esphome`` integration knows.

    ``mac`` is lower case with colons, ``build_time`` as the device reports it. ``online`` is
    None when unknown. ``connections`` counts the connections since the start. ``host`` is where Home
    Assistant expects it, ``connected_at`` where it is connected to it now, IPv6 with a zone where
    it needs one; nothing when the device has dialled in.
    """

    entry_id: str
    device_id: str | None
    node_name: str
    mac: str | None
    friendly_name: str
    esphome_version: str | None
    build_time: str | None
    online: bool | None
    deep_sleep: bool
    host: str | None
    connections: int = 0
    connected_at: tuple[str, ...] = ()
