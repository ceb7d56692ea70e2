"""Which versions are announced as new."""

from typing import Any

from homeassistant.core import CoreState, HomeAssistant
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.esphome_offload.coordinator import DATA_COORDINATOR, OffloadCoordinator

from ..conftest import NEWEST, NEWEST_PRERELEASE, Stage

STORE = "esphome_offload.new_versions"


@pytest.fixture
def announced(coordinator: OffloadCoordinator) -> list[tuple[str, str]]:
    """What is announced: the former and the new version."""
    announced: list[tuple[str, str]] = []
    coordinator.new_versions.subscribe(lambda *versions: announced.append(versions))
    return announced


async def start(hass: HomeAssistant, entry: MockConfigEntry) -> list[str]:
    """Start Home Assistant; return what is announced then."""
    announced: list[str] = []
    hass.set_state(CoreState.not_running)
    assert await hass.config_entries.async_setup(entry.entry_id)
    hass.data[DATA_COORDINATOR].new_versions.subscribe(lambda _, new: announced.append(new))
    await hass.async_start()
    await hass.async_block_till_done(wait_background_tasks=True)
    return announced


async def find(hass: HomeAssistant, stage: Stage, version: str) -> None:
    stage.versions.newest_stable = version
    await hass.data[DATA_COORDINATOR].versions.async_refresh()
    await hass.async_block_till_done()


async def follow(hass: HomeAssistant, entry: MockConfigEntry, **options: Any) -> None:
    hass.config_entries.async_update_entry(entry, options=options)
    await hass.async_block_till_done(wait_background_tasks=True)


async def test_the_first_version_that_is_known_is_not_new(
    hass: HomeAssistant, stage: Stage, entry: MockConfigEntry
) -> None:
    assert await start(hass, entry) == []


async def test_a_version_that_was_withdrawn_and_is_back_is_not_new_again(
    hass: HomeAssistant, stage: Stage, announced: list[tuple[str, str]]
) -> None:
    for version in ("2026.10.1", NEWEST, "2026.10.1", "2026.10.2"):
        await find(hass, stage, version)
    assert announced == [(NEWEST, "2026.10.1"), ("2026.10.1", "2026.10.2")]


async def test_what_is_new_is_measured_by_what_the_options_name(
    hass: HomeAssistant,
    stage: Stage,
    entry: MockConfigEntry,
    announced: list[tuple[str, str]],
) -> None:
    await follow(hass, entry, version_channel="prerelease")
    assert announced == [(NEWEST, NEWEST_PRERELEASE)]
    await follow(hass, entry, version_channel="stable")
    await find(hass, stage, "2026.10.1")
    assert announced[1:] == [(NEWEST, "2026.10.1")]
    await follow(hass, entry, version_channel="fixed", fixed_version="2026.9.0")
    await find(hass, stage, "2026.10.2")
    assert len(announced) == 2


async def test_what_was_announced_is_stored_before_anybody_is_told(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    stage: Stage,
    hass_storage: dict[str, Any],
) -> None:
    stored: list[object] = []
    coordinator.new_versions.subscribe(lambda *_: stored.append(hass_storage[STORE]["data"]))
    await find(hass, stage, "2026.10.1")
    ((content,),) = [stored]
    assert content["announced"] == "2026.10.1"


@pytest.mark.parametrize(
    ("former", "announced"), [("2026.9.1", [NEWEST]), (NEWEST, []), ("2026.10.1", [])]
)
async def test_what_was_announced_before_a_restart_is_not_new_after_it(
    hass: HomeAssistant,
    stage: Stage,
    entry: MockConfigEntry,
    hass_storage: dict[str, Any],
    former: str,
    announced: list[str],
) -> None:
    data = {"announced": former, "followed": "stable"}
    hass_storage[STORE] = {"version": 1, "data": data}
    assert await start(hass, entry) == announced
