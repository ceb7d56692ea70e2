"""Pairing with a builder: identities, clocks and names that are not as they should be."""

from pathlib import Path
from unittest.mock import patch

from homeassistant.config_entries import ConfigEntryState
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType
import pytest
from pytest_homeassistant_custom_component.common import (
    MockConfigEntry,
)

from custom_components.esphome_offload.const import DOMAIN
from custom_components.esphome_offload.engine.protocol.definitions import URL_INFO
from custom_components.esphome_offload.engine.protocol.identity import IdentityError
from custom_components.esphome_offload.identity_store import async_get_identity

from ...engine.peers.builder_server import BuilderServer
from ..pairing_dialogs import Dialog, pairs, without_default_port

pytestmark = pytest.mark.usefixtures("socket_enabled", "coordinator")


# The same identity


async def test_a_copied_folder_is_recognised_and_a_new_identity_offered(
    hass: HomeAssistant, builder: BuilderServer, entry: MockConfigEntry
) -> None:
    copied = await async_get_identity(hass)
    builder.become(copied)
    dialog = await Dialog.add(hass)
    await dialog.address(builder.url)
    assert dialog.step == "same_identity"
    assert await async_get_identity(hass) == copied

    await dialog.submit()
    assert dialog.step == "code"
    assert await async_get_identity(hass) != copied
    await pairs(hass, dialog, builder)
    assert entry.state is ConfigEntryState.LOADED


async def test_a_copied_folder_is_recognised_by_pairing_too(
    hass: HomeAssistant, dialog: Dialog, builder: BuilderServer
) -> None:
    builder.become(await async_get_identity(hass))
    await dialog.submit(code=builder.open())
    assert dialog.step == "same_identity"
    await dialog.submit()
    await pairs(hass, dialog, builder)


async def test_an_identity_that_cannot_be_written_is_said_to_be_so(
    hass: HomeAssistant, builder: BuilderServer, config_dir: Path
) -> None:
    builder.become(await async_get_identity(hass))
    dialog = await Dialog.add(hass)
    await dialog.address(builder.url)
    folder = config_dir.parent / ".storage"
    with patch("tempfile.mkstemp", side_effect=OSError("disk full")):
        await dialog.submit()
    assert (dialog.step, dialog.errors) == ("same_identity", {"base": "identity_damaged"})
    assert str(folder) in dialog.placeholders["reason"]
    await dialog.submit()
    await pairs(hass, dialog, builder)


# Clocks


@pytest.mark.parametrize(("ahead", "minutes"), [(3600, "60"), (-1800, "30")])
async def test_clocks_that_differ_are_said_to_and_the_entry_is_there_all_the_same(
    hass: HomeAssistant, dialog: Dialog, builder: BuilderServer, ahead: int, minutes: str
) -> None:
    builder.clock_ahead = ahead
    await dialog.submit(code=builder.open())
    assert dialog.result["type"] is FlowResultType.CREATE_ENTRY
    assert dialog.result["description"] == "clocks_differ"
    assert dialog.placeholders == {"label": "workshop", "minutes": minutes}
    assert hass.config_entries.async_entry_for_domain_unique_id(DOMAIN, builder.identity.pin_sha256)


async def test_what_else_is_wrong_after_pairing_is_the_entrys_business(
    hass: HomeAssistant, dialog: Dialog, builder: BuilderServer
) -> None:
    from custom_components.esphome_offload.engine.protocol.definitions import ErrorCode

    builder.refuse_ticket = ErrorCode.NOT_LENDING
    await pairs(hass, dialog, builder)


# The identity file


async def test_a_damaged_identity_stops_pairing_with_its_reason(
    hass: HomeAssistant, builder: BuilderServer, config_dir: Path
) -> None:
    path = config_dir.parent / ".storage" / f"{DOMAIN}.identity"
    path.write_text("{}")
    dialog = await Dialog.add(hass)
    await dialog.address(builder.url)
    assert dialog.errors == {"url": "identity_damaged"}
    assert str(path) in dialog.placeholders["reason"]
    assert URL_INFO not in builder.asked
    path.unlink()
    await dialog.address(builder.url)
    await pairs(hass, dialog, builder)


async def test_an_identity_that_is_damaged_meanwhile_stops_pairing_with_its_reason(
    hass: HomeAssistant, dialog: Dialog, builder: BuilderServer
) -> None:
    with patch(
        "custom_components.esphome_offload.flows.pairing.async_get_identity",
        side_effect=IdentityError("it is damaged"),
    ):
        await dialog.submit(code=builder.open())
    assert dialog.errors == {"code": "identity_damaged"}
    assert dialog.placeholders["reason"] == "it is damaged"
    await pairs(hass, dialog, builder)


async def test_names_from_the_network_do_nothing_in_a_text(
    hass: HomeAssistant, builder: BuilderServer
) -> None:
    builder.label = "[free](http://evil.example) <b>`*"
    dialog = await Dialog.add(hass)
    await dialog.address(builder.url)
    assert dialog.placeholders["label"] == " free (http://evil.example)  b   "


async def test_a_bare_name_that_leads_nowhere_lists_all_that_was_tried(
    hass: HomeAssistant,
) -> None:
    dialog = await Dialog.add(hass)
    with without_default_port(), patch("aiohttp.ClientSession.request", side_effect=OSError):
        await dialog.address("workshop.invalid")
    assert dialog.placeholders["tried"].split(", ") == [
        "https://workshop.invalid:1",
        "http://workshop.invalid:1",
        "https://workshop.invalid",
        "http://workshop.invalid",
    ]
