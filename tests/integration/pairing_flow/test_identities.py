"""Pairing with a builder: identities and names that are not as they should be."""

from pathlib import Path
from unittest.mock import patch

from homeassistant.config_entries import ConfigEntryState
from homeassistant.core import HomeAssistant
import pytest
from pytest_homeassistant_custom_component.common import (
    MockConfigEntry,
)

from custom_components.esphome_offload.const import DOMAIN
from custom_components.esphome_offload.engine.protocol.identity import IdentityError
from custom_components.esphome_offload.engine.reason import ReasonKey
from custom_components.esphome_offload.stores.identity import async_get_identity

from ...engine.client.scripted_server import ScriptedServer
from ..pairing_dialogs import Dialog, pairs, without_default_port

pytestmark = pytest.mark.usefixtures("socket_enabled", "coordinator")


# The same identity


async def test_a_copied_folder_is_recognised_and_a_new_identity_offered(
    hass: HomeAssistant, builder: ScriptedServer, entry: MockConfigEntry
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
    hass: HomeAssistant, dialog: Dialog, builder: ScriptedServer
) -> None:
    builder.become(await async_get_identity(hass))
    await dialog.submit(code=builder.open())
    assert dialog.step == "same_identity"
    await dialog.submit()
    await pairs(hass, dialog, builder)


async def test_an_identity_that_cannot_be_written_is_reported(
    hass: HomeAssistant, builder: ScriptedServer, config_dir: Path
) -> None:
    builder.become(await async_get_identity(hass))
    dialog = await Dialog.add(hass)
    await dialog.address(builder.url)
    with patch("tempfile.mkstemp", side_effect=OSError("disk full")):
        await dialog.submit()
    assert (dialog.step, dialog.errors) == ("same_identity", {"base": "identity_damaged"})
    assert f".storage/{DOMAIN}.identity cannot be written" in dialog.placeholders["reason"]
    await dialog.submit()
    await pairs(hass, dialog, builder)


# The identity file


async def test_a_damaged_identity_stops_pairing_with_its_reason(
    hass: HomeAssistant, builder: ScriptedServer, config_dir: Path
) -> None:
    path = config_dir.parent / ".storage" / f"{DOMAIN}.identity"
    path.write_text("{}")
    dialog = await Dialog.add(hass)
    await dialog.address(builder.url)
    assert dialog.errors == {"url": "identity_damaged"}
    assert f".storage/{DOMAIN}.identity is damaged" in dialog.placeholders["reason"]
    assert builder.connections == 0
    path.unlink()
    await dialog.address(builder.url)
    await pairs(hass, dialog, builder)


async def test_an_identity_that_is_damaged_meanwhile_stops_pairing_with_its_reason(
    hass: HomeAssistant, dialog: Dialog, builder: ScriptedServer
) -> None:
    with patch(
        "custom_components.esphome_offload.flows.pairing.async_get_caller",
        side_effect=IdentityError(ReasonKey.IDENTITY_DAMAGED, Path("identity")),
    ):
        await dialog.submit(code=builder.open())
    assert dialog.errors == {"code": "identity_damaged"}
    assert "is damaged" in dialog.placeholders["reason"]
    await pairs(hass, dialog, builder)


async def test_a_label_from_the_network_has_no_markup(
    hass: HomeAssistant, builder: ScriptedServer
) -> None:
    builder.label = "[free](http://evil.example) <b>`*"
    dialog = await Dialog.add(hass)
    await dialog.address(builder.url)
    assert dialog.placeholders["label"] == "free (http://evil.example) b"


async def test_a_bare_name_that_is_not_found_lists_all_that_was_tried(
    hass: HomeAssistant,
) -> None:
    dialog = await Dialog.add(hass)
    with without_default_port(), patch("aiohttp.ClientSession.ws_connect", side_effect=OSError):
        await dialog.address("attic.invalid")
    assert dialog.placeholders["tried"].split(", ") == [
        "https://attic.invalid:1",
        "http://attic.invalid:1",
        "https://attic.invalid",
        "http://attic.invalid",
        "http://attic.invalid:16053",
    ]
