"""A component that stands in for Supervisor and for Home Assistant's integration of it.

It answers the two requests that an app makes to Supervisor, and starts the flow for what the app
said, as the ``hassio`` integration does when Supervisor passes it on: at once, and again when the
entry that came of it is removed.
"""

from http import HTTPStatus
import os
from typing import Any, Final

from aiohttp import web
from homeassistant.config_entries import (
    SOURCE_HASSIO,
    ConfigEntry,
    signal_discovered_config_entry_removed,
)
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import discovery_flow
from homeassistant.helpers.dispatcher import async_dispatcher_connect
from homeassistant.helpers.http import HomeAssistantView
from homeassistant.helpers.service_info.hassio import HassioServiceInfo
from homeassistant.helpers.typing import ConfigType

DOMAIN = "supervisor_stand_in"
TOKEN: Final = "a token of the app"
INGRESS_PORT: Final = "SUPERVISOR_STAND_IN_INGRESS_PORT"

_HASSIO: Final = "hassio"
_UUID: Final = "0123456789abcdef" * 2
_NAME: Final = "ESPHome Offload Builder"


async def async_setup(hass: HomeAssistant, config: ConfigType) -> bool:
    """Serve the two requests below /api/supervisor_stand_in."""
    discovery = _Discovery(hass)
    hass.http.register_view(discovery)
    hass.http.register_view(_Info())
    async_dispatcher_connect(
        hass, signal_discovered_config_entry_removed(_HASSIO), discovery.async_entry_removed
    )
    return True


class _View(HomeAssistantView):
    requires_auth = False

    def answer(self, request: web.Request, data: object) -> web.Response:
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return web.Response(status=HTTPStatus.UNAUTHORIZED)
        return self.json({"result": "ok", "data": data})


class _Info(_View):
    url = f"/api/{DOMAIN}/addons/self/info"
    name = f"api:{DOMAIN}:info"

    async def get(self, request: web.Request) -> web.Response:
        port = int(os.environ[INGRESS_PORT])
        return self.answer(request, {"ip_address": "127.0.0.1", "ingress_port": port})


class _Discovery(_View):
    url = f"/api/{DOMAIN}/discovery"
    name = f"api:{DOMAIN}:discovery"

    def __init__(self, hass: HomeAssistant) -> None:
        self._hass = hass
        self._message: dict[str, Any] | None = None

    async def post(self, request: web.Request) -> web.Response:
        response = self.answer(request, {"uuid": _UUID})
        if response.status == HTTPStatus.OK:
            message = await request.json()
            changed, self._message = message != self._message, message
            if changed:
                self._start_flow()
        return response

    async def get(self, request: web.Request) -> web.Response:
        """Answer the test what the app has said last."""
        return self.json(self._message)

    @callback
    def async_entry_removed(self, entry: ConfigEntry) -> None:
        if any(each.key == _UUID for each in entry.discovery_keys[_HASSIO]):
            self._start_flow()

    @callback
    def _start_flow(self) -> None:
        assert self._message is not None
        info = HassioServiceInfo(
            config={**self._message["config"], "addon": _NAME},
            name=_NAME,
            slug="local_esphome_offload_builder",
            uuid=_UUID,
        )
        discovery_flow.async_create_flow(
            self._hass,
            self._message["service"],
            context={"source": SOURCE_HASSIO},
            data=info,
            discovery_key=discovery_flow.DiscoveryKey(domain=_HASSIO, key=_UUID, version=1),
        )
