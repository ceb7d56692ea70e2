"""A builder to pair with, and the dialog for it."""

from collections.abc import AsyncGenerator

from homeassistant.core import HomeAssistant
import pytest

from custom_components.esphome_offload.coordinator import OffloadCoordinator

from ...engine.client.scripted_server import ScriptedServer
from ..pairing_dialogs import Dialog


@pytest.fixture
async def builder(coordinator: OffloadCoordinator) -> AsyncGenerator[ScriptedServer]:
    """The other Home Assistant."""
    builder = ScriptedServer()
    await builder.start()
    yield builder
    await builder.stop()


@pytest.fixture
async def dialog(hass: HomeAssistant, builder: ScriptedServer) -> Dialog:
    """The form that asks for the code."""
    dialog = await Dialog.add(hass)
    assert (dialog.step, dialog.errors) == ("pair", {})
    await dialog.address(builder.url)
    assert (dialog.step, dialog.errors) == ("code", {})
    return dialog
