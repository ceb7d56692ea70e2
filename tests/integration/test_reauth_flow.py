"""Pairing again, and other addresses of peers."""

from collections.abc import AsyncGenerator
from pathlib import Path
from unittest.mock import patch

from homeassistant.config_entries import ConfigEntryState
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType
import pytest
from pytest_homeassistant_custom_component.common import (
    MockConfigEntry,
    get_schema_suggested_value,
)

from custom_components.esphome_offload.const import DOMAIN
from custom_components.esphome_offload.coordinator import OffloadCoordinator
from custom_components.esphome_offload.engine.protocol.definitions import ErrorCode
from custom_components.esphome_offload.engine.protocol.identity import Identity, IdentityError
from custom_components.esphome_offload.identity_store import async_get_identity
from custom_components.esphome_offload.peering.entry import PeerSettings

from ..engine.peers.builder_server import BuilderServer, serving
from .conftest import Stage
from .pairing_dialogs import Dialog, nobody, wrong

pytestmark = pytest.mark.usefixtures("socket_enabled", "coordinator")


@pytest.fixture(autouse=True)
def _storage(config_dir: Path) -> None:
    """Have the folder that Home Assistant makes before it starts."""
    (config_dir.parent / ".storage").mkdir()


@pytest.fixture
async def builder(coordinator: OffloadCoordinator) -> AsyncGenerator[BuilderServer]:
    """The other Home Assistant."""
    builder = BuilderServer()
    async with serving(builder.app) as builder.url:
        yield builder


@pytest.fixture
async def peer(hass: HomeAssistant, builder: BuilderServer) -> MockConfigEntry:
    """A peer that is set up, and knows us."""
    own = await async_get_identity(hass)
    builder.guests[own.pin_sha256] = own.public
    settings = PeerSettings(builder.url, True, builder.identity.public, "workshop")
    entry = MockConfigEntry(
        domain=DOMAIN, unique_id=builder.identity.pin_sha256, title="workshop", data=settings.data
    )
    entry.add_to_hass(hass)
    assert await hass.config_entries.async_setup(entry.entry_id)
    return entry


async def again(hass: HomeAssistant, peer: MockConfigEntry) -> Dialog:
    return Dialog(hass, await peer.start_reauth_flow(hass))


async def elsewhere(hass: HomeAssistant, peer: MockConfigEntry) -> Dialog:
    return Dialog(hass, await peer.start_reconfigure_flow(hass))


# Pairing again


async def test_pairing_again_makes_a_new_connection_with_the_same_entry(
    hass: HomeAssistant, builder: BuilderServer, peer: MockConfigEntry, stage: Stage
) -> None:
    builder.guests.clear()
    dialog = await again(hass, peer)
    assert dialog.step == "reauth_confirm"
    assert dialog.placeholders["label"] == "workshop"
    schema = dialog.result["data_schema"].schema
    assert get_schema_suggested_value(schema, "url") == builder.url

    await dialog.address(builder.url)
    assert dialog.step == "code"
    code = builder.open()
    await dialog.submit(code=wrong(code))
    assert dialog.errors == {"code": "wrong_code"}
    await dialog.submit(code=code)
    await hass.async_block_till_done()
    assert (dialog.result["type"], dialog.result["reason"]) == (
        FlowResultType.ABORT,
        "paired_again",
    )
    assert len(builder.guests) == 1
    assert len(stage.peers.links) == 2
    assert peer.state is ConfigEntryState.LOADED


async def test_clocks_that_differ_are_said_to_when_pairing_again(
    hass: HomeAssistant, builder: BuilderServer, peer: MockConfigEntry, stage: Stage
) -> None:
    dialog = await again(hass, peer)
    await dialog.address(builder.url)
    builder.clock_ahead = 3600
    await dialog.submit(code=builder.open())
    await hass.async_block_till_done()
    assert dialog.result["reason"] == "paired_again_clocks_differ"
    assert dialog.placeholders["minutes"] == "60"


async def test_pairing_again_takes_another_address_and_another_identity(
    hass: HomeAssistant, builder: BuilderServer, peer: MockConfigEntry, stage: Stage
) -> None:
    builder.become(Identity.generate())
    async with serving(builder.app) as moved:
        dialog = await again(hass, peer)
        await dialog.address(nobody())
        assert (dialog.step, dialog.errors) == ("reauth_confirm", {"url": "cannot_connect"})
        await dialog.address(moved)
        await dialog.submit(code=builder.open())
        await hass.async_block_till_done()
    assert dialog.result["reason"] == "paired_again"
    assert peer.unique_id == peer.data["pin"] == builder.identity.pin_sha256
    assert peer.data["url"] == moved
    link = stage.peers.links[-1]
    assert (link.url, link.peer_key) == (moved, builder.identity.public)


async def test_an_entry_is_not_turned_into_a_second_one_of_another_peer(
    hass: HomeAssistant, builder: BuilderServer, peer: MockConfigEntry
) -> None:
    other = BuilderServer(label="attic")
    async with serving(other.app) as other.url:
        dialog = await again(hass, peer)
        await dialog.address(other.url)
        assert dialog.step == "code"
        MockConfigEntry(domain=DOMAIN, unique_id=other.identity.pin_sha256).add_to_hass(hass)
        await dialog.submit(code=other.open())
    assert dialog.result["reason"] == "already_paired"
    assert peer.unique_id == builder.identity.pin_sha256

    async with serving(other.app) as other.url:
        dialog = await again(hass, peer)
        await dialog.address(other.url)
        assert dialog.errors == {"url": "already_paired"}


# Another address


async def test_another_address_is_taken_where_the_peer_proves_itself(
    hass: HomeAssistant, builder: BuilderServer, peer: MockConfigEntry, stage: Stage
) -> None:
    async with serving(builder.app) as moved:
        dialog = await elsewhere(hass, peer)
        assert dialog.step == "reconfigure_peer"
        assert dialog.placeholders["label"] == "workshop"
        await dialog.submit(url=moved, verify_ssl=False)
        await hass.async_block_till_done()
    assert (dialog.result["type"], dialog.result["reason"]) == (
        FlowResultType.ABORT,
        "address_changed",
    )
    assert (peer.data["url"], peer.data["verify_ssl"]) == (moved, False)
    assert stage.peers.links[-1].url == moved
    assert stage.peers.links[0].stopped == 1


async def test_the_same_address_begins_anew(
    hass: HomeAssistant, builder: BuilderServer, peer: MockConfigEntry, stage: Stage
) -> None:
    builder.clock_ahead = 3600  # sealed: it is the peer
    dialog = await elsewhere(hass, peer)
    await dialog.address(builder.url)
    await hass.async_block_till_done()
    assert dialog.result["reason"] == "address_changed"
    assert len(stage.peers.links) == 2


async def test_an_address_where_the_peer_is_not_can_be_corrected(
    hass: HomeAssistant, builder: BuilderServer, peer: MockConfigEntry
) -> None:
    dialog = await elsewhere(hass, peer)
    await dialog.address("a workshop")
    assert (dialog.step, dialog.errors) == ("reconfigure_peer", {"url": "invalid_address"})
    await dialog.address(nobody())
    assert dialog.errors == {"url": "cannot_connect"}
    assert dialog.placeholders["builder"] == "workshop", "the question stays about the peer"

    stranger = BuilderServer()
    own = await async_get_identity(hass)
    stranger.guests[own.pin_sha256] = own.public
    async with serving(stranger.app) as url:
        await dialog.address(url)
    assert dialog.errors == {"url": "another_builder"}

    guests = dict(builder.guests)
    builder.guests.clear()
    await dialog.address(builder.url)
    assert dialog.errors == {"url": "not_known_there"}
    builder.guests.update(guests)
    builder.refuse_ticket = ErrorCode.NOT_LENDING
    await dialog.address(builder.url)
    assert dialog.errors == {"url": "not_lending"}
    builder.refuse_ticket = None
    with patch(
        "custom_components.esphome_offload.flows.reauth.async_get_identity",
        side_effect=IdentityError("it is damaged"),
    ):
        await dialog.address(builder.url)
    assert dialog.errors == {"url": "identity_damaged"}
    await dialog.address(builder.url)
    assert dialog.result["reason"] == "address_changed"


async def test_a_damaged_entry_cannot_be_given_another_address(
    hass: HomeAssistant, builder: BuilderServer, peer: MockConfigEntry
) -> None:
    hass.config_entries.async_update_entry(peer, data={**peer.data, "public_key": "?"})
    dialog = await elsewhere(hass, peer)
    assert (dialog.result["type"], dialog.result["reason"]) == (
        FlowResultType.ABORT,
        "entry_damaged",
    )


async def test_a_peer_has_no_options(hass: HomeAssistant, peer: MockConfigEntry) -> None:
    assert not peer.supports_options
    assert peer.supports_reconfigure
