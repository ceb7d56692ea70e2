"""The view at which other instances connect, without a login of Home Assistant."""

from aiohttp import web
from homeassistant.components.http import HomeAssistantView
from homeassistant.core import HomeAssistant, callback

from ..const import DOMAIN
from ..engine.host.server import LinkServer
from ..engine.protocol.hello import URL_LINK


@callback
def async_register_link_view(hass: HomeAssistant, server: LinkServer) -> None:
    """Serve the link on Home Assistant's own port."""
    hass.http.register_view(LinkView(server))


class LinkView(HomeAssistantView):
    """The builder's end of the link; guests prove who they are on it."""

    url = URL_LINK
    name = f"api:{DOMAIN}:link"
    requires_auth = False

    def __init__(self, server: LinkServer) -> None:
        self._server = server

    async def get(self, request: web.Request) -> web.StreamResponse:
        """Serve one connection."""
        return await self._server.handle(request)
