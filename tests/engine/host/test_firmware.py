"""The image of a firmware, for its guest, as long as it is whole."""

import hashlib

import pytest

from custom_components.esphome_offload.engine.const import Image
from custom_components.esphome_offload.engine.host import firmware_file
from custom_components.esphome_offload.engine.protocol.errors import ErrorCode, ProtocolError

from ..jobs.fakes import BUILD_INFO
from .builder import LAMP, BuilderMachine, GuestCalls


async def not_ready(guest: GuestCalls, attempt_id: str) -> str:
    with pytest.raises(ProtocolError) as refusal:
        await guest.fetch(attempt_id)
    assert refusal.value.code is ErrorCode.FIRMWARE_NOT_READY
    return refusal.value.detail


async def test_the_image_has_a_header_that_says_what_it_was_built_from(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    attempt_id = await guest.submit()
    await guest.end(attempt_id)
    header, got = await guest.fetch(attempt_id)
    assert got == b"firmware of " + LAMP["lamp.yaml"]
    assert (header.attempt_id, header.size) == (attempt_id, len(got))
    assert header.sha256 == hashlib.sha256(got).hexdigest()
    (submission,) = [each.submission for each in builder.host._attempts.all()]
    assert header.bundle_sha256 == submission.sha256
    info = header.build_info
    assert (info.esphome_version, info.build_time, info.config_hash) == (
        BUILD_INFO.esphome_version,
        BUILD_INFO.build_time,
        BUILD_INFO.config_hash,
    )


async def test_before_the_end_and_without_success_there_is_none(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    attempt_id, _ = await builder.start_blocked(guest)
    await not_ready(guest, attempt_id)
    await guest.cancel(attempt_id)
    await not_ready(guest, attempt_id)


async def test_altered_or_lost_firmware_is_not_handed_out(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    attempt_id = await guest.submit()
    await guest.end(attempt_id)
    layout = builder.builders[guest.pin[:32]].layout
    (image,) = layout.all_firmware.rglob("firmware.bin")
    image.write_bytes(b"something else")
    assert "damaged" in await not_ready(guest, attempt_id)
    layout.discard(layout.firmware("lamp.yaml"))
    assert "not kept" in await not_ready(guest, attempt_id)


async def test_an_image_that_cannot_be_read_is_not_sent(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    attempt_id = await guest.submit()
    await guest.end(attempt_id)
    (image,) = builder.builders[guest.pin[:32]].layout.all_firmware.rglob("firmware.bin")
    image.unlink()
    image.mkdir()
    assert "damaged" in await not_ready(guest, attempt_id)


async def test_an_image_that_no_link_takes_is_not_sent(
    builder: BuilderMachine, guest: GuestCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(firmware_file, "FIRMWARE_LIMIT", 1)
    attempt_id = await guest.submit()
    await guest.end(attempt_id)
    assert "too large" in await not_ready(guest, attempt_id)


async def test_other_files_of_the_firmware_are_sent_also_when_the_guest_has_it(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    builder.images = {"firmware.elf": b"symbols"}
    attempt_id = await guest.submit()
    await guest.end(attempt_id)
    header, _ = await guest.fetch(attempt_id)
    assert header.images == ("elf",)
    await guest.acknowledge(attempt_id)
    assert await guest.fetch_image(header.sha256) == b"symbols"
    for sha256, image in ((header.sha256, Image.FACTORY), ("0" * 64, Image.ELF)):
        with pytest.raises(ProtocolError, match="not kept any more"):
            await guest.fetch_image(sha256, image)


async def test_other_files_that_are_damaged_or_that_no_link_takes_are_not_sent(
    builder: BuilderMachine, guest: GuestCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    builder.images = {"firmware.elf": b"symbols"}
    attempt_id = await guest.submit()
    await guest.end(attempt_id)
    header, _ = await guest.fetch(attempt_id)
    with monkeypatch.context() as patched:
        patched.setattr(firmware_file, "FIRMWARE_LIMIT", 1)
        with pytest.raises(ProtocolError, match="too large"):
            await guest.fetch_image(header.sha256)
    (image,) = builder.builders[guest.pin[:32]].layout.all_firmware.rglob("firmware.bin")
    image.write_bytes(b"something else")
    with pytest.raises(ProtocolError, match="damaged"):
        await guest.fetch_image(header.sha256)


async def test_nobody_gets_the_files_of_another_guest(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    other_guest = await builder.pair("other")
    builder.images = {"firmware.elf": b"symbols"}
    attempt_id = await guest.submit()
    await guest.end(attempt_id)
    header, _ = await guest.fetch(attempt_id)
    with pytest.raises(ProtocolError, match="not kept any more"):
        await other_guest.fetch_image(header.sha256)
