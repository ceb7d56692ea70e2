"""The page's dialogs of a device: where it would be built, and what was built."""

from dataclasses import replace
from http import HTTPStatus
from pathlib import Path

import pytest
from pytest_homeassistant_custom_component.common import MockUser
from pytest_homeassistant_custom_component.typing import ClientSessionGenerator

from custom_components.esphome_offload.coordinator import OffloadCoordinator
from custom_components.esphome_offload.engine.build.firmware import BuildResult, FirmwareStore
from custom_components.esphome_offload.engine.build.model import Elsewhere, Firmware
from custom_components.esphome_offload.engine.const import (
    Image,
    Operation,
)
from custom_components.esphome_offload.engine.reason import Reason, ReasonKey

from ...engine.jobs.fakes import BUILD_INFO
from ..conftest import Stage
from .following import Ask


async def test_a_device_says_where_it_would_be_built_and_what_was_built(
    coordinator: OffloadCoordinator, ask: Ask
) -> None:
    answer = await ask("device/details", device="lamp.yaml")
    details = answer["result"]
    assert details["builder"] == coordinator.builders.get("local").label
    assert details["reason"]
    assert details["why_not"] == {}
    assert "2026.10.0" in details["versions"]
    assert details["firmware"] is None

    job = await coordinator.async_submit("lamp.yaml", Operation.COMPILE)
    await coordinator.async_wait(job)
    firmware = (await ask("device/details", device="lamp.yaml"))["result"]["firmware"]
    assert firmware["sha256"] == job.firmware_sha256
    assert firmware["esphome_version"] == "2026.10.0"
    assert firmware["built_at"] == "2026-10-20T10:00:00+00:00"
    assert firmware["images"][0] == "ota"


async def test_a_device_that_cannot_be_built_says_why(
    coordinator: OffloadCoordinator, ask: Ask, stage: Stage
) -> None:
    why = Reason(ReasonKey.MEMORY_LOW, {"free": "1", "needed": "2"})
    stage.builder.state = replace(stage.builder.state, available=False, why_not=why)
    details = (await ask("device/details", device="lamp.yaml"))["result"]
    assert details["builder"] is None
    assert "1 MiB" in details["reason"]


async def test_kept_firmware_is_downloaded_by_administrators(
    coordinator: OffloadCoordinator,
    ask: Ask,
    stage: Stage,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    hass_client: ClientSessionGenerator,
    hass_admin_user: MockUser,
) -> None:
    image = tmp_path / "firmware.ota.bin"
    image.write_bytes(b"the image")
    elf = tmp_path / "firmware.elf"
    elf.write_bytes(b"its symbols")
    store = FirmwareStore(stage.layout)
    kept = await store.keep("lamp.yaml", "lamp", BuildResult(image, BUILD_INFO, images=(elf,)))
    monkeypatch.setattr(stage, "firmware", store)
    details = (await ask("device/details", device="lamp.yaml"))["result"]
    assert details["firmware"]["images"] == ["ota", "elf"]
    fields = {"device": "lamp.yaml", "sha256": kept.sha256, "image": "ota"}
    url = (await ask("firmware/prepare", **fields))["result"]["url"]

    client = await hass_client()
    response = await client.get(url)
    assert await response.read() == b"the image"
    symbols = await client.get(url.replace("/ota", "/elf"))
    assert await symbols.read() == b"its symbols"
    assert "lamp-2026.10.0.elf" in symbols.headers["Content-Disposition"]
    assert "lamp-2026.10.0-ota.bin" in response.headers["Content-Disposition"]
    for other in (url.replace("/ota", "/factory"), url.replace(kept.sha256, "0" * 64)):
        assert (await client.get(other)).status == HTTPStatus.NOT_FOUND

    (stage.layout.firmware("lamp.yaml") / kept.sha256 / image.name).write_bytes(b"altered")
    assert (await client.get(url)).status == HTTPStatus.NOT_FOUND
    answer = await ask("firmware/prepare", **fields)
    assert answer["error"]["translation_key"] == "firmware_changed"

    hass_admin_user.groups = []
    assert (await client.get(url)).status == HTTPStatus.UNAUTHORIZED


async def test_a_file_that_only_its_builder_keeps_is_fetched_when_it_is_asked_for(
    coordinator: OffloadCoordinator,
    ask: Ask,
    stage: Stage,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image = tmp_path / "firmware.ota.bin"
    image.write_bytes(b"the image")
    store = FirmwareStore(stage.layout)
    elsewhere = Elsewhere("local", (Image.ELF,))
    result = BuildResult(image, BUILD_INFO, elsewhere=elsewhere)
    kept = await store.keep("lamp.yaml", "lamp", result)
    monkeypatch.setattr(stage, "firmware", store)
    fields = {"device": "lamp.yaml", "sha256": kept.sha256, "image": "elf"}
    details = (await ask("device/details", device="lamp.yaml"))["result"]
    assert details["firmware"]["images"] == ["ota", "elf"]
    answer = await ask("firmware/prepare", **fields)
    assert answer["error"]["translation_key"] == "image_gone", "no builder of ours has it"
    assert stage.origins.forgotten == ["lamp.yaml"], "or it would not be built again"

    async def fetch(firmware: Firmware, _image: Image) -> Firmware:
        elf = tmp_path / "firmware.elf"
        elf.write_bytes(b"its symbols")
        return await store.add_image(firmware, elf.name, elf) or firmware

    monkeypatch.setattr(stage.builder, "fetch_image", fetch)
    assert (await ask("firmware/prepare", **fields))["result"]["url"].endswith("/elf")


async def test_a_file_that_is_not_kept_is_said_to_be_gone(
    coordinator: OffloadCoordinator, ask: Ask
) -> None:
    answer = await ask("firmware/prepare", device="lamp.yaml", sha256="0" * 64, image="elf")
    assert answer["error"]["translation_key"] == "image_gone"
