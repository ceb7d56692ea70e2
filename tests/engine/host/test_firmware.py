"""Handing out firmware: sealed, to its guest, as long as it is whole."""

import hashlib
import tracemalloc

from custom_components.esphome_offload.engine.protocol.seal import Purpose
import pytest

from custom_components.esphome_offload.engine.build.model import BuildRequest, BuildSink
from custom_components.esphome_offload.engine.const import MIB
from custom_components.esphome_offload.engine.protocol import transfer
from custom_components.esphome_offload.engine.protocol.errors import ErrorCode, ProtocolError
from custom_components.esphome_offload.engine.protocol.limits import FIRMWARE_LIMIT
from custom_components.esphome_offload.engine.protocol.parsing import parse
from custom_components.esphome_offload.engine.protocol.payloads import (
    FirmwareParameters,
    FirmwarePart,
)

from ..jobs.fakes import BUILD_INFO, Block
from .builder import LAMP, BuilderMachine, GuestCalls


async def not_ready(guest: GuestCalls, attempt_id: str, part: FirmwarePart) -> str:
    with pytest.raises(ProtocolError) as refusal:
        await guest.fetch(attempt_id, part)
    assert refusal.value.code is ErrorCode.FIRMWARE_NOT_READY
    return refusal.value.detail


async def test_each_file_comes_sealed_with_what_it_was_built_from(
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
        parameters = parse(FirmwareParameters, header.parameters)
        assert (parameters.attempt_id, parameters.part) == (attempt_id, part)
        assert parameters.parts == (FirmwarePart.OTA, FirmwarePart.ELF)
        (order,) = [each.order for each in builder.host._book.all()]
        assert parameters.bundle_sha256 == order.sha256
        info = parameters.build_info
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


async def test_nobody_else_can_open_it(builder: BuilderMachine, guest: GuestCalls) -> None:
    other = await builder.pair("other")
    attempt_id = await guest.submit()
    await guest.end(attempt_id)
    sealer = await guest.host.firmware(guest.http, attempt_id, FirmwarePart.OTA)
    with pytest.raises(ProtocolError) as refusal:
        await transfer.receive(
            other.channel,
            Purpose.FIRMWARE,
            transfer.send(sealer),
            other.scratch / "stolen",
            limit=FIRMWARE_LIMIT,
        )
    assert refusal.value.code is ErrorCode.TAMPERED
    assert not (other.scratch / "stolen").exists()


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


async def test_large_bodies_take_no_memory(builder: BuilderMachine, guest: GuestCalls) -> None:
    size = 40 * MIB

    async def grow(request: BuildRequest, _sink: BuildSink) -> None:
        # The scripted builder makes firmware of this file.
        with (request.config_dir / "big.bin").open("rb") as file:
            assert len(file.read(1)) == 1

    builder.script = [grow]
    attempt_id = builder.new_id()
    sealer = guest.sealer(attempt_id, {**LAMP, "big.bin": bytes(size)})
    tracemalloc.start()
    try:
        await guest.put(attempt_id, sealer)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * MIB
