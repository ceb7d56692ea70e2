"""A peer that is set up, and the connection to it."""

from homeassistant.core import HomeAssistant
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.esphome_offload.coordinator import OffloadCoordinator

from ..conftest import Stage
from ..scripted_peers import ScriptedLink
from .entries import add_peer


@pytest.fixture
async def peer(hass: HomeAssistant, coordinator: OffloadCoordinator) -> MockConfigEntry:
    """A peer that is set up, beside "this instance"."""
    entry = add_peer(hass)
    assert await hass.config_entries.async_setup(entry.entry_id)
    await hass.async_block_till_done()
    return entry


@pytest.fixture
def link(stage: Stage, peer: MockConfigEntry) -> ScriptedLink:
    return stage.peers.links[-1]
