"""The version that a single device is to run."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from freezegun.api import FrozenDateTimeFactory
from homeassistant.core import Context, HomeAssistant, State
from homeassistant.exceptions import ServiceValidationError, Unauthorized
from homeassistant.helpers import entity_registry as er
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry, MockUser

from custom_components.esphome_offload.coordinator import OffloadCoordinator
from custom_components.esphome_offload.engine.build.toolchain.versions import VersionError
from custom_components.esphome_offload.engine.const import Operation
from custom_components.esphome_offload.engine.reason import Reason, ReasonKey
from custom_components.esphome_offload.engine.target import TargetId
from custom_components.esphome_offload.inventory.announced_firmware import AnnouncedFirmware
from custom_components.esphome_offload.inventory.device_settings import DeviceSetting

from .conftest import LAMP, NEWEST, NEWEST_PRERELEASE, Pass, Stage

LAMP_FILE = TargetId("lamp.yaml")
SELECT = "select.desk_lamp_esphome_version"
UPDATE = "update.desk_lamp_esphome"
FORMER = ("2026.9.2", "2026.8.1", "2026.7.0", "2026.6.3")


def state_of(hass: HomeAssistant, entity_id: str) -> State:
    state = hass.states.get(entity_id)
    assert state is not None
    return state


async def choose(hass: HomeAssistant, option: str, user_id: str | None = None) -> None:
    await hass.services.async_call(
        "select",
        "select_option",
        {"entity_id": SELECT, "option": option},
        blocking=True,
        context=Context(user_id=user_id),
    )
    await hass.async_block_till_done(wait_background_tasks=True)


@pytest.fixture
def stage(stage: Stage) -> Stage:
    """Let the index have older release series."""
    stage.versions.former = FORMER
    return stage


@pytest.fixture(autouse=True)
async def _coordinator(coordinator: OffloadCoordinator) -> None:
    """Every test has an instance that is set up."""


def runs(coordinator: OffloadCoordinator, version: str) -> None:
    """Let the lamp announce its version."""
    coordinator.firmware._announced(AnnouncedFirmware("lamp", version))


async def test_a_device_follows_what_is_set_for_all_until_somebody_chooses(
    hass: HomeAssistant,
) -> None:
    state = state_of(hass, SELECT)
    assert state.state == "as_all"
    assert state.attributes["options"] == ["as_all", "stable", "prerelease", NEWEST, *FORMER[:3]]
    entity = er.async_get(hass).async_get(SELECT)
    assert entity is not None
    assert entity.entity_category == "config"


async def test_the_version_that_the_device_runs_can_be_kept(
    hass: HomeAssistant, coordinator: OffloadCoordinator
) -> None:
    runs(coordinator, "2026.9.0")
    await hass.async_block_till_done()
    assert state_of(hass, UPDATE).state == "on"
    assert "2026.9.0" in state_of(hass, SELECT).attributes["options"]
    await choose(hass, "2026.9.0")
    assert state_of(hass, UPDATE).state == "off"


async def test_a_version_of_ones_own_making_is_not_offered(
    hass: HomeAssistant, coordinator: OffloadCoordinator
) -> None:
    for version in ("2026.11.0-dev", "my fork"):
        runs(coordinator, version)
        await hass.async_block_till_done()
        assert len(state_of(hass, SELECT).attributes["options"]) == 7


async def test_only_a_device_that_follows_pre_releases_is_offered_one(
    hass: HomeAssistant, coordinator: OffloadCoordinator, config_dir: Path, pass_time: Pass
) -> None:
    (config_dir / "plug.yaml").write_text(LAMP.replace("lamp", "plug"))
    await pass_time(31)
    await choose(hass, "prerelease")
    assert state_of(hass, UPDATE).attributes["latest_version"] == NEWEST_PRERELEASE
    other = state_of(hass, "update.desk_plug_esphome")
    assert other.attributes["latest_version"] == NEWEST
    assert coordinator.versions.latest == NEWEST

    job = await coordinator.async_submit(LAMP_FILE, Operation.INSTALL)
    assert job.request.esphome_version == NEWEST_PRERELEASE


async def test_stable_is_chosen_for_one_device_where_all_others_follow_pre_releases(
    hass: HomeAssistant, coordinator: OffloadCoordinator, entry: MockConfigEntry
) -> None:
    hass.config_entries.async_update_entry(entry, options={"version_channel": "prerelease"})
    await hass.async_block_till_done(wait_background_tasks=True)
    assert state_of(hass, UPDATE).attributes["latest_version"] == NEWEST_PRERELEASE
    await choose(hass, "stable")
    assert state_of(hass, UPDATE).attributes["latest_version"] == NEWEST
    await choose(hass, "as_all")
    assert state_of(hass, UPDATE).attributes["latest_version"] == NEWEST_PRERELEASE


async def test_a_channel_is_asked_for_although_a_version_is_fixed_for_all(
    hass: HomeAssistant, stage: Stage, entry: MockConfigEntry
) -> None:
    hass.config_entries.async_update_entry(
        entry, options={"version_channel": "fixed", "fixed_version": "2026.8.1"}
    )
    await hass.async_block_till_done(wait_background_tasks=True)
    assert state_of(hass, UPDATE).attributes["latest_version"] == "2026.8.1"
    await choose(hass, "prerelease")
    assert stage.versions.asked[-1] is True
    assert state_of(hass, UPDATE).attributes["latest_version"] == NEWEST_PRERELEASE


async def test_a_pinned_device_is_built_with_that_version_also_if_it_runs_a_newer_one(
    hass: HomeAssistant, coordinator: OffloadCoordinator, stage: Stage
) -> None:
    runs(coordinator, NEWEST)
    await hass.async_block_till_done()
    assert state_of(hass, UPDATE).state == "off"
    await choose(hass, "2026.8.1")
    assert state_of(hass, UPDATE).state == "on"
    await hass.services.async_call("update", "install", {"entity_id": UPDATE}, blocking=True)
    assert stage.builder.requests[0].esphome_version == "2026.8.1"
    assert state_of(hass, UPDATE).state == "off"


async def test_installing_another_version_changes_no_choice(
    hass: HomeAssistant, stage: Stage
) -> None:
    await choose(hass, "2026.8.1")
    await hass.services.async_call(
        "update", "install", {"entity_id": UPDATE, "version": "2026.7.0"}, blocking=True
    )
    assert stage.builder.requests[0].esphome_version == "2026.7.0"
    assert state_of(hass, SELECT).state == "2026.8.1"
    assert state_of(hass, UPDATE).state == "on"


async def test_a_choice_is_kept_over_a_restart_and_when_its_file_is_renamed(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    entry: MockConfigEntry,
    config_dir: Path,
    pass_time: Pass,
) -> None:
    await choose(hass, "2026.8.1")
    (config_dir / "lamp.yaml").rename(config_dir / "desk.yaml")
    await pass_time(31)
    assert coordinator.versions.wanted(TargetId("desk.yaml")) == "2026.8.1"
    assert state_of(hass, SELECT).state == "2026.8.1"

    await pass_time(1)
    coordinator.device_settings.records.clear()
    coordinator.versions._out_since.clear()
    await coordinator.device_settings.async_load()
    await coordinator.versions.async_load()
    assert await hass.config_entries.async_reload(entry.entry_id)
    assert state_of(hass, SELECT).state == "2026.8.1"
    assert "2026.7.0" in coordinator.versions.known


async def test_a_choice_is_forgotten_with_its_configuration(
    hass: HomeAssistant, coordinator: OffloadCoordinator, config_dir: Path, pass_time: Pass
) -> None:
    await choose(hass, "2026.8.1")
    (config_dir / "lamp.yaml").unlink()
    await pass_time(31)
    (config_dir / "lamp.yaml").write_text(LAMP)
    await pass_time(31)
    assert state_of(hass, SELECT).state == "as_all"


def unavailable(stage: Stage, version: str, key: ReasonKey) -> None:
    stage.versions.unknown[version] = VersionError(
        Reason(key, {"version": version, "python": "3.14"})
    )


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (ReasonKey.VERSION_UNKNOWN, "There is no ESPHome 2026.8.1"),
        (ReasonKey.VERSION_OTHER_PYTHON, "lamp cannot be built with ESPHome 2026.8.1 here"),
    ],
)
async def test_a_version_that_cannot_be_used_is_refused_and_changes_nothing(
    hass: HomeAssistant, stage: Stage, key: ReasonKey, text: str
) -> None:
    unavailable(stage, "2026.8.1", key)
    with pytest.raises(ServiceValidationError, match=text):
        await choose(hass, "2026.8.1")
    assert state_of(hass, SELECT).state == "as_all"


async def test_a_choice_for_a_device_whose_file_is_removed_during_the_check_is_refused(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    config_dir: Path,
    pass_time: Pass,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    check = coordinator.versions.async_check_choice

    async def check_slowly(choice: str | None, device_name: str) -> str | None:
        (config_dir / "lamp.yaml").unlink()
        await pass_time(31)
        return await check(choice, device_name)

    monkeypatch.setattr(coordinator.versions, "async_check_choice", check_slowly)
    with pytest.raises(ServiceValidationError, match=r"lamp\.yaml"):
        await choose(hass, "2026.8.1")
    assert coordinator.device_settings.records == {}


async def test_a_choice_goes_with_a_file_that_is_renamed_during_the_check(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    config_dir: Path,
    pass_time: Pass,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    check = coordinator.versions.async_check_choice

    async def check_slowly(choice: str | None, device_name: str) -> str | None:
        (config_dir / "lamp.yaml").rename(config_dir / "desk.yaml")
        await pass_time(31)
        return await check(choice, device_name)

    monkeypatch.setattr(coordinator.versions, "async_check_choice", check_slowly)
    await choose(hass, "2026.8.1")
    assert coordinator.device_settings.get(TargetId("desk.yaml")).version == "2026.8.1"


def test_a_rename_onto_a_target_with_settings_keeps_those(
    coordinator: OffloadCoordinator,
) -> None:
    settings = coordinator.device_settings
    for names in (("lamp.yaml", "desk.yaml"), ("desk.yaml", "lamp.yaml")):
        settings.records.clear()
        for name in names:
            settings.records[TargetId(name)] = DeviceSetting(version=name)
        settings.rename(LAMP_FILE, TargetId("desk.yaml"))
        assert settings.records == {"desk.yaml": DeviceSetting(version="desk.yaml")}


async def test_a_pinned_version_that_was_withdrawn_is_refused_by_name_and_stays_visible(
    hass: HomeAssistant, coordinator: OffloadCoordinator, stage: Stage
) -> None:
    await coordinator.versions.async_choose(LAMP_FILE, "2026.6.3")
    await hass.async_block_till_done()
    unavailable(stage, "2026.6.3", ReasonKey.VERSION_UNKNOWN)
    with pytest.raises(ServiceValidationError, match=r"There is no ESPHome 2026\.6\.3"):
        await coordinator.async_submit(LAMP_FILE, Operation.INSTALL)
    assert state_of(hass, SELECT).state == "2026.6.3"
    assert stage.builder.requests == []


async def test_without_a_network_a_version_can_be_chosen_and_built(
    hass: HomeAssistant, coordinator: OffloadCoordinator, stage: Stage
) -> None:
    unavailable(stage, "2026.8.1", ReasonKey.VERSION_UNCHECKED)
    await choose(hass, "2026.8.1")
    job = await coordinator.async_submit(LAMP_FILE, Operation.INSTALL)
    assert job.request.esphome_version == "2026.8.1"


async def test_only_an_administrator_chooses(
    hass: HomeAssistant, hass_admin_user: MockUser
) -> None:
    member = MockUser(name="Member").add_to_hass(hass)
    member.mock_policy({"entities": True})
    with pytest.raises(Unauthorized):
        await choose(hass, "prerelease", member.id)
    assert state_of(hass, SELECT).state == "as_all"
    await choose(hass, "prerelease", hass_admin_user.id)
    assert state_of(hass, SELECT).state == "prerelease"


async def test_since_when_a_version_is_out_is_what_the_index_says_else_when_it_was_first_seen(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    stage: Stage,
    freezer: FrozenDateTimeFactory,
) -> None:
    versions, uploaded = coordinator.versions, datetime(2026, 11, 20, 12, tzinfo=UTC)
    first_seen = versions.out_since(NEWEST)
    assert first_seen is not None

    stage.versions.newest_stable = "2026.10.1"
    stage.versions.uploaded_at["2026.10.1"] = uploaded
    freezer.move_to(uploaded + timedelta(days=2000))
    await versions.async_refresh()
    assert versions.out_since("2026.10.1") == uploaded
    assert versions.out_since(NEWEST) == first_seen
    assert versions.known[:2] == ("2026.10.1", NEWEST)


async def test_a_version_from_the_future_is_out_since_now(
    coordinator: OffloadCoordinator, stage: Stage, freezer: FrozenDateTimeFactory
) -> None:
    now = datetime(2031, 1, 1, tzinfo=UTC)
    freezer.move_to(now)
    stage.versions.newest_stable = "2031.1.0"
    stage.versions.uploaded_at["2031.1.0"] = now + timedelta(days=400)
    await coordinator.versions.async_refresh()
    assert coordinator.versions.out_since("2031.1.0") == now


async def test_a_beta_is_not_offered_any_more_when_its_version_is_out(
    hass: HomeAssistant, coordinator: OffloadCoordinator, stage: Stage
) -> None:
    await choose(hass, "prerelease")
    assert NEWEST_PRERELEASE in state_of(hass, SELECT).attributes["options"]
    stage.versions.newest_prerelease = "2026.11.0"
    await coordinator.versions.async_refresh()
    await hass.async_block_till_done()
    assert NEWEST_PRERELEASE not in state_of(hass, SELECT).attributes["options"]
    assert state_of(hass, UPDATE).attributes["latest_version"] == "2026.11.0"


async def test_the_page_shows_the_version_of_each_device(
    hass: HomeAssistant, coordinator: OffloadCoordinator
) -> None:
    from custom_components.esphome_offload.page.payload import page_devices

    await choose(hass, "2026.8.1")
    assert page_devices(hass, coordinator)[LAMP_FILE]["wanted_version"] == "2026.8.1"
