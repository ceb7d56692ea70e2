"""The firmware that a device runs, put together from all who can tell."""

from dataclasses import dataclass, replace
from typing import Annotated

from ..engine.codec import Number, Text
from ..engine.const import Source
from ..engine.devices.model import CoreDevice
from ..engine.jobs.model import FirmwareJob
from .announced_firmware import AnnouncedFirmware
from .device_link import same_time

ConfigHash = Annotated[int, Number(0, 2**32)]
Fingerprint = Annotated[str, Text(1000, free=True)]


@dataclass(frozen=True, slots=True)
class RunningFirmware:
    """The last that is known of a device's firmware; None for what nobody told.

    It is what was flashed from here last, unless the device has said something else since.
    ``config_hash`` is what the device tells. Of firmware that was flashed from here,
    ``fingerprint`` is the state of the files, and ``local_hash`` what ESPHome says on this machine
    of that state: with ``includes:`` the hash depends on the folder, so that the one of a build
    elsewhere cannot be compared with ours.
    """

    esphome_version: Annotated[str, Text(64, free=True)]
    config_hash: ConfigHash | None = None
    build_time: Annotated[str, Text(64, free=True)] | None = None
    fingerprint: Fingerprint | None = None
    local_hash: ConfigHash | None = None

    @classmethod
    def flashed(cls, job: FirmwareJob) -> RunningFirmware:
        """Return what a device runs after a job has flashed it."""
        info = job.build_info
        if info is None:
            return cls(job.request.esphome_version)
        # ESPHome before 2026 has neither hash nor build time.
        config_hash = info.config_hash if 0 < info.config_hash < 2**32 else None
        here = job.fingerprint is not None and job.routing.source is Source.LOCAL
        return cls(
            info.esphome_version,
            config_hash,
            info.build_time or None,
            job.fingerprint,
            config_hash if here else None,
        )


@dataclass(frozen=True, slots=True)
class PresentHash:
    """ESPHome's hash of a configuration as it is now, by one version, on this machine.

    ``portable``: it would be the same in any other folder; None while nobody had to ask.
    """

    fingerprint: Fingerprint
    esphome_version: Annotated[str, Text(64, free=True)]
    config_hash: ConfigHash
    portable: bool | None = None


def is_other_source(running: RunningFirmware, present: PresentHash) -> bool:
    """Return whether a file that is no YAML changed, such as a header: no hash tells that."""
    before, now = _sources(running.fingerprint or ""), _sources(present.fingerprint)
    return bool(before and now) and before != now


def _sources(fingerprint: str) -> str:
    return fingerprint.partition(".")[2]


def is_changed(running: RunningFirmware | None, present: PresentHash | None) -> bool | None:
    """Return whether a configuration is another than that of the firmware; None: unknown."""
    if running is None or present is None or running.config_hash is None:
        return None
    if running.esphome_version != present.esphome_version:
        return None
    if running.fingerprint == present.fingerprint:
        return False
    if is_other_source(running, present):
        return True
    if running.local_hash is not None:
        return present.config_hash != running.local_hash
    if present.config_hash == running.config_hash:
        return False
    return True if present.portable else None


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


def change_id(present: PresentHash, running: RunningFirmware | None) -> str:
    """Return eight digits that tell one change of a configuration from another."""
    if running is not None and is_other_source(running, present):
        return _sources(present.fingerprint)[:8]
    return f"{present.config_hash:08x}"
