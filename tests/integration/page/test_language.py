"""Errors that the page shows are in Home Assistant's language."""

from typing import Any

from homeassistant.core import HomeAssistant
from homeassistant.helpers.translation import async_load_integrations
import pytest

from custom_components.esphome_offload.const import DOMAIN
from custom_components.esphome_offload.coordinator import OffloadCoordinator

from ..conftest import Stage
from ..test_translations import texts_of
from .following import Ask


@pytest.fixture
async def german(hass: HomeAssistant, coordinator: OffloadCoordinator) -> None:
    await hass.config.async_update(language="de")
    await async_load_integrations(hass, {DOMAIN})


@pytest.mark.usefixtures("german")
@pytest.mark.parametrize(
    ("command", "fields", "key", "placeholders"),
    [
        ("job/follow", {"job_id": "x"}, "unknown_job", {"job_id": "x"}),
        ("job/cancel", {"job_id": "x"}, "unknown_job", {"job_id": "x"}),
        ("job/retry", {"job_id": "x"}, "unknown_job", {"job_id": "x"}),
        (
            "job/submit",
            {"device": "gone.yaml", "operation": "install"},
            "unknown_configuration",
            {"configuration": "gone.yaml"},
        ),
        (
            "job/submit",
            {"device": "lamp.yaml", "operation": "install", "source": "attic"},
            "unknown_source",
            {"device": "lamp", "source": "attic"},
        ),
        (
            "firmware/prepare",
            {"device": "lamp.yaml", "sha256": "0" * 64, "image": "ota"},
            "image_gone",
            {"configuration": "lamp.yaml"},
        ),
        (
            "guest_build/follow",
            {"pin_sha256": "0" * 64, "attempt_id": "x"},
            "unknown_guest_build",
            {},
        ),
        ("pairing/open", {}, "lending_off", {}),
    ],
)
async def test_an_error_of_a_command_is_translated(
    ask: Ask,
    stage: Stage,
    command: str,
    fields: dict[str, Any],
    key: str,
    placeholders: dict[str, str],
) -> None:
    error = (await ask(command, **fields))["error"]
    german = texts_of("de")["exceptions", key, "message"]
    assert error["message"] == german.format_map(placeholders)
    # With these, a frontend can show it in the language of the person.
    assert error["translation_domain"] == DOMAIN
    assert error["translation_key"] == key
    assert placeholders.items() <= error["translation_placeholders"].items()
