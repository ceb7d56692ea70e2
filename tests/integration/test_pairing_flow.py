"""Pairing with a builder: each thing that goes wrong is said, and can be put right."""

from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path
import socket
from unittest.mock import patch

from aiohttp import web
from homeassistant.config_entries import ConfigEntryState
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType
import pytest
from pytest_homeassistant_custom_component.common import (
    MockConfigEntry,
    get_schema_suggested_value,
)
from pytest_homeassistant_custom_component.typing import ClientSessionGenerator

from custom_components.esphome_offload.const import DOMAIN
from custom_components.esphome_offload.coordinator import OffloadCoordinator
from custom_components.esphome_offload.identity_store import async_get_identity
from custom_components.esphome_offload.peers.identity import Identity, IdentityError
from custom_components.esphome_offload.peers.protocol import (
    PAIRING_EXCHANGE_TIMEOUT,
    PAIRING_WINDOW,
    URL_INFO,
)

from ..peers.builder_server import BuilderServer, answering, serving
from .conftest import Stage
from .pairing_dialogs import Dialog, nobody, without_default_port, wrong

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
async def dialog(hass: HomeAssistant, builder: BuilderServer) -> Dialog:
    """The form that asks for the code."""
    dialog = await Dialog.add(hass)
    assert (dialog.step, dialog.errors) == ("pair", {})
    await dialog.address(builder.url)
    assert (dialog.step, dialog.errors) == ("code", {})
    return dialog


async def pairs(hass: HomeAssistant, dialog: Dialog, builder: BuilderServer) -> None:
    """Whatever was wrong before, now it works."""
    await dialog.submit(code=builder.open())
    await hass.async_block_till_done()
    assert dialog.result["type"] is FlowResultType.CREATE_ENTRY
    assert dialog.result["result"].unique_id == builder.identity.pin_sha256
    assert dialog.result["result"].state is ConfigEntryState.LOADED


# An address and a code


async def test_an_address_and_a_code_make_an_entry(
    hass: HomeAssistant, dialog: Dialog, builder: BuilderServer, stage: Stage
) -> None:
    assert dialog.placeholders["label"] == "workshop"
    assert dialog.placeholders["url"] == builder.url
    code = builder.open()
    await dialog.submit(code=f" {code[:4]}-{code[4:]} ")
    await hass.async_block_till_done()

    entry = dialog.result["result"]
    assert dialog.result["title"] == "workshop"
    assert dict(entry.data) == {
        "kind": "peer",
        "url": builder.url,
        "verify_ssl": True,
        "pin": builder.identity.pin_sha256,
        "public_key": entry.data["public_key"],
        "label": "workshop",
    }
    own = await async_get_identity(hass)
    assert set(builder.guests) == {own.pin_sha256}
    (link,) = stage.peers.links
    assert (link.url, link.peer_key) == (builder.url, builder.identity.public)
    assert link.identity == own


async def test_a_bare_name_is_tried_at_the_usual_ports(
    hass: HomeAssistant, builder: BuilderServer
) -> None:
    port = int(builder.url.rpartition(":")[2])
    dialog = await Dialog.add(hass)
    with patch("custom_components.esphome_offload.peers.address.HOME_ASSISTANT_PORT", port):
        await dialog.address("127.0.0.1")
    assert dialog.step == "code"
    assert dialog.placeholders["url"] == builder.url
    await pairs(hass, dialog, builder)


async def test_the_certificate_is_verified_unless_the_owner_says_otherwise(
    hass: HomeAssistant, dialog: Dialog, builder: BuilderServer
) -> None:
    again = await Dialog.add(hass)
    await again.submit(url=builder.url, verify_ssl=False)
    await again.submit(code=builder.open())
    assert again.result["data"]["verify_ssl"] is False


# What is wrong with an address


@pytest.mark.parametrize("typed", ["ftp://workshop", "a workshop", " "])
async def test_what_is_no_address_can_be_corrected(
    hass: HomeAssistant, builder: BuilderServer, typed: str
) -> None:
    dialog = await Dialog.add(hass)
    await dialog.address(typed)
    assert (dialog.step, dialog.errors) == ("pair", {"url": "invalid_address"})
    assert dialog.placeholders["address"] == typed
    await dialog.address(builder.url)
    await pairs(hass, dialog, builder)


async def test_where_nobody_answers_it_is_said_what_was_tried(
    hass: HomeAssistant, builder: BuilderServer
) -> None:
    dialog = await Dialog.add(hass)
    await dialog.address(nobody().removeprefix("http://"))
    assert dialog.errors == {"url": "cannot_connect"}
    tried = dialog.placeholders["tried"].split(", ")
    assert [url.partition("://")[0] for url in tried] == ["https", "http"]
    await dialog.address(builder.url)
    await pairs(hass, dialog, builder)


async def test_a_server_without_the_integration_is_told_from_nobody(
    hass: HomeAssistant, builder: BuilderServer
) -> None:
    dialog = await Dialog.add(hass)
    async with serving(answering(lambda _: web.Response(status=404))) as url:
        await dialog.address(url)
    assert dialog.errors == {"url": "no_offload"}
    async with serving(answering(lambda _: web.json_response({"pin": 1}))) as url:
        await dialog.address(url)
    assert dialog.errors == {"url": "malformed"}
    await dialog.address(builder.url)
    await pairs(hass, dialog, builder)


async def test_a_certificate_that_is_not_trusted_is_said_to_be_so(
    hass: HomeAssistant, builder: BuilderServer
) -> None:
    from aiohttp import ClientConnectorCertificateError
    from aiohttp.client_reqrep import ConnectionKey

    key = ConnectionKey("127.0.0.1", 443, True, True, None, None, None)
    error = ClientConnectorCertificateError(key, OSError("self-signed"))
    dialog = await Dialog.add(hass)
    with patch("aiohttp.ClientSession.request", side_effect=error):
        await dialog.address(builder.url)
    assert dialog.errors == {"url": "certificate"}
    await dialog.address(builder.url)
    await pairs(hass, dialog, builder)


async def test_a_builder_that_is_not_lent_can_be_lent_meanwhile(
    hass: HomeAssistant, builder: BuilderServer
) -> None:
    builder.lending = False
    dialog = await Dialog.add(hass)
    await dialog.address(builder.url)
    assert dialog.errors == {"url": "not_lending"}
    builder.lending = True
    await dialog.address(builder.url)
    await pairs(hass, dialog, builder)


@pytest.mark.parametrize("own_protocol", [0, 7])
async def test_a_builder_of_another_age_says_which_side_to_update(
    hass: HomeAssistant, builder: BuilderServer, own_protocol: int
) -> None:
    offer = builder.offer
    builder.speak(3)
    own = replace(offer, protocol=own_protocol or 1, oldest_protocol=own_protocol or 1)
    dialog = await Dialog.add(hass)
    with patch("custom_components.esphome_offload.config_flow_pairing.own_offer", return_value=own):
        await dialog.address(builder.url)
    assert dialog.errors == {"url": "too_old" if own_protocol == 7 else "too_new"}
    builder.become(builder.identity, offer)
    await dialog.address(builder.url)
    await pairs(hass, dialog, builder)


async def test_a_builder_that_was_updated_meanwhile_says_so_at_the_code(
    hass: HomeAssistant, dialog: Dialog, builder: BuilderServer
) -> None:
    offer = builder.offer
    builder.speak(3)
    await dialog.submit(code=builder.open())
    assert (dialog.step, dialog.errors) == ("code", {"code": "too_new"})
    builder.become(builder.identity, offer)
    await pairs(hass, dialog, builder)


async def test_the_own_address_is_recognised_also_while_it_is_not_lent(
    hass: HomeAssistant, builder: BuilderServer, hass_client_no_auth: ClientSessionGenerator
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
    hass: HomeAssistant, dialog: Dialog, builder: BuilderServer
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
    builder: BuilderServer,
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


# What is wrong with a code


async def test_a_wrong_code_says_how_many_tries_are_left(
    hass: HomeAssistant, dialog: Dialog, builder: BuilderServer
) -> None:
    code = builder.open()
    for left in ("2", "1"):
        await dialog.submit(code=wrong(code))
        assert (dialog.step, dialog.errors) == ("code", {"code": "wrong_code"})
        assert dialog.placeholders["tries"] == left
    await dialog.submit(code=wrong(code))
    assert dialog.errors == {"code": "wrong_code_closed"}
    await dialog.submit(code=code)
    assert dialog.errors == {"code": "window_closed"}
    await pairs(hass, dialog, builder)


async def test_what_is_no_code_costs_no_try(
    hass: HomeAssistant, dialog: Dialog, builder: BuilderServer
) -> None:
    code = builder.open()
    await dialog.submit(code="1234")
    assert dialog.errors == {"code": "not_a_code"}
    schema = dialog.result["data_schema"].schema
    assert get_schema_suggested_value(schema, "code") == "1234", "what was typed can be mended"
    assert builder.window.state is not None
    assert builder.window.state.tries_left == 3
    await dialog.submit(code=code)
    assert dialog.result["type"] is FlowResultType.CREATE_ENTRY


async def test_a_closed_window_can_be_opened(
    hass: HomeAssistant, dialog: Dialog, builder: BuilderServer
) -> None:
    await dialog.submit(code="12345678")
    assert dialog.errors == {"code": "window_closed"}
    await pairs(hass, dialog, builder)


async def test_an_expired_window_can_be_opened_again(
    hass: HomeAssistant, dialog: Dialog, builder: BuilderServer
) -> None:
    code = builder.open()
    builder.window_time += PAIRING_WINDOW
    await dialog.submit(code=code)
    assert dialog.errors == {"code": "window_expired"}
    await pairs(hass, dialog, builder)


async def test_while_somebody_else_pairs_it_is_said_to_wait(
    hass: HomeAssistant, dialog: Dialog, builder: BuilderServer
) -> None:
    from ..peers.pairing_parties import stopped_before

    code = builder.open()
    from custom_components.esphome_offload.peers.pairing import PairingClient

    left = PairingClient(
        Identity.generate(),
        builder.offer,
        "other",
        stopped_before("pair_confirm", builder.window.handle),
    )
    with pytest.raises(ConnectionError):
        await left.pair(code)
    await dialog.submit(code=code)
    assert dialog.errors == {"code": "pairing_busy"}
    builder.window_time += PAIRING_EXCHANGE_TIMEOUT
    await dialog.submit(code=code)
    assert dialog.result["type"] is FlowResultType.CREATE_ENTRY


async def test_a_builder_that_takes_too_long_can_be_asked_again(
    hass: HomeAssistant, dialog: Dialog, builder: BuilderServer
) -> None:
    code = builder.open()
    handle = builder.window.handle

    async def late(raw: object) -> object:
        builder.window_time += PAIRING_EXCHANGE_TIMEOUT
        return await handle(raw)

    with patch.object(builder.window, "handle", late):
        await dialog.submit(code=code)
    assert dialog.errors == {"code": "pairing_timed_out"}
    await dialog.submit(code=code)
    assert dialog.result["type"] is FlowResultType.CREATE_ENTRY


async def test_a_builder_that_goes_away_in_between_can_be_asked_again(
    hass: HomeAssistant, builder: BuilderServer
) -> None:
    dialog = await Dialog.add(hass)
    async with serving(builder.app) as url:
        await dialog.address(url)
    await dialog.submit(code="12345678")
    assert (dialog.step, dialog.errors) == ("code", {"code": "cannot_connect"})
    with socket.create_server(("127.0.0.1", int(url.rpartition(":")[2]))):
        pass  # the port is free again
    builder.url = url
    from aiohttp.test_utils import TestServer

    async with TestServer(builder.app, host="127.0.0.1", port=int(url.rpartition(":")[2])):
        await pairs(hass, dialog, builder)


async def test_an_answer_that_makes_no_sense_is_not_taken_for_a_wrong_code(
    hass: HomeAssistant, dialog: Dialog, builder: BuilderServer
) -> None:
    async def nonsense(_raw: object) -> object:
        return {"type": "pair_done"}

    with patch.object(builder.window, "handle", nonsense):
        await dialog.submit(code=builder.open())
    assert dialog.errors == {"code": "malformed"}
    await pairs(hass, dialog, builder)


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
    from custom_components.esphome_offload.peers.protocol import ErrorCode

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
        "custom_components.esphome_offload.config_flow_pairing.async_get_identity",
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
