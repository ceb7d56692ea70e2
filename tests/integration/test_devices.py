"""Configurations and core's devices come, change and go; our entities follow."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

from homeassistant.config_entries import ConfigEntryState
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
from custom_components.esphome_offload.engine.const import JobStatus, Operation, Stage as JobStage
from custom_components.esphome_offload.engine.devices.answers import Answer, Fault
from custom_components.esphome_offload.engine.reason import Reason, ReasonKey

from .conftest import (
    LAMP,
    NEWEST,
    Pass,
    Stage,
    devices_of,
)

ENTITY = "update.desk_lamp_esphome"
MAC = "aa:bb:cc:00:11:22"


class LiveLamp:
    """The runtime data of core's esphome for the lamp, or for another device."""

    def __init__(self, available: bool, name: str = "lamp", mac: str = MAC) -> None:
        self.available = available
        self._name, self._mac = name, mac
        self.loaded_platforms: set[str] = set()
        self._listeners: list[Callable[[], None]] = []
        self.runs("2026.9.1", "2026-09-20 10:00:00 +0000")

    def async_subscribe_device_updated(self, listener: Callable[[], None]) -> Callable[[], None]:
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def sleep(self) -> None:
        """Disconnect."""
        self.available = False
        self._notify()

    def runs(self, version: str, build_time: str) -> None:
        """Reconnect, to a lamp that runs this build."""
        self.device_info = SimpleNamespace(
            name=self._name,
            mac_address=self._mac,
            esphome_version=version,
            compilation_time=build_time,
        )
        self._notify()

    def _notify(self) -> None:
        for listener in tuple(self._listeners):
            listener()


def core_device(
    hass: HomeAssistant, *, available: bool | None = None
) -> tuple[MockConfigEntry, dr.DeviceEntry]:
    """Let core's esphome know the lamp; ``available`` is None while it is not set up."""
    entry = MockConfigEntry(
        domain="esphome",
        unique_id=MAC,
        title="Desk lamp",
        data={"host": "192.168.1.20", "port": 6053, "device_name": "lamp"},
    )
    entry.add_to_hass(hass)
    if available is not None:
        entry.runtime_data = LiveLamp(available)
        entry.mock_state(hass, ConfigEntryState.LOADED)
    device = dr.async_get(hass).async_get_or_create(
        config_entry_id=entry.entry_id,
        connections={(dr.CONNECTION_NETWORK_MAC, MAC)},
        name="Desk lamp",
        sw_version="2026.9.1 (2026-09-20 10:00:00 +0000)",
    )
    return entry, device


class TestFiles:
    """Configurations come, change and go."""

    async def test_a_new_file_is_found_within_30_seconds(
        self,
        hass: HomeAssistant,
        coordinator: OffloadCoordinator,
        config_dir: Path,
        pass_time: Pass,
    ) -> None:
        (config_dir / "plug.yaml").write_text(LAMP.replace("lamp", "plug"))
        await pass_time(31)
        assert hass.states.get("update.desk_plug_esphome") is not None

    async def test_a_removed_file_removes_its_entity_and_device(
        self,
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
        self,
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
        self,
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
        self,
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
        self,
        hass: HomeAssistant,
        coordinator: OffloadCoordinator,
        config_dir: Path,
        pass_time: Pass,
    ) -> None:
        core_device(hass, available=False)
        job = await coordinator.async_submit("lamp.yaml", Operation.INSTALL)
        await coordinator.async_wait(job)
        assert job.stage is JobStage.WAITING_DEVICE
        (config_dir / "lamp.yaml").rename(config_dir / "desk.yaml")
        await pass_time(31)
        assert job.stage is JobStage.WAITING_DEVICE
        assert hass.states.get(ENTITY).attributes["waiting_for"] == str(job.waiting_for)
        await coordinator.async_cancel(job.job_id)

    async def test_a_file_that_breaks_keeps_its_device_and_is_named_in_a_repair(
        self,
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
        self,
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
        self,
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
        self,
        hass: HomeAssistant,
        coordinator: OffloadCoordinator,
        config_dir: Path,
        pass_time: Pass,
    ) -> None:
        core_device(hass, available=False)
        job = await coordinator.async_submit("lamp.yaml", Operation.INSTALL)
        await coordinator.async_wait(job)
        assert job.stage is JobStage.WAITING_DEVICE
        ended = asyncio.Event()
        coordinator.queue.subscribe(job.job_id, lambda _event, job: job.terminal and ended.set())
        (config_dir / "lamp.yaml").unlink()
        await pass_time(31)
        await ended.wait()
        assert job.status is JobStatus.CANCELLED

    async def test_a_job_that_runs_goes_on_when_its_configuration_goes_away(
        self,
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


class TestCoreDevices:
    """Our entity hangs on the device of core's esphome."""

    async def test_the_entity_is_on_cores_device_which_stays_cores(
        self,
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
        self,
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
        assert device_registry.async_get(again).identifiers == {(DOMAIN, "lamp")}

        _, anew = core_device(hass)
        await pass_time(1)
        assert entity_registry.async_get(ENTITY).device_id == anew.id
        assert device_registry.async_get(again) is None

    async def test_only_the_entity_of_the_device_that_changed_writes_its_state(
        self,
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
        self, hass: HomeAssistant, coordinator: OffloadCoordinator, stage: Stage, pass_time: Pass
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
        self,
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
        self,
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
