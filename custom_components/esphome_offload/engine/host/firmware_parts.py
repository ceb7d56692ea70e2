"""The files of a firmware, for the guest that it was built for."""

from dataclasses import dataclass
import hashlib
import logging
from pathlib import Path
import threading

from ..build.firmware import FirmwareStore
from ..build.model import BuildError, Firmware
from ..protocol.errors import ErrorCode, ProtocolError
from ..protocol.limits import FIRMWARE_LIMIT
from ..protocol.payloads import FirmwareHeader, FirmwarePart, WireBuildInfo
from ..threads import in_thread
from .attempt import GuestAttempt

_LOGGER = logging.getLogger(__name__)

_CHUNK = 1024 * 1024


@dataclass(frozen=True, slots=True)
class FirmwareFile:
    """A file to send, after its header."""

    header: FirmwareHeader
    path: Path


async def open_firmware(
    attempt: GuestAttempt, part: FirmwarePart, firmware: FirmwareStore
) -> FirmwareFile:
    """Return one file of what an attempt built; raises ProtocolError FIRMWARE_NOT_READY."""
    sha256 = attempt.result.firmware_sha256 if attempt.result is not None else None
    if sha256 is None:
        raise _not_ready("it has no firmware")
    try:
        kept = await firmware.load(attempt.submission.parameters.configuration, sha256)
    except BuildError as err:
        _LOGGER.warning("The firmware of a guest cannot be sent: %s", err)
        raise _not_ready("its firmware was damaged on the builder") from err
    if kept is None:
        raise _not_ready("its firmware is not kept any more")
    parts = _parts(kept)
    if part not in parts:
        raise _not_ready(f"it has no {part} file")
    path = parts[part]
    try:
        digest, size = await in_thread(lambda stop: _measure(path, stop))
    except OSError as err:
        raise _not_ready(f"its firmware cannot be read: {err.strerror}") from err
    if not 0 < size <= FIRMWARE_LIMIT:
        raise _not_ready(f"its {part} file is too large")
    info = kept.build_info
    header = FirmwareHeader(
        attempt_id=attempt.key.attempt_id,
        bundle_sha256=attempt.submission.sha256,
        part=part,
        parts=tuple(parts),
        build_info=WireBuildInfo(
            # Old versions do not write it down.
            esphome_version=info.esphome_version or attempt.submission.parameters.esphome_version,
            build_time=info.build_time,
            config_hash=info.config_hash,
        ),
        sha256=digest,
        size=size,
    )
    return FirmwareFile(header, path)


def _parts(firmware: Firmware) -> dict[FirmwarePart, Path]:
    files = {
        FirmwarePart.OTA: firmware.ota,
        FirmwarePart.FACTORY: firmware.factory,
        FirmwarePart.ELF: firmware.elf,
    }
    return {part: path for part, path in files.items() if path is not None}


def _measure(path: Path, stop: threading.Event) -> tuple[str, int]:
    """Return SHA-256 and size of a file."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while not stop.is_set() and (chunk := file.read(_CHUNK)):
            digest.update(chunk)
            size += len(chunk)
    return digest.hexdigest(), size


def _not_ready(why: str) -> ProtocolError:
    return ProtocolError(ErrorCode.FIRMWARE_NOT_READY, why)
