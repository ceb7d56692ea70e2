"""What is built, and what was."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from ..codec import Many, Number, OrElse, Text
from .fields import (
    AttemptId,
    Configuration,
    Count,
    DeviceName,
    Digest,
    EsphomeVersion,
    HexId,
    TimeZone,
)
from .limits import FIRMWARE_LIMIT


class FirmwarePart(StrEnum):
    """The files of one firmware; each is fetched by itself."""

    OTA = "ota"
    FACTORY = "factory"
    ELF = "elf"


@dataclass(frozen=True, slots=True)
class BuildParameters:
    """All that decides what is built, but for the bundle."""

    job_id: HexId
    attempt_id: AttemptId
    configuration: Configuration
    device_name: DeviceName
    esphome_version: EsphomeVersion
    time_zone: TimeZone
    clean: bool = False


@dataclass(frozen=True, slots=True)
class WireBuildInfo:
    """ESPHome's ``build_info.json``, as far as it is used."""

    esphome_version: EsphomeVersion
    build_time: Annotated[str, Text(64)]
    config_hash: Count


@dataclass(frozen=True, slots=True)
class FirmwareHeader:
    """Before a file of a firmware; ``sha256`` and ``size`` are the file's.

    ``parts`` are those that can be fetched.
    """

    attempt_id: AttemptId
    bundle_sha256: Digest
    part: FirmwarePart
    parts: Annotated[tuple[Annotated[FirmwarePart, OrElse(FirmwarePart.OTA)], ...], Many(16)]
    build_info: WireBuildInfo
    sha256: Digest
    size: Annotated[int, Number(1, FIRMWARE_LIMIT)]
