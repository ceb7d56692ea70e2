"""The update entity."""

import asyncio
from pathlib import Path

from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError, ServiceValidationError
import pytest

from custom_components.esphome_offload.coordinator import OffloadCoordinator
from custom_components.esphome_offload.engine.build.model import (
    BuildRequest,
    BuildSink,
)
from custom_components.esphome_offload.engine.const import (
    FailureReason,
    JobStatus,
    Operation,
)
from custom_components.esphome_offload.engine.device_access import DeviceAccess
from custom_components.esphome_offload.engine.devices.answers import Answer
from custom_components.esphome_offload.engine.jobs.model import JobEvent

from ..engine.jobs.fakes import Block, failing, flash_failing
from .conftest import LAMP, NEWEST, Pass, Stage as Scripted
from .updating import ENTITY, install, state

pytestmark = pytest.mark.usefixtures("coordinator")


async def test_it_offers_the_newest_version_of_a_device_that_nobody_knows(
    hass: HomeAssistant,
) -> None:
    attributes = state(hass).attributes
    assert state(hass).state == "on"
    assert attributes["installed_version"] == "Unknown"
    assert attributes["latest_version"] == NEWEST
    assert attributes["device_class"] == "firmware"
    assert attributes["release_url"] == "https://esphome.io/changelog/2026.10.0/"
    assert attributes["friendly_name"] == "Desk lamp ESPHome"
    assert attributes["in_progress"] is False
    assert attributes["job_id"] is None

    await hass.services.async_call("update", "skip", {"entity_id": ENTITY}, blocking=True)
    assert state(hass).state == "off"
    await hass.services.async_call("update", "clear_skipped", {"entity_id": ENTITY}, blocking=True)
    assert state(hass).state == "on"


async def test_what_cannot_be_flashed_is_not_offered_while_nothing_is_known_of_its_device(
    hass: HomeAssistant, config_dir: Path, stage: Scripted, pass_time: Pass
) -> None:
    stage.inspector.answers["lamp.yaml"] = Answer(
        "lamp.yaml",
        node_name="lamp",
        friendly_name="Desk lamp",
        platform="host",
        complete=True,
        access=DeviceAccess(ota=()),
    )
    (config_dir / "lamp.yaml").write_text(LAMP + "# changed\n")
    await pass_time(31)
    assert state(hass).state == "unknown"
    assert state(hass).attributes["installed_version"] is None


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
    assert attributes["source_label"] == "This instance"
    assert attributes["update_percentage"] == 30

    compiling.release.set()
    await flashing.entered.wait()
    assert hass.states.get("sensor.desk_lamp_installation").state == "uploading"

    flashing.release.set()
    await coordinator.async_wait(job)
    attributes = state(hass).attributes
    assert attributes["in_progress"] is False
    assert attributes["update_percentage"] is None


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


async def test_an_installation_that_waits_is_replaced_by_another_and_not_cancelled(
    hass: HomeAssistant, coordinator: OffloadCoordinator, stage: Scripted
) -> None:
    slot = stage.builder.slots.take("guest")
    assert slot is not None
    queued = asyncio.Event()
    coordinator.queue.subscribe(None, lambda event, _job: event is JobEvent.QUEUED and queued.set())
    caller = asyncio.create_task(install(hass, version="2026.9.1"))
    await queued.wait()
    newer = await coordinator.async_submit("lamp.yaml", Operation.INSTALL)
    with pytest.raises(HomeAssistantError, match="replaced by a newer one") as error:
        await caller
    assert "cancelled" not in str(error.value)
    slot.release()
    await coordinator.async_wait(newer)
    assert state(hass).attributes["installed_version"] == NEWEST


async def test_a_second_installation_while_one_runs_is_refused(
    hass: HomeAssistant, coordinator: OffloadCoordinator, stage: Scripted
) -> None:
    job, block = await stage.start_blocked(coordinator)
    with pytest.raises(HomeAssistantError):
        await install(hass)
    with pytest.raises(ServiceValidationError, match=f"lamp runs already.*{job.job_id}"):
        await coordinator.async_submit("lamp.yaml", Operation.INSTALL)
    block.release.set()
    await coordinator.async_wait(job)
