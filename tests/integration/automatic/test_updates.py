"""Automatic updates in a real Home Assistant: when they start, once, and what stops them."""

from collections.abc import Awaitable, Callable, Generator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import patch
import uuid
from zoneinfo import ZoneInfo

from freezegun import freeze_time
from freezegun.api import FrozenDateTimeFactory
from homeassistant.const import EVENT_HOMEASSISTANT_STARTED
from homeassistant.core import Context, CoreState, HomeAssistant, State
from homeassistant.exceptions import Unauthorized
from homeassistant.helpers import entity_registry as er, issue_registry as ir
import pytest
from pytest_homeassistant_custom_component.common import (
    MockConfigEntry,
    MockUser,
    async_fire_time_changed,
)

from custom_components.esphome_offload.const import DOMAIN
from custom_components.esphome_offload.coordinator import OffloadCoordinator
from custom_components.esphome_offload.engine.build.model import FlashRequest
from custom_components.esphome_offload.engine.build.toolchain.versions import VersionError
from custom_components.esphome_offload.engine.codec import schema
from custom_components.esphome_offload.engine.const import FailureReason, JobStatus, Operation
from custom_components.esphome_offload.engine.device_access import DeviceAccess
from custom_components.esphome_offload.engine.devices.answers import Answer
from custom_components.esphome_offload.engine.jobs.model import FirmwareJob
from custom_components.esphome_offload.engine.reason import Reason, ReasonKey
from custom_components.esphome_offload.engine.target import TargetId
from custom_components.esphome_offload.inventory.announced_firmware import AnnouncedFirmware
from custom_components.esphome_offload.inventory.device_settings import DeviceSetting
from custom_components.esphome_offload.stores.storage import StatePersistence

from ...engine.jobs.fakes import Block, failing
from ..conftest import LAMP, NEWEST, Pass, Stage
from ..test_devices import core_device

BERLIN = ZoneInfo("Europe/Berlin")
LAMP_FILE = TargetId("lamp.yaml")
SWITCH = "switch.desk_lamp_automatic_updates"
STORE = "esphome_offload.device_settings"
ALL = {"automatic_updates": "all", "automatic_delay_days": 0}

type At = Callable[[str], Awaitable[None]]


@pytest.fixture
def freezer(monkeypatch: pytest.MonkeyPatch) -> Generator[FrozenDateTimeFactory]:
    """Set the clock, which goes on: what waits for a moment would never end otherwise."""
    # Ids of jobs never go back in time, also not those of other tests.
    monkeypatch.setattr(uuid, "_last_timestamp_v7", None)
    schema(DeviceSetting)  # with the class of times that it has, before that is replaced
    with freeze_time("2026-11-30 12:00:00+00:00", tick=True) as clock:
        yield clock


@pytest.fixture
def at(hass: HomeAssistant, freezer: FrozenDateTimeFactory) -> At:
    """Return a function that makes it a local time, and waits for what is done then."""

    async def at(local: str) -> None:
        now = datetime.fromisoformat(local).replace(tzinfo=BERLIN).astimezone(UTC)
        freezer.move_to(now)
        async_fire_time_changed(hass, now)
        await hass.async_block_till_done(wait_background_tasks=True)

    return at


@pytest.fixture(autouse=True)
async def _afternoon(
    hass: HomeAssistant, freezer: FrozenDateTimeFactory, stage: Stage, config_dir: Path
) -> None:
    """Every test begins at 13:00 on a Monday in Berlin; the versions have been out for long."""
    await hass.config.async_set_time_zone("Europe/Berlin")
    stage.versions.uploaded_at[NEWEST] = datetime(2026, 10, 21, tzinfo=UTC)


def runs(coordinator: OffloadCoordinator, name: str = "lamp", version: str = "2026.9.1") -> None:
    """Let a device announce its version."""
    coordinator.firmware._announced(AnnouncedFirmware(name, version))


async def set_options(hass: HomeAssistant, entry: MockConfigEntry, **options: object) -> None:
    hass.config_entries.async_update_entry(entry, options={**ALL, **options})
    await hass.async_block_till_done(wait_background_tasks=True)


async def ended(hass: HomeAssistant, coordinator: OffloadCoordinator) -> list[FirmwareJob]:
    """Return the jobs of automatic updates; all have ended, and what follows of that is done."""
    while active := [job for job in automatic(coordinator) if not job.terminal]:
        await coordinator.async_wait(active[0])
        await hass.async_block_till_done(wait_background_tasks=True)
    return automatic(coordinator)


def automatic(coordinator: OffloadCoordinator) -> list[FirmwareJob]:
    return [job for job in coordinator.queue.jobs() if job.request.automatic]


def files(jobs: list[FirmwareJob]) -> list[str]:
    return [job.request.configuration for job in jobs]


def state_of(hass: HomeAssistant, entity_id: str) -> State:
    state = hass.states.get(entity_id)
    assert state is not None
    return state


async def switch(
    hass: HomeAssistant, action: str, user_id: str | None = None, entity_id: str = SWITCH
) -> None:
    await hass.services.async_call(
        "switch", action, {"entity_id": entity_id}, blocking=True, context=Context(user_id=user_id)
    )


@pytest.fixture
async def fleet(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    entry: MockConfigEntry,
    config_dir: Path,
    pass_time: Pass,
) -> OffloadCoordinator:
    """Return an instance with three devices that all have an update."""
    for name in ("plug", "fan"):
        (config_dir / f"{name}.yaml").write_text(LAMP.replace("lamp", name))
    await pass_time(31)
    for name in ("lamp", "plug", "fan"):
        runs(coordinator, name)
    await set_options(hass, entry)
    return coordinator


class TestSwitch:
    async def test_nothing_is_updated_until_somebody_wants_it(
        self, hass: HomeAssistant, coordinator: OffloadCoordinator, at: At
    ) -> None:
        runs(coordinator)
        assert state_of(hass, SWITCH).state == "off"
        await at("2026-12-01 02:00")
        assert automatic(coordinator) == []

        await switch(hass, "turn_on")
        assert state_of(hass, SWITCH).state == "on"
        await at("2026-12-01 02:05")
        jobs = await ended(hass, coordinator)
        assert [(job.status, job.request.esphome_version) for job in jobs] == [
            (JobStatus.COMPLETED, NEWEST)
        ]
        assert coordinator.job_details(jobs[0])["automatic"] is True

    async def test_all_take_part_except_those_that_are_switched_off(
        self, hass: HomeAssistant, fleet: OffloadCoordinator, at: At
    ) -> None:
        assert state_of(hass, SWITCH).state == "on"
        await switch(hass, "turn_off", entity_id="switch.desk_plug_automatic_updates")
        await at("2026-12-01 02:00")
        assert sorted(files(await ended(hass, fleet))) == ["fan.yaml", "lamp.yaml"]

    async def test_it_is_unavailable_while_no_device_is_updated_and_keeps_its_state(
        self, hass: HomeAssistant, coordinator: OffloadCoordinator, entry: MockConfigEntry
    ) -> None:
        await switch(hass, "turn_on")
        await set_options(hass, entry, automatic_updates="off")
        assert state_of(hass, SWITCH).state == "unavailable"
        await set_options(hass, entry, automatic_updates="chosen")
        assert state_of(hass, SWITCH).state == "on"

    async def test_it_goes_with_the_device_when_its_file_is_renamed(
        self,
        hass: HomeAssistant,
        coordinator: OffloadCoordinator,
        config_dir: Path,
        pass_time: Pass,
    ) -> None:
        await switch(hass, "turn_on")
        (config_dir / "lamp.yaml").rename(config_dir / "desk.yaml")
        await pass_time(31)
        assert coordinator.device_settings.get(TargetId("desk.yaml")).automatic is True
        assert state_of(hass, SWITCH).state == "on"

    async def test_only_an_administrator_switches_it(
        self, hass: HomeAssistant, coordinator: OffloadCoordinator
    ) -> None:
        member = MockUser(name="Member").add_to_hass(hass)
        member.mock_policy({"entities": True})
        for action in ("turn_on", "turn_off"):
            with pytest.raises(Unauthorized):
                await switch(hass, action, member.id)
        assert coordinator.device_settings.get(LAMP_FILE).automatic is None


class TestWindow:
    async def test_all_devices_are_updated_one_after_another_where_one_builds_at_a_time(
        self, hass: HomeAssistant, fleet: OffloadCoordinator, stage: Stage, at: At
    ) -> None:
        block = Block()
        stage.builder.script = [block]
        await at("2026-12-01 01:55")
        assert automatic(fleet) == []
        await at("2026-12-01 02:00")
        await block.entered.wait()
        assert len(automatic(fleet)) == 1
        block.release.set()
        jobs = await ended(hass, fleet)
        assert sorted(files(jobs)) == ["fan.yaml", "lamp.yaml", "plug.yaml"]
        assert all(job.status is JobStatus.COMPLETED for job in jobs)
        await at("2026-12-02 02:00")
        assert len(automatic(fleet)) == 3

    async def test_what_runs_at_the_end_of_the_window_goes_on_and_nothing_else_starts(
        self, hass: HomeAssistant, fleet: OffloadCoordinator, stage: Stage, at: At
    ) -> None:
        block = Block()
        stage.builder.script = [block]
        await at("2026-12-01 04:55")
        await block.entered.wait()
        await at("2026-12-01 05:00")
        block.release.set()
        jobs = await ended(hass, fleet)
        assert [job.status for job in jobs] == [JobStatus.COMPLETED]

    async def test_an_attempt_is_on_disk_before_it_starts(
        self,
        hass: HomeAssistant,
        fleet: OffloadCoordinator,
        stage: Stage,
        hass_storage: dict,
        at: At,
    ) -> None:
        block = Block()
        stage.builder.script = [block]
        await at("2026-12-01 02:00")
        await block.entered.wait()
        stored = hass_storage[STORE]["data"]
        attempted = [
            name for name, each in stored.items() if name != "number" and each.get("attempted_at")
        ]
        assert attempted == files(automatic(fleet))
        block.release.set()
        await ended(hass, fleet)

    async def test_what_failed_is_tried_again_in_the_next_window_only_if_it_may_go_well(
        self,
        hass: HomeAssistant,
        coordinator: OffloadCoordinator,
        entry: MockConfigEntry,
        stage: Stage,
        config_dir: Path,
        pass_time: Pass,
        at: At,
    ) -> None:
        runs(coordinator)
        await set_options(hass, entry)
        stage.builder.script = [
            failing(FailureReason.OUT_OF_MEMORY, "no"),
            failing(FailureReason.COMPILE_FAILED, "no"),
        ]
        await at("2026-12-01 02:00")
        assert len(await ended(hass, coordinator)) == 1
        await at("2026-12-01 02:05")
        await at("2026-12-01 04:55")
        assert len(automatic(coordinator)) == 1
        assert ir.async_get(hass).async_get_issue(DOMAIN, "install_failed_lamp.yaml")
        await at("2026-12-02 02:00")
        assert len(await ended(hass, coordinator)) == 2
        await at("2026-12-03 02:00")
        assert len(automatic(coordinator)) == 2
        (config_dir / "lamp.yaml").write_text(f"{LAMP}# mended\n")
        await pass_time(31)
        await at("2026-12-04 02:00")
        assert len(await ended(hass, coordinator)) == 3

    async def test_what_went_back_to_its_former_firmware_is_not_flashed_every_night(
        self,
        hass: HomeAssistant,
        coordinator: OffloadCoordinator,
        entry: MockConfigEntry,
        stage: Stage,
        at: At,
    ) -> None:
        runs(coordinator)
        await set_options(hass, entry)
        stage.flasher.script = [failing(FailureReason.ROLLED_BACK, "no")]
        await at("2026-12-01 02:00")
        assert len(await ended(hass, coordinator)) == 1
        await at("2026-12-02 02:00")
        assert len(automatic(coordinator)) == 1

    async def test_nothing_is_replaced_by_an_older_version_that_nobody_chose(
        self, hass: HomeAssistant, coordinator: OffloadCoordinator, entry: MockConfigEntry, at: At
    ) -> None:
        runs(coordinator, version="2026.12.0b1")
        await set_options(hass, entry)
        hass.states.async_set("update.desk_lamp_esphome", "on")  # its configuration changed
        await at("2026-12-01 02:00")
        assert automatic(coordinator) == []

        await coordinator.versions.async_choose(LAMP_FILE, NEWEST)
        await at("2026-12-01 02:05")
        assert len(await ended(hass, coordinator)) == 1

    async def test_another_window_holds_at_once(
        self, hass: HomeAssistant, fleet: OffloadCoordinator, entry: MockConfigEntry, at: At
    ) -> None:
        await at("2026-12-01 12:01")
        assert automatic(fleet) == []
        await set_options(hass, entry, automatic_start="12:00:00", automatic_end="13:00:00")
        assert len(await ended(hass, fleet)) == 3

    async def test_after_a_restart_in_the_window_nothing_is_tried_a_second_time(
        self,
        hass: HomeAssistant,
        coordinator: OffloadCoordinator,
        entry: MockConfigEntry,
        stage: Stage,
        at: At,
    ) -> None:
        runs(coordinator)
        await set_options(hass, entry)
        stage.builder.script = [failing(FailureReason.COMPILE_FAILED, "no")]
        await at("2026-12-01 02:00")
        await ended(hass, coordinator)
        coordinator.device_settings.records.clear()
        await coordinator.device_settings.async_load()
        assert await hass.config_entries.async_reload(entry.entry_id)
        await at("2026-12-01 02:05")
        assert len(automatic(coordinator)) == 1

    async def test_it_waits_until_home_assistant_has_started(
        self,
        hass: HomeAssistant,
        coordinator: OffloadCoordinator,
        entry: MockConfigEntry,
        at: At,
    ) -> None:
        runs(coordinator)
        await set_options(hass, entry)
        await hass.config_entries.async_unload(entry.entry_id)
        hass.set_state(CoreState.starting)
        await hass.config_entries.async_setup(entry.entry_id)
        await at("2026-12-01 02:00")
        assert automatic(coordinator) == []
        hass.set_state(CoreState.running)
        hass.bus.async_fire(EVENT_HOMEASSISTANT_STARTED)
        await hass.async_block_till_done(wait_background_tasks=True)
        assert len(await ended(hass, coordinator)) == 1

    async def test_nothing_starts_when_the_attempt_cannot_be_written(
        self,
        hass: HomeAssistant,
        fleet: OffloadCoordinator,
        at: At,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        with patch.object(StatePersistence, "save_durably", side_effect=OSError("disk full")):
            await at("2026-12-01 02:00")
        assert automatic(fleet) == []
        assert caplog.text.count("Nothing is updated automatically: disk full") == 1
        await at("2026-12-01 02:05")
        assert len(await ended(hass, fleet)) == 3

    async def test_nothing_starts_after_the_entry_was_unloaded(
        self, hass: HomeAssistant, fleet: OffloadCoordinator, entry: MockConfigEntry, at: At
    ) -> None:
        await hass.config_entries.async_unload(entry.entry_id)
        await at("2026-12-01 02:00")
        assert automatic(fleet) == []

    async def test_another_time_zone_moves_the_window(
        self, hass: HomeAssistant, fleet: OffloadCoordinator, at: At
    ) -> None:
        await hass.config.async_set_time_zone("Asia/Tokyo")
        await at("2026-12-01 02:00")
        assert automatic(fleet) == []
        await at("2026-12-01 18:00")  # 02:00 in Tokyo
        assert len(await ended(hass, fleet)) == 3

    async def test_the_hour_that_comes_twice_makes_no_second_attempt(
        self,
        hass: HomeAssistant,
        coordinator: OffloadCoordinator,
        entry: MockConfigEntry,
        stage: Stage,
        freezer: FrozenDateTimeFactory,
    ) -> None:
        runs(coordinator)
        await set_options(hass, entry)
        stage.builder.script = [failing(FailureReason.COMPILE_FAILED, "no")] * 5
        for minutes in range(0, 240, 15):
            now = datetime(2027, 10, 31, 0, tzinfo=UTC) + timedelta(minutes=minutes)
            freezer.move_to(now)
            async_fire_time_changed(hass, now)
            await hass.async_block_till_done(wait_background_tasks=True)
        assert len(await ended(hass, coordinator)) == 1


class TestDevices:
    async def test_a_version_that_a_person_skipped_is_left_alone(
        self, hass: HomeAssistant, fleet: OffloadCoordinator, at: At
    ) -> None:
        await hass.services.async_call(
            "update", "skip", {"entity_id": "update.desk_lamp_esphome"}, blocking=True
        )
        await at("2026-12-01 02:00")
        assert "lamp.yaml" not in files(await ended(hass, fleet))

    async def test_a_device_that_was_never_heard_of_is_left_to_a_person(
        self, hass: HomeAssistant, coordinator: OffloadCoordinator, entry: MockConfigEntry, at: At
    ) -> None:
        await set_options(hass, entry)
        await at("2026-12-01 02:00")
        assert automatic(coordinator) == []

    async def test_one_that_cannot_be_flashed_is_left_to_a_person_without_a_repair(
        self,
        hass: HomeAssistant,
        fleet: OffloadCoordinator,
        stage: Stage,
        config_dir: Path,
        pass_time: Pass,
        at: At,
    ) -> None:
        stage.inspector.answers["lamp.yaml"] = Answer(
            "lamp.yaml",
            node_name="lamp",
            platform="host",
            access=DeviceAccess(ota=()),
            reads=("lamp.yaml",),
        )
        (config_dir / "lamp.yaml").write_text(f"{LAMP}# changed")
        await pass_time(31)
        await at("2026-12-01 02:00")
        assert sorted(files(await ended(hass, fleet))) == ["fan.yaml", "plug.yaml"]
        assert ir.async_get(hass).async_get_issue(DOMAIN, "not_updated_lamp.yaml") is None

    async def test_a_device_with_a_job_keeps_it(
        self, hass: HomeAssistant, fleet: OffloadCoordinator, stage: Stage, at: At
    ) -> None:
        job, block = await stage.start_blocked(fleet, Operation.COMPILE)
        await at("2026-12-01 02:00")
        assert "lamp.yaml" not in files(automatic(fleet))
        block.release.set()
        await fleet.async_wait(job)
        await at("2026-12-01 02:05")
        assert "lamp.yaml" in files(await ended(hass, fleet))

    async def test_one_that_is_offline_is_left_out_until_it_is_back(
        self,
        hass: HomeAssistant,
        coordinator: OffloadCoordinator,
        entry: MockConfigEntry,
        pass_time: Pass,
        at: At,
    ) -> None:
        live, _ = core_device(hass, available=False)
        await pass_time(1)
        await set_options(hass, entry)
        await at("2026-12-01 02:00")
        assert automatic(coordinator) == []
        live.runtime_data.available = True
        live.runtime_data.runs("2026.9.1", "2026-09-20 10:00:00 +0000")
        await pass_time(1)
        await at("2026-12-01 02:05")
        assert len(automatic(coordinator)) == 1
        await coordinator.queue.cancel_all()

    async def test_a_version_waits_for_the_days_after_its_release(
        self,
        hass: HomeAssistant,
        coordinator: OffloadCoordinator,
        entry: MockConfigEntry,
        stage: Stage,
        at: At,
    ) -> None:
        stage.versions.newest_stable = "2026.10.1"
        stage.versions.uploaded_at["2026.10.1"] = datetime(2026, 11, 29, 12, tzinfo=UTC)
        await coordinator.versions.async_refresh()
        runs(coordinator)
        await set_options(hass, entry, automatic_delay_days=2)
        await at("2026-12-01 02:00")
        assert automatic(coordinator) == []
        await at("2026-12-02 02:00")
        (job,) = await ended(hass, coordinator)
        assert job.request.esphome_version == "2026.10.1"

    async def test_a_version_that_a_person_chose_for_it_is_installed_at_once(
        self,
        hass: HomeAssistant,
        coordinator: OffloadCoordinator,
        entry: MockConfigEntry,
        stage: Stage,
        at: At,
    ) -> None:
        runs(coordinator)
        await set_options(hass, entry, automatic_delay_days=30)
        await coordinator.versions.async_choose(LAMP_FILE, "2026.8.1")
        await at("2026-12-01 02:00")
        (job,) = await ended(hass, coordinator)
        assert job.request.esphome_version == "2026.8.1"

    async def test_nothing_is_tried_while_nobody_can_build(
        self, hass: HomeAssistant, fleet: OffloadCoordinator, stage: Stage, at: At
    ) -> None:
        able = stage.builder.state
        stage.builder.become(replace(able, available=False))
        await at("2026-12-01 02:00")
        assert automatic(fleet) == []
        stage.builder.become(able)
        await at("2026-12-01 02:05")
        assert len(await ended(hass, fleet)) == 3

    async def test_what_was_skipped_while_it_was_prepared_is_not_started(
        self,
        hass: HomeAssistant,
        coordinator: OffloadCoordinator,
        entry: MockConfigEntry,
        at: At,
    ) -> None:
        runs(coordinator)
        await set_options(hass, entry)
        prepare = coordinator.async_prepare

        async def prepare_slowly(*args: object, **options: object) -> object:
            request = await prepare(*args, **options)  # type: ignore[arg-type]
            await switch(hass, "turn_off")
            return request

        with patch.object(coordinator, "async_prepare", prepare_slowly):
            await at("2026-12-01 02:00")
        assert automatic(coordinator) == []


class TestFailures:
    async def test_after_so_many_nothing_more_is_started_until_the_next_window(
        self,
        hass: HomeAssistant,
        fleet: OffloadCoordinator,
        entry: MockConfigEntry,
        stage: Stage,
        at: At,
    ) -> None:
        await set_options(hass, entry, automatic_failures=2)
        stage.builder.script = [failing(FailureReason.OUT_OF_MEMORY, "no")] * 2
        await at("2026-12-01 02:00")
        jobs = await ended(hass, fleet)
        assert [job.status for job in jobs] == [JobStatus.FAILED] * 2
        await at("2026-12-01 04:00")
        assert len(automatic(fleet)) == 2
        repairs = [
            each for _, each in ir.async_get(hass).issues if each.startswith("install_failed")
        ]
        assert len(repairs) == 2
        await at("2026-12-02 02:00")
        assert len(await ended(hass, fleet)) == 5

    async def test_what_cannot_even_be_started_is_a_repair_until_an_installation_succeeds(
        self,
        hass: HomeAssistant,
        coordinator: OffloadCoordinator,
        entry: MockConfigEntry,
        stage: Stage,
        at: At,
    ) -> None:
        runs(coordinator)
        await set_options(hass, entry)
        await coordinator.versions.async_choose(LAMP_FILE, "2026.8.1")
        gone = Reason(ReasonKey.VERSION_UNKNOWN, {"version": "2026.8.1", "python": "3.14"})
        stage.versions.unknown["2026.8.1"] = VersionError(gone)
        await at("2026-12-01 02:00")
        assert automatic(coordinator) == []
        issue = ir.async_get(hass).async_get_issue(DOMAIN, "not_updated_lamp.yaml")
        assert issue is not None
        assert issue.translation_placeholders is not None
        assert "There is no ESPHome 2026.8.1" in issue.translation_placeholders["error"]

        await coordinator.versions.async_choose(LAMP_FILE, None)
        await coordinator.async_wait(await coordinator.async_submit(LAMP_FILE, Operation.INSTALL))
        await hass.async_block_till_done()
        assert ir.async_get(hass).async_get_issue(DOMAIN, "not_updated_lamp.yaml") is None


class TestCanary:
    @pytest.fixture
    async def live(
        self, hass: HomeAssistant, fleet: OffloadCoordinator, stage: Stage, pass_time: Pass
    ) -> MockConfigEntry:
        """Connect Home Assistant to the lamp, which restarts when it is flashed."""
        live, _ = core_device(hass, available=True)
        await pass_time(1)

        async def restart(request: FlashRequest, _sink: object) -> None:
            build = request.firmware.build_info
            live.runtime_data.runs(build.esphome_version, build.build_time)

        stage.flasher.script = [restart]
        return live

    @pytest.fixture
    def canary(self, hass: HomeAssistant, live: MockConfigEntry) -> str:
        """Return the id of the lamp's update entity."""
        entity = er.async_get(hass).async_get("update.desk_lamp_esphome")
        assert entity is not None
        return entity.id

    async def test_the_others_follow_when_it_has_run_the_version_for_long_enough(
        self,
        hass: HomeAssistant,
        fleet: OffloadCoordinator,
        entry: MockConfigEntry,
        canary: str,
        at: At,
    ) -> None:
        await set_options(hass, entry, automatic_canary=canary, automatic_canary_hours=24)
        await at("2026-12-01 02:00")
        assert files(await ended(hass, fleet)) == ["lamp.yaml"]
        await at("2026-12-01 04:55")
        await at("2026-12-02 01:55")
        assert len(automatic(fleet)) == 1
        await at("2026-12-02 02:05")
        assert sorted(files(await ended(hass, fleet))[1:]) == ["fan.yaml", "plug.yaml"]

    async def test_it_may_be_updated_by_hand(
        self,
        hass: HomeAssistant,
        fleet: OffloadCoordinator,
        entry: MockConfigEntry,
        canary: str,
        at: At,
    ) -> None:
        await switch(hass, "turn_off", entity_id=SWITCH)
        await set_options(hass, entry, automatic_canary=canary, automatic_canary_hours=1)
        await at("2026-12-01 02:00")
        assert automatic(fleet) == []
        await fleet.async_wait(await fleet.async_submit(LAMP_FILE, Operation.INSTALL))
        await at("2026-12-01 02:55")
        assert automatic(fleet) == []
        await at("2026-12-01 03:05")
        assert sorted(files(await ended(hass, fleet))) == ["fan.yaml", "plug.yaml"]

    async def test_when_it_fails_the_others_wait(
        self,
        hass: HomeAssistant,
        fleet: OffloadCoordinator,
        entry: MockConfigEntry,
        stage: Stage,
        canary: str,
        at: At,
    ) -> None:
        await set_options(hass, entry, automatic_canary=canary, automatic_canary_hours=0)
        stage.builder.script = [failing(FailureReason.OUT_OF_MEMORY, "no")]
        await at("2026-12-01 02:00")
        await ended(hass, fleet)
        await at("2026-12-01 02:05")
        assert files(automatic(fleet)) == ["lamp.yaml"]
        await at("2026-12-02 02:00")
        assert files(await ended(hass, fleet))[:2] == ["lamp.yaml", "lamp.yaml"]
        assert len(automatic(fleet)) == 4

    async def test_what_changes_on_it_afterwards_starts_the_time_again(
        self,
        hass: HomeAssistant,
        fleet: OffloadCoordinator,
        entry: MockConfigEntry,
        live: MockConfigEntry,
        canary: str,
        pass_time: Pass,
        at: At,
    ) -> None:
        await set_options(hass, entry, automatic_canary=canary, automatic_canary_hours=1)
        await at("2026-12-01 02:00")
        await ended(hass, fleet)
        await at("2026-12-01 02:50")
        live.runtime_data.runs("2026.9.1", "2026-09-20 10:00:00 +0000")
        await pass_time(1)
        await at("2026-12-01 02:55")
        live.runtime_data.runs(NEWEST, "2026-11-25 10:00:00 +0000")
        await pass_time(1)
        await at("2026-12-01 03:50")
        assert len(automatic(fleet)) == 1
        await at("2026-12-01 04:00")
        assert len(await ended(hass, fleet)) == 3

    async def test_when_it_is_gone_nothing_starts_and_a_repair_says_so(
        self,
        hass: HomeAssistant,
        fleet: OffloadCoordinator,
        entry: MockConfigEntry,
        canary: str,
        config_dir: Path,
        pass_time: Pass,
        at: At,
    ) -> None:
        await set_options(hass, entry, automatic_canary=canary)
        (config_dir / "lamp.yaml").unlink()
        await pass_time(31)
        await at("2026-12-01 02:00")
        assert automatic(fleet) == []
        assert ir.async_get(hass).async_get_issue(DOMAIN, "canary_missing")
        await set_options(hass, entry)
        await at("2026-12-01 02:05")
        assert ir.async_get(hass).async_get_issue(DOMAIN, "canary_missing") is None
        assert len(await ended(hass, fleet)) == 2

    async def test_one_that_would_never_get_the_version_is_a_repair_with_the_reason(
        self,
        hass: HomeAssistant,
        fleet: OffloadCoordinator,
        entry: MockConfigEntry,
        canary: str,
        at: At,
    ) -> None:
        def repair() -> str | None:
            issue = ir.async_get(hass).async_get_issue(DOMAIN, "canary_blocks")
            return None if issue is None else (issue.translation_placeholders or {})["reason"]

        await set_options(hass, entry, automatic_canary=canary)
        assert repair() is None
        await switch(hass, "turn_off")
        await at("2026-12-01 01:00")
        assert repair() == "Its switch Automatic updates is off: turn it on."
        await fleet.versions.async_choose(LAMP_FILE, "2026.8.1")
        await at("2026-12-01 01:05")
        assert str(repair()).startswith("An older ESPHome version is set for it")
        await fleet.versions.async_choose(LAMP_FILE, None)
        await switch(hass, "turn_on")
        await at("2026-12-01 01:10")
        assert repair() is None

    async def test_one_that_is_away_for_a_day_is_a_repair(
        self,
        hass: HomeAssistant,
        fleet: OffloadCoordinator,
        entry: MockConfigEntry,
        live: MockConfigEntry,
        canary: str,
        pass_time: Pass,
        at: At,
    ) -> None:
        await set_options(hass, entry, automatic_canary=canary)
        live.runtime_data.available = False
        await pass_time(1)
        await at("2026-12-01 12:55")
        assert ir.async_get(hass).async_get_issue(DOMAIN, "canary_blocks") is None
        await at("2026-12-01 13:05")
        assert ir.async_get(hass).async_get_issue(DOMAIN, "canary_blocks")
        assert automatic(fleet) == []

    async def test_one_that_is_away_lets_nobody_follow(
        self,
        hass: HomeAssistant,
        fleet: OffloadCoordinator,
        entry: MockConfigEntry,
        live: MockConfigEntry,
        canary: str,
        pass_time: Pass,
        at: At,
    ) -> None:
        lamp = live.runtime_data
        lamp.runs(NEWEST, "2026-11-25 10:00:00 +0000")
        await pass_time(1)
        await set_options(hass, entry, automatic_canary=canary, automatic_canary_hours=1)
        await at("2026-12-01 01:00")
        for available, local in ((False, "2026-12-01 02:00"), (True, "2026-12-01 02:55")):
            lamp.available = available
            lamp.runs(NEWEST, "2026-11-25 10:00:00 +0000")
            await pass_time(1)
            await at(local)
            assert automatic(fleet) == []
        await at("2026-12-01 03:05")
        assert sorted(files(await ended(hass, fleet))) == ["fan.yaml", "plug.yaml"]
