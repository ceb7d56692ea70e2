"""What stands in the sealed header before a bundle or a firmware."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from ..codec import Blob, Many, Number, OrElse, RawObject, Text
from .definitions import FIRMWARE_LIMIT
from .fields import (
    AttemptId,
    Configuration,
    Count,
    DeviceName,
    Digest,
    EsphomeVersion,
    HexId,
    Key,
    TimeZone,
)


class FirmwarePart(StrEnum):
    """The files of one firmware; each is fetched by itself."""

    OTA = "ota"
    FACTORY = "factory"
    ELF = "elf"


@dataclass(frozen=True, slots=True)
class BodyHeader:
    """What stands before a sealed body. ``sha256`` and ``size`` are of the plain body.

    ``key`` and ``start`` open the stream; ``parameters`` is a BuildParameters or a
    FirmwareParameters.
    """

    sha256: Digest
    size: Annotated[int, Number(0, FIRMWARE_LIMIT)]
    key: Key
    start: Annotated[bytes, Blob(24, 24)]
    parameters: Annotated[Mapping[str, object], RawObject()]


@dataclass(frozen=True, slots=True)
class BuildParameters:
    """Sealed with a bundle: all that decides what is built."""

    job_id: HexId
    attempt_id: AttemptId
    configuration: Configuration
    device_name: DeviceName
    esphome_version: EsphomeVersion
    time_zone: TimeZone
    clean: bool = False


@dataclass(frozen=True, slots=True)
class SealedBuildInfo:
    """ESPHome's ``build_info.json``, as far as it is used."""

    esphome_version: EsphomeVersion
    build_time: Annotated[str, Text(64)]
    config_hash: Count


@dataclass(frozen=True, slots=True)
class FirmwareParameters:
    """Sealed with each part of a firmware; ``parts`` are those that can be fetched."""

    attempt_id: AttemptId
    bundle_sha256: Digest
    part: FirmwarePart
    parts: Annotated[tuple[Annotated[FirmwarePart, OrElse(FirmwarePart.OTA)], ...], Many(16)]
    build_info: SealedBuildInfo
