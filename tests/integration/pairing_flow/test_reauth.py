"""Pairing again, and other addresses of peers."""

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
from custom_components.esphome_offload.engine.protocol.channel import ChannelClosed
from custom_components.esphome_offload.engine.protocol.errors import ErrorCode, ProtocolError
from custom_components.esphome_offload.engine.protocol.identity import Identity, IdentityError
from custom_components.esphome_offload.engine.reason import ReasonKey
from custom_components.esphome_offload.stores.identity import async_get_identity

from ...engine.client.scripted_server import ScriptedServer
from ..conftest import Stage
from ..pairing_dialogs import Dialog, unused_url, wrong
from ..peer_entries.entries import add_builder

pytestmark = pytest.mark.usefixtures("socket_enabled", "coordinator")


@pytest.fixture
async def peer(hass: HomeAssistant, builder: ScriptedServer) -> MockConfigEntry:
    """A peer that is set up, and knows us."""
    entry = await add_builder(hass, builder)
    assert await hass.config_entries.async_setup(entry.entry_id)
    return entry


async def again(hass: HomeAssistant, peer: MockConfigEntry) -> Dialog:
    return Dialog(hass, await peer.start_reauth_flow(hass))


async def elsewhere(hass: HomeAssistant, peer: MockConfigEntry) -> Dialog:
    return Dialog(hass, await peer.start_reconfigure_flow(hass))


# Pairing again


async def test_pairing_again_makes_a_new_connection_with_the_same_entry(
    hass: HomeAssistant, builder: ScriptedServer, peer: MockConfigEntry, stage: Stage
) -> None:
    builder.guests.clear()
    dialog = await again(hass, peer)
    assert dialog.step == "reauth_confirm"
    assert dialog.placeholders["label"] == "attic"
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


async def test_pairing_again_takes_another_address_and_another_identity(
    hass: HomeAssistant, builder: ScriptedServer, peer: MockConfigEntry, stage: Stage
) -> None:
    builder.become(Identity.generate())
    async with builder.elsewhere() as moved:
        dialog = await again(hass, peer)
        await dialog.address(unused_url())
        assert (dialog.step, dialog.errors) == ("reauth_confirm", {"url": "cannot_connect"})
        await dialog.address(moved)
        await dialog.submit(code=builder.open())
        await hass.async_block_till_done()
    assert dialog.result["reason"] == "paired_again"
    assert peer.unique_id == builder.identity.pin_sha256
    assert peer.data["url"] == moved
    link = stage.peers.links[-1]
    assert (link.url, link.peer_key) == (moved, builder.identity.public)


async def test_an_entry_is_not_turned_into_a_second_one_of_another_peer(
    hass: HomeAssistant, builder: ScriptedServer, peer: MockConfigEntry
) -> None:
    other = ScriptedServer(label="garage")
    await other.start()
    async with other.elsewhere() as url:
        dialog = await again(hass, peer)
        await dialog.address(url)
        assert dialog.step == "code"
        MockConfigEntry(domain=DOMAIN, unique_id=other.identity.pin_sha256).add_to_hass(hass)
        await dialog.submit(code=other.open())
    assert dialog.result["reason"] == "already_paired"
    assert peer.unique_id == builder.identity.pin_sha256

    async with other.elsewhere() as url:
        dialog = await again(hass, peer)
        await dialog.address(url)
        assert dialog.errors == {"url": "already_paired"}


# Another address


async def test_another_address_is_kept_where_the_link_to_the_peer_stands(
    hass: HomeAssistant, builder: ScriptedServer, peer: MockConfigEntry, stage: Stage
) -> None:
    async with builder.elsewhere() as moved:
        dialog = await elsewhere(hass, peer)
        assert dialog.step == "reconfigure_peer"
        assert dialog.placeholders["label"] == "attic"
        await dialog.submit(url=moved, verify_ssl=False)
        await hass.async_block_till_done()
    assert (dialog.result["type"], dialog.result["reason"]) == (
        FlowResultType.ABORT,
        "address_changed",
    )
    assert (peer.data["url"], peer.data["verify_ssl"]) == (moved, False)
    assert stage.peers.links[-1].url == moved
    assert stage.peers.links[0].stopped == 1


async def test_the_same_address_connects_again(
    hass: HomeAssistant, builder: ScriptedServer, peer: MockConfigEntry, stage: Stage
) -> None:
    dialog = await elsewhere(hass, peer)
    await dialog.address(builder.url)
    await hass.async_block_till_done()
    assert dialog.result["reason"] == "address_changed"
    assert len(stage.peers.links) == 2


async def test_an_address_where_the_peer_is_not_can_be_corrected(
    hass: HomeAssistant, builder: ScriptedServer, peer: MockConfigEntry
) -> None:
    dialog = await elsewhere(hass, peer)
    await dialog.address("an attic")
    assert (dialog.step, dialog.errors) == ("reconfigure_peer", {"url": "invalid_address"})
    await dialog.address(unused_url())
    assert dialog.errors == {"url": "cannot_connect"}
    assert dialog.placeholders["builder"] == "attic", "the question stays about the peer"

    stranger = ScriptedServer()
    own = await async_get_identity(hass)
    stranger.guests.add(own.public)
    async with stranger.elsewhere() as url:
        await dialog.address(url)
    assert dialog.errors == {"url": "another_builder"}
    impostor = ScriptedServer(Identity(Identity.generate().private, builder.identity.public))
    impostor.guests.add(own.public)
    async with impostor.elsewhere() as url:
        await dialog.address(url)
    assert dialog.errors == {"url": "not_known_there"}
    reached = "custom_components.esphome_offload.flows.reauth.dial_link"
    with patch(reached, side_effect=ChannelClosed("gone")):
        await dialog.address(builder.url)
    assert dialog.errors == {"url": "cannot_connect"}
    with patch(reached, side_effect=ProtocolError(ErrorCode.MALFORMED, "nonsense")):
        await dialog.address(builder.url)
    assert dialog.errors == {"url": "malformed"}

    guests = set(builder.guests)
    builder.guests.clear()
    await dialog.address(builder.url)
    assert dialog.errors == {"url": "not_known_there"}
    builder.guests.update(guests)
    builder.link_refusal = ErrorCode.NOT_LENDING
    await dialog.address(builder.url)
    assert dialog.errors == {"url": "not_lending"}
    builder.link_refusal = None
    with patch(
        "custom_components.esphome_offload.flows.reauth.async_get_caller",
        side_effect=IdentityError(ReasonKey.IDENTITY_DAMAGED, Path("identity")),
    ):
        await dialog.address(builder.url)
    assert dialog.errors == {"url": "identity_damaged"}
    await dialog.address(builder.url)
    assert dialog.result["reason"] == "address_changed"


async def test_a_damaged_entry_cannot_be_given_another_address(
    hass: HomeAssistant, builder: ScriptedServer, peer: MockConfigEntry
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
