"""The files of a firmware, for its guest, as long as they are whole."""

import hashlib

import pytest

from custom_components.esphome_offload.engine.protocol.errors import ErrorCode, ProtocolError
from custom_components.esphome_offload.engine.protocol.payloads import (
    FirmwarePart,
)

from ..jobs.fakes import BUILD_INFO, Block
from .builder import LAMP, BuilderMachine, GuestCalls


async def not_ready(guest: GuestCalls, attempt_id: str, part: FirmwarePart) -> str:
    with pytest.raises(ProtocolError) as refusal:
        await guest.fetch(attempt_id, part)
    assert refusal.value.code is ErrorCode.FIRMWARE_NOT_READY
    return refusal.value.detail


async def test_each_file_has_a_header_that_says_what_it_was_built_from(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    attempt_id = await guest.submit()
    await guest.end(attempt_id)
    for part, content in (
        (FirmwarePart.OTA, b"firmware of " + LAMP["lamp.yaml"]),
        (FirmwarePart.ELF, b"symbols of " + LAMP["lamp.yaml"]),
    ):
        header, got = await guest.fetch(attempt_id, part)
        assert got == content
        assert header.sha256 == hashlib.sha256(content).hexdigest()
        assert header.size == len(content)
        assert (header.attempt_id, header.part) == (attempt_id, part)
        assert header.parts == (FirmwarePart.OTA, FirmwarePart.ELF)
        (submission,) = [each.submission for each in builder.host._attempts.all()]
        assert header.bundle_sha256 == submission.sha256
        info = header.build_info
        assert (info.esphome_version, info.build_time, info.config_hash) == (
            BUILD_INFO.esphome_version,
            BUILD_INFO.build_time,
            BUILD_INFO.config_hash,
        )
    assert "factory" in await not_ready(guest, attempt_id, FirmwarePart.FACTORY)


async def test_before_the_end_and_without_success_there_is_none(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    block = Block()
    builder.script = [block]
    attempt_id = await guest.submit()
    await block.entered.wait()
    await not_ready(guest, attempt_id, FirmwarePart.OTA)
    await guest.cancel(attempt_id)
    await not_ready(guest, attempt_id, FirmwarePart.OTA)


async def test_altered_or_lost_firmware_is_not_handed_out(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    attempt_id = await guest.submit()
    await guest.end(attempt_id)
    layout = builder.builders[guest.pin[:32]].layout
    (image,) = layout.all_firmware.rglob("firmware.bin")
    image.write_bytes(b"something else")
    assert "damaged" in await not_ready(guest, attempt_id, FirmwarePart.OTA)
    layout.discard(layout.firmware("lamp.yaml"))
    assert "not kept" in await not_ready(guest, attempt_id, FirmwarePart.OTA)


async def test_files_that_went_or_are_no_firmware_are_not_sent(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    attempt_id = await guest.submit()
    await guest.end(attempt_id)
    (symbols,) = (
        each
        for each in builder.layout.guests.rglob("*")
        if each.is_file() and b"symbols of" in each.read_bytes() and "firmware" in each.parts
    )
    symbols.write_bytes(b"")
    assert "large" in await not_ready(guest, attempt_id, FirmwarePart.ELF)
    symbols.unlink()
    symbols.mkdir()
    assert "cannot be read" in await not_ready(guest, attempt_id, FirmwarePart.ELF)
