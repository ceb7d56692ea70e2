"""What stops automatic updates, and what a person is told of it."""

from pathlib import Path
from typing import Any

from homeassistant.core import HomeAssistant
from homeassistant.helpers import issue_registry as ir
import pytest

from custom_components.esphome_offload.engine.build.toolchain.versions import VersionError
from custom_components.esphome_offload.engine.const import FailureReason, JobStatus, Operation
from custom_components.esphome_offload.engine.jobs.model import JobRequest
from custom_components.esphome_offload.engine.reason import Reason, ReasonKey

from ....engine.jobs.fakes import failing
from ...conftest import Stage
from .home import LAMP_FILE, Home


async def test_after_so_many_nothing_more_is_started_until_the_next_window(
    hass: HomeAssistant, fleet: Home, stage: Stage
) -> None:
    await fleet.set_options(automatic_failures=2)
    stage.builder.script = [failing(FailureReason.OUT_OF_MEMORY, "no")] * 2
    await fleet.at("2026-12-01 02:00")
    jobs = await fleet.ended()
    assert [job.status for job in jobs] == [JobStatus.FAILED] * 2
    await fleet.at("2026-12-01 04:00")
    assert len(fleet.jobs) == 2
    repairs = [each for _, each in ir.async_get(hass).issues if each.startswith("install_failed")]
    assert len(repairs) == 2
    await fleet.at("2026-12-02 02:00")
    assert len(await fleet.ended()) == 5


async def test_what_cannot_even_be_started_is_a_repair_until_an_installation_succeeds(
    hass: HomeAssistant, lamp: Home, stage: Stage
) -> None:
    await lamp.coordinator.versions.async_choose(LAMP_FILE, "2026.8.1")
    gone = Reason(ReasonKey.VERSION_UNKNOWN, {"version": "2026.8.1", "python": "3.14"})
    stage.versions.unknown["2026.8.1"] = VersionError(gone)
    await lamp.at("2026-12-01 02:00")
    assert lamp.jobs == []
    issue = lamp.issue("not_updated_lamp.yaml")
    assert issue is not None
    assert issue.translation_placeholders is not None
    assert "There is no ESPHome 2026.8.1" in issue.translation_placeholders["error"]

    await lamp.coordinator.versions.async_choose(LAMP_FILE, None)
    await lamp.coordinator.async_wait(
        await lamp.coordinator.async_submit(LAMP_FILE, Operation.INSTALL)
    )
    await hass.async_block_till_done()
    assert lamp.issue("not_updated_lamp.yaml") is None


async def test_what_is_removed_while_it_is_started_is_no_repair(
    lamp: Home, config_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    coordinator, prepare = lamp.coordinator, lamp.coordinator.async_prepare

    async def remove_first(*args: Any, **options: Any) -> JobRequest:
        (config_dir / "lamp.yaml").unlink()
        await coordinator.inventory.async_rescan()
        return await prepare(*args, **options)

    monkeypatch.setattr(coordinator, "async_prepare", remove_first)
    await lamp.at("2026-12-01 02:00")
    assert lamp.jobs == []
    assert not coordinator.devices
    assert lamp.issue("not_updated_lamp.yaml") is None
