"""Updates whose firmware is built and waits for the device."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers.entity_component import async_update_entity
from homeassistant.helpers.template import Template
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.esphome_offload.coordinator import OffloadCoordinator
from custom_components.esphome_offload.engine.const import JobStatus
from custom_components.esphome_offload.engine.jobs.ports import Presence
from custom_components.esphome_offload.inventory.device_link import CoreDeviceLink

from .conftest import LAMP, NEWEST, Pass, Stage as Scripted
from .updating import install, runs, state

pytestmark = pytest.mark.usefixtures("coordinator")


@dataclass
class Presences:
    """Which devices are awake."""

    awake: set[str] = field(default_factory=set)

    def of(self, name: str) -> Presence:
        return Presence.ONLINE if name in self.awake else Presence.OFFLINE


@pytest.fixture
def asleep(monkeypatch: pytest.MonkeyPatch) -> Presences:
    """Make all devices unreachable, but those that are ``awake``."""
    presences = Presences()
    monkeypatch.setattr(
        CoreDeviceLink, "presence", lambda _, request: presences.of(request.device_name)
    )
    return presences


async def test_an_update_that_waits_for_its_device_says_so(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    asleep: Presences,
    caplog: pytest.LogCaptureFixture,
) -> None:
    runs(coordinator, "lamp", "2026.9.0")
    await install(hass)
    attributes = state(hass).attributes
    assert (attributes["installed_version"], attributes["latest_version"]) == ("2026.9.0", NEWEST)
    assert attributes["in_progress"] is False
    assert attributes["pending_version"] == NEWEST
    assert attributes["waiting_for"] == "lamp to be reachable"
    built = f"ESPHome {NEWEST} for lamp is built, and is installed as soon as the device is ready"
    assert attributes["release_summary"] == built
    assert [record.levelname for record in caplog.records if built in record.message] == ["WARNING"]

    ended = asyncio.Event()
    coordinator.queue.subscribe(None, lambda _event, job: job.terminal and ended.set())
    asleep.awake.add("lamp")
    coordinator.queue.kick()
    await ended.wait()
    await hass.async_block_till_done()
    attributes = state(hass).attributes
    assert attributes["installed_version"] == NEWEST
    assert attributes["pending_version"] is attributes["release_summary"] is None


async def test_the_first_update_of_a_template_is_none_that_waits_for_its_device(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    config_dir: Path,
    stage: Scripted,
    asleep: Presences,
    pass_time: Pass,
) -> None:
    """An automation that installs the first update every minute updates all that can be."""
    for name in ("fan", "zebra"):
        (config_dir / f"{name}.yaml").write_text(LAMP.replace("lamp", name))
    await pass_time(31)
    for name in ("lamp", "fan", "zebra"):
        runs(coordinator, name, "2026.9.0")
        await pass_time(1)
    outdated = Template(
        "{{ states.update | selectattr('state', 'eq', 'on') | map(attribute='entity_id') | list }}",
        hass,
    )
    asleep.awake |= {"fan", "zebra"}
    for entity in hass.states.async_entity_ids("update"):
        await async_update_entity(hass, entity)
    installed = set()
    for _ in range(3):
        first = outdated.async_render()[0]
        installed.add(first)
        await hass.services.async_call("update", "install", {"entity_id": first}, blocking=True)
    assert len(installed) == 3
    assert outdated.async_render() == []
    waiting = coordinator.queue.active("lamp.yaml")
    assert waiting is not None
    assert [job for job in coordinator.queue.jobs() if job.status is JobStatus.CANCELLED] == []

    # Asked again by name, it is the same job.
    await install(hass)
    assert coordinator.queue.active("lamp.yaml") is waiting
    # A newer version can be asked for.
    stage.versions.newest_stable = "2026.10.1"
    await pass_time(6 * 3600 + 1)
    assert state(hass).state == "on"


async def test_an_update_that_waits_for_its_device_is_an_error_with_the_option(
    hass: HomeAssistant, coordinator: OffloadCoordinator, entry: MockConfigEntry, asleep: Presences
) -> None:
    hass.config_entries.async_update_entry(entry, options={"pending_is_error": True})
    await hass.async_block_till_done()
    with pytest.raises(HomeAssistantError, match=r"Not installed yet\. ESPHome 2026.10.0 for lamp"):
        await install(hass)
    job = coordinator.queue.active("lamp.yaml")
    assert job is not None
    assert job.pending
