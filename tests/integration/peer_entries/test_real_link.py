"""The entry of a peer with a real link to a scripted builder."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Generator
from unittest.mock import patch

from homeassistant.config_entries import ConfigEntryState
from homeassistant.core import HomeAssistant
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.esphome_offload.coordinator import OffloadCoordinator
from custom_components.esphome_offload.engine.client.link import LinkState, PeerLink
from custom_components.esphome_offload.engine.client.peer_builder import PeerBuilder
from custom_components.esphome_offload.engine.protocol.errors import ErrorCode

from ...engine.client.scripted_server import ScriptedServer
from .entries import add_builder, reauths

pytestmark = pytest.mark.usefixtures("socket_enabled")


@pytest.fixture(autouse=True)
def _real_link(coordinator: OffloadCoordinator) -> Generator[None]:
    package = "custom_components.esphome_offload.peering.peers"
    with patch(f"{package}.PeerLink", PeerLink), patch(f"{package}.PeerBuilder", PeerBuilder):
        yield


@pytest.fixture
async def server(socket_enabled: None) -> AsyncGenerator[ScriptedServer]:
    """A builder."""
    server = ScriptedServer()
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
async def connected_peer(
    hass: HomeAssistant, server: ScriptedServer
) -> AsyncGenerator[MockConfigEntry]:
    """The peer's entry, connected."""
    entry = await add_builder(hass, server)
    assert await hass.config_entries.async_setup(entry.entry_id)
    await until(entry, lambda: entry.runtime_data.link.status is not None)
    yield entry
    if entry.state is ConfigEntryState.LOADED:
        await hass.config_entries.async_unload(entry.entry_id)


async def until(entry: MockConfigEntry, condition: Callable[[], bool]) -> None:
    changed = asyncio.Event()
    unsubscribe = entry.runtime_data.link.subscribe(changed.set)
    async with asyncio.timeout(30):
        while not condition():
            changed.clear()
            await changed.wait()
    unsubscribe()


def sensors(hass: HomeAssistant) -> dict[str, str]:
    return {state.name: state.state for state in hass.states.async_all("binary_sensor")}


async def test_the_entry_connects_and_its_builder_is_available(
    hass: HomeAssistant, coordinator: OffloadCoordinator, connected_peer: MockConfigEntry
) -> None:
    assert sensors(hass) == {"attic Connectivity": "on", "attic Ready for builds": "on"}
    builder = coordinator.builders.get(connected_peer.unique_id or "")
    assert builder is not None
    assert builder.status().available


async def test_a_removed_entry_is_unpaired_there(
    hass: HomeAssistant, server: ScriptedServer, connected_peer: MockConfigEntry
) -> None:
    await hass.config_entries.async_remove(connected_peer.entry_id)
    assert server.commands["unpair"] == 1


async def test_a_pairing_that_is_ended_there_asks_to_pair_again(
    hass: HomeAssistant, server: ScriptedServer, connected_peer: MockConfigEntry
) -> None:
    await server.unpair()
    link = connected_peer.runtime_data.link
    await until(connected_peer, lambda: link.state is LinkState.REFUSED)
    await hass.async_block_till_done()
    assert link.code is ErrorCode.UNKNOWN_GUEST
    assert reauths(hass, connected_peer) == 1
    assert sensors(hass) == {"attic Connectivity": "off", "attic Ready for builds": "off"}
    link.wake()
    await until(connected_peer, lambda: link.connected)
    assert reauths(hass, connected_peer) == 0
