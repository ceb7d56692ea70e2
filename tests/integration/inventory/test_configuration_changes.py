"""Configurations that changed since their devices were flashed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from homeassistant.core import HomeAssistant, State
from homeassistant.exceptions import HomeAssistantError
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.esphome_offload.coordinator import DATA_COORDINATOR, OffloadCoordinator
from custom_components.esphome_offload.engine.const import Operation, Source
from custom_components.esphome_offload.engine.device_access import DeviceAccess
from custom_components.esphome_offload.engine.jobs.ports import FolderUnavailableError
from custom_components.esphome_offload.inventory.announced_firmware import AnnouncedFirmware
from custom_components.esphome_offload.inventory.running_firmware import PresentHash

from ...engine.jobs.fakes import BUILD_INFO, Block
from ..conftest import LAMP, NEWEST, Pass, Stage
from ..live_lamp import MAC, core_device

ENTITY = "update.desk_lamp_esphome"
BUILT = BUILD_INFO.config_hash
STORE = "esphome_offload.firmware"


@pytest.fixture
def pass_time(hass: HomeAssistant, pass_time: Pass) -> Pass:
    """Let also those checks end that run in the background."""

    async def wait(seconds: float) -> None:
        await pass_time(seconds)
        # The scan that the time has started has ended by now.
        hass.data[DATA_COORDINATOR]._changes.request()
        await checked(hass)

    return wait


async def checked(hass: HomeAssistant) -> None:
    task = hass.data[DATA_COORDINATOR]._changes._task
    if task is not None:
        await task._tasks.wait(30)
    await hass.async_block_till_done(wait_background_tasks=True)


def state(hass: HomeAssistant) -> State:
    found = hass.states.get(ENTITY)
    assert found is not None
    return found


def edit(config_dir: Path, stage: Stage, config_hash: int | None) -> None:
    """Edit the lamp's configuration, to which ESPHome then gives another hash."""
    with (config_dir / "lamp.yaml").open("a") as file:
        file.write("# edited\n")
    stage.config_hashes.hashes["lamp.yaml"] = config_hash


async def install(hass: HomeAssistant, **data: str) -> None:
    await hass.services.async_call(
        "update", "install", {"entity_id": ENTITY, **data}, blocking=True
    )
    await checked(hass)


def announce(
    coordinator: OffloadCoordinator, config_hash: int | None, version: str = NEWEST
) -> None:
    coordinator.firmware._announced(AnnouncedFirmware("lamp", version, MAC, config_hash))


async def test_a_change_is_an_update_in_words_until_it_is_installed(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    config_dir: Path,
    stage: Stage,
    pass_time: Pass,
) -> None:
    await install(hass)
    assert (state(hass).state, state(hass).attributes["configuration_changed"]) == ("off", False)
    assert stage.config_hashes.asked == [], "the build has told it"

    edit(config_dir, stage, 0xAB)
    await pass_time(61)
    changed = state(hass)
    assert changed.state == "on"
    assert changed.attributes["installed_version"] == NEWEST
    assert changed.attributes["latest_version"] == f"{NEWEST} (configuration changed, 000000ab)"
    assert changed.attributes["configuration_changed"] is True
    assert "has changed since" in changed.attributes["release_summary"]
    assert changed.attributes["release_url"].endswith("/2026.10.0/")

    # An automation may hand on the words.
    await install(hass, version=changed.attributes["latest_version"])
    assert stage.builder.requests[-1].esphome_version == NEWEST


async def test_comments_and_formatting_are_no_change(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    config_dir: Path,
    stage: Stage,
    pass_time: Pass,
) -> None:
    await install(hass)
    edit(config_dir, stage, BUILT)
    await pass_time(61)
    assert stage.config_hashes.asked == [("lamp.yaml", NEWEST)]
    assert state(hass).state == "off"
    await pass_time(121)
    assert len(stage.config_hashes.asked) == 1, "asked about changed files only"


async def test_a_change_that_is_skipped_hides_no_other(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    config_dir: Path,
    stage: Stage,
    pass_time: Pass,
) -> None:
    await install(hass)
    edit(config_dir, stage, 0xAB)
    await pass_time(61)
    await hass.services.async_call("update", "skip", {"entity_id": ENTITY}, blocking=True)
    assert state(hass).state == "off"
    edit(config_dir, stage, 0xCD)
    await pass_time(122)
    assert state(hass).state == "on"


async def test_what_another_tool_has_flashed_counts(
    hass: HomeAssistant, coordinator: OffloadCoordinator, pass_time: Pass, stage: Stage
) -> None:
    announce(coordinator, BUILT + 1)
    await pass_time(61)
    assert state(hass).attributes["installed_version"] == NEWEST
    assert state(hass).state == "on"
    announce(coordinator, BUILT)
    assert state(hass).state == "off"
    announce(coordinator, None, "2026.8.0")
    assert state(hass).attributes["installed_version"] == "2026.8.0"
    assert state(hass).attributes["latest_version"] == NEWEST
    assert state(hass).attributes["configuration_changed"] is None


async def test_where_hashes_depend_on_the_folder_another_tool_is_given_the_benefit(
    hass: HomeAssistant, coordinator: OffloadCoordinator, pass_time: Pass, stage: Stage
) -> None:
    stage.config_hashes.portable = False
    announce(coordinator, BUILT + 1)
    await pass_time(61)
    assert state(hass).state == "off"
    assert state(hass).attributes["configuration_changed"] is None


async def test_a_build_elsewhere_is_compared_with_what_is_said_here(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    config_dir: Path,
    stage: Stage,
    pass_time: Pass,
) -> None:
    """With ``includes:`` the hash of the same files depends on the folder."""
    stage.config_hashes.portable = False
    stage.config_hashes.hashes["lamp.yaml"] = 0xAA
    stage.builder.source = Source.REMOTE
    await install(hass)
    assert stage.config_hashes.asked == [("lamp.yaml", NEWEST)]
    assert state(hass).attributes["configuration_changed"] is False
    edit(config_dir, stage, 0xAA)
    await pass_time(61)
    assert (state(hass).state, len(stage.config_hashes.asked)) == ("off", 2)
    edit(config_dir, stage, 0xAB)
    await pass_time(122)
    assert state(hass).state == "on"


async def test_the_device_is_believed_rather_than_the_last_job(
    hass: HomeAssistant, coordinator: OffloadCoordinator, pass_time: Pass
) -> None:
    await install(hass)
    entry, _ = core_device(hass, available=True)
    entry.runtime_data.runs(NEWEST, "2026-11-01 08:00:00 +0000")
    await pass_time(1)
    assert state(hass).attributes["configuration_changed"] is None
    entry.runtime_data.runs("2026.9.1", "2026-09-20 10:00:00 +0000")
    await pass_time(1)
    assert state(hass).attributes["installed_version"] == "2026.9.1"
    # It goes on being so while the device is away.
    entry.runtime_data.available = False
    entry.runtime_data.runs("2026.9.1", "2026-09-20 10:00:00 +0000")
    await pass_time(1)
    assert state(hass).attributes["installed_version"] == "2026.9.1"


async def test_an_announcement_belongs_to_one_device_only(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    config_dir: Path,
    pass_time: Pass,
) -> None:
    (config_dir / "old.yaml").write_text(LAMP)
    await pass_time(31)
    announce(coordinator, BUILT)
    assert coordinator.firmware.running("lamp.yaml") is None
    (config_dir / "old.yaml").unlink()
    await pass_time(62)
    # Now it is clear whose it was.
    running = coordinator.firmware.running("lamp.yaml")
    assert running is not None
    assert running.config_hash == BUILT


async def test_a_device_of_that_name_elsewhere_is_another_one(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    config_dir: Path,
    pass_time: Pass,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    device = coordinator.devices["lamp.yaml"]
    access = DeviceAccess(address="192.168.1.20", address_given=True)
    configured = replace(device, configuration=replace(device.configuration, access=access))
    monkeypatch.setattr(coordinator.inventory, "_devices", {"lamp.yaml": configured})
    elsewhere = AnnouncedFirmware("lamp", NEWEST, MAC, BUILT, ("192.168.1.21",))
    coordinator.firmware._announced(elsewhere)
    assert coordinator.firmware.running("lamp.yaml") is None
    coordinator.firmware._announced(replace(elsewhere, addresses=("192.168.1.20",)))
    assert coordinator.firmware.running("lamp.yaml") is not None


async def test_it_is_known_after_a_restart_without_the_job(
    hass: HomeAssistant,
    hass_storage: dict[str, Any],
    entry: MockConfigEntry,
    stage: Stage,
    config_dir: Path,
    pass_time: Pass,
) -> None:
    hass_storage[STORE] = {
        "version": 1,
        "data": {
            "lamp.yaml": {"running": {"esphome_version": NEWEST, "config_hash": 5}},
            "gone.yaml": {"running": {"esphome_version": NEWEST, "config_hash": 5}},
            "damaged.yaml": {"running": 7},
        },
    }
    assert await hass.config_entries.async_setup(entry.entry_id)
    await checked(hass)
    assert state(hass).state == "on"
    assert "configuration changed" in state(hass).attributes["latest_version"]
    assert await hass.config_entries.async_unload(entry.entry_id)
    stored = hass_storage[STORE]["data"]
    assert stored["lamp.yaml"]["running"]["config_hash"] == 5
    assert stored["lamp.yaml"]["present"]["config_hash"] == BUILT
    assert "gone.yaml" not in stored


async def test_a_renamed_configuration_keeps_what_is_known(
    hass: HomeAssistant, coordinator: OffloadCoordinator, config_dir: Path, pass_time: Pass
) -> None:
    await install(hass)
    (config_dir / "lamp.yaml").rename(config_dir / "desk.yaml")
    await pass_time(31)
    running = coordinator.firmware.running("desk.yaml")
    assert running is not None
    assert running.config_hash == BUILT
    assert coordinator.firmware.running("lamp.yaml") is None


async def test_without_an_answer_nothing_is_claimed_and_it_is_asked_again_later(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    config_dir: Path,
    stage: Stage,
    pass_time: Pass,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr(coordinator._changes._time, "monotonic", lambda: now)
    await install(hass)
    edit(config_dir, stage, None)
    for after in (61, 122, 183):
        await pass_time(after)
    assert state(hass).state == "off"
    assert len(stage.config_hashes.asked) == 1
    stage.config_hashes.hashes["lamp.yaml"] = 0xAB
    now = 6 * 3600.0
    await pass_time(244)
    assert len(stage.config_hashes.asked) == 2
    assert state(hass).state == "on"


async def test_nothing_is_asked_while_the_folder_is_away(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    config_dir: Path,
    stage: Stage,
    pass_time: Pass,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await install(hass)
    edit(config_dir, stage, 0xAB)

    async def away(_: str) -> None:
        raise FolderUnavailableError

    with monkeypatch.context() as patched:
        patched.setattr(coordinator.inventory, "fingerprint", away)
        await pass_time(61)
    assert stage.config_hashes.asked == []
    assert "failed" not in caplog.text
    await pass_time(122)
    assert state(hass).state == "on"


async def test_nothing_is_asked_while_something_is_built(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    config_dir: Path,
    stage: Stage,
    pass_time: Pass,
) -> None:
    await install(hass)
    assert stage.builder.slots is not None
    slot = stage.builder.slots.take("")
    assert slot is not None
    edit(config_dir, stage, 0xAB)
    await pass_time(61)
    assert stage.config_hashes.asked == []
    slot.release()
    await pass_time(122)
    assert len(stage.config_hashes.asked) == 1


async def test_a_file_that_is_saved_while_it_is_asked_about_is_asked_about_again(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    config_dir: Path,
    stage: Stage,
    pass_time: Pass,
) -> None:
    await install(hass)
    edit(config_dir, stage, 0xAB)

    def save() -> None:
        stage.config_hashes.while_asked = None
        edit(config_dir, stage, BUILT)

    stage.config_hashes.while_asked = save
    await pass_time(61)
    assert state(hass).state == "off"
    await pass_time(122)
    assert len(stage.config_hashes.asked) == 2
    assert state(hass).state == "off"


async def test_what_is_saved_while_it_is_compiled_is_a_change_once_it_is_flashed(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    config_dir: Path,
    stage: Stage,
    pass_time: Pass,
) -> None:
    block = Block()
    stage.flasher.script = [block]
    job = await coordinator.async_submit("lamp.yaml", Operation.INSTALL)
    await block.entered.wait()
    edit(config_dir, stage, 0xAB)
    block.release.set()
    await coordinator.async_wait(job)
    await checked(hass)
    assert coordinator.firmware.present("lamp.yaml") == PresentHash(
        await coordinator.inventory.fingerprint("lamp.yaml") or "", NEWEST, 0xAB
    )
    assert state(hass).state == "on"


async def test_there_is_nothing_to_install_without_a_change(
    hass: HomeAssistant, coordinator: OffloadCoordinator
) -> None:
    await install(hass)
    with pytest.raises(HomeAssistantError, match="No update available"):
        await install(hass)
