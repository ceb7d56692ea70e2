"""Release notes: what is new, how a job stands, and why the last one failed."""

import re

from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry
from pytest_homeassistant_custom_component.typing import WebSocketGenerator

from custom_components.esphome_offload.coordinator import OffloadCoordinator
from custom_components.esphome_offload.engine.build.model import (
    BuilderStatus,
    BuildRequest,
    BuildSink,
)
from custom_components.esphome_offload.engine.build.toolchain.versions import VersionError
from custom_components.esphome_offload.engine.const import (
    FailureReason,
    Operation,
)
from custom_components.esphome_offload.engine.reason import Reason, ReasonKey

from ..engine.jobs.fakes import Block, failing, flash_failing
from .conftest import NEWEST, Stage as Scripted, until_waiting
from .updating import ENTITY, install

pytestmark = pytest.mark.usefixtures("coordinator")


async def test_release_notes_without_a_known_version_name_none(
    hass: HomeAssistant,
    stage: Scripted,
    entry: MockConfigEntry,
    hass_ws_client: WebSocketGenerator,
) -> None:
    stage.versions.error = VersionError(
        Reason(ReasonKey.VERSION_UNCHECKED, {"version": "2026.12.0"})
    )
    hass.config_entries.async_update_entry(entry, options={"version_channel": "prerelease"})
    await hass.async_block_till_done(wait_background_tasks=True)
    client = await hass_ws_client()
    await client.send_json_auto_id({"type": "update/release_notes", "entity_id": ENTITY})
    text = (await client.receive_json())["result"]
    assert text.startswith("[What is new in ESPHome](https://esphome.io/changelog/)")


async def test_release_notes_say_what_is_new_what_builds_and_what_failed_last(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    stage: Scripted,
    hass_ws_client: WebSocketGenerator,
) -> None:
    client = await hass_ws_client()

    async def notes() -> str:
        await client.send_json_auto_id({"type": "update/release_notes", "entity_id": ENTITY})
        return (await client.receive_json())["result"]

    text = await notes()
    assert f"[What is new in ESPHome {NEWEST}](https://esphome.io/changelog/2026.10.0/)" in text
    assert "The firmware will be built on This instance." in text

    stage.builder.become(BuilderStatus(available=False, why_not=Reason(ReasonKey.NOT_GLIBC)))
    assert (
        "Nothing can be built now: No builder takes this job: This instance: The compilers"
        in await notes()
    )

    stage.builder.become(BuilderStatus(available=True))
    stage.builder.script = [failing(FailureReason.COMPILE_FAILED, "main.cpp:7: error")]
    with pytest.raises(HomeAssistantError):
        await install(hass)
    failed = coordinator.queue.last("lamp.yaml")
    assert failed is not None
    text = await notes()
    assert f"Last job: Installation of {NEWEST} on This instance, failed. " in text
    assert "main.cpp:7: error" in text
    assert text.endswith(f"[Show log](/esphome-offload/job/{failed.job_id})")

    await install(hass)
    assert "Last job" not in await notes(), "what ended well is over"


async def test_release_notes_say_only_how_the_job_stands_while_there_is_one(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    stage: Scripted,
    hass_ws_client: WebSocketGenerator,
) -> None:
    stage.flasher.script = [flash_failing(FailureReason.UPLOAD_REFUSED, "wrong password")]
    with pytest.raises(HomeAssistantError):
        await install(hass)
    client = await hass_ws_client()

    async def notes() -> list[str]:
        await client.send_json_auto_id({"type": "update/release_notes", "entity_id": ENTITY})
        text = (await client.receive_json())["result"]
        return re.sub(r"\b\d\d:\d\d\b", "HH:MM", text).split("\n\n")

    assert "wrong password" in "".join(await notes())
    news = f"[What is new in ESPHome {NEWEST}](https://esphome.io/changelog/2026.10.0/)"
    stage.builder.slots.set_count(1)
    slot = stage.builder.slots.take("guest")
    assert slot is not None
    job = await coordinator.async_submit("lamp.yaml", Operation.COMPILE, clean=True)
    await until_waiting(coordinator, job)
    link = f"[Follow this job](/esphome-offload/job/{job.job_id})"
    first, *others = await notes()
    assert first == f"At HH:MM: Compilation of {NEWEST}, queued."
    assert others[0].startswith("It waits for this: ")
    assert others[1] == "Place in the queue: 1."
    assert others[-2:] == [link, news]

    block = Block()

    async def build(request: BuildRequest, sink: BuildSink) -> None:
        sink.progress(50)
        await block(request, sink)

    stage.builder.script = [build]
    slot.release()
    await block.entered.wait()
    first, *others = await notes()
    assert first == f"At HH:MM: Compilation of {NEWEST} on This instance, compiling, 50 %."
    assert others == ["Expected end: about HH:MM.", link, news]
    block.release.set()
    await coordinator.async_wait(job)
    assert "The firmware will be built on This instance." in await notes()

    stage.flasher.script = [flash_failing(FailureReason.DEVICE_OFFLINE, "no answer")]
    job = await coordinator.async_submit("lamp.yaml", Operation.UPLOAD)
    await coordinator.async_wait(job)
    first, waits, *_ = await notes()
    assert first.startswith(f"At HH:MM: Upload of {NEWEST}")
    assert "waiting for the device" in first
    assert waits == "It waits for this: lamp to be reachable."
