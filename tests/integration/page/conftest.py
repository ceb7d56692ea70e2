"""Clients of an administrator: one that follows the page, and one that presses its buttons."""

from typing import Any

import pytest
from pytest_homeassistant_custom_component.typing import WebSocketGenerator

from custom_components.esphome_offload.coordinator import OffloadCoordinator

from .following import SUBSCRIBE, Ask, Page


@pytest.fixture
async def shown(coordinator: OffloadCoordinator, hass_ws_client: WebSocketGenerator) -> Page:
    client = await hass_ws_client()
    await client.send_json_auto_id({"type": SUBSCRIBE})
    answer = await client.receive_json()
    assert answer["success"], answer
    shown = Page(client)
    await shown.event()
    return shown


@pytest.fixture
async def ask(coordinator: OffloadCoordinator, hass_ws_client: WebSocketGenerator) -> Ask:
    client = await hass_ws_client()

    async def ask(command: str, **fields: Any) -> dict[str, Any]:
        await client.send_json_auto_id({"type": f"esphome_offload/{command}", **fields})
        answer: dict[str, Any] = await client.receive_json()
        return answer

    return ask
