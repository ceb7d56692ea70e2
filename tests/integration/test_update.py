"""The update entity."""

import asyncio
from typing import Any

from homeassistant.core import HomeAssistant, State
from homeassistant.exceptions import HomeAssistantError, ServiceValidationError
from homeassistant.helpers.restore_state import STORAGE_KEY, STORAGE_VERSION
from homeassistant.util import dt as dt_util
import pytest
from pytest_homeassistant_custom_component.common import (
    MockConfigEntry,
    async_mock_load_restore_state_from_storage,
)
from pytest_homeassistant_custom_component.typing import WebSocketGenerator

from custom_components.esphome_offload.coordinator import OffloadCoordinator
from custom_components.esphome_offload.engine.build.model import (
    BuilderStatus,
    BuildRequest,
    BuildSink,
)
from custom_components.esphome_offload.engine.build.toolchain.versions import (
    VersionError,
    VersionProblem,
)
from custom_components.esphome_offload.engine.const import (
    FailureReason,
    JobStatus,
    Operation,
    Stage,
)
from custom_components.esphome_offload.engine.reason import Reason, ReasonKey

from ..engine.jobs.fakes import Block, failing, flash_failing
from .conftest import NEWEST, Stage as Scripted

ENTITY = "update.desk_lamp_esphome"


def state(hass: HomeAssistant) -> State:
    found = hass.states.get(ENTITY)
    assert found is not None
    return found


async def install(hass: HomeAssistant, **data: str) -> None:
    await hass.services.async_call(
        "update", "install", {"entity_id": ENTITY, **data}, blocking=True
    )


@pytest.fixture(autouse=True)
async def _coordinator(coordinator: OffloadCoordinator) -> None:
    """Every test has an instance that is set up."""


async def test_it_offers_the_newest_version_of_a_device_that_nobody_knows(
    hass: HomeAssistant,
) -> None:
    attributes = state(hass).attributes
    assert state(hass).state == "unknown"
    assert attributes["installed_version"] is None
    assert attributes["latest_version"] == NEWEST
    assert attributes["device_class"] == "firmware"
    assert attributes["release_url"] == "https://esphome.io/changelog/2026.10.0/"
    assert attributes["friendly_name"] == "Desk lamp ESPHome"
    assert attributes["in_progress"] is False
    assert attributes["job_id"] is None


async def test_an_installation_that_went_well_shows_what_was_flashed(
    hass: HomeAssistant, stage: Scripted
) -> None:
    await install(hass, version="2026.9.1")
    assert state(hass).state == "on"
    assert state(hass).attributes["installed_version"] == "2026.9.1"
    assert stage.builder.requests[0].esphome_version == "2026.9.1"

    await install(hass)
    assert state(hass).state == "off"
    assert state(hass).attributes["installed_version"] == NEWEST
    assert len(stage.flasher.requests) == 2


async def test_progress_is_the_jobs_also_when_the_service_did_not_start_it(
    hass: HomeAssistant, coordinator: OffloadCoordinator, stage: Scripted
) -> None:
    compiling, flashing = Block(), Block()

    async def build(request: BuildRequest, sink: BuildSink) -> None:
        sink.progress(50)
        await compiling(request, sink)

    stage.builder.script = [build]
    stage.flasher.script = [flashing]
    job = await coordinator.async_submit("lamp.yaml", Operation.INSTALL)
    await compiling.entered.wait()

    attributes = state(hass).attributes
    assert attributes["in_progress"] is True
    assert attributes["job_id"] == job.job_id
    assert attributes["job_stage"] == Stage.COMPILING
    assert attributes["source_label"] == "This machine"
    assert 0 < attributes["update_percentage"] < 100

    compiling.release.set()
    await flashing.entered.wait()
    assert state(hass).attributes["job_stage"] == Stage.UPLOADING

    flashing.release.set()
    await coordinator.async_wait(job)
    attributes = state(hass).attributes
    assert attributes["in_progress"] is False
    assert attributes["update_percentage"] is None
    assert attributes["job_stage"] is None


@pytest.mark.parametrize("reason", [FailureReason.CONFIG_INVALID, FailureReason.COMPILE_FAILED])
async def test_a_failure_names_the_device_the_reason_and_what_to_do(
    hass: HomeAssistant, stage: Scripted, reason: FailureReason
) -> None:
    stage.builder.script = [failing(reason, "unknown key 'wfi'")]
    with pytest.raises(HomeAssistantError, match=r"lamp was not updated.*unknown key 'wfi'") as err:
        await install(hass)
    assert err.value.translation_key == f"install_failed_{reason}"
    assert "orrect the" in str(err.value)
    assert state(hass).attributes["in_progress"] is False


async def test_a_flash_that_the_device_refuses_raises(hass: HomeAssistant, stage: Scripted) -> None:
    stage.flasher.script = [flash_failing(FailureReason.UPLOAD_REFUSED, "Authentication invalid")]
    with pytest.raises(HomeAssistantError, match=r"lamp refused.*Authentication invalid.*password"):
        await install(hass)


@pytest.mark.parametrize("reason", FailureReason)
async def test_every_failure_has_its_own_words(
    hass: HomeAssistant, coordinator: OffloadCoordinator, reason: FailureReason
) -> None:
    error = HomeAssistantError(
        translation_domain="esphome_offload",
        translation_key=f"install_failed_{reason.value}",
        translation_placeholders={
            "device": "lamp",
            "configuration": "lamp.yaml",
            "version": "2026.10.0",
            "error": "why",
        },
    )
    assert "lamp" in str(error)
    assert "{" not in str(error)


async def test_a_caller_that_goes_away_leaves_the_job_running(
    hass: HomeAssistant, coordinator: OffloadCoordinator, stage: Scripted
) -> None:
    block = Block()
    stage.builder.script = [block]
    caller = asyncio.create_task(install(hass))
    await block.entered.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller

    assert not block.cancelled
    assert state(hass).attributes["in_progress"] is True
    block.release.set()
    job = coordinator.queue.jobs()[-1]
    assert (await coordinator.async_wait(job)).status is JobStatus.COMPLETED


async def test_a_cancelled_job_raises_at_its_caller(
    hass: HomeAssistant, coordinator: OffloadCoordinator, stage: Scripted
) -> None:
    block = Block()
    stage.builder.script = [block]
    caller = asyncio.create_task(install(hass))
    await block.entered.wait()
    await coordinator.async_cancel(coordinator.queue.jobs()[-1].job_id)
    with pytest.raises(HomeAssistantError, match="lamp was cancelled"):
        await caller


async def test_a_second_installation_while_one_runs_is_refused(
    hass: HomeAssistant, coordinator: OffloadCoordinator, stage: Scripted
) -> None:
    block = Block()
    stage.builder.script = [block]
    job = await coordinator.async_submit("lamp.yaml", Operation.INSTALL)
    await block.entered.wait()
    with pytest.raises(HomeAssistantError):
        await install(hass)
    with pytest.raises(ServiceValidationError, match=f"lamp runs already.*{job.job_id}"):
        await coordinator.async_submit("lamp.yaml", Operation.INSTALL)
    block.release.set()
    await coordinator.async_wait(job)


async def test_what_was_flashed_is_known_after_a_restart_without_the_job(
    hass: HomeAssistant,
    hass_storage: dict[str, Any],
    entry: MockConfigEntry,
    coordinator: OffloadCoordinator,
) -> None:
    await hass.config_entries.async_unload(entry.entry_id)
    stored = {
        "state": {"entity_id": ENTITY, "state": "off"},
        "extra_data": {"flashed_version": "2026.8.2"},
        "last_seen": dt_util.utcnow().isoformat(),
    }
    hass_storage[STORAGE_KEY] = {"version": STORAGE_VERSION, "data": [stored]}
    await async_mock_load_restore_state_from_storage(hass)
    await hass.config_entries.async_setup(entry.entry_id)
    assert state(hass).attributes["installed_version"] == "2026.8.2"
    assert state(hass).state == "on"


async def test_release_notes_without_a_known_version_name_none(
    hass: HomeAssistant,
    stage: Scripted,
    entry: MockConfigEntry,
    hass_ws_client: WebSocketGenerator,
) -> None:
    stage.versions.error = VersionError(
        VersionProblem.NO_NETWORK, Reason(ReasonKey.VERSION_UNCHECKED, {"version": "2026.12.0"})
    )
    hass.config_entries.async_update_entry(entry, options={"version_channel": "prerelease"})
    await hass.async_block_till_done(wait_background_tasks=True)
    client = await hass_ws_client()
    await client.send_json_auto_id({"type": "update/release_notes", "entity_id": ENTITY})
    text = (await client.receive_json())["result"]
    assert text.startswith("[What is new in ESPHome](https://esphome.io/changelog/)")


async def test_release_notes_say_what_is_new_what_builds_and_what_happened(
    hass: HomeAssistant, stage: Scripted, hass_ws_client: WebSocketGenerator
) -> None:
    client = await hass_ws_client()

    async def notes() -> str:
        await client.send_json_auto_id({"type": "update/release_notes", "entity_id": ENTITY})
        return (await client.receive_json())["result"]

    text = await notes()
    assert f"[What is new in ESPHome {NEWEST}](https://esphome.io/changelog/2026.10.0/)" in text
    assert "The firmware will be built on This machine." in text

    stage.builder.become(BuilderStatus(available=False, why_not=Reason(ReasonKey.NOT_GLIBC)))
    assert (
        "Nothing can be built now: No builder takes this job: This machine: The compilers"
        in await notes()
    )

    stage.builder.become(BuilderStatus(available=True))
    stage.builder.script = [failing(FailureReason.COMPILE_FAILED, "main.cpp:7: error")]
    with pytest.raises(HomeAssistantError):
        await install(hass)
    assert "main.cpp:7: error" in await notes()


async def test_release_notes_say_how_the_job_stands(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    stage: Scripted,
    hass_ws_client: WebSocketGenerator,
) -> None:
    client = await hass_ws_client()

    async def notes() -> str:
        await client.send_json_auto_id({"type": "update/release_notes", "entity_id": ENTITY})
        return (await client.receive_json())["result"]

    block = Block()
    stage.builder.script = [block]
    job = await coordinator.async_submit("lamp.yaml", Operation.COMPILE)
    await block.entered.wait()
    assert f"of {NEWEST} on This machine" in await notes()
    # Every slot is taken: another device's job would wait.
    assert "An update would wait for this: " in await notes()
    await coordinator.async_cancel(job.job_id)
    assert "cancelled." in await notes()

    stage.builder.script = []
    job = await coordinator.async_submit("lamp.yaml", Operation.COMPILE)
    await coordinator.async_wait(job)
    assert "completed." in await notes()

    stage.flasher.script = [flash_failing(FailureReason.DEVICE_OFFLINE, "no answer")]
    job = await coordinator.async_submit("lamp.yaml", Operation.UPLOAD)
    await coordinator.async_wait(job)
    assert "It waits for this: " in await notes()
