"""Pairing with a builder: each thing that is wrong with a code is said, and can be put right."""

from unittest.mock import patch

from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType
import pytest
from pytest_homeassistant_custom_component.common import (
    get_schema_suggested_value,
)

from custom_components.esphome_offload.const import DOMAIN
from custom_components.esphome_offload.engine.client.dial import DialError, DialFailure
from custom_components.esphome_offload.engine.protocol.channel import ChannelClosed
from custom_components.esphome_offload.engine.protocol.errors import ErrorCode, ProtocolError
from custom_components.esphome_offload.engine.protocol.hello import (
    Opening,
    receive_handshake,
    send_handshake,
)
from custom_components.esphome_offload.engine.protocol.limits import PAIRING_WINDOW
from custom_components.esphome_offload.engine.protocol.spake import CodeExchange, Role

from ...engine.client.proxy import Proxy
from ...engine.client.scripted_server import ScriptedServer
from ..pairing_dialogs import Dialog, pairs, wrong

pytestmark = pytest.mark.usefixtures("socket_enabled", "coordinator")


async def test_a_wrong_code_shows_how_many_tries_are_left(
    hass: HomeAssistant, dialog: Dialog, builder: ScriptedServer
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


async def test_a_text_that_is_no_code_uses_up_no_try(
    hass: HomeAssistant, dialog: Dialog, builder: ScriptedServer
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
    hass: HomeAssistant, dialog: Dialog, builder: ScriptedServer
) -> None:
    await dialog.submit(code="12345678")
    assert dialog.errors == {"code": "window_closed"}
    await pairs(hass, dialog, builder)


async def test_an_expired_window_can_be_opened_again(
    hass: HomeAssistant, dialog: Dialog, builder: ScriptedServer
) -> None:
    code = builder.open()
    builder.window_time += PAIRING_WINDOW
    await dialog.submit(code=code)
    assert dialog.errors == {"code": "window_expired"}
    await pairs(hass, dialog, builder)


async def test_while_another_offloader_pairs_the_dialog_asks_to_wait(
    hass: HomeAssistant, dialog: Dialog, builder: ScriptedServer
) -> None:
    code = builder.open()
    builder.window.begin(None)
    await dialog.submit(code=code)
    assert dialog.errors == {"code": "pairing_busy"}
    builder.window.abandon()
    await dialog.submit(code=code)
    assert dialog.result["type"] is FlowResultType.CREATE_ENTRY


async def test_a_builder_that_takes_too_long_can_be_asked_again(
    hass: HomeAssistant, dialog: Dialog, builder: ScriptedServer
) -> None:
    code = builder.open()
    late = ProtocolError(ErrorCode.TIMED_OUT, "too long")
    with patch.object(builder.window, "answered", side_effect=late):
        await dialog.submit(code=code)
    assert dialog.errors == {"code": "pairing_timed_out"}
    await dialog.submit(code=code)
    assert dialog.result["type"] is FlowResultType.CREATE_ENTRY


async def test_a_builder_that_is_away_for_a_while_can_be_asked_again(
    hass: HomeAssistant, builder: ScriptedServer
) -> None:
    proxy = Proxy(builder.port)
    await proxy.mend()
    dialog = await Dialog.add(hass)
    await dialog.address(proxy.url)
    await proxy.cut()
    await dialog.submit(code="12345678")
    assert (dialog.step, dialog.errors) == ("code", {"code": "cannot_connect"})
    await proxy.mend()
    await pairs(hass, dialog, builder)
    await proxy.cut()


async def test_a_builder_that_moves_to_https_meanwhile_is_not_followed(
    hass: HomeAssistant, dialog: Dialog, builder: ScriptedServer
) -> None:
    error = DialError(DialFailure.REDIRECTED, builder.url, https="https://attic.local")
    with patch("custom_components.esphome_offload.flows.pairing.dial", side_effect=error):
        await dialog.submit(code=builder.open())
    assert (dialog.step, dialog.errors) == ("code", {"code": "redirected"})
    await pairs(hass, dialog, builder)


async def test_a_connection_that_breaks_while_pairing_can_be_made_again(
    hass: HomeAssistant, dialog: Dialog, builder: ScriptedServer
) -> None:
    code = builder.open()
    with patch.object(builder.window, "begin", side_effect=ChannelClosed("gone")):
        await dialog.submit(code=code)
    assert (dialog.step, dialog.errors) == ("code", {"code": "cannot_connect"})
    await pairs(hass, dialog, builder)


async def test_an_impostor_that_does_not_know_the_code_is_not_paired_with(
    hass: HomeAssistant, dialog: Dialog, builder: ScriptedServer
) -> None:
    async def guess(opening: Opening, _share: bytes, *_rest: object, **_more: object) -> None:
        await send_handshake(opening.socket, CodeExchange(Role.BUILDER, "00000000").share)
        await receive_handshake(opening.socket)
        await send_handshake(opening.socket, bytes(96))

    with patch("tests.engine.client.scripted_server.answer_pairing", guess):
        await dialog.submit(code=builder.open())
    assert (dialog.step, dialog.errors) == ("code", {"code": "malformed"})
    assert not hass.config_entries.async_entry_for_domain_unique_id(
        DOMAIN, builder.identity.pin_sha256
    )


async def test_an_answer_that_makes_no_sense_is_not_taken_for_a_wrong_code(
    hass: HomeAssistant, dialog: Dialog, builder: ScriptedServer
) -> None:
    nonsense = ProtocolError(ErrorCode.MALFORMED, "not a share")
    with patch.object(builder.window, "answered", side_effect=nonsense):
        await dialog.submit(code=builder.open())
    assert dialog.errors == {"code": "malformed"}
    await pairs(hass, dialog, builder)
