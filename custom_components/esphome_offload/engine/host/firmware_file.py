"""The image of a firmware, for the guest that it was built for."""

import asyncio
from dataclasses import dataclass
import logging
from pathlib import Path

from ..build.firmware import FirmwareStore, digest
from ..build.model import BuildError
from ..protocol.errors import ErrorCode, ProtocolError
from ..protocol.limits import FIRMWARE_LIMIT
from ..protocol.messages import FetchImage
from ..protocol.payloads import FirmwareHeader, ImageHeader, WireBuildInfo
from .attempt import GuestAttempt

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FirmwareFile:
    """An image to send, after its header."""

    header: FirmwareHeader | ImageHeader
    path: Path


async def open_firmware(attempt: GuestAttempt, firmware: FirmwareStore) -> FirmwareFile:
    """Return the image that an attempt built; raises ProtocolError FIRMWARE_NOT_READY."""
    sha256 = attempt.result.firmware_sha256 if attempt.result is not None else None
    if sha256 is None:
        raise _not_ready("it has no firmware")
    try:
        kept = await firmware.load(attempt.submission.parameters.configuration, sha256)
        if kept is None:
            raise _not_ready("its firmware is not kept any more")
        size = (await asyncio.to_thread(kept.ota.stat)).st_size
    except (BuildError, OSError) as err:
        _LOGGER.warning("The firmware of a guest cannot be sent: %s", err)
        raise _not_ready("its firmware was damaged on the builder") from err
    if not 0 < size <= FIRMWARE_LIMIT:
        raise _not_ready("its firmware is empty or too large")
    info = kept.build_info
    header = FirmwareHeader(
        attempt_id=attempt.key.attempt_id,
        bundle_sha256=attempt.submission.sha256,
        build_info=WireBuildInfo(
            # Old versions do not write it down.
            esphome_version=info.esphome_version or attempt.submission.parameters.esphome_version,
            build_time=info.build_time,
            config_hash=info.config_hash,
            node_name="" if kept.node is None else kept.node.name,
        ),
        sha256=sha256,
        size=size,
        images=tuple(image.value for image in kept.images),
    )
    return FirmwareFile(header, kept.ota)


async def open_image(command: FetchImage, firmware: FirmwareStore) -> FirmwareFile:
    """Return another file of a kept firmware; raises ProtocolError FIRMWARE_NOT_READY."""
    try:
        kept = await firmware.load(command.configuration, command.firmware_sha256)
        path = None if kept is None else kept.images.get(command.image)
        if path is None:
            raise _not_ready("it is not kept any more")
        size = (await asyncio.to_thread(path.stat)).st_size
        sha256 = await asyncio.to_thread(digest, path)
    except (BuildError, OSError) as err:
        raise _not_ready("it was damaged on the builder") from err
    if not 0 < size <= FIRMWARE_LIMIT:
        raise _not_ready("it is empty or too large")
    return FirmwareFile(ImageHeader(path.name, sha256, size), path)


def _not_ready(why: str) -> ProtocolError:
    return ProtocolError(ErrorCode.FIRMWARE_NOT_READY, why)
