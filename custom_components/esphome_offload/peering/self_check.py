"""Whether an address leads back to this very Home Assistant."""

from contextlib import suppress
import secrets
from typing import Final

from aiohttp import ClientError, ClientSession, ClientTimeout, web
from homeassistant.components.http import KEY_HASS, HomeAssistantView
from homeassistant.core import HomeAssistant, callback
from homeassistant.util.hass_dict import HassKey

from ..const import DOMAIN

_PATH: Final = f"/api/{DOMAIN}/self"

_TIMEOUT: Final = ClientTimeout(total=10.0)

# Words that were sent out and have not come back yet.
_DATA_SENT: HassKey[set[str]] = HassKey(f"{DOMAIN}.self_check")


@callback
def async_setup_self_check(hass: HomeAssistant) -> None:
    """Register the view at which a word comes back."""
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
        with suppress(ClientError, TimeoutError, OSError, ValueError):
            async with session.get(f"{url}{_PATH}/{word}", timeout=_TIMEOUT, allow_redirects=False):
                pass
        return word not in sent
    finally:
        sent.discard(word)


class _SelfView(HomeAssistantView):
    """Accepts a word that this process sent; the answer is the same for any other."""

    url = f"{_PATH}/{{word}}"
    name = f"api:{DOMAIN}:self"
    requires_auth = False

    async def get(self, request: web.Request, word: str) -> web.Response:
        """Note that a word came back."""
        request.app[KEY_HASS].data[_DATA_SENT].discard(word)
        return web.Response(status=204)
