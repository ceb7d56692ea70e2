"""The parameters of a build, and the header of its firmware."""

from dataclasses import dataclass
from typing import Annotated

from ..codec import Many, Number, Text
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
from .limits import FIRMWARE_LIMIT, IMAGES_LIMIT


@dataclass(frozen=True, slots=True)
class BuildParameters:
    """The parameters of a build: all that decides its result, except for the bundle."""

    job_id: HexId
    attempt_id: AttemptId
    configuration: Configuration
    device_name: DeviceName
    esphome_version: EsphomeVersion
    time_zone: TimeZone
    clean: bool = False


@dataclass(frozen=True, slots=True)
class WireBuildInfo:
    """ESPHome's ``build_info.json``, as far as it is used, and the name of the node."""

    esphome_version: EsphomeVersion
    build_time: Annotated[str, Text(64)]
    config_hash: Count
    node_name: Annotated[str, Text(64)] = ""


@dataclass(frozen=True, slots=True)
class FirmwareHeader:
    """Before the image of a firmware; ``sha256`` and ``size`` are the image's.

    ``images`` names the other files of it that the builder keeps, as in ``Image``.
    """

    attempt_id: AttemptId
    bundle_sha256: Digest
    build_info: WireBuildInfo
    sha256: Digest
    size: Annotated[int, Number(1, FIRMWARE_LIMIT)]
    images: Annotated[tuple[Annotated[str, Text(32, r"[a-z0-9_]+")], ...], Many(IMAGES_LIMIT)] = ()


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """Before another file of a firmware, with the name that ESPHome gives it."""

    name: Annotated[str, Text(64, r"[A-Za-z0-9_.-]+")]
    sha256: Digest
    size: Annotated[int, Number(1, FIRMWARE_LIMIT)]
