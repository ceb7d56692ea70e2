"""Handing out firmware: sealed, to its guest, as long as it is whole."""

import hashlib
import tracemalloc

import pytest

from custom_components.esphome_offload.engine.build.model import BuildRequest, BuildSink
from custom_components.esphome_offload.engine.protocol import transfer
from custom_components.esphome_offload.engine.protocol.definitions import (
    FIRMWARE_LIMIT,
    MIB,
    ErrorCode,
    ProtocolError,
)
from custom_components.esphome_offload.engine.protocol.parsing import parse
from custom_components.esphome_offload.engine.protocol.payloads import (
    FirmwareParameters,
    FirmwarePart,
)
from custom_components.esphome_offload.engine.protocol.seal import Purpose

from ...jobs.fakes import BUILD_INFO, Block
from .lender import LAMP, Lender, Offloader


async def not_ready(pi: Offloader, attempt_id: str, part: FirmwarePart) -> str:
    with pytest.raises(ProtocolError) as refusal:
        await pi.fetch(attempt_id, part)
    assert refusal.value.code is ErrorCode.FIRMWARE_NOT_READY
    return refusal.value.detail


async def test_each_file_comes_sealed_with_what_it_was_built_from(
    lender: Lender, pi: Offloader
) -> None:
    attempt_id = await pi.submit()
    await pi.end(attempt_id)
    for part, content in (
        (FirmwarePart.OTA, b"firmware of " + LAMP["lamp.yaml"]),
        (FirmwarePart.ELF, b"symbols of " + LAMP["lamp.yaml"]),
    ):
        header, got = await pi.fetch(attempt_id, part)
        assert got == content
        assert header.sha256 == hashlib.sha256(content).hexdigest()
        parameters = parse(FirmwareParameters, header.parameters)
        assert (parameters.attempt_id, parameters.part) == (attempt_id, part)
        assert parameters.parts == (FirmwarePart.OTA, FirmwarePart.ELF)
        (order,) = [each.order for each in lender.host._book.all()]
        assert parameters.bundle_sha256 == order.sha256
        info = parameters.build_info
        assert (info.esphome_version, info.build_time, info.config_hash) == (
            BUILD_INFO.esphome_version,
            BUILD_INFO.build_time,
            BUILD_INFO.config_hash,
        )
    assert "factory" in await not_ready(pi, attempt_id, FirmwarePart.FACTORY)


async def test_before_the_end_and_without_success_there_is_none(
    lender: Lender, pi: Offloader
) -> None:
    block = Block()
    lender.script = [block]
    attempt_id = await pi.submit()
    await block.entered.wait()
    await not_ready(pi, attempt_id, FirmwarePart.OTA)
    await pi.cancel(attempt_id)
    await not_ready(pi, attempt_id, FirmwarePart.OTA)


async def test_nobody_else_can_open_it(lender: Lender, pi: Offloader) -> None:
    attic = await lender.pair("attic")
    attempt_id = await pi.submit()
    await pi.end(attempt_id)
    sealer = await pi.host.firmware(pi.http, attempt_id, FirmwarePart.OTA)
    with pytest.raises(ProtocolError) as refusal:
        await transfer.receive(
            attic.channel,
            Purpose.FIRMWARE,
            transfer.send(sealer),
            attic.scratch / "stolen",
            limit=FIRMWARE_LIMIT,
        )
    assert refusal.value.code is ErrorCode.TAMPERED
    assert not (attic.scratch / "stolen").exists()


async def test_altered_or_lost_firmware_is_not_handed_out(lender: Lender, pi: Offloader) -> None:
    attempt_id = await pi.submit()
    await pi.end(attempt_id)
    layout = lender.builders[pi.pin[:32]].layout
    (image,) = layout.all_firmware.rglob("firmware.bin")
    image.write_bytes(b"something else")
    assert "damaged" in await not_ready(pi, attempt_id, FirmwarePart.OTA)
    layout.discard(layout.firmware("lamp.yaml"))
    assert "not kept" in await not_ready(pi, attempt_id, FirmwarePart.OTA)


async def test_large_bodies_take_no_memory(lender: Lender, pi: Offloader) -> None:
    size = 40 * MIB

    async def grow(request: BuildRequest, _sink: BuildSink) -> None:
        # The scripted builder makes firmware of this file.
        with (request.config_dir / "big.bin").open("rb") as file:
            assert len(file.read(1)) == 1

    lender.script = [grow]
    attempt_id = lender.new_id()
    sealer = pi.sealer(attempt_id, {**LAMP, "big.bin": bytes(size)})
    tracemalloc.start()
    try:
        await pi.put(attempt_id, sealer)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * MIB
