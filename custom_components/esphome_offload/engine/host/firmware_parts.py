"""Firmware, handed out sealed to the guest that it was built for."""

import asyncio
import logging
from pathlib import Path

from ..build.firmware import FirmwareStore
from ..build.model import BuildError, Firmware
from ..protocol.body import Sealer
from ..protocol.definitions import FIRMWARE_LIMIT, ErrorCode, ProtocolError
from ..protocol.payloads import FirmwareParameters, FirmwarePart, SealedBuildInfo
from ..protocol.seal import Channel, Purpose
from .attempt import GuestAttempt

_LOGGER = logging.getLogger(__name__)


async def seal_firmware(
    channel: Channel, attempt: GuestAttempt, part: FirmwarePart, firmware: FirmwareStore
) -> Sealer:
    """Return one file of what an attempt built; raises ProtocolError FIRMWARE_NOT_READY."""
    sha256 = attempt.result.firmware_sha256 if attempt.result is not None else None
    if sha256 is None:
        raise _not_ready("it has no firmware")
    try:
        kept = await firmware.load(attempt.order.parameters.configuration, sha256)
    except BuildError as err:
        _LOGGER.warning("The firmware of a guest cannot be handed out: %s", err)
        raise _not_ready("its firmware was damaged on the builder") from err
    if kept is None:
        raise _not_ready("its firmware is not kept any more")
    parts = _parts(kept)
    if part not in parts:
        raise _not_ready(f"it has no {part} file")
    info = kept.build_info
    parameters = FirmwareParameters(
        attempt_id=attempt.key.attempt_id,
        bundle_sha256=attempt.order.sha256,
        part=part,
        parts=tuple(parts),
        build_info=SealedBuildInfo(
            # Old versions do not write it down.
            esphome_version=info.esphome_version or attempt.order.parameters.esphome_version,
            build_time=info.build_time,
            config_hash=info.config_hash,
        ),
    )
    try:
        return await asyncio.to_thread(
            lambda: Sealer(
                channel,
                Purpose.FIRMWARE,
                parts[part],
                parameters,
                limit=FIRMWARE_LIMIT,
                sha256=sha256 if part is FirmwarePart.OTA else None,
            )
        )
    except OSError as err:
        raise _not_ready(f"its firmware cannot be read: {err}") from err


def _parts(firmware: Firmware) -> dict[FirmwarePart, Path]:
    files = {
        FirmwarePart.OTA: firmware.ota,
        FirmwarePart.FACTORY: firmware.factory,
        FirmwarePart.ELF: firmware.elf,
    }
    return {part: path for part, path in files.items() if path is not None}


def _not_ready(why: str) -> ProtocolError:
    return ProtocolError(ErrorCode.FIRMWARE_NOT_READY, why)
