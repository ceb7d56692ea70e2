"""Pairing with a builder: each thing that is wrong with a code is said, and can be put right."""

import socket
from unittest.mock import patch

from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType
import pytest
from pytest_homeassistant_custom_component.common import (
    get_schema_suggested_value,
)

from custom_components.esphome_offload.engine.protocol.definitions import (
    PAIRING_EXCHANGE_TIMEOUT,
    PAIRING_WINDOW,
)
from custom_components.esphome_offload.engine.protocol.identity import Identity

from ...engine.peers.builder_server import BuilderServer, serving
from ..pairing_dialogs import Dialog, pairs, wrong

pytestmark = pytest.mark.usefixtures("socket_enabled", "coordinator")


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
    from ...engine.peers.pairing_parties import stopped_before

    code = builder.open()
    from custom_components.esphome_offload.engine.protocol.pairing import PairingClient

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
