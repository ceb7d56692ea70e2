"""The other files of firmware, which the builder keeps until they are asked for."""

from dataclasses import replace

import pytest

from custom_components.esphome_offload.engine.build.model import (
    BuildError,
    Elsewhere,
)
from custom_components.esphome_offload.engine.const import Image
from custom_components.esphome_offload.engine.host.firmware_file import FirmwareFile
from custom_components.esphome_offload.engine.protocol.errors import ErrorCode, ProtocolError
from custom_components.esphome_offload.engine.protocol.messages import Fetch, FetchImage
from custom_components.esphome_offload.engine.reason import ReasonKey

from .remote import Offloader, RemoteBuilder


async def test_the_builder_keeps_the_other_files_and_sends_them_when_asked(
    ready: Offloader, remote: RemoteBuilder
) -> None:
    remote.images = {"firmware.elf": b"symbols", "firmware.factory.bin": b"all of the flash"}
    built = await ready.build()
    assert built.files.keys() == {Image.OTA}
    assert built.elsewhere == Elsewhere(
        ready.builder.builder_id, (Image.FACTORY, Image.ELF), "lamp.yaml"
    )

    fetched = await ready.builder.fetch_image(built, Image.FACTORY)
    assert fetched.images[Image.FACTORY].read_bytes() == b"all of the flash"
    again = await ready.build()
    assert again.images.keys() == {Image.FACTORY}, "it stays with what was built the same again"
    assert await ready.store.load("lamp.yaml", built.sha256) == again


async def test_the_builder_is_asked_for_a_file_by_the_name_that_it_knows(
    ready: Offloader, remote: RemoteBuilder
) -> None:
    remote.images = {"firmware.elf": b"symbols"}
    await ready.build()
    await ready.store.rename("lamp.yaml", "desk.yaml")
    renamed = await ready.store.latest("desk.yaml")
    assert renamed is not None
    fetched = await ready.builder.fetch_image(renamed, Image.ELF)
    assert fetched.configuration == "desk.yaml"
    assert fetched.images[Image.ELF].read_bytes() == b"symbols"


@pytest.mark.parametrize(
    ("error", "key"),
    [
        (OSError(28, "No space left on device"), ReasonKey.FIRMWARE_NOT_KEPT),
        (ProtocolError(ErrorCode.NO_SPACE, "full"), ReasonKey.FIRMWARE_NOT_KEPT),
        (ProtocolError(ErrorCode.STALLED, "slow"), ReasonKey.PEER_UNREACHABLE),
        (ProtocolError(ErrorCode.TAMPERED, "another"), ReasonKey.IMAGE_GONE),
    ],
)
async def test_a_file_that_cannot_be_fetched_is_not_said_to_be_gone(
    ready: Offloader,
    remote: RemoteBuilder,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    key: ReasonKey,
) -> None:
    remote.images = {"firmware.elf": b"symbols"}
    built = await ready.build()

    async def fetch(_command: object, _accept: object) -> None:
        raise error

    monkeypatch.setattr(ready.link, "fetch", fetch)
    with pytest.raises(BuildError) as failure:
        await ready.builder.fetch_image(built, Image.ELF)
    assert failure.value.reason.key is key


async def test_a_file_that_the_builder_does_not_keep_any_more_is_gone(
    ready: Offloader, remote: RemoteBuilder
) -> None:
    remote.images = {"firmware.elf": b"symbols"}
    built = await ready.build()
    (image,) = remote.layout.root.rglob("firmware/*/*/images/firmware.elf")
    image.unlink()
    with pytest.raises(BuildError) as failure:
        await ready.builder.fetch_image(built, Image.ELF)
    assert failure.value.reason.key is ReasonKey.IMAGE_GONE
    with pytest.raises(BuildError) as failure:
        await ready.builder.fetch_image(replace(built, sha256="0" * 64), Image.ELF)
    assert failure.value.reason.key is ReasonKey.IMAGE_GONE


async def test_another_file_than_was_asked_for_is_not_kept(
    ready: Offloader, remote: RemoteBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote.images = {"firmware.elf": b"symbols"}
    built = await ready.build()
    honest = remote.host.firmware
    before = set(ready.layout.staging.iterdir())

    async def lying(pin_sha256: str, command: Fetch | FetchImage) -> FirmwareFile:
        return await honest(pin_sha256, replace(command, image=Image.ELF))

    monkeypatch.setattr(remote.host, "firmware", lying)
    with pytest.raises(BuildError):
        await ready.builder.fetch_image(built, Image.FACTORY)
    assert built.files.keys() == {Image.OTA}
    assert set(ready.layout.staging.iterdir()) == before


async def test_files_cannot_be_fetched_while_the_builder_is_away(
    ready: Offloader, remote: RemoteBuilder
) -> None:
    remote.images = {"firmware.elf": b"symbols"}
    built = await ready.build()
    await ready.link.stop()
    with pytest.raises(BuildError) as failure:
        await ready.builder.fetch_image(built, Image.ELF)
    assert failure.value.reason.key is ReasonKey.PEER_UNREACHABLE
