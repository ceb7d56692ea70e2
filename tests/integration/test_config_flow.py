"""Setting up, reconfiguring and changing the options, in the dialogs that a person sees."""

from pathlib import Path
import shutil

from homeassistant.config_entries import SOURCE_USER, ConfigEntryState
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType
from homeassistant.setup import async_setup_component
import pytest
from pytest_homeassistant_custom_component.common import (
    MockConfigEntry,
    get_schema_suggested_value,
)
from pytest_homeassistant_custom_component.typing import ClientSessionGenerator

from custom_components.esphome_offload.const import DOMAIN, INSTANCE_UNIQUE_ID
from custom_components.esphome_offload.coordinator import OffloadCoordinator
from custom_components.esphome_offload.engine.build.toolchain.versions import (
    VersionError,
)
from custom_components.esphome_offload.engine.reason import Reason, ReasonKey

from .conftest import LAMP, NEWEST, Stage

OPTIONS = {
    "version": {"version_channel": "prerelease"},
    "parallel": {"parallel_builds": 2.0, "parallel_uploads": 6.0, "compiler_cache_gib": 2.0},
    "waiting": {
        "wait_for_device": False,
        "wait_hours": 24.0,
        "pending_is_error": True,
        "wait_for_good_boot": False,
    },
    "builders": {"no_builder": "wait_then_fail", "wait_for_builder_minutes": 15.0},
}
CHOSEN = {
    "version_channel": "prerelease",
    "parallel_builds": 2,
    "parallel_uploads": 6,
    "compiler_cache_gib": 2,
    "wait_for_device": False,
    "wait_hours": 24,
    "pending_is_error": True,
    "wait_for_good_boot": False,
    "no_builder": "wait_then_fail",
    "wait_for_builder_minutes": 15,
}
FIXED = {**OPTIONS, "version": {"version_channel": "fixed"}}


@pytest.fixture(autouse=True)
def _scripted(stage: Stage, config_dir: Path) -> None:
    """Compile and flash nothing; Home Assistant's folder has ESPHome's in it."""


async def _start(hass: HomeAssistant) -> dict[str, object]:
    return await hass.config_entries.flow.async_init(DOMAIN, context={"source": SOURCE_USER})


async def _settings(hass: HomeAssistant, entry: MockConfigEntry) -> dict[str, object]:
    menu = await hass.config_entries.options.async_init(entry.entry_id)
    assert (menu["type"], menu["step_id"]) == (FlowResultType.MENU, "init")
    return await hass.config_entries.options.async_configure(
        menu["flow_id"], {"next_step_id": "settings"}
    )


def _proposal(result: dict[str, object]) -> object:
    return get_schema_suggested_value(result["data_schema"].schema, "config_dir")


async def test_the_folder_in_home_assistants_own_is_proposed_and_accepted(
    hass: HomeAssistant, config_dir: Path
) -> None:
    form = await _start(hass)
    assert (form["type"], form["step_id"], form["errors"]) == (FlowResultType.FORM, "instance", {})
    assert _proposal(form) == "esphome"
    assert form["description_placeholders"]["home"] == str(config_dir.parent)

    done = await hass.config_entries.flow.async_configure(
        form["flow_id"], {"config_dir": "esphome"}
    )
    await hass.async_block_till_done(wait_background_tasks=True)

    assert done["type"] is FlowResultType.CREATE_ENTRY
    assert done["title"] == "This instance"
    assert done["description"] == "with_folder"
    assert done["data"] == {"kind": "instance", "config_dir": "esphome"}
    assert done["options"] == {}
    assert done["result"].unique_id == INSTANCE_UNIQUE_ID
    assert done["result"].state is ConfigEntryState.LOADED
    assert hass.states.get("update.desk_lamp_esphome") is not None


async def test_nothing_is_proposed_where_there_is_no_such_folder(
    hass: HomeAssistant, config_dir: Path
) -> None:
    shutil.rmtree(config_dir)
    assert _proposal(await _start(hass)) == ""


@pytest.mark.parametrize("typed", [{}, {"config_dir": ""}, {"config_dir": "  "}])
async def test_an_instance_that_only_lends_needs_no_folder(
    hass: HomeAssistant, typed: dict[str, str]
) -> None:
    form = await _start(hass)
    done = await hass.config_entries.flow.async_configure(form["flow_id"], typed)
    assert done["type"] is FlowResultType.CREATE_ENTRY
    assert done["description"] == "without_folder"
    assert done["data"] == {"kind": "instance", "config_dir": ""}


async def test_an_absolute_folder_is_kept_as_entered(hass: HomeAssistant, tmp_path: Path) -> None:
    form = await _start(hass)
    done = await hass.config_entries.flow.async_configure(
        form["flow_id"], {"config_dir": f" {tmp_path} "}
    )
    assert done["data"]["config_dir"] == str(tmp_path)


@pytest.mark.parametrize(
    ("typed", "error"),
    [
        ("nowhere", "folder_not_found"),
        ("esphome/lamp.yaml", "not_a_folder"),
        ("loop", "folder_not_readable"),
        ("nul\0", "folder_not_readable"),
    ],
)
async def test_a_wrong_folder_shows_an_error_and_can_be_corrected(
    hass: HomeAssistant, config_dir: Path, typed: str, error: str
) -> None:
    loop = config_dir.parent / "loop"
    loop.symlink_to(loop)
    form = await _start(hass)

    again = await hass.config_entries.flow.async_configure(form["flow_id"], {"config_dir": typed})
    assert (again["type"], again["step_id"]) == (FlowResultType.FORM, "instance")
    assert again["errors"] == {"config_dir": error}
    assert again["description_placeholders"]["folder"] == str(config_dir.parent / typed)
    assert _proposal(again) == typed

    done = await hass.config_entries.flow.async_configure(
        form["flow_id"], {"config_dir": "esphome"}
    )
    assert done["type"] is FlowResultType.CREATE_ENTRY


async def test_this_instance_is_set_up_once(
    hass: HomeAssistant, coordinator: OffloadCoordinator
) -> None:
    form = await _start(hass)
    assert (form["type"], form["step_id"]) == (FlowResultType.FORM, "pair")


async def test_a_dialog_left_open_elsewhere_does_not_keep_the_next_one_shut(
    hass: HomeAssistant,
) -> None:
    left_open = await _start(hass)
    form = await _start(hass)
    done = await hass.config_entries.flow.async_configure(form["flow_id"], {})
    assert done["type"] is FlowResultType.CREATE_ENTRY
    assert left_open["flow_id"] not in {
        flow["flow_id"] for flow in hass.config_entries.flow.async_progress()
    }


async def test_another_folder_is_used_without_a_reload(
    hass: HomeAssistant, coordinator: OffloadCoordinator, entry: MockConfigEntry, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "plug.yaml").write_text(LAMP.replace("lamp", "plug"))
    form = await entry.start_reconfigure_flow(hass)
    assert (form["type"], form["step_id"]) == (FlowResultType.FORM, "reconfigure")
    assert _proposal(form) == "esphome"

    done = await hass.config_entries.flow.async_configure(
        form["flow_id"], {"config_dir": str(other)}
    )
    await hass.async_block_till_done()

    assert (done["type"], done["reason"]) == (FlowResultType.ABORT, "reconfigure_successful")
    assert dict(entry.data) == {"kind": "instance", "config_dir": str(other)}
    assert entry.runtime_data is coordinator
    assert set(coordinator.devices) == {"plug.yaml"}


async def test_a_wrong_folder_leaves_the_entry_as_it_was_and_can_be_corrected(
    hass: HomeAssistant, coordinator: OffloadCoordinator, entry: MockConfigEntry
) -> None:
    form = await entry.start_reconfigure_flow(hass)
    again = await hass.config_entries.flow.async_configure(
        form["flow_id"], {"config_dir": "nowhere"}
    )
    assert again["errors"] == {"config_dir": "folder_not_found"}
    assert _proposal(again) == "nowhere"
    assert entry.data["config_dir"] == "esphome"

    done = await hass.config_entries.flow.async_configure(form["flow_id"], {})
    assert done["reason"] == "reconfigure_successful"
    assert entry.data["config_dir"] == ""


async def test_the_options_show_the_current_values(
    hass: HomeAssistant, coordinator: OffloadCoordinator, entry: MockConfigEntry
) -> None:
    form = await _settings(hass, entry)
    assert (form["type"], form["step_id"]) == (FlowResultType.FORM, "settings")
    shown = {
        field: get_schema_suggested_value(group.schema.schema, field)
        for group in form["data_schema"].schema.values()
        for field in group.schema.schema
    }
    assert shown == {
        "version_channel": "stable",
        "parallel_builds": 1,
        "parallel_uploads": 4,
        "compiler_cache_gib": 5,
        "wait_for_device": True,
        "wait_hours": 0,
        "pending_is_error": False,
        "wait_for_good_boot": True,
        "no_builder": "local",
        "wait_for_builder_minutes": 30,
    }


async def test_options_are_applied_without_a_reload(
    hass: HomeAssistant, coordinator: OffloadCoordinator, entry: MockConfigEntry, stage: Stage
) -> None:
    form = await _settings(hass, entry)
    done = await hass.config_entries.options.async_configure(form["flow_id"], OPTIONS)
    await hass.async_block_till_done(wait_background_tasks=True)

    assert done["type"] is FlowResultType.CREATE_ENTRY
    assert dict(entry.options) == CHOSEN
    assert stage.builder.slots.count == 2
    assert stage.compiler_caches.limit == 2 * 1024**3
    assert stage.versions.asked[-1] is True, "asked for a pre-release"
    assert entry.runtime_data is coordinator


@pytest.mark.parametrize(
    "wrong",
    [
        {"version": {"version_channel": "nightly"}},
        {"parallel": {"parallel_builds": 9, "parallel_uploads": 6, "compiler_cache_gib": 5}},
        {"parallel": {"parallel_builds": 1, "parallel_uploads": 0, "compiler_cache_gib": 5}},
        {"parallel": {"parallel_builds": 1, "parallel_uploads": 1, "compiler_cache_gib": 0}},
        {"waiting": {"wait_for_device": True, "wait_hours": -1, "pending_is_error": False}},
        {"builders": {"no_builder": "pray", "wait_for_builder_minutes": 1}},
        {"builders": {"no_builder": "local", "wait_for_builder_minutes": 0}},
    ],
)
async def test_options_out_of_bounds_are_refused(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    entry: MockConfigEntry,
    wrong: dict[str, dict[str, object]],
) -> None:
    from homeassistant.data_entry_flow import InvalidData

    form = await _settings(hass, entry)
    with pytest.raises(InvalidData):
        await hass.config_entries.options.async_configure(form["flow_id"], {**OPTIONS, **wrong})
    done = await hass.config_entries.options.async_configure(form["flow_id"], OPTIONS)
    assert done["type"] is FlowResultType.CREATE_ENTRY


async def test_a_fixed_version_is_asked_for_with_the_newest_proposed(
    hass: HomeAssistant, coordinator: OffloadCoordinator, entry: MockConfigEntry
) -> None:
    form = await _settings(hass, entry)
    form = await hass.config_entries.options.async_configure(form["flow_id"], FIXED)
    assert (form["type"], form["step_id"]) == (FlowResultType.FORM, "fixed_version")
    assert get_schema_suggested_value(form["data_schema"].schema, "fixed_version") == NEWEST

    done = await hass.config_entries.options.async_configure(
        form["flow_id"], {"fixed_version": " v2026.9.00 "}
    )
    await hass.async_block_till_done()

    assert done["type"] is FlowResultType.CREATE_ENTRY
    assert dict(entry.options) == {
        **CHOSEN,
        "version_channel": "fixed",
        "fixed_version": "2026.9.0",
    }
    assert coordinator.versions.latest == "2026.9.0"

    form = await _settings(hass, entry)
    form = await hass.config_entries.options.async_configure(form["flow_id"], FIXED)
    assert get_schema_suggested_value(form["data_schema"].schema, "fixed_version") == "2026.9.0"
    form = await _settings(hass, entry)
    await hass.config_entries.options.async_configure(form["flow_id"], OPTIONS)
    assert dict(entry.options) == CHOSEN


@pytest.mark.parametrize(
    ("typed", "problem", "error"),
    [
        ("newest", None, "version_invalid"),
        ("2026.99.0", ReasonKey.VERSION_UNKNOWN, "version_not_found"),
        ("2020.1.0", ReasonKey.VERSION_OTHER_PYTHON, "version_unsupported"),
    ],
)
async def test_an_unusable_version_shows_an_error_and_can_be_corrected(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    entry: MockConfigEntry,
    stage: Stage,
    *,
    typed: str,
    problem: ReasonKey | None,
    error: str,
) -> None:
    if problem is not None:
        stage.versions.unknown[typed] = VersionError(Reason(problem, {"version": "1.2.3"}))
    form = await _settings(hass, entry)
    form = await hass.config_entries.options.async_configure(form["flow_id"], FIXED)

    again = await hass.config_entries.options.async_configure(
        form["flow_id"], {"fixed_version": typed}
    )
    assert (again["type"], again["step_id"]) == (FlowResultType.FORM, "fixed_version")
    assert again["errors"] == {"fixed_version": error}
    assert again["description_placeholders"] == {"version": typed}
    assert dict(entry.options) == {}

    done = await hass.config_entries.options.async_configure(
        form["flow_id"], {"fixed_version": NEWEST}
    )
    assert done["type"] is FlowResultType.CREATE_ENTRY
    assert entry.options["fixed_version"] == NEWEST


async def test_without_a_network_the_owner_is_believed(
    hass: HomeAssistant, coordinator: OffloadCoordinator, entry: MockConfigEntry, stage: Stage
) -> None:
    stage.versions.unknown["2026.12.0"] = VersionError(
        Reason(ReasonKey.VERSION_UNCHECKED, {"version": "2026.12.0"})
    )
    form = await _settings(hass, entry)
    form = await hass.config_entries.options.async_configure(form["flow_id"], FIXED)
    done = await hass.config_entries.options.async_configure(
        form["flow_id"], {"fixed_version": "2026.12.0"}
    )
    assert done["type"] is FlowResultType.CREATE_ENTRY


async def test_options_can_be_changed_while_the_integration_is_not_loaded(
    hass: HomeAssistant, entry: MockConfigEntry
) -> None:
    form = await _settings(hass, entry)
    form = await hass.config_entries.options.async_configure(form["flow_id"], FIXED)
    assert get_schema_suggested_value(form["data_schema"].schema, "fixed_version") == ""
    done = await hass.config_entries.options.async_configure(
        form["flow_id"], {"fixed_version": NEWEST}
    )
    assert done["type"] is FlowResultType.CREATE_ENTRY


async def test_the_frontend_gets_every_form_with_its_sections_and_selectors(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    entry: MockConfigEntry,
    hass_client: ClientSessionGenerator,
) -> None:
    assert await async_setup_component(hass, "config", {})
    client = await hass_client()
    flows = "/api/config/config_entries/options/flow"

    response = await client.post(flows, json={"handler": entry.entry_id})
    menu = await response.json()
    response = await client.post(f"{flows}/{menu['flow_id']}", json={"next_step_id": "settings"})
    form = await response.json()
    assert [(group["type"], group["name"]) for group in form["data_schema"]] == [
        ("expandable", "version"),
        ("expandable", "parallel"),
        ("expandable", "waiting"),
        ("expandable", "builders"),
    ]
    selectors = {
        field["name"]: next(iter(field["selector"]))
        for group in form["data_schema"]
        for field in group["schema"]
    }
    assert selectors == {
        "version_channel": "select",
        "parallel_builds": "number",
        "parallel_uploads": "number",
        "compiler_cache_gib": "number",
        "wait_for_device": "boolean",
        "wait_hours": "number",
        "pending_is_error": "boolean",
        "wait_for_good_boot": "boolean",
        "no_builder": "select",
        "wait_for_builder_minutes": "number",
    }

    response = await client.post(f"{flows}/{form['flow_id']}", json=FIXED)
    form = await response.json()
    assert form["step_id"] == "fixed_version"
    response = await client.post(f"{flows}/{form['flow_id']}", json={"fixed_version": NEWEST})
    assert (await response.json())["type"] == "create_entry"
    assert entry.options["fixed_version"] == NEWEST
