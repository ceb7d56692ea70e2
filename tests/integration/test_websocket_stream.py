"""How far a connection of Home Assistant can be looked into, whichever version made it."""

from collections import deque
from typing import Any, cast

import aiohttp
from homeassistant.components import websocket_api
from homeassistant.core import HomeAssistant, callback
import pytest
from pytest_homeassistant_custom_component.typing import WebSocketGenerator

from custom_components.esphome_offload.page import websocket_stream as stream


class Handler:
    """The handler of a connection in Home Assistant."""

    def __init__(self) -> None:
        self._message_queue: deque[bytes] = deque([b"unread"])

    def _send_message(self, message: bytes) -> None:
        raise AssertionError("nothing is to be sent")


class Connection:
    """A connection as Home Assistant 2026.11 makes it: with a method of its own in between."""

    def __init__(self, handler: Handler) -> None:
        self._send_message = handler._send_message

    def send_message(self, message: bytes) -> None:
        self._send_message(message)


class Unknown:
    """A connection as some later Home Assistant may make it."""

    def send_message(self, message: bytes) -> None:
        raise AssertionError("nothing is to be sent")


@pytest.fixture
async def connection(
    hass: HomeAssistant, hass_ws_client: WebSocketGenerator
) -> tuple[websocket_api.ActiveConnection, aiohttp.ClientWebSocketResponse]:
    """The real thing, of the version that is installed."""
    found: list[websocket_api.ActiveConnection] = []

    @websocket_api.websocket_command({"type": "test/take"})
    @callback
    def take(
        _hass: HomeAssistant, connection: websocket_api.ActiveConnection, msg: dict[str, Any]
    ) -> None:
        found.append(connection)
        connection.send_result(msg["id"])

    client = await hass_ws_client()
    websocket_api.async_register_command(hass, take)
    await client.send_json({"id": 1, "type": "test/take"})
    await client.receive_json()
    return found[0], client


async def test_unread_messages_of_a_real_client_are_counted(
    connection: tuple[websocket_api.ActiveConnection, aiohttp.ClientWebSocketResponse],
) -> None:
    ours, _client = connection
    for number in range(3):
        ours.send_event(1, number)
    unread = stream._unread(ours)
    assert unread is not None
    assert len(unread) == 3


def test_a_connection_that_sends_by_a_method_of_its_own_is_looked_into_as_well() -> None:
    handler = Handler()
    ours = cast("websocket_api.ActiveConnection", Connection(handler))
    assert stream._unread(ours) is handler._message_queue


def test_a_connection_that_cannot_be_looked_into_is_left_alone() -> None:
    ours = cast("websocket_api.ActiveConnection", Unknown())
    assert stream._unread(ours) is None
