"""Pairing with a builder: its address, and what is wrong with one."""

from dataclasses import replace
from unittest.mock import patch

from aiohttp import web
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType
import pytest
from pytest_homeassistant_custom_component.typing import ClientSessionGenerator

from custom_components.esphome_offload.coordinator import OffloadCoordinator
from custom_components.esphome_offload.engine.protocol.errors import ErrorCode
from custom_components.esphome_offload.engine.protocol.identity import Identity
from custom_components.esphome_offload.stores.identity import async_get_identity

from ...engine.client.scripted_server import ScriptedServer, answering
from ..conftest import Stage
from ..pairing_dialogs import Dialog, pairs, unused_url

pytestmark = pytest.mark.usefixtures("socket_enabled", "coordinator")


# An address and a code


async def test_an_address_and_a_code_make_an_entry(
    hass: HomeAssistant, dialog: Dialog, builder: ScriptedServer, stage: Stage
) -> None:
    assert dialog.placeholders["label"] == "attic"
    assert dialog.placeholders["url"] == builder.url
    code = builder.open()
    await dialog.submit(code=f" {code[:4]}-{code[4:]} ")
    await hass.async_block_till_done()

    entry = dialog.result["result"]
    assert dialog.result["title"] == "attic"
    assert dict(entry.data) == {
        "kind": "peer",
        "url": builder.url,
        "verify_ssl": True,
        "public_key": entry.data["public_key"],
    }
    own = await async_get_identity(hass)
    assert builder.guests == {own.public}
    (link,) = stage.peers.links
    assert (link.url, link.peer_key) == (builder.url, builder.identity.public)
    assert link.caller.identity == own


async def test_a_bare_name_is_tried_at_the_usual_ports(
    hass: HomeAssistant, builder: ScriptedServer
) -> None:
    port = int(builder.url.rpartition(":")[2])
    dialog = await Dialog.add(hass)
    with patch("custom_components.esphome_offload.engine.client.address.HOME_ASSISTANT_PORT", port):
        await dialog.address("127.0.0.1")
    assert dialog.step == "code"
    assert dialog.placeholders["url"] == builder.url
    await pairs(hass, dialog, builder)


async def test_the_certificate_is_verified_unless_that_is_switched_off(
    hass: HomeAssistant, dialog: Dialog, builder: ScriptedServer
) -> None:
    again = await Dialog.add(hass)
    await again.submit(url=builder.url, verify_ssl=False)
    await again.submit(code=builder.open())
    assert again.result["data"]["verify_ssl"] is False


# What is wrong with an address


@pytest.mark.parametrize("typed", ["ftp://attic", "an attic", " "])
async def test_a_text_that_is_no_address_can_be_corrected(
    hass: HomeAssistant, builder: ScriptedServer, typed: str
) -> None:
    dialog = await Dialog.add(hass)
    await dialog.address(typed)
    assert (dialog.step, dialog.errors) == ("pair", {"url": "invalid_address"})
    assert dialog.placeholders["address"] == typed.strip()
    await dialog.address(builder.url)
    await pairs(hass, dialog, builder)


async def test_without_an_answer_all_that_was_tried_is_listed(
    hass: HomeAssistant, builder: ScriptedServer
) -> None:
    dialog = await Dialog.add(hass)
    await dialog.address(unused_url().removeprefix("http://"))
    assert dialog.errors == {"url": "cannot_connect"}
    tried = dialog.placeholders["tried"].split(", ")
    assert [url.partition("://")[0] for url in tried] == ["https", "http"]
    await dialog.address(builder.url)
    await pairs(hass, dialog, builder)


async def test_a_server_without_the_integration_is_recognised(
    hass: HomeAssistant, builder: ScriptedServer
) -> None:
    dialog = await Dialog.add(hass)
    async with answering(lambda _: web.Response(status=404)) as url:
        await dialog.address(url)
    assert dialog.errors == {"url": "no_offload"}
    with patch.object(builder, "label", "not a\nlabel"):
        await dialog.address(builder.url)
    assert dialog.errors == {"url": "malformed"}
    await dialog.address(builder.url)
    await pairs(hass, dialog, builder)


async def test_a_certificate_that_is_not_trusted_is_reported(
    hass: HomeAssistant, builder: ScriptedServer
) -> None:
    from aiohttp import ClientConnectorCertificateError
    from aiohttp.client_reqrep import ConnectionKey

    key = ConnectionKey("127.0.0.1", 443, True, True, None, None, None)
    error = ClientConnectorCertificateError(key, OSError("self-signed"))
    dialog = await Dialog.add(hass)
    with patch("aiohttp.ClientSession.ws_connect", side_effect=error):
        await dialog.address(builder.url)
    assert dialog.errors == {"url": "certificate"}
    await dialog.address(builder.url)
    await pairs(hass, dialog, builder)


async def test_a_builder_that_is_not_lent_can_be_lent_meanwhile(
    hass: HomeAssistant, builder: ScriptedServer
) -> None:
    builder.refusal = ErrorCode.NOT_LENDING
    dialog = await Dialog.add(hass)
    await dialog.address(builder.url)
    assert dialog.errors == {"url": "not_lending"}
    builder.refusal = None
    await dialog.address(builder.url)
    await pairs(hass, dialog, builder)


@pytest.mark.parametrize("own_protocol", [0, 7])
async def test_a_builder_of_another_protocol_shows_which_side_to_update(
    hass: HomeAssistant, builder: ScriptedServer, own_protocol: int
) -> None:
    offer = builder.offer
    builder.speak(3)
    own = replace(offer, protocol=own_protocol or 1, oldest_protocol=own_protocol or 1)
    dialog = await Dialog.add(hass)
    with patch("custom_components.esphome_offload.peering.caller.own_offer", return_value=own):
        await dialog.address(builder.url)
    assert dialog.errors == {"url": "too_old" if own_protocol == 7 else "too_new"}
    builder.become(builder.identity, offer)
    await dialog.address(builder.url)
    await pairs(hass, dialog, builder)


async def test_a_builder_that_is_updated_meanwhile_is_recognised_at_the_code(
    hass: HomeAssistant, dialog: Dialog, builder: ScriptedServer
) -> None:
    offer = builder.offer
    builder.speak(3)
    await dialog.submit(code=builder.open())
    assert (dialog.step, dialog.errors) == ("code", {"code": "too_new"})
    builder.become(builder.identity, offer)
    await pairs(hass, dialog, builder)


async def test_the_own_address_is_recognised_also_while_it_is_not_lent(
    hass: HomeAssistant, builder: ScriptedServer, hass_client_no_auth: ClientSessionGenerator
) -> None:
    client = await hass_client_no_auth()
    dialog = await Dialog.add(hass)
    await dialog.address(str(client.make_url("/")))
    assert dialog.errors == {"url": "own_address"}
    await dialog.address(builder.url)
    await pairs(hass, dialog, builder)


async def test_the_own_address_is_recognised_while_it_is_lent(
    hass: HomeAssistant, lent: OffloadCoordinator, hass_client_no_auth: ClientSessionGenerator
) -> None:
    client = await hass_client_no_auth()
    dialog = await Dialog.add(hass)
    await dialog.address(str(client.make_url("/")))
    assert dialog.errors == {"url": "own_address"}


async def test_a_builder_that_is_paired_is_not_paired_twice(
    hass: HomeAssistant, dialog: Dialog, builder: ScriptedServer
) -> None:
    await pairs(hass, dialog, builder)
    again = await Dialog.add(hass)
    await again.address(builder.url)
    assert (again.step, again.errors) == ("pair", {"url": "already_paired"})
    builder.become(Identity.generate())
    await again.address(builder.url)
    await pairs(hass, again, builder)


async def test_two_dialogs_for_the_same_builder_end_in_one_entry(
    hass: HomeAssistant,
    dialog: Dialog,
    builder: ScriptedServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    other = await Dialog.add(hass)
    await other.submit(url=builder.url, verify_ssl=False)
    await pairs(hass, dialog, builder)
    await other.submit(code=builder.open())
    assert (other.result["type"], other.result["reason"]) == (
        FlowResultType.ABORT,
        "already_paired",
    )
    assert dialog.result["result"].data["verify_ssl"] is False
    await hass.async_block_till_done()
    # Home Assistant refuses to reload what reloads itself from 2026.12 on.
    assert "2026.12" not in caplog.text
