"""Firmware that is not what it should be is never kept."""

from collections.abc import AsyncGenerator

import pytest

from custom_components.esphome_offload.engine.build.model import BuildError
from custom_components.esphome_offload.engine.const import FailureReason
from custom_components.esphome_offload.engine.protocol import transfer
from custom_components.esphome_offload.engine.protocol.body import Sealer
from custom_components.esphome_offload.engine.protocol.definitions import FIRMWARE_LIMIT
from custom_components.esphome_offload.engine.protocol.identity import Identity
from custom_components.esphome_offload.engine.protocol.payloads import (
    FirmwareParameters,
    FirmwarePart,
    SealedBuildInfo,
)
from custom_components.esphome_offload.engine.protocol.seal import Channel, Purpose

from ..stand import Stand
from .pi import Pi


def _from_another(stand: Stand, sealer: Sealer) -> None:
    """Have the next firmware replaced by another sealed body."""

    async def other(batches: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
        await batches.aclose()
        async for batch in transfer.send(sealer):
            yield batch

    stand.altered = other  # type: ignore[method-assign]


@pytest.mark.parametrize("how", ["key", "attempt", "bundle", "part"])
async def test_firmware_that_is_not_of_this_build_is_not_kept(
    connected: Pi, stand: Stand, how: str
) -> None:
    image = connected.layout.root / "other.bin"
    image.write_bytes(b"evil")
    sealing = Identity.generate() if how == "key" else stand.lender.identity
    request = connected.request()
    bundle = await connected.bundles.make(connected.request(), lambda _: None)
    parameters = FirmwareParameters(
        attempt_id="0" * 32 if how == "attempt" else request.attempt_id,
        bundle_sha256="0" * 64 if how == "bundle" else bundle.sha256,
        part=FirmwarePart.ELF if how == "part" else FirmwarePart.OTA,
        parts=(FirmwarePart.OTA,),
        build_info=SealedBuildInfo("2026.10.0", "", 0),
    )
    channel = Channel(sealing, connected.identity.public)
    sealer = Sealer(channel, Purpose.FIRMWARE, image, parameters, limit=FIRMWARE_LIMIT)
    _from_another(stand, sealer)
    stand.firmware_length = sealer.length
    with pytest.raises(BuildError) as failure:
        await connected.build(job_id=request.job_id, attempt_id=request.attempt_id)
    assert failure.value.failure_reason is FailureReason.INTEGRITY
    assert "it is not used" in str(failure.value)
    assert await connected.store.latest("lamp.yaml") is None
    assert not list(connected.layout.staging.glob("*.bin*"))


async def test_firmware_that_is_altered_on_the_way_is_not_kept(
    connected: Pi, stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def flipped(batches: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
        async for batch in batches:
            yield batch[:-1] + bytes([batch[-1] ^ 1])

    monkeypatch.setattr(stand, "altered", flipped)
    with pytest.raises(BuildError) as failure:
        await connected.build()
    assert failure.value.failure_reason is FailureReason.INTEGRITY
    assert await connected.store.latest("lamp.yaml") is None
