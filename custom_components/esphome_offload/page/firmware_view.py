"""The view at which the browser downloads kept firmware."""

from http import HTTPStatus
import re
from typing import Final
from urllib.parse import quote

from aiohttp import web
from homeassistant.components.http import KEY_HASS, KEY_HASS_USER, HomeAssistantView
from homeassistant.core import HomeAssistant, callback
from homeassistant.exceptions import Unauthorized

from ..const import DOMAIN
from ..coordinator import DATA_COORDINATOR
from ..engine.build.model import BuildError, Firmware
from ..engine.const import Image

_PATH: Final = f"/api/{DOMAIN}/firmware"
_UNSAFE: Final = re.compile(r"[^\w.-]+", re.ASCII)


@callback
def async_register_firmware_view(hass: HomeAssistant) -> None:
    """Serve what is kept."""
    hass.http.register_view(_FirmwareView())


def firmware_url(firmware: Firmware, image: Image) -> str:
    """Return where a file of a firmware is, for administrators."""
    return f"{_PATH}/{quote(firmware.configuration, safe='')}/{firmware.sha256}/{image}"


class _FirmwareView(HomeAssistantView):
    """Files of kept firmware, for administrators: they hold passwords of the configuration."""

    url = f"{_PATH}/{{configuration}}/{{sha256}}/{{image}}"
    name = f"api:{DOMAIN}:firmware"

    async def get(
        self, request: web.Request, configuration: str, sha256: str, image: str
    ) -> web.StreamResponse:
        """Send one file."""
        if not request[KEY_HASS_USER].is_admin:
            raise Unauthorized
        store = request.app[KEY_HASS].data[DATA_COORDINATOR].build_services.firmware
        try:
            firmware = await store.load(configuration, sha256)
        except BuildError:
            firmware = None
        files = {} if firmware is None else {str(key): path for key, path in firmware.files.items()}
        if firmware is None or (path := files.get(image)) is None:
            return web.Response(status=HTTPStatus.NOT_FOUND)
        version = firmware.build_info.esphome_version
        ending = ".elf" if image == Image.ELF else f"-{image}{path.suffix or '.bin'}"
        name = _UNSAFE.sub("_", f"{firmware.device_name}-{version}{ending}")
        return web.FileResponse(
            path,
            headers={
                "Content-Type": "application/octet-stream",
                "Content-Disposition": f'attachment; filename="{name}"',
                "Cache-Control": "no-store",
            },
        )
