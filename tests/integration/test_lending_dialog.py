"""The dialog for lending while there is nothing to lend, or no longer."""

from unittest.mock import AsyncMock

from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.esphome_offload.coordinator import OffloadCoordinator
from custom_components.esphome_offload.flows import lending
from custom_components.esphome_offload.flows.options import OffloadOptionsFlow

from .conftest import LEND


@pytest.mark.parametrize("step", ["lending", "pairing", "pairing_over"])
async def test_without_the_integration_each_step_ends_the_dialog(
    hass: HomeAssistant, step: str
) -> None:
    flow = OffloadOptionsFlow()
    flow.hass = hass
    flow.handler = "entry"
    flow.flow_id = "flow"
    result = await getattr(flow, f"async_step_{step}")()
    assert (result["type"], result["reason"]) == (FlowResultType.ABORT, "not_loaded")


async def test_options_that_are_not_applied_in_time_end_the_dialog_without_a_code(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    entry: MockConfigEntry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lending, "_SWITCH_TIMEOUT", 0.0)
    monkeypatch.setattr(coordinator, "async_apply_options", AsyncMock())
    menu = await hass.config_entries.options.async_init(entry.entry_id)
    form = await hass.config_entries.options.async_configure(
        menu["flow_id"], {"next_step_id": "lending"}
    )
    result = await hass.config_entries.options.async_configure(form["flow_id"], LEND)
    assert (result["type"], result["reason"]) == (FlowResultType.ABORT, "not_loaded")
    assert dict(entry.options) == LEND


async def test_no_code_is_shown_when_lending_ended_while_the_menu_was_open(
    hass: HomeAssistant, lent: OffloadCoordinator, entry: MockConfigEntry
) -> None:
    menu = await hass.config_entries.options.async_init(entry.entry_id)
    assert "pairing" in menu["menu_options"]
    hass.config_entries.async_update_entry(entry, options={"accept_builds": False})
    await hass.async_block_till_done()
    result = await hass.config_entries.options.async_configure(
        menu["flow_id"], {"next_step_id": "pairing"}
    )
    assert (result["type"], result["reason"]) == (FlowResultType.ABORT, "not_loaded")
    assert lent.lender.pairing.state is None
