"""The firmware that a device runs, put together from all who can tell."""

from dataclasses import dataclass, replace
from typing import Annotated

from ..engine.build.model import BuildInfo
from ..engine.codec import Number, Text
from ..engine.devices.model import CoreDevice
from .announced_firmware import AnnouncedFirmware
from .device_link import same_time


@dataclass(frozen=True, slots=True)
class RunningFirmware:
    """The last that is known of a device's firmware; None for what nobody told.

    It is what was flashed from here last, unless the device has said something else since.
    """

    esphome_version: Annotated[str, Text(64, free=True)]
    config_hash: Annotated[int, Number(0, 2**32)] | None = None
    build_time: Annotated[str, Text(64, free=True)] | None = None

    @classmethod
    def flashed(cls, esphome_version: str, build_info: BuildInfo | None) -> RunningFirmware:
        """Return what a device runs after it was flashed."""
        if build_info is None:
            return cls(esphome_version)
        # ESPHome before 2026 has neither hash nor build time.
        config_hash = build_info.config_hash if 0 < build_info.config_hash < 2**32 else None
        return cls(build_info.esphome_version, config_hash, build_info.build_time or None)


def after_announcement(
    known: RunningFirmware | None, announced: AnnouncedFirmware
) -> RunningFirmware:
    """Return what is known once a device has announced its firmware."""
    told = RunningFirmware(announced.esphome_version, announced.config_hash)
    if known is None or known.esphome_version != told.esphome_version:
        return told
    if told.config_hash in (None, known.config_hash):
        return known
    if known.config_hash is None:
        # Its connection was faster, and told the build time of the same firmware.
        return replace(known, config_hash=told.config_hash)
    return told


def after_connection(known: RunningFirmware | None, device: CoreDevice) -> RunningFirmware | None:
    """Return what is known once Home Assistant is connected to a device, which has no hash."""
    version, build_time = device.esphome_version, device.build_time
    if version is None:
        return known
    if known is None or known.esphome_version != version:
        return RunningFirmware(version, build_time=build_time)
    if build_time is None or (known.build_time and same_time(build_time, known.build_time)):
        return known
    if known.build_time is None:
        return replace(known, build_time=build_time)
    return RunningFirmware(version, build_time=build_time)
