"""Whether an address leads back to this very Home Assistant."""

import secrets
from typing import Final

from aiohttp import ClientSession, web
from homeassistant.components.http import KEY_HASS, HomeAssistantView
from homeassistant.core import HomeAssistant, callback
from homeassistant.util.hass_dict import HassKey

from ..const import DOMAIN
from ..engine.client.probe import ping

_PATH: Final = f"/api/{DOMAIN}/self"

# What was sent out and has not come back yet.
_DATA_SENT: HassKey[set[str]] = HassKey(f"{DOMAIN}.self_check")


@callback
def async_setup_self_check(hass: HomeAssistant) -> None:
    """Listen for what comes back."""
    hass.data[_DATA_SENT] = set()
    hass.http.register_view(_SelfView)


async def async_is_self(hass: HomeAssistant, session: ClientSession, url: str) -> bool:
    """Return whether this Home Assistant answers at ``url``.

    A copied configuration folder has the same keys and ids; only what this process knows tells
    the two apart.
    """
    if (sent := hass.data.get(_DATA_SENT)) is None:
        return False  # Nothing is set up yet, so nothing answers.
    word = secrets.token_hex(16)
    sent.add(word)
    try:
        await ping(session, url, f"{_PATH}/{word}")
        return word not in sent
    finally:
        sent.discard(word)


class _SelfView(HomeAssistantView):
    """Takes back what this process sent; says nothing to anybody."""

    url = f"{_PATH}/{{word}}"
    name = f"api:{DOMAIN}:self"
    requires_auth = False

    async def get(self, request: web.Request, word: str) -> web.Response:
        """Note that a word came back."""
        request.app[KEY_HASS].data[_DATA_SENT].discard(word)
        return web.Response(status=204)
