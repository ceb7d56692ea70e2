"""Configurations come, change and go."""

import asyncio
from pathlib import Path

from homeassistant.core import (
    HomeAssistant,
)
from homeassistant.helpers import device_registry as dr, entity_registry as er, issue_registry as ir
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.esphome_offload.const import DOMAIN
from custom_components.esphome_offload.coordinator import OffloadCoordinator
from custom_components.esphome_offload.engine.const import JobStatus, Operation, Stage as JobStage
from custom_components.esphome_offload.engine.devices.answers import Answer, Fault
from custom_components.esphome_offload.engine.jobs.model import FirmwareJob
from custom_components.esphome_offload.engine.reason import Reason, ReasonKey

from .conftest import LAMP, NEWEST, Pass, Stage, devices_of
from .live_lamp import core_device

ENTITY = "update.desk_lamp_esphome"


async def wait_for_device(hass: HomeAssistant, coordinator: OffloadCoordinator) -> FirmwareJob:
    """Return an installation whose device is away."""
    core_device(hass, available=False)
    job = await coordinator.async_submit("lamp.yaml", Operation.INSTALL)
    await coordinator.async_wait(job)
    assert job.stage is JobStage.WAITING_DEVICE
    return job


async def test_a_new_file_is_found_within_30_seconds(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    config_dir: Path,
    pass_time: Pass,
) -> None:
    (config_dir / "plug.yaml").write_text(LAMP.replace("lamp", "plug"))
    await pass_time(31)
    assert hass.states.get("update.desk_plug_esphome") is not None


async def test_a_removed_file_removes_its_entity_and_device(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    config_dir: Path,
    pass_time: Pass,
    entity_registry: er.EntityRegistry,
    device_registry: dr.DeviceRegistry,
    entry: MockConfigEntry,
) -> None:
    assert devices_of(hass, entry)
    (config_dir / "lamp.yaml").unlink()
    await pass_time(31)
    assert hass.states.get(ENTITY) is None
    assert entity_registry.async_get(ENTITY) is None
    assert not devices_of(hass, entry)


async def test_files_removed_while_home_assistant_was_off_are_cleaned_up(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    config_dir: Path,
    entry: MockConfigEntry,
    entity_registry: er.EntityRegistry,
) -> None:
    await hass.config_entries.async_unload(entry.entry_id)
    (config_dir / "lamp.yaml").unlink()
    await hass.config_entries.async_setup(entry.entry_id)
    assert entity_registry.async_get(ENTITY) is None


async def test_a_renamed_file_keeps_its_entity(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    config_dir: Path,
    pass_time: Pass,
    entity_registry: er.EntityRegistry,
) -> None:
    before = entity_registry.async_get(ENTITY)
    (config_dir / "lamp.yaml").rename(config_dir / "desk.yaml")
    await pass_time(31)
    after = entity_registry.async_get(ENTITY)
    assert before is not None
    assert after is not None
    assert after.id == before.id
    assert after.unique_id == "desk.yaml"
    assert after.device_id == before.device_id
    assert len(hass.states.async_entity_ids("update")) == 1

    await hass.services.async_call("update", "install", {"entity_id": ENTITY}, blocking=True)
    assert hass.states.get(ENTITY).attributes["installed_version"] == NEWEST


async def test_a_renamed_file_keeps_its_jobs_and_its_firmware(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    config_dir: Path,
    pass_time: Pass,
    stage: Stage,
) -> None:
    built = await coordinator.async_wait(
        await coordinator.async_submit("lamp.yaml", Operation.COMPILE)
    )
    (config_dir / "lamp.yaml").rename(config_dir / "desk.yaml")
    await pass_time(31)
    assert hass.states.get(ENTITY).attributes["job_id"] == built.job_id
    flashed = await coordinator.async_wait(
        await coordinator.async_submit("desk.yaml", Operation.UPLOAD)
    )
    assert flashed.status is JobStatus.COMPLETED
    assert stage.flasher.requests[0].firmware.sha256 == built.firmware_sha256


async def test_a_job_that_waits_goes_on_when_its_configuration_is_renamed(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    config_dir: Path,
    pass_time: Pass,
) -> None:
    job = await wait_for_device(hass, coordinator)
    (config_dir / "lamp.yaml").rename(config_dir / "desk.yaml")
    await pass_time(31)
    assert job.stage is JobStage.WAITING_DEVICE
    assert hass.states.get(ENTITY).attributes["waiting_for"] == str(job.waiting_for)
    await coordinator.async_cancel(job.job_id)


async def test_a_file_that_breaks_keeps_its_device_and_is_named_in_a_repair(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    config_dir: Path,
    pass_time: Pass,
    stage: Stage,
    issue_registry: ir.IssueRegistry,
) -> None:
    for name in ("plug.yaml", "lamp.yaml"):
        (config_dir / name).write_text("esphome: [")
        reason = Reason(ReasonKey.CONFIGURATION_SYNTAX, {"file": name, "row": "1"})
        stage.inspector.answers[name] = Answer(
            name, broken=True, says_device=True, problem=reason, reads=(name,)
        )
    await pass_time(31)

    assert hass.states.get(ENTITY).state != "unavailable"
    issue = issue_registry.async_get_issue(DOMAIN, "configuration_unreadable_lamp.yaml")
    assert issue is not None
    assert issue.translation_placeholders["file"] == "lamp.yaml"
    assert issue.translation_placeholders["reason"] == "lamp.yaml is not valid YAML (line 1)"
    assert issue_registry.async_get_issue(DOMAIN, "configuration_unreadable_plug.yaml")

    stage.inspector.answers.clear()
    (config_dir / "lamp.yaml").write_text(LAMP)
    (config_dir / "plug.yaml").unlink()
    await pass_time(31)
    assert not [key for key in issue_registry.issues if key[0] == DOMAIN]
    assert hass.states.get(ENTITY) is not None


async def test_a_mistake_in_a_package_keeps_the_device_and_the_job_that_waits(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    config_dir: Path,
    entry: MockConfigEntry,
    pass_time: Pass,
    stage: Stage,
    issue_registry: ir.IssueRegistry,
) -> None:
    core_device(hass, available=False)
    job = await coordinator.async_submit("lamp.yaml", Operation.INSTALL)
    await coordinator.async_wait(job)
    (config_dir / "lamp.yaml").write_text("packages: [!include base.yaml]\n")
    (config_dir / "base.yaml").write_text("esphome: [")
    reason = Reason(ReasonKey.CONFIGURATION_SYNTAX, {"file": "base.yaml", "row": "1"})
    stage.inspector.answers |= {
        "lamp.yaml": Answer(
            "lamp.yaml",
            faults=(Fault("base.yaml", reason),),
            reads=("lamp.yaml", "base.yaml"),
        ),
        "base.yaml": Answer("base.yaml", broken=True, problem=reason, reads=("base.yaml",)),
    }
    await pass_time(31)
    (config_dir / "other.yaml").write_text("wifi: {ssid: x}\n")
    await pass_time(31)
    await hass.config_entries.async_reload(entry.entry_id)
    await hass.async_block_till_done(wait_background_tasks=True)

    assert job.stage is JobStage.WAITING_DEVICE
    assert hass.states.get(ENTITY).attributes["waiting_for"] == str(job.waiting_for)
    repairs = {key for domain, key in issue_registry.issues if domain == DOMAIN}
    assert repairs == {"configuration_unreadable_base.yaml"}
    await coordinator.async_cancel(job.job_id)


async def test_a_missing_folder_removes_no_entity(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    config_dir: Path,
    entry: MockConfigEntry,
    pass_time: Pass,
    entity_registry: er.EntityRegistry,
    issue_registry: ir.IssueRegistry,
) -> None:
    away = config_dir.with_name("away")
    config_dir.rename(away)
    await pass_time(31)
    assert issue_registry.async_get_issue(DOMAIN, "folder_missing")
    assert hass.states.get(ENTITY).state != "unavailable"

    await hass.config_entries.async_unload(entry.entry_id)
    await hass.config_entries.async_setup(entry.entry_id)
    await hass.async_block_till_done(wait_background_tasks=True)
    assert issue_registry.async_get_issue(DOMAIN, "folder_missing")
    assert entity_registry.async_get(ENTITY)

    away.rename(config_dir)
    await pass_time(31)
    assert not issue_registry.async_get_issue(DOMAIN, "folder_missing")
    assert hass.states.get(ENTITY).attributes["latest_version"] == NEWEST


async def test_a_job_that_waits_ends_when_its_configuration_goes_away(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    config_dir: Path,
    pass_time: Pass,
) -> None:
    job = await wait_for_device(hass, coordinator)
    ended = asyncio.Event()
    coordinator.queue.subscribe(job.job_id, lambda _event, job: job.terminal and ended.set())
    (config_dir / "lamp.yaml").unlink()
    await pass_time(31)
    await ended.wait()
    assert job.status is JobStatus.CANCELLED


async def test_a_job_that_runs_goes_on_when_its_configuration_goes_away(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    config_dir: Path,
    pass_time: Pass,
    stage: Stage,
) -> None:
    job, block = await stage.start_blocked(coordinator, Operation.COMPILE)
    (config_dir / "lamp.yaml").unlink()
    await pass_time(31)
    block.release.set()
    assert (await coordinator.async_wait(job)).status is JobStatus.COMPLETED
