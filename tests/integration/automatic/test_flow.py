"""The dialog for automatic updates."""

from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType
from homeassistant.helpers import entity_registry as er
import pytest
from pytest_homeassistant_custom_component.common import (
    MockConfigEntry,
    get_schema_suggested_value,
)

from custom_components.esphome_offload.automatic.settings import AutomaticSettings
from custom_components.esphome_offload.coordinator import OffloadCoordinator

LAMP = "update.desk_lamp_esphome"
CHOSEN = {
    "automatic_updates": "all",
    "automatic_days": ["sat", "sun"],
    "automatic_start": "23:00:00",
    "automatic_end": "01:30:00",
    "automatic_delay_days": 7.0,
    "automatic_canary_hours": 2.0,
    "automatic_failures": 1.0,
}


@pytest.fixture(autouse=True)
async def _coordinator(coordinator: OffloadCoordinator) -> None:
    """Every test has an instance that is set up."""


async def opened(hass: HomeAssistant, entry: MockConfigEntry) -> dict:
    menu = await hass.config_entries.options.async_init(entry.entry_id)
    assert "automatic" in menu["menu_options"]
    form = await hass.config_entries.options.async_configure(
        menu["flow_id"], {"next_step_id": "automatic"}
    )
    assert (form["type"], form["step_id"]) == (FlowResultType.FORM, "automatic")
    return form


async def submitted(hass: HomeAssistant, form: dict, **changed: object) -> dict:
    return await hass.config_entries.options.async_configure(form["flow_id"], {**CHOSEN, **changed})


def shown(form: dict, key: str) -> object:
    return get_schema_suggested_value(form["data_schema"].schema, key)


async def test_it_shows_what_is_set_and_stores_what_is_chosen(
    hass: HomeAssistant, entry: MockConfigEntry
) -> None:
    hass.config_entries.async_update_entry(entry, options={"parallel_builds": 2})
    form = await opened(hass, entry)
    assert shown(form, "automatic_updates") == "chosen"
    assert shown(form, "automatic_days") == ["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
    assert (shown(form, "automatic_start"), shown(form, "automatic_end")) == (
        "02:00:00",
        "05:00:00",
    )
    assert shown(form, "automatic_canary") is None

    done = await submitted(hass, form)
    assert done["type"] is FlowResultType.CREATE_ENTRY
    assert entry.options == {
        **CHOSEN,
        "automatic_delay_days": 7,
        "automatic_canary_hours": 2,
        "automatic_failures": 1,
        "parallel_builds": 2,
    }
    form = await opened(hass, entry)
    assert {key: shown(form, key) for key in CHOSEN} == CHOSEN


async def test_the_first_device_stays_the_same_when_its_entity_is_called_otherwise(
    hass: HomeAssistant, entry: MockConfigEntry
) -> None:
    await submitted(hass, await opened(hass, entry), automatic_canary=LAMP)
    canary = er.async_get(hass).async_get(LAMP)
    assert canary is not None
    assert AutomaticSettings.from_options(entry.options).canary == canary.id
    er.async_get(hass).async_update_entity(LAMP, new_entity_id="update.renamed")
    assert shown(await opened(hass, entry), "automatic_canary") == "update.renamed"

    await submitted(hass, await opened(hass, entry))
    assert AutomaticSettings.from_options(entry.options).canary is None


async def test_a_first_device_that_is_gone_is_not_shown(
    hass: HomeAssistant, entry: MockConfigEntry
) -> None:
    hass.config_entries.async_update_entry(entry, options={"automatic_canary": "gone"})
    assert shown(await opened(hass, entry), "automatic_canary") is None


@pytest.mark.parametrize(
    ("changed", "errors"),
    [
        ({"automatic_days": []}, {"automatic_days": "no_day"}),
        ({"automatic_end": "23:00:00"}, {"automatic_end": "window_too_short"}),
        ({"automatic_end": "23:29:00"}, {"automatic_end": "window_too_short"}),
        ({"automatic_canary": "update.nothing"}, {"automatic_canary": "no_such_device"}),
    ],
)
async def test_what_cannot_be_is_refused_and_can_be_corrected(
    hass: HomeAssistant,
    entry: MockConfigEntry,
    changed: dict[str, object],
    errors: dict[str, str],
) -> None:
    form = await submitted(hass, await opened(hass, entry), **changed)
    assert (form["type"], form["errors"]) == (FlowResultType.FORM, errors)
    assert shown(form, "automatic_start") == CHOSEN["automatic_start"]
    done = await submitted(hass, form)
    assert done["type"] is FlowResultType.CREATE_ENTRY


async def test_a_first_device_that_would_hold_back_the_others_is_refused_with_the_reason(
    hass: HomeAssistant, entry: MockConfigEntry
) -> None:
    chosen = {"automatic_updates": "chosen", "automatic_canary": LAMP}
    form = await submitted(hass, await opened(hass, entry), **chosen)
    assert form["errors"] == {"automatic_canary": "canary_blocks"}
    assert "Its switch Automatic updates is off" in form["description_placeholders"]["reason"]

    done = await submitted(hass, form, automatic_updates="off", automatic_canary=LAMP)
    assert done["type"] is FlowResultType.CREATE_ENTRY
