"""German and Dutch say what English says, in their own words."""

import json
import re
from typing import cast

from homeassistant.core import HomeAssistant
from homeassistant.helpers.translation import async_get_translations
import pytest
from pytest_homeassistant_custom_component.typing import WebSocketGenerator

from custom_components.esphome_offload.const import DOMAIN
from custom_components.esphome_offload.coordinator import OffloadCoordinator

from .conftest import NEWEST
from .sources import ROOT, Texts, english, leaves, placeholders

LANGUAGES = ("de", "nl")

SAME_BY_NATURE = {
    # Names, and texts that are placeholders alone.
    "ESPHome",
    "ESPHome Offload",
    "Home Assistant",
    "{device}: {error}",
    "{job}: {stage}.",
    "{name}",
    # Units.
    "{count} s",
    "{minutes} min {seconds} s",
    # Words that the other language has, too.
    "Builder",
    "Builders",
    "Builds",
    "Code",
    "Download",
    "Flash",
    "Installation",
    "Live",
    "Menu",
    "Offline",
    "Online",
    "Recent",
    "Status",
    "Stop",
    "Upload",
}


def texts_of(language: str) -> dict[tuple[str, ...], str]:
    path = ROOT / "translations" / f"{language}.json"
    return dict(leaves(cast("Texts", json.loads(path.read_text()))))


def test_each_language_is_tested() -> None:
    there = {path.stem for path in (ROOT / "translations").iterdir()}
    assert there == {"en", *LANGUAGES}


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_language_has_the_texts_of_english(language: str) -> None:
    expected, texts = dict(leaves(english())), texts_of(language)
    assert expected.keys() - texts.keys() == set(), "to be translated"
    assert texts.keys() - expected.keys() == set(), "not in English any more"


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_text_has_the_placeholders_of_english(language: str) -> None:
    expected = dict(leaves(english()))
    for path, text in texts_of(language).items():
        assert placeholders(text) == placeholders(expected[path]), path
        assert text.count("{") == text.count("}"), path


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_text_is_left_in_english(language: str) -> None:
    expected = dict(leaves(english()))
    for path, text in texts_of(language).items():
        assert text != expected[path] or text in SAME_BY_NATURE, path


@pytest.mark.parametrize("language", LANGUAGES)
def test_texts_have_the_form_that_hassfest_wants(language: str) -> None:
    for path, text in texts_of(language).items():
        assert text, path
        assert text == text.strip(), path
        assert not re.search(r"<[a-z/!]", text, re.IGNORECASE), f"{path}: HTML"
        assert not re.search(r"'[^']*\{\w+\}[^']*'", text), f"{path}: quoted placeholder"
        assert not re.search(r"://|mailto:", text), f"{path}: URL"


@pytest.mark.parametrize("language", ["en", *LANGUAGES])
async def test_home_assistant_gives_the_page_all_of_its_texts(
    hass: HomeAssistant, language: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It leaves out what it cannot read, such as plurals in the frontend's own form."""
    given = await async_get_translations(hass, language, "config_panel", [DOMAIN])
    wanted = {path for path in texts_of(language) if path[0] == "config_panel"}
    assert given.keys() == {f"component.{DOMAIN}.{'.'.join(path)}" for path in wanted}
    assert "rror" not in caplog.text


async def test_an_error_is_in_the_language_of_the_person_who_sees_it(
    hass: HomeAssistant, coordinator: OffloadCoordinator, hass_ws_client: WebSocketGenerator
) -> None:
    """The frontend fills the text of its own language with what the error names."""
    client = await hass_ws_client()
    await client.send_json_auto_id(
        {
            "type": "call_service",
            "domain": DOMAIN,
            "service": "get_log",
            "service_data": {"job_id": "gone"},
            "return_response": True,
        }
    )
    error = (await client.receive_json())["error"]
    texts = await async_get_translations(hass, "de", "exceptions", [DOMAIN])
    key = f"component.{error['translation_domain']}.exceptions.{error['translation_key']}.message"
    text = texts[key].format_map(error["translation_placeholders"])
    assert text.startswith("Es gibt keinen Auftrag gone.")


async def test_release_notes_are_in_the_language_of_home_assistant(
    hass: HomeAssistant, coordinator: OffloadCoordinator, hass_ws_client: WebSocketGenerator
) -> None:
    await hass.config.async_update(language="de")
    await hass.async_block_till_done(wait_background_tasks=True)
    client = await hass_ws_client()
    await client.send_json_auto_id(
        {"type": "update/release_notes", "entity_id": "update.desk_lamp_esphome"}
    )
    notes = (await client.receive_json())["result"]
    assert f"Was es in ESPHome {NEWEST} Neues gibt" in notes
    assert "Die Firmware wird von diesem Builder gebaut:" in notes
