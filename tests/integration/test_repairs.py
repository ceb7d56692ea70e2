"""A person chooses which device a configuration is for, once."""

from pathlib import Path
from typing import Any

from homeassistant.components.repairs import RepairsFlowResult
from homeassistant.config_entries import ConfigEntryDisabler
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType
from homeassistant.helpers import issue_registry as ir
from homeassistant.setup import async_setup_component
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.esphome_offload import issues
from custom_components.esphome_offload.const import DOMAIN
from custom_components.esphome_offload.coordinator import DATA_COORDINATOR, OffloadCoordinator
from custom_components.esphome_offload.engine.devices.answers import Answer
from custom_components.esphome_offload.engine.reason import Reason, ReasonKey

from .conftest import LAMP, Pass, Stage

MACS = {"aa:bb:cc:00:00:01": "192.168.1.20", "aa:bb:cc:00:00:02": "192.168.1.21"}


@pytest.fixture
def lamps(hass: HomeAssistant) -> None:
    """Let core's esphome know two lamps of one name."""
    for mac, host in MACS.items():
        entry = MockConfigEntry(
            domain="esphome",
            unique_id=mac,
            title="Lamp",
            data={"host": host, "port": 6053, "device_name": "lamp"},
        )
        entry.add_to_hass(hass)


def unclear(hass: HomeAssistant) -> dict[str, bool]:
    """Return the repairs about unclear devices, and whether they have a dialog."""
    return {
        issue_id.removeprefix("device_ambiguous_"): bool(issue.is_fixable)
        for (domain, issue_id), issue in ir.async_get(hass).issues.items()
        if domain == DOMAIN
    }


async def dialog(hass: HomeAssistant, file: str) -> RepairsFlowResult:
    """Return the form of a repair, as Home Assistant starts it."""
    assert await async_setup_component(hass, "repairs", {})
    form: RepairsFlowResult = await hass.data["repairs"]["flow_manager"].async_init(
        DOMAIN, context={"issue_id": f"device_ambiguous_{file}"}
    )
    assert form["type"] is FlowResultType.FORM
    return form


async def choose(hass: HomeAssistant, file: str, device: str) -> None:
    form = await dialog(hass, file)
    done = await hass.data["repairs"]["flow_manager"].async_configure(
        form["flow_id"], {"device": device}
    )
    assert done["type"] is FlowResultType.CREATE_ENTRY


async def test_one_of_two_devices_of_a_name_is_chosen_and_remembered(
    hass: HomeAssistant,
    lamps: None,
    coordinator: OffloadCoordinator,
    config_dir: Path,
    pass_time: Pass,
    entry: MockConfigEntry,
) -> None:
    assert unclear(hass) == {"lamp.yaml": True}
    form = await dialog(hass, "lamp.yaml")
    (selector,) = form["data_schema"].schema.values()
    assert [option["value"] for option in selector.config["options"]] == [*MACS, "none"]

    chosen = "aa:bb:cc:00:00:02"
    await choose(hass, "lamp.yaml", chosen)

    def device() -> str | None:
        core = coordinator.devices["lamp.yaml"].core
        return None if core is None else core.mac

    assert device() == chosen
    assert unclear(hass) == {}
    await hass.config_entries.async_reload(entry.entry_id)
    await hass.async_block_till_done(wait_background_tasks=True)
    assert device() == chosen

    # It goes with its file.
    (config_dir / "lamp.yaml").rename(config_dir / "desk.yaml")
    await pass_time(31)
    core = coordinator.devices["desk.yaml"].core
    assert core is not None
    assert core.mac == chosen

    # A file that takes its place later is asked about.
    (config_dir / "desk.yaml").unlink()
    await pass_time(31)
    (config_dir / "desk.yaml").write_text(LAMP)
    await pass_time(31)
    assert unclear(hass) == {"desk.yaml": True}


async def test_the_other_device_is_never_taken_for_a_chosen_one_that_is_gone(
    hass: HomeAssistant, lamps: None, coordinator: OffloadCoordinator, pass_time: Pass
) -> None:
    chosen, other = MACS
    await choose(hass, "lamp.yaml", chosen)
    core = coordinator.devices["lamp.yaml"].core
    assert core is not None
    await hass.config_entries.async_remove(core.entry_id)
    await pass_time(1)
    assert coordinator.devices["lamp.yaml"].core is None
    assert coordinator.devices["lamp.yaml"].rivals == (MACS[other],)
    assert unclear(hass) == {"lamp.yaml": True}


async def test_a_choice_is_for_the_node_name_that_the_configuration_had(
    hass: HomeAssistant,
    lamps: None,
    coordinator: OffloadCoordinator,
    config_dir: Path,
    pass_time: Pass,
) -> None:
    await choose(hass, "lamp.yaml", next(iter(MACS)))
    (config_dir / "lamp.yaml").write_text(LAMP.replace("lamp", "desk"))
    await pass_time(31)
    assert coordinator.devices["lamp.yaml"].core is None


async def test_a_device_can_be_chosen_again(
    hass: HomeAssistant, lamps: None, coordinator: OffloadCoordinator, entry: MockConfigEntry
) -> None:
    options = hass.config_entries.options
    menu = await options.async_init(entry.entry_id)
    assert "choices" not in menu["menu_options"]
    await choose(hass, "lamp.yaml", "none")
    assert unclear(hass) == {}

    menu = await options.async_init(entry.entry_id)
    assert "choices" in menu["menu_options"]
    form = await options.async_configure(menu["flow_id"], {"next_step_id": "choices"})
    (selector,) = form["data_schema"].schema.values()
    assert selector.config["options"] == ["lamp.yaml"]
    done = await options.async_configure(form["flow_id"], {"files": ["lamp.yaml"]})
    assert done["type"] is FlowResultType.CREATE_ENTRY
    assert unclear(hass) == {"lamp.yaml": True}


async def test_nothing_is_chosen_again_while_the_integration_is_not_loaded(
    hass: HomeAssistant, lamps: None, coordinator: OffloadCoordinator, entry: MockConfigEntry
) -> None:
    await choose(hass, "lamp.yaml", "none")
    options = hass.config_entries.options
    menu = await options.async_init(entry.entry_id)
    del hass.data[DATA_COORDINATOR]
    over = await options.async_configure(menu["flow_id"], {"next_step_id": "choices"})
    hass.data[DATA_COORDINATOR] = coordinator
    assert (over["type"], over["reason"]) == (FlowResultType.ABORT, "not_loaded")


async def test_a_repair_that_is_ignored_stays_so_until_its_folder_is_not_followed(
    hass: HomeAssistant,
    lamps: None,
    coordinator: OffloadCoordinator,
    config_dir: Path,
    stage: Stage,
    pass_time: Pass,
    entry: MockConfigEntry,
) -> None:
    (config_dir / "plug.yaml").write_text("esphome: [")
    reason = Reason(ReasonKey.CONFIGURATION_SYNTAX, {"file": "plug.yaml", "row": "1"})
    stage.inspector.answers["plug.yaml"] = Answer(
        "plug.yaml", broken=True, says_device=True, problem=reason, reads=("plug.yaml",)
    )
    await pass_time(31)
    repairs = {"device_ambiguous_lamp.yaml", "configuration_unreadable_plug.yaml"}

    def ignored() -> set[str]:
        issues = ir.async_get(hass).issues.items()
        return {
            key for (domain, key), issue in issues if domain == DOMAIN and issue.dismissed_version
        }

    for issue_id in repairs:
        ir.async_ignore_issue(hass, DOMAIN, issue_id, True)
    await hass.config_entries.async_reload(entry.entry_id)
    await hass.async_block_till_done(wait_background_tasks=True)
    await pass_time(31)
    assert ignored() == repairs
    coordinator.inventory.stop()
    assert ignored() == repairs
    await hass.config_entries.async_set_disabled_by(entry.entry_id, ConfigEntryDisabler.USER)
    assert unclear(hass) == {}


async def test_a_repair_from_before_a_restart_goes_when_all_is_known(
    hass: HomeAssistant, entry: MockConfigEntry, stage: Stage, pass_time: Pass
) -> None:
    issues.async_set_ambiguous(
        hass,
        {"lamp.yaml": issues.UnclearDevice("lamp.yaml", "lamp", ("x",), can_choose=False)},
        complete=True,
    )
    stage.inspector.version = None  # nothing is asked at once
    assert await hass.config_entries.async_setup(entry.entry_id)
    assert unclear(hass) == {"lamp.yaml": False}
    await hass.async_block_till_done(wait_background_tasks=True)
    await pass_time(31)
    assert unclear(hass) == {}


async def test_a_damaged_choice_is_asked_for_again(
    hass: HomeAssistant, lamps: None, hass_storage: dict[str, Any], entry: MockConfigEntry
) -> None:
    hass_storage[f"{DOMAIN}.chosen_devices"] = {"version": 1, "data": {"lamp.yaml": 5}}
    assert await hass.config_entries.async_setup(entry.entry_id)
    assert unclear(hass) == {"lamp.yaml": True}


async def test_a_copy_can_be_for_none(
    hass: HomeAssistant, coordinator: OffloadCoordinator, config_dir: Path, pass_time: Pass
) -> None:
    mac, host = next(iter(MACS.items()))
    entry = MockConfigEntry(
        domain="esphome",
        unique_id=mac,
        title="Lamp",
        data={"host": host, "port": 6053, "device_name": "lamp"},
    )
    entry.add_to_hass(hass)
    (config_dir / "lamp-old.yaml").write_text(LAMP)
    await pass_time(31)
    assert unclear(hass) == {"lamp.yaml": True, "lamp-old.yaml": True}

    await choose(hass, "lamp-old.yaml", "none")
    assert unclear(hass) == {"lamp.yaml": True}
    await choose(hass, "lamp.yaml", mac)

    assert unclear(hass) == {}
    assert coordinator.devices["lamp.yaml"].core is not None
    copy = coordinator.devices["lamp-old.yaml"]
    assert copy.core is None
    # It is still never flashed by its name.
    assert copy.rivals == ("lamp.yaml",)


async def test_without_a_device_there_is_nothing_to_choose(
    hass: HomeAssistant, coordinator: OffloadCoordinator, config_dir: Path, pass_time: Pass
) -> None:
    (config_dir / "lamp-old.yaml").write_text(LAMP)
    await pass_time(31)
    assert unclear(hass) == {"lamp.yaml": False, "lamp-old.yaml": False}
