"""Targets: what jobs are for, and what everything that is kept of a device is kept by."""

import re
from typing import Final, NewType

TargetId = NewType("TargetId", str)
"""A configuration file name; of one device among several with ``@`` and its MAC address.

With ``name_add_mac_suffix`` one configuration has several devices. Each that is known is a target
of its own, and the configuration alone is none then.
"""

_DEVICE: Final = re.compile(r"(.+)@((?:[0-9a-f]{2}:){5}[0-9a-f]{2})", re.DOTALL)


def target_id(configuration: str, mac: str | None = None) -> TargetId:
    """Return the target of a configuration, or of its device with this MAC address."""
    return TargetId(configuration if mac is None else f"{configuration}@{mac}")


def configuration_of(target: TargetId) -> str:
    """Return the configuration file name of a target."""
    found = _DEVICE.fullmatch(target)
    return target if found is None else found[1]


def mac_of(target: TargetId) -> str | None:
    """Return the MAC address of a target that is one device of a configuration."""
    found = _DEVICE.fullmatch(target)
    return None if found is None else found[2]


def moved(target: TargetId, old: TargetId, new: TargetId) -> TargetId:
    """Return a target after ``old`` has become ``new``.

    With a file that is renamed go all devices of the configuration.
    """
    if target == old:
        return new
    if configuration_of(target) == old and mac_of(new) is None:
        return target_id(new, mac_of(target))
    return target


def is_mac(text: str | None) -> bool:
    """Return whether a device with this MAC address can be a target."""
    return text is not None and mac_of(target_id("x", text)) is not None


def mac_suffix(mac: str) -> str:
    """Return what a device with this MAC address adds to its node name."""
    return f"-{mac.replace(':', '')[-6:]}"
