"""The versions, refusals and stores of the coordinator."""

import asyncio
import logging
from typing import NoReturn

from homeassistant.core import HomeAssistant
from homeassistant.exceptions import ServiceValidationError
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.esphome_offload.coordinator import OffloadCoordinator
from custom_components.esphome_offload.engine.build.toolchain.versions import (
    VersionError,
)
from custom_components.esphome_offload.engine.const import JobStatus, Operation
from custom_components.esphome_offload.engine.reason import Reason, ReasonKey

from .conftest import (
    NEWEST,
    NEWEST_PRERELEASE,
    Pass,
    Stage,
)

ENTITY = "update.desk_lamp_esphome"


class TestVersions:
    """The version of the channel."""

    async def test_the_channel_decides(
        self, hass: HomeAssistant, coordinator: OffloadCoordinator, entry: MockConfigEntry
    ) -> None:
        assert coordinator.versions.latest == NEWEST
        hass.config_entries.async_update_entry(entry, options={"version_channel": "prerelease"})
        await hass.async_block_till_done(wait_background_tasks=True)
        assert hass.states.get(ENTITY).attributes["latest_version"] == NEWEST_PRERELEASE

    async def test_a_new_version_shows_within_six_hours(
        self,
        hass: HomeAssistant,
        coordinator: OffloadCoordinator,
        stage: Stage,
        pass_time: Pass,
    ) -> None:
        stage.versions.newest_stable = "2026.10.1"
        await pass_time(6 * 3600 + 1)
        assert hass.states.get(ENTITY).attributes["latest_version"] == "2026.10.1"

    async def test_a_failure_keeps_the_known_version_and_is_logged_once(
        self,
        hass: HomeAssistant,
        coordinator: OffloadCoordinator,
        stage: Stage,
        pass_time: Pass,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        stage.versions.error = VersionError(
            Reason(ReasonKey.VERSION_UNCHECKED, {"version": "2026.12.0"})
        )
        await pass_time(6 * 3600 + 1)
        await pass_time(6 * 3600 + 1)
        assert hass.states.get(ENTITY).attributes["latest_version"] == NEWEST
        assert caplog.text.count("cannot be asked for: ESPHome 2026.12.0 cannot be looked up") == 1

        caplog.set_level(logging.INFO)
        stage.versions.error = None
        await pass_time(6 * 3600 + 1)
        await pass_time(6 * 3600 + 1)
        assert caplog.text.count("can be asked for again") == 1

    async def test_the_known_version_survives_a_restart_without_network(
        self,
        hass: HomeAssistant,
        stage: Stage,
        entry: MockConfigEntry,
        hass_storage: dict[str, dict[str, object]],
    ) -> None:
        hass_storage["esphome_offload.versions"] = {
            "version": 1,
            "minor_version": 1,
            "key": "esphome_offload.versions",
            "data": {"newest": {"stable": "2026.9.1"}},
        }
        stage.versions.error = VersionError(
            Reason(ReasonKey.VERSION_UNCHECKED, {"version": "2026.12.0"})
        )
        assert await hass.config_entries.async_setup(entry.entry_id)
        assert hass.states.get(ENTITY).attributes["latest_version"] == "2026.9.1"

    async def test_an_installation_does_not_wait_for_a_question_about_the_newest(
        self,
        coordinator: OffloadCoordinator,
        stage: Stage,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """After a power cut the router may be up later than Home Assistant."""
        asks, may_answer = asyncio.Event(), asyncio.Event()

        async def newest(*, prerelease: bool) -> NoReturn:
            asks.set()
            await may_answer.wait()
            raise VersionError(Reason(ReasonKey.NEWEST_UNCHECKED))

        monkeypatch.setattr(stage.versions, "newest", newest)
        question = asyncio.create_task(coordinator.versions.async_refresh())
        await asks.wait()
        async with asyncio.timeout(5):
            job = await coordinator.async_submit("lamp.yaml", Operation.INSTALL)
        assert not question.done()
        assert job.request.esphome_version == NEWEST
        may_answer.set()
        await question
        await coordinator.async_wait(job)

    async def test_damaged_versions_in_the_store_are_looked_up_again(
        self,
        hass: HomeAssistant,
        stage: Stage,
        entry: MockConfigEntry,
        hass_storage: dict[str, dict[str, object]],
    ) -> None:
        hass_storage["esphome_offload.versions"] = {
            "version": 1,
            "minor_version": 1,
            "key": "esphome_offload.versions",
            "data": {"newest": {"stable": 5}},
        }
        assert await hass.config_entries.async_setup(entry.entry_id)
        await hass.async_block_till_done(wait_background_tasks=True)
        assert hass.states.get(ENTITY).attributes["latest_version"] == NEWEST


class TestRefusals:
    """Impossible requests are refused before anything is queued."""

    @pytest.mark.parametrize(
        ("problem", "key"),
        [
            (ReasonKey.VERSION_UNKNOWN, "version_not_found"),
            (ReasonKey.VERSION_OTHER_PYTHON, "version_unsupported"),
            (ReasonKey.VERSION_UNCHECKED, "version_not_checked"),
        ],
    )
    async def test_a_version_that_cannot_be_used(
        self,
        coordinator: OffloadCoordinator,
        stage: Stage,
        problem: ReasonKey,
        key: str,
    ) -> None:
        stage.versions.unknown["1.2.3"] = VersionError(Reason(problem, {"version": "1.2.3"}))
        with pytest.raises(ServiceValidationError, match=r"1\.2\.3") as error:
            await coordinator.async_submit("lamp.yaml", Operation.INSTALL, version="1.2.3")
        assert error.value.translation_key == key
        assert not coordinator.queue.jobs()

    async def test_a_configuration_that_is_not_there(self, coordinator: OffloadCoordinator) -> None:
        with pytest.raises(ServiceValidationError, match=r"no configuration fan\.yaml"):
            await coordinator.async_submit("fan.yaml", Operation.INSTALL)

    async def test_a_builder_that_is_not_there(self, coordinator: OffloadCoordinator) -> None:
        with pytest.raises(ServiceValidationError, match="no builder cellar to build lamp"):
            await coordinator.async_submit("lamp.yaml", Operation.INSTALL, source="cellar")

    async def test_an_upload_without_a_build(self, coordinator: OffloadCoordinator) -> None:
        with pytest.raises(ServiceValidationError, match="Nothing that was built for lamp is kept"):
            await coordinator.async_submit("lamp.yaml", Operation.UPLOAD)

    async def test_an_upload_takes_the_version_that_was_built(
        self, coordinator: OffloadCoordinator
    ) -> None:
        await coordinator.async_wait(
            await coordinator.async_submit("lamp.yaml", Operation.COMPILE, version="2026.9.1")
        )
        job = await coordinator.async_submit("lamp.yaml", Operation.UPLOAD)
        assert job.request.esphome_version == "2026.9.1"
        await coordinator.async_wait(job)

    async def test_a_job_without_any_known_version(
        self, hass: HomeAssistant, stage: Stage, entry: MockConfigEntry
    ) -> None:
        stage.versions.error = VersionError(
            Reason(ReasonKey.VERSION_UNCHECKED, {"version": "2026.12.0"})
        )
        assert await hass.config_entries.async_setup(entry.entry_id)
        with pytest.raises(ServiceValidationError, match="name the version to build lamp with"):
            await entry.runtime_data.async_submit("lamp.yaml", Operation.INSTALL)

    async def test_a_job_asks_for_the_newest_version_while_it_was_never_known(
        self, hass: HomeAssistant, stage: Stage, entry: MockConfigEntry
    ) -> None:
        stage.versions.error = VersionError(
            Reason(ReasonKey.VERSION_UNCHECKED, {"version": "2026.12.0"})
        )
        assert await hass.config_entries.async_setup(entry.entry_id)
        await hass.async_block_till_done(wait_background_tasks=True)
        stage.versions.error = None
        job = await entry.runtime_data.async_submit("lamp.yaml", Operation.INSTALL)
        assert job.request.esphome_version == NEWEST

    async def test_anything_while_the_instance_is_not_loaded(
        self, hass: HomeAssistant, coordinator: OffloadCoordinator, entry: MockConfigEntry
    ) -> None:
        await hass.config_entries.async_unload(entry.entry_id)
        with pytest.raises(ServiceValidationError, match="No ESPHome configuration folder"):
            await coordinator.async_submit("lamp.yaml", Operation.INSTALL)

    async def test_cancelling_an_ended_or_unknown_job(
        self, coordinator: OffloadCoordinator
    ) -> None:
        job = await coordinator.async_submit("lamp.yaml", Operation.COMPILE)
        await coordinator.async_wait(job)
        with pytest.raises(ServiceValidationError, match=r"Nothing to cancel.*lamp"):
            await coordinator.async_cancel(job.job_id)
        with pytest.raises(ServiceValidationError, match="no job x"):
            await coordinator.async_cancel("x")


async def test_an_interrupted_job_continues_when_this_instance_is_attached(
    hass: HomeAssistant,
    stage: Stage,
    coordinator: OffloadCoordinator,
    entry: MockConfigEntry,
    hass_storage: dict[str, dict[str, object]],
) -> None:
    job, _ = await stage.start_blocked(coordinator)
    await coordinator.async_stop()
    await hass.config_entries.async_unload(entry.entry_id)

    after = OffloadCoordinator(hass, stage, coordinator.logs)
    await after.async_start()
    assert after.queue.get(job.job_id).status is JobStatus.QUEUED
    await after.async_attach(entry)
    again = await after.async_wait(after.queue.get(job.job_id))
    assert again.status is JobStatus.COMPLETED
    await after.async_detach(entry)
    await after.async_stop()
