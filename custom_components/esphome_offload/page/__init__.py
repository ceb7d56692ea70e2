"""The sidebar page: its registration. What it shows and does are the websocket commands beside."""

from hashlib import sha256
import logging
from pathlib import Path
from typing import Final

from homeassistant.components import frontend, panel_custom
from homeassistant.components.http import StaticPathConfig
from homeassistant.core import HomeAssistant, callback
from homeassistant.util.hass_dict import HassKey

from ..const import DOMAIN, PAGE_URL

_LOGGER = logging.getLogger(__name__)

_ELEMENT: Final = "esphome-offload-panel"
_MODULE: Final = Path(__file__).parent / "built" / "page.js"
_MODULE_URL: Final = f"/{DOMAIN}_static/page.js"
# The address under which the page is served: Home Assistant never takes that back.
_DATA_MODULE_URL: HassKey[str] = HassKey(f"{DOMAIN}_page")


async def async_register_page(hass: HomeAssistant) -> None:
    """Add the page to the sidebar of administrators, unless it is there already.

    A checkout in which the page was not built does everything else without it.
    """
    if "frontend" not in hass.config.components or frontend.async_panel_exists(hass, PAGE_URL):
        return
    if _DATA_MODULE_URL not in hass.data:
        try:
            digest = await hass.async_add_executor_job(_digest)
        except OSError:
            _LOGGER.warning("The page is not built: run script/setup, or install a release")
            return
        # A browser keeps a module for long: another one has another address.
        hass.data[_DATA_MODULE_URL] = f"{_MODULE_URL}?{digest}"
        await hass.http.async_register_static_paths([StaticPathConfig(_MODULE_URL, str(_MODULE))])
    await panel_custom.async_register_panel(
        hass,
        frontend_url_path=PAGE_URL,
        webcomponent_name=_ELEMENT,
        sidebar_title="ESPHome Offload",
        sidebar_icon="mdi:chip",
        module_url=hass.data[_DATA_MODULE_URL],
        require_admin=True,
    )


@callback
def async_remove_page(hass: HomeAssistant) -> None:
    """Take the page out of the sidebar."""
    if frontend.async_panel_exists(hass, PAGE_URL):
        frontend.async_remove_panel(hass, PAGE_URL)


def _digest() -> str:
    return sha256(_MODULE.read_bytes()).hexdigest()[:16]
