"""The entities on each device's page: sensor, event and buttons."""

from pathlib import Path

from homeassistant.core import Context, Event, EventStateChangedData, HomeAssistant, State
from homeassistant.exceptions import ServiceValidationError, Unauthorized
from homeassistant.helpers import entity_registry as er
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry, MockUser

from custom_components.esphome_offload.button import CancelButton
from custom_components.esphome_offload.coordinator import OffloadCoordinator
from custom_components.esphome_offload.engine.const import (
    REQUESTED_AUTO,
    FailureReason,
    JobStatus,
    Operation,
    Stage as JobStage,
)

from ..engine.jobs.fakes import failing, flash_failing
from .conftest import LAMP, NEWEST, Pass, Stage
from .live_lamp import core_device

INSTALLATION = "sensor.desk_lamp_installation"
ENDED = "event.desk_lamp_installation_ended"
REBUILD = "button.desk_lamp_rebuild_and_install"
CANCEL = "button.desk_lamp_cancel_installation"
CLEAN = "button.desk_lamp_clean_build_files"


def state_of(hass: HomeAssistant, entity_id: str) -> State:
    state = hass.states.get(entity_id)
    assert state is not None
    return state


async def press(hass: HomeAssistant, entity_id: str, user_id: str | None = None) -> None:
    await hass.services.async_call(
        "button", "press", {"entity_id": entity_id}, blocking=True, context=Context(user_id=user_id)
    )


async def run(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    operation: Operation = Operation.INSTALL,
    source: str = REQUESTED_AUTO,
) -> None:
    job = await coordinator.async_submit("lamp.yaml", operation, source=source)
    await coordinator.async_wait(job)
    await hass.async_block_till_done()


class TestInstallation:
    async def test_it_is_idle_and_says_no_more_while_nothing_is_done(
        self, hass: HomeAssistant, coordinator: OffloadCoordinator
    ) -> None:
        state = state_of(hass, INSTALLATION)
        assert state.state == "idle"
        assert {state.attributes[each] for each in ("builder", "job_id", "reason", "version")} == {
            None
        }

    async def test_it_goes_through_the_stages_and_writes_no_row_for_progress(
        self, hass: HomeAssistant, coordinator: OffloadCoordinator, stage: Stage
    ) -> None:
        written: list[str] = []

        def changed(event: Event[EventStateChangedData]) -> None:
            new = event.data["new_state"]
            if event.data["entity_id"] == INSTALLATION and new is not None:
                written.append(new.state)

        hass.bus.async_listen("state_changed", changed)
        job, block = await stage.start_blocked(coordinator)
        await hass.async_block_till_done()
        state = state_of(hass, INSTALLATION)
        assert state.state == job.stage
        assert state.attributes["job_id"] == job.job_id
        assert state.attributes["version"] == NEWEST
        assert state.attributes["builder"] == job.routing.source_label

        rows = len(written)
        job.advance(50)
        coordinator.listeners.notify(("lamp.yaml",))
        await hass.async_block_till_done()
        assert len(written) == rows

        block.release.set()
        await coordinator.async_wait(job)
        await hass.async_block_till_done()
        assert written[-1] == "idle"
        assert {"uploading", "verifying"} <= set(written)
        assert set(written) <= set(state.attributes["options"])

    async def test_it_says_that_a_device_is_waited_for(
        self, hass: HomeAssistant, coordinator: OffloadCoordinator
    ) -> None:
        core_device(hass, available=False)
        await run(hass, coordinator)
        state = state_of(hass, INSTALLATION)
        assert state.state == "waiting_device"
        assert "to be reachable" in state.attributes["reason"]
        job = coordinator.queue.active("lamp.yaml")
        assert job is not None
        assert job.stage is JobStage.WAITING_DEVICE
        await coordinator.async_cancel(job.job_id)
        await hass.async_block_till_done()
        assert state_of(hass, INSTALLATION).state == "idle"

    async def test_a_failure_stays_with_its_reason_until_the_next_success(
        self, hass: HomeAssistant, coordinator: OffloadCoordinator, stage: Stage
    ) -> None:
        stage.builder.script = [failing(FailureReason.COMPILE_FAILED)]
        await run(hass, coordinator)
        state = state_of(hass, INSTALLATION)
        assert state.state == "failed"
        assert state.attributes["reason"]
        assert state.attributes["operation"] == "install"
        await run(hass, coordinator, Operation.COMPILE)
        assert state_of(hass, INSTALLATION).state == "failed", "nothing was installed meanwhile"

        await run(hass, coordinator)
        assert state_of(hass, INSTALLATION).state == "idle"

    async def test_a_compilation_that_fails_is_no_installation_that_failed(
        self, hass: HomeAssistant, coordinator: OffloadCoordinator, stage: Stage
    ) -> None:
        stage.builder.script = [failing(FailureReason.COMPILE_FAILED)]
        await run(hass, coordinator, Operation.COMPILE)
        assert state_of(hass, INSTALLATION).state == "idle"


class TestInstallationEnded:
    async def test_it_tells_how_an_installation_ended(
        self, hass: HomeAssistant, coordinator: OffloadCoordinator, stage: Stage
    ) -> None:
        assert state_of(hass, ENDED).state == "unknown"
        stage.builder.script = [failing(FailureReason.COMPILE_FAILED)]
        await run(hass, coordinator)
        attributes = state_of(hass, ENDED).attributes
        assert attributes["event_type"] == "failed"
        assert attributes["reason"]

        await run(hass, coordinator)
        attributes = state_of(hass, ENDED).attributes
        last = coordinator.queue.last("lamp.yaml")
        assert last is not None
        assert attributes["event_type"] == "completed"
        assert attributes["job_id"] == last.job_id
        assert attributes["version"] == NEWEST
        assert attributes["builder"] == last.routing.source_label
        assert attributes["verified"] is last.outcome.verified
        assert attributes["reason"] is None

    async def test_what_does_not_flash_is_no_installation(
        self, hass: HomeAssistant, coordinator: OffloadCoordinator
    ) -> None:
        await run(hass, coordinator, Operation.COMPILE)
        await run(hass, coordinator, Operation.CLEAN)
        assert state_of(hass, ENDED).state == "unknown"

    async def test_one_that_a_newer_replaced_is_told_from_one_that_was_cancelled(
        self, hass: HomeAssistant, coordinator: OffloadCoordinator
    ) -> None:
        core_device(hass, available=False)
        await run(hass, coordinator)
        newer = await coordinator.async_submit("lamp.yaml", Operation.INSTALL, clean=True)
        await hass.async_block_till_done()
        assert state_of(hass, ENDED).attributes["event_type"] == "superseded"
        await coordinator.async_cancel(newer.job_id)
        await hass.async_block_till_done()
        assert state_of(hass, ENDED).attributes["event_type"] == "cancelled"

    async def test_a_device_more_costs_the_jobs_of_others_nothing(
        self,
        hass: HomeAssistant,
        coordinator: OffloadCoordinator,
        config_dir: Path,
        pass_time: Pass,
    ) -> None:
        listeners = coordinator.queue._ledger._listeners._listeners
        before = len(listeners)
        (config_dir / "plug.yaml").write_text(LAMP.replace("lamp", "plug"))
        await pass_time(31)
        assert hass.states.get("event.desk_plug_installation_ended") is not None
        assert len(listeners) == before

    async def test_one_after_which_the_device_went_back_is_told_from_other_failures(
        self, hass: HomeAssistant, coordinator: OffloadCoordinator, stage: Stage
    ) -> None:
        stage.flasher.script = [flash_failing(FailureReason.ROLLED_BACK)]
        await run(hass, coordinator)
        assert state_of(hass, ENDED).attributes["event_type"] == "rolled_back"


class TestButtons:
    async def test_rebuild_installs_and_returns_at_once(
        self, hass: HomeAssistant, coordinator: OffloadCoordinator, hass_admin_user: MockUser
    ) -> None:
        await press(hass, REBUILD, hass_admin_user.id)
        job = coordinator.queue.active("lamp.yaml")
        assert job is not None
        assert job.request.operation is Operation.INSTALL
        assert job.request.rebuild
        assert job.request.user_id == hass_admin_user.id
        assert (await coordinator.async_wait(job)).status is JobStatus.COMPLETED

    async def test_cancel_is_available_while_there_is_something_to_cancel(
        self, hass: HomeAssistant, coordinator: OffloadCoordinator, stage: Stage
    ) -> None:
        assert state_of(hass, CANCEL).state == "unavailable"
        job, _ = await stage.start_blocked(coordinator)
        await hass.async_block_till_done()
        assert state_of(hass, CANCEL).state != "unavailable"
        await press(hass, CANCEL)
        await hass.async_block_till_done()
        assert job.status is JobStatus.CANCELLED
        assert state_of(hass, CANCEL).state == "unavailable"

    async def test_cancel_says_when_the_job_has_just_ended(
        self, hass: HomeAssistant, coordinator: OffloadCoordinator
    ) -> None:
        button = CancelButton(coordinator, coordinator.devices["lamp.yaml"])
        button.hass = hass
        with pytest.raises(ServiceValidationError) as raised:
            await button.async_press()
        assert raised.value.translation_key == "nothing_to_cancel"

    async def test_clean_is_disabled_until_somebody_wants_it(
        self,
        hass: HomeAssistant,
        coordinator: OffloadCoordinator,
        entry: MockConfigEntry,
        stage: Stage,
        entity_registry: er.EntityRegistry,
    ) -> None:
        assert hass.states.get(CLEAN) is None
        entity_registry.async_update_entity(CLEAN, disabled_by=None)
        await hass.config_entries.async_reload(entry.entry_id)
        await press(hass, CLEAN)
        await hass.async_block_till_done(wait_background_tasks=True)
        last = coordinator.queue.last("lamp.yaml")
        assert last is not None
        assert last.request.operation is Operation.CLEAN

    async def test_only_administrators_may_press_them(
        self, hass: HomeAssistant, coordinator: OffloadCoordinator, stage: Stage
    ) -> None:
        member = MockUser(name="Member").add_to_hass(hass)
        member.mock_policy({"entities": True})
        job, block = await stage.start_blocked(coordinator)
        await hass.async_block_till_done()
        for button in (REBUILD, CANCEL):
            with pytest.raises(Unauthorized):
                await press(hass, button, member.id)
        assert coordinator.queue.jobs() == [job]
        assert not job.terminal
        block.release.set()
        await coordinator.async_wait(job)


class TestRegistry:
    async def test_all_entities_of_a_renamed_configuration_stay_the_same(
        self,
        hass: HomeAssistant,
        coordinator: OffloadCoordinator,
        entry: MockConfigEntry,
        config_dir: Path,
        pass_time: Pass,
        entity_registry: er.EntityRegistry,
    ) -> None:
        def ours() -> dict[str, str]:
            return {entity.id: entity.unique_id for entity in _entities(entity_registry, entry)}

        before = ours()
        assert len(before) > 5
        (config_dir / "lamp.yaml").rename(config_dir / "desk.yaml")
        await pass_time(31)
        assert ours() == {
            key: unique_id.replace("lamp.yaml", "desk.yaml") for key, unique_id in before.items()
        }

        # Also those that are there follow their target.
        job = await coordinator.async_submit("desk.yaml", Operation.INSTALL)
        await coordinator.async_wait(job)
        await hass.async_block_till_done()
        assert state_of(hass, ENDED).attributes["job_id"] == job.job_id

    async def test_all_entities_are_on_the_device_that_core_has_and_go_with_it(
        self,
        hass: HomeAssistant,
        coordinator: OffloadCoordinator,
        entry: MockConfigEntry,
        config_dir: Path,
        pass_time: Pass,
        entity_registry: er.EntityRegistry,
    ) -> None:
        own = {each.device_id for each in _entities(entity_registry, entry)}
        core_device(hass)
        await pass_time(1)
        now = {each.device_id for each in _entities(entity_registry, entry)}
        assert len(own) == len(now) == 1
        assert own != now

        (config_dir / "lamp.yaml").unlink()
        await pass_time(31)
        assert _entities(entity_registry, entry) == []

    async def test_a_configuration_that_appears_gets_all_entities(
        self,
        coordinator: OffloadCoordinator,
        entry: MockConfigEntry,
        config_dir: Path,
        pass_time: Pass,
        entity_registry: er.EntityRegistry,
    ) -> None:
        before = len(_entities(entity_registry, entry))
        plug = LAMP.replace("lamp", "plug").replace("Desk", "Wall")
        (config_dir / "plug.yaml").write_text(plug)
        await pass_time(31)
        assert len(_entities(entity_registry, entry)) == 2 * before


def _entities(registry: er.EntityRegistry, entry: MockConfigEntry) -> list[er.RegistryEntry]:
    """Return the entities of devices, without those of the instance itself."""
    return [
        entity
        for entity in er.async_entries_for_config_entry(registry, entry.entry_id)
        if not entity.unique_id.startswith("instance_")
    ]
