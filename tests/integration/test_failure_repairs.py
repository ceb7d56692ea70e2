"""Repairs about installations that failed, and about builders that are away for long."""

from datetime import timedelta
from pathlib import Path
from typing import Any

from homeassistant.config_entries import ConfigEntryDisabler
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType
from homeassistant.helpers import issue_registry as ir
from homeassistant.setup import async_setup_component
from homeassistant.util import dt as dt_util
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.esphome_offload import issues
from custom_components.esphome_offload.const import DOMAIN
from custom_components.esphome_offload.coordinator import OffloadCoordinator
from custom_components.esphome_offload.engine.build.model import BuilderStatus
from custom_components.esphome_offload.engine.client.link import LinkState
from custom_components.esphome_offload.engine.const import (
    FailureReason,
    JobStatus,
    Operation,
)
from custom_components.esphome_offload.engine.reason import Reason, ReasonKey
from custom_components.esphome_offload.engine.target import TargetId
from custom_components.esphome_offload.inventory.announced_firmware import AnnouncedFirmware

from ..engine.jobs.fakes import BUILD_INFO, failing, flash_failing
from .conftest import LAMP, NEWEST, Pass, Stage
from .inventory.test_configuration_changes import checked
from .live_lamp import LiveLamp, core_device
from .peer_entries.entries import add_peer
from .test_device_entities import run

FAILED = "install_failed_lamp.yaml"
NOT_UPDATED = "not_updated_lamp.yaml"
DAY = 24 * 60 * 60


@pytest.fixture
async def failed(hass: HomeAssistant, coordinator: OffloadCoordinator, stage: Stage) -> str:
    """Return the id of an installation that failed."""
    assert await async_setup_component(hass, "repairs", {})
    stage.builder.script = [failing(FailureReason.COMPILE_FAILED, "main.cpp:7: error")]
    await run(hass, coordinator)
    return coordinator.queue.jobs()[-1].job_id


def repair(hass: HomeAssistant, issue_id: str = FAILED) -> ir.IssueEntry | None:
    return ir.async_get(hass).async_get_issue(DOMAIN, issue_id)


async def dialog(hass: HomeAssistant) -> tuple[Any, Any]:
    """Return the manager of the dialogs, and the first form of the repair's."""
    manager = hass.data["repairs"]["flow_manager"]
    form = await manager.async_init(DOMAIN, context={"issue_id": FAILED})
    assert form["type"] is FlowResultType.FORM
    return manager, form


class TestFailedInstallation:
    async def test_it_is_named_with_its_reason_until_the_next_success(
        self, hass: HomeAssistant, coordinator: OffloadCoordinator, failed: str
    ) -> None:
        issue = repair(hass)
        assert issue is not None
        assert issue.is_fixable
        assert issue.is_persistent
        assert issue.translation_placeholders is not None
        assert issue.translation_placeholders["device"] == "lamp"
        assert "main.cpp:7" in issue.translation_placeholders["error"]

        await run(hass, coordinator, Operation.COMPILE)
        assert repair(hass) is not None, "nothing was installed"
        await run(hass, coordinator)
        assert repair(hass) is None

    async def test_its_dialog_says_where_the_log_is_and_tries_again(
        self, hass: HomeAssistant, coordinator: OffloadCoordinator, failed: str
    ) -> None:
        manager, form = await dialog(hass)
        assert form["description_placeholders"]["log"] == f"/esphome-offload/job/{failed}"
        assert form["description_placeholders"]["device"] == "lamp"
        done = await manager.async_configure(form["flow_id"], {})
        assert done["type"] is FlowResultType.CREATE_ENTRY
        assert repair(hass) is None
        again = coordinator.queue.jobs()[-1]
        assert again.job_id != failed
        before = coordinator.queue.get(failed)
        assert before is not None
        assert again.request.same_work(before.request)
        assert (await coordinator.async_wait(again)).status is JobStatus.COMPLETED

    async def test_an_upload_that_failed_is_an_upload_again(
        self, hass: HomeAssistant, coordinator: OffloadCoordinator, stage: Stage
    ) -> None:
        assert await async_setup_component(hass, "repairs", {})
        await run(hass, coordinator, Operation.COMPILE)
        stage.flasher.script = [flash_failing(FailureReason.UPLOAD_REFUSED)]
        await run(hass, coordinator, Operation.UPLOAD)
        manager, form = await dialog(hass)
        await manager.async_configure(form["flow_id"], {})
        again = coordinator.queue.jobs()[-1]
        assert again.request.operation is Operation.UPLOAD
        assert (await coordinator.async_wait(again)).status is JobStatus.COMPLETED

    async def test_a_job_that_is_not_known_any_more_is_an_installation_again(
        self,
        hass: HomeAssistant,
        coordinator: OffloadCoordinator,
        failed: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        manager, form = await dialog(hass)
        monkeypatch.setattr(coordinator.queue, "get", lambda _job_id: None)
        await manager.async_configure(form["flow_id"], {})
        again = coordinator.queue.jobs()[-1]
        assert again.job_id != failed
        assert again.request.operation is Operation.INSTALL
        monkeypatch.undo()
        await coordinator.async_wait(again)

    async def test_it_stays_when_it_cannot_be_tried_again_now(
        self, hass: HomeAssistant, coordinator: OffloadCoordinator, stage: Stage, failed: str
    ) -> None:
        manager, form = await dialog(hass)
        job, block = await stage.start_blocked(coordinator)
        refused = await manager.async_configure(form["flow_id"], {})
        assert (refused["type"], refused["reason"]) == (FlowResultType.ABORT, "refused")
        assert "lamp" in refused["description_placeholders"]["error"]
        assert repair(hass) is not None
        block.release.set()
        await coordinator.async_wait(job)

    async def test_it_goes_when_the_configuration_changes(
        self,
        hass: HomeAssistant,
        coordinator: OffloadCoordinator,
        config_dir: Path,
        pass_time: Pass,
        failed: str,
    ) -> None:
        await pass_time(31)
        await pass_time(62)
        assert repair(hass) is not None
        (config_dir / "lamp.yaml").write_text(f"{LAMP}\n# mended\n")
        await pass_time(93)
        await pass_time(124)
        assert repair(hass) is None

    async def test_one_that_no_builder_took_goes_when_one_would_take_it(
        self, hass: HomeAssistant, coordinator: OffloadCoordinator, stage: Stage, pass_time: Pass
    ) -> None:
        here = stage.builder.status()
        stage.builder.become(BuilderStatus(available=False, why_not=Reason(ReasonKey.NOT_GLIBC)))
        for source in ("auto", "local"):
            await run(hass, coordinator, source=source)
            last = coordinator.queue.last_install("lamp.yaml")
            assert last is not None
            assert last.outcome.failure_reason is FailureReason.NO_BUILDER
            await pass_time(31)
            assert repair(hass) is not None
            stage.builder.become(here)
            await pass_time(62)
            assert repair(hass) is None
            stage.builder.become(
                BuilderStatus(available=False, why_not=Reason(ReasonKey.NOT_GLIBC))
            )

    async def test_one_that_no_builder_took_goes_when_the_configuration_changes(
        self,
        hass: HomeAssistant,
        coordinator: OffloadCoordinator,
        config_dir: Path,
        stage: Stage,
        pass_time: Pass,
    ) -> None:
        stage.builder.become(BuilderStatus(available=False, why_not=Reason(ReasonKey.NOT_GLIBC)))
        await run(hass, coordinator)
        await pass_time(31)
        issue = repair(hass)
        assert issue is not None
        assert issue.translation_placeholders is not None
        assert issue.translation_placeholders["device"] == "lamp"
        (config_dir / "lamp.yaml").write_text(f"{LAMP}\n# mended\n")
        await pass_time(62)
        await pass_time(93)
        assert repair(hass) is None

    async def test_it_goes_when_the_device_got_the_version_in_another_way(
        self, hass: HomeAssistant, coordinator: OffloadCoordinator, stage: Stage, pass_time: Pass
    ) -> None:
        live, _ = core_device(hass, available=True)
        await pass_time(1)
        stage.builder.script = [failing(FailureReason.COMPILE_FAILED)]
        await run(hass, coordinator)
        await pass_time(31)
        assert repair(hass) is not None
        live.runtime_data.runs(NEWEST, "2026-11-20 10:00:00 +0000")
        await pass_time(62)
        assert repair(hass) is None

    async def test_it_goes_when_the_device_comes_back_with_the_build_after_all(
        self, hass: HomeAssistant, coordinator: OffloadCoordinator, stage: Stage, pass_time: Pass
    ) -> None:
        live, _ = core_device(hass, available=True)
        live.runtime_data.runs(NEWEST, "2026-11-20 10:00:00 +0000")
        await pass_time(1)
        stage.flasher.script = [flash_failing(FailureReason.NOT_VERIFIED)]
        await run(hass, coordinator)
        await pass_time(31)
        assert repair(hass) is not None, "the version is the same"
        live.runtime_data.runs(NEWEST, BUILD_INFO.build_time)
        await pass_time(62)
        assert repair(hass) is None

    async def test_it_goes_when_the_device_got_the_configuration_in_another_way(
        self,
        hass: HomeAssistant,
        coordinator: OffloadCoordinator,
        config_dir: Path,
        stage: Stage,
        pass_time: Pass,
    ) -> None:
        await run(hass, coordinator)
        (config_dir / "lamp.yaml").write_text(f"{LAMP}\n# edited\n")
        stage.config_hashes.hashes["lamp.yaml"] = 0xAB
        await pass_time(31)
        stage.builder.script = [failing(FailureReason.COMPILE_FAILED)]
        await run(hass, coordinator)
        await checked(hass)
        await pass_time(62)
        assert repair(hass) is not None
        coordinator.firmware._announced(AnnouncedFirmware("lamp", NEWEST, None, 0xAB))
        await pass_time(93)
        assert repair(hass) is None

    async def test_it_stays_when_all_was_as_wanted_before(
        self, hass: HomeAssistant, coordinator: OffloadCoordinator, stage: Stage, pass_time: Pass
    ) -> None:
        await run(hass, coordinator)
        stage.builder.script = [failing(FailureReason.COMPILE_FAILED)]
        job = await coordinator.async_submit("lamp.yaml", Operation.INSTALL, rebuild=True)
        await coordinator.async_wait(job)
        await pass_time(31)
        assert repair(hass) is not None

    async def test_it_is_renamed_with_its_configuration(
        self,
        hass: HomeAssistant,
        coordinator: OffloadCoordinator,
        config_dir: Path,
        pass_time: Pass,
        failed: str,
    ) -> None:
        ir.async_ignore_issue(hass, DOMAIN, FAILED, ignore=True)
        (config_dir / "lamp.yaml").rename(config_dir / "desk.yaml")
        await pass_time(31)
        assert repair(hass) is None
        issue = repair(hass, "install_failed_desk.yaml")
        assert issue is not None
        assert issue.data is not None
        assert issue.data["target"] == "desk.yaml"
        assert issue.data["job_id"] == failed
        assert issue.dismissed_version is not None

    async def test_what_has_a_repair_of_its_own_has_no_second_one(
        self, hass: HomeAssistant, coordinator: OffloadCoordinator, stage: Stage
    ) -> None:
        for reason in (FailureReason.INTEGRITY, FailureReason.ROLLED_BACK):
            stage.flasher.script = [flash_failing(reason)]
            await run(hass, coordinator)
            last = coordinator.queue.last("lamp.yaml")
            assert last is not None
            assert last.outcome.failure_reason is reason
            assert repair(hass) is None

    async def test_a_device_that_does_not_exist_any_more_has_none(
        self,
        hass: HomeAssistant,
        coordinator: OffloadCoordinator,
        entry: MockConfigEntry,
        stage: Stage,
    ) -> None:
        job, block = await stage.start_blocked(coordinator)
        hass.config_entries.async_update_entry(entry, data={**entry.data, "config_dir": ""})
        await hass.async_block_till_done()
        block.release.set()
        assert (await coordinator.async_wait(job)).status is JobStatus.FAILED
        assert repair(hass) is None

    async def test_a_compilation_that_fails_is_no_installation(
        self, hass: HomeAssistant, coordinator: OffloadCoordinator, stage: Stage
    ) -> None:
        stage.builder.script = [failing(FailureReason.COMPILE_FAILED)]
        await run(hass, coordinator, Operation.COMPILE)
        assert repair(hass) is None
        assert issues.async_failed_installs(hass) == []


class TestNotStarted:
    """An automatic update that could not even be started."""

    @pytest.fixture
    async def live(
        self, hass: HomeAssistant, coordinator: OffloadCoordinator, pass_time: Pass
    ) -> LiveLamp:
        """The lamp, which was not updated."""
        live, _ = core_device(hass, available=True)
        issues.async_create_not_updated(hass, TargetId("lamp.yaml"), "lamp", "It has no OTA")
        await pass_time(31)
        await pass_time(62)
        issue = repair(hass, NOT_UPDATED)
        assert issue is not None
        assert not issue.is_fixable
        return live.runtime_data

    async def test_its_repair_goes_when_the_device_got_the_version_in_another_way(
        self, hass: HomeAssistant, live: LiveLamp, pass_time: Pass
    ) -> None:
        live.runs(NEWEST, "2026-11-20 10:00:00 +0000")
        await pass_time(93)
        assert repair(hass, NOT_UPDATED) is None

    async def test_its_repair_goes_when_the_configuration_changes(
        self, hass: HomeAssistant, live: LiveLamp, config_dir: Path, pass_time: Pass
    ) -> None:
        (config_dir / "lamp.yaml").write_text(f"{LAMP}\n# mended\n")
        await pass_time(93)
        await pass_time(124)
        assert repair(hass, NOT_UPDATED) is None

    async def test_its_repair_goes_with_the_configuration(
        self, hass: HomeAssistant, live: LiveLamp, config_dir: Path, pass_time: Pass
    ) -> None:
        (config_dir / "lamp.yaml").unlink()
        await pass_time(93)
        assert repair(hass, NOT_UPDATED) is None


class TestUnreachableBuilder:
    async def test_one_that_is_away_for_a_day_is_named_until_it_is_back(
        self,
        hass: HomeAssistant,
        coordinator: OffloadCoordinator,
        stage: Stage,
        pass_time: Pass,
    ) -> None:
        peer = add_peer(hass)
        assert await hass.config_entries.async_setup(peer.entry_id)
        link = stage.peers.links[-1]
        link.become(LinkState.CONNECTED)
        link.become(LinkState.CONNECTING, ReasonKey.PEER_AWAY)
        issue_id = f"builder_unreachable_{peer.entry_id}"
        await pass_time(DAY - 60)
        assert repair(hass, issue_id) is None
        await pass_time(DAY + 60)
        issue = repair(hass, issue_id)
        assert issue is not None
        assert issue.translation_placeholders == {"label": "attic"}
        link.become(LinkState.CONNECTED)
        assert repair(hass, issue_id) is None

    async def test_the_day_goes_on_over_a_restart(
        self,
        hass: HomeAssistant,
        hass_storage: dict[str, Any],
        entry: MockConfigEntry,
        stage: Stage,
        pass_time: Pass,
    ) -> None:
        peers = {label: add_peer(hass, label) for label in ("hours", "days", "new", "odd")}
        now = dt_util.utcnow()
        hass_storage["esphome_offload.builders"] = {
            "version": 1,
            "data": {
                "away_since": {
                    peers["hours"].entry_id: (now - timedelta(hours=20)).isoformat(),
                    peers["days"].entry_id: (now - timedelta(days=3)).isoformat(),
                    peers["odd"].entry_id: "yesterday",
                }
            },
        }
        stage.peers.reachable = False
        assert await hass.config_entries.async_setup(entry.entry_id)
        await hass.async_block_till_done(wait_background_tasks=True)

        def named() -> set[str]:
            return {
                label
                for label, peer in peers.items()
                if repair(hass, f"builder_unreachable_{peer.entry_id}") is not None
            }

        assert named() == set(), "each has a minute to connect"
        await pass_time(61)
        assert named() == {"days"}
        await pass_time(4 * 60 * 60 + 61)
        assert named() == {"days", "hours"}
        await pass_time(1)
        stored = hass_storage["esphome_offload.builders"]["data"]["away_since"]
        assert stored.keys() == {peer.entry_id for peer in peers.values()}
        link = next(link for link in stage.peers.links if link.label == "days")
        link.become(LinkState.CONNECTED)
        await hass.async_block_till_done(wait_background_tasks=True)
        stored = hass_storage["esphome_offload.builders"]["data"]["away_since"]
        assert peers["days"].entry_id not in stored
        assert named() == {"hours"}

    @pytest.mark.parametrize("removed", [True, False])
    async def test_its_repair_and_the_day_outlive_a_reload_and_not_the_entry(
        self,
        hass: HomeAssistant,
        coordinator: OffloadCoordinator,
        hass_storage: dict[str, Any],
        stage: Stage,
        pass_time: Pass,
        removed: bool,
    ) -> None:
        async def away_since() -> dict[str, str]:
            await hass.async_block_till_done(wait_background_tasks=True)
            stored: dict[str, str] = hass_storage["esphome_offload.builders"]["data"]["away_since"]
            return stored

        peer = add_peer(hass)
        stage.peers.reachable = False
        assert await hass.config_entries.async_setup(peer.entry_id)
        await pass_time(DAY + 60)
        issue_id, before = f"builder_unreachable_{peer.entry_id}", await away_since()
        assert before.keys() == {peer.entry_id}
        ir.async_ignore_issue(hass, DOMAIN, issue_id, ignore=True)

        await hass.config_entries.async_reload(peer.entry_id)
        issue = repair(hass, issue_id)
        assert issue is not None
        assert issue.dismissed_version is not None
        assert await away_since() == before

        if removed:
            await hass.config_entries.async_remove(peer.entry_id)
        else:
            await hass.config_entries.async_set_disabled_by(peer.entry_id, ConfigEntryDisabler.USER)
        assert repair(hass, issue_id) is None
        assert await away_since() == {}

    async def test_the_end_of_home_assistant_is_no_absence(
        self,
        hass: HomeAssistant,
        hass_storage: dict[str, Any],
        coordinator: OffloadCoordinator,
        stage: Stage,
    ) -> None:
        peer = add_peer(hass)
        assert await hass.config_entries.async_setup(peer.entry_id)
        stage.peers.links[-1].become(LinkState.CONNECTED)
        await coordinator.async_stop()
        assert stage.peers.links[-1].state is LinkState.STOPPED
        await hass.async_block_till_done(wait_background_tasks=True)
        assert hass_storage["esphome_offload.builders"]["data"]["away_since"] == {}

    async def test_one_that_came_back_meanwhile_or_is_not_loaded_is_not_named(
        self,
        hass: HomeAssistant,
        coordinator: OffloadCoordinator,
        stage: Stage,
        pass_time: Pass,
    ) -> None:
        back, unloaded, refusing = (add_peer(hass, label) for label in ("a", "b", "c"))
        stage.peers.reachable = False
        for peer in (back, unloaded, refusing):
            await hass.config_entries.async_setup(peer.entry_id)
        await hass.async_block_till_done()
        links = {link.label: link for link in stage.peers.links}
        links["a"].become(LinkState.CONNECTED)
        await hass.config_entries.async_unload(unloaded.entry_id)
        links["c"].become(LinkState.REFUSED, ReasonKey.PEER_FORGOT)
        await pass_time(DAY + 60)
        for peer in (back, unloaded, refusing):
            assert repair(hass, f"builder_unreachable_{peer.entry_id}") is None
