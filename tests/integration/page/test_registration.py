"""The page in the sidebar."""

from pathlib import Path
import re
from unittest.mock import patch

from homeassistant.core import HomeAssistant
from homeassistant.setup import async_setup_component
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.esphome_offload import page
from custom_components.esphome_offload.coordinator import OffloadCoordinator


@pytest.fixture
def built(tmp_path: Path) -> Path:
    module = tmp_path / "page.js"
    module.write_text("// the page\n")
    return module


async def test_administrators_find_the_page_in_the_sidebar(
    hass: HomeAssistant, coordinator: OffloadCoordinator, built: Path
) -> None:
    assert await async_setup_component(hass, "http", {})
    hass.config.components.add("frontend")
    with patch.object(page, "_MODULE", built):
        await page.async_register_page(hass)
        await page.async_register_page(hass)

    panel = hass.data["frontend_panels"][page.PAGE_URL]
    assert panel.require_admin
    custom = panel.config["_panel_custom"]
    assert custom["name"] == "esphome-offload-panel"
    assert re.fullmatch(r"/esphome_offload_static/page\.js\?[0-9a-f]{16}", custom["module_url"])


async def test_the_page_goes_with_this_instance_and_comes_again_with_it(
    hass: HomeAssistant, coordinator: OffloadCoordinator, entry: MockConfigEntry, built: Path
) -> None:
    assert await async_setup_component(hass, "http", {})
    hass.config.components.add("frontend")
    with patch.object(page, "_MODULE", built):
        await hass.config_entries.async_reload(entry.entry_id)
        assert page.PAGE_URL in hass.data["frontend_panels"]
        await hass.config_entries.async_remove(entry.entry_id)
        assert page.PAGE_URL not in hass.data["frontend_panels"]
        await hass.config_entries.async_add(entry)
    assert page.PAGE_URL in hass.data["frontend_panels"]


async def test_another_build_of_the_page_has_another_address(built: Path) -> None:
    with patch.object(page, "_MODULE", built):
        first = page._digest()
        built.write_text("// another\n")
        assert page._digest() != first


async def test_a_checkout_without_the_built_page_works_without_it(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    hass.config.components.add("frontend")
    with patch.object(page, "_MODULE", tmp_path / "missing.js"):
        await page.async_register_page(hass)
    assert "The page is not built" in caplog.text
