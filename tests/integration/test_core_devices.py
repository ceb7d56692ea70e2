"""Devices that core's esphome has, and the entities on them."""

from dataclasses import replace
from pathlib import Path

from homeassistant.const import EVENT_STATE_CHANGED, EVENT_STATE_REPORTED
from homeassistant.core import (
    Event,
    EventStateChangedData,
    EventStateReportedData,
    HomeAssistant,
    callback,
)
from homeassistant.helpers import device_registry as dr, entity_registry as er, issue_registry as ir
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.esphome_offload.const import DOMAIN
from custom_components.esphome_offload.coordinator import OffloadCoordinator
from custom_components.esphome_offload.engine.build.model import FlashRequest
from custom_components.esphome_offload.engine.const import Operation

from .conftest import LAMP, NEWEST, Pass, Stage, devices_of
from .live_lamp import MAC, core_device

ENTITY = "update.desk_lamp_esphome"


async def test_the_entity_is_on_cores_device_which_stays_cores(
    hass: HomeAssistant,
    stage: Stage,
    entry: MockConfigEntry,
    entity_registry: er.EntityRegistry,
    device_registry: dr.DeviceRegistry,
) -> None:
    core_entry, device = core_device(hass)
    assert await hass.config_entries.async_setup(entry.entry_id)
    await hass.async_block_till_done(wait_background_tasks=True)

    entity = entity_registry.async_get(ENTITY)
    assert entity is not None
    assert entity.device_id == device.id
    assert entity.config_entry_id == entry.entry_id
    assert device_registry.async_get(device.id).config_entry_id == core_entry.entry_id
    assert not devices_of(hass, entry)
    assert hass.states.get(ENTITY).attributes["installed_version"] == "2026.9.1"
    assert hass.states.get(ENTITY).state == "on"


async def test_the_entity_moves_to_cores_device_when_that_appears_and_back(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    entry: MockConfigEntry,
    entity_registry: er.EntityRegistry,
    device_registry: dr.DeviceRegistry,
    pass_time: Pass,
) -> None:
    own = entity_registry.async_get(ENTITY).device_id
    assert own is not None

    core_entry, device = core_device(hass)
    await pass_time(1)
    assert entity_registry.async_get(ENTITY).device_id == device.id
    assert device_registry.async_get(own) is None
    assert hass.states.get(ENTITY).attributes["installed_version"] == "2026.9.1"

    await hass.config_entries.async_remove(core_entry.entry_id)
    await pass_time(1)
    again = entity_registry.async_get(ENTITY).device_id
    assert device_registry.async_get(again).identifiers == {(DOMAIN, "lamp.yaml")}

    _, anew = core_device(hass)
    await pass_time(1)
    assert entity_registry.async_get(ENTITY).device_id == anew.id
    assert device_registry.async_get(again) is None


async def test_only_the_entity_of_the_device_that_changed_writes_its_state(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    config_dir: Path,
    stage: Stage,
    pass_time: Pass,
) -> None:
    (config_dir / "fan.yaml").write_text("esphome:\n  name: fan\nhost:\n")
    await pass_time(30)
    entry, _ = core_device(hass, available=True)
    await pass_time(1)
    written: list[str] = []

    @callback
    def note(event: Event[EventStateChangedData | EventStateReportedData]) -> None:
        written.append(event.data["entity_id"])

    hass.bus.async_listen(EVENT_STATE_CHANGED, note)
    hass.bus.async_listen(EVENT_STATE_REPORTED, note, event_filter=callback(lambda _data: True))

    entry.runtime_data.runs(NEWEST, "2026-11-25 10:00:00 +0000")
    await pass_time(1)
    # The options of the select are in the registry too, which lets it write its state again.
    assert sorted(set(written)) == [
        "button.desk_lamp_cancel_installation",
        "select.desk_lamp_esphome_version",
        "sensor.desk_lamp_installation",
        ENTITY,
    ]

    written.clear()
    stage.builder.become(replace(stage.builder.state, busy=1))
    await hass.async_block_till_done()
    assert written == []


async def test_a_job_starts_from_the_version_that_was_just_verified(
    hass: HomeAssistant, coordinator: OffloadCoordinator, stage: Stage, pass_time: Pass
) -> None:
    entry, _ = core_device(hass, available=True)
    await pass_time(1)

    async def restart(request: FlashRequest, _sink: object) -> None:
        build = request.firmware.build_info
        entry.runtime_data.runs(build.esphome_version, build.build_time)

    stage.flasher.script = [restart]
    first = await coordinator.async_wait(
        await coordinator.async_submit("lamp.yaml", Operation.INSTALL)
    )
    assert first.outcome.verified
    second = await coordinator.async_submit("lamp.yaml", Operation.COMPILE)
    assert (first.request.from_version, second.request.from_version) == ("2026.9.1", NEWEST)
    await coordinator.async_wait(second)


async def test_a_device_is_the_former_one_of_the_configuration_that_had_it_last(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    config_dir: Path,
    pass_time: Pass,
) -> None:
    core_device(hass, available=True)
    await pass_time(1)
    assert coordinator.firmware.macs("lamp.yaml") == (MAC,)
    (config_dir / "lamp.yaml").write_text(LAMP.replace("lamp", "desk"))
    (config_dir / "other.yaml").write_text(LAMP)
    await pass_time(31)
    assert coordinator.firmware.macs("lamp.yaml") == ()
    assert coordinator.firmware.macs("other.yaml") == (MAC,)
    (config_dir / "other.yaml").write_text(LAMP.replace("lamp", "shelf"))
    await pass_time(31)
    assert coordinator.devices["lamp.yaml"].core is None
    assert coordinator.devices["other.yaml"].core is not None


async def test_a_device_that_goes_back_to_its_old_firmware_later_is_a_repair(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    config_dir: Path,
    stage: Stage,
    pass_time: Pass,
    issue_registry: ir.IssueRegistry,
) -> None:
    lamp = core_device(hass, available=True)[0].runtime_data
    old = lamp.device_info.esphome_version, lamp.device_info.compilation_time
    await pass_time(1)

    async def restart(request: FlashRequest, _sink: object) -> None:
        build = request.firmware.build_info
        lamp.runs(build.esphome_version, build.build_time)

    stage.flasher.script = [restart]
    job = await coordinator.async_submit("lamp.yaml", Operation.INSTALL)
    job = await coordinator.async_wait(job)
    assert job.outcome.verified
    assert job.build_info is not None
    new = job.build_info.esphome_version, job.build_info.build_time
    doubted = False
    for build, back in ((new, False), (old, True), (new, False), (old, True)):
        lamp.runs(*build)
        await pass_time(1)
        issue = issue_registry.async_get_issue(DOMAIN, "rolled_back_lamp.yaml")
        assert (issue is not None) is back
        doubted = doubted or back
        assert stage.origins.forgotten == (["lamp.yaml"] if doubted else [])
        if issue is not None and issue.translation_placeholders is not None:
            log = issue.translation_placeholders["log"]
            assert log == f"/esphome-offload/job/{job.job_id}"
    # It goes with its file.
    (config_dir / "lamp.yaml").rename(config_dir / "desk.yaml")
    await pass_time(30)
    for build, back in ((old, True), (new, False), (old, True)):
        lamp.runs(*build)
        await pass_time(1)
        issues = {
            each
            for each in ("lamp", "desk")
            if (DOMAIN, f"rolled_back_{each}.yaml") in issue_registry.issues
        }
        assert issues == ({"desk"} if back else set())
    (config_dir / "desk.yaml").unlink()
    await pass_time(30)
    assert issue_registry.async_get_issue(DOMAIN, "rolled_back_desk.yaml") is None
