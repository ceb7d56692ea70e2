"""What devices announce of their firmware in the local network (mDNS)."""

from collections.abc import Callable
from dataclasses import dataclass
import logging
from typing import Final

from homeassistant.components import zeroconf
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import device_registry as dr
from zeroconf import BadTypeInNameException, ServiceStateChange, Zeroconf
from zeroconf.asyncio import AsyncServiceBrowser, AsyncServiceInfo

from ..engine.tasks import BackgroundTasks

_LOGGER = logging.getLogger(__name__)

_WEB: Final = "_http._tcp.local."
"""Where devices without an API announce themselves, and many others too."""
SERVICES: Final = ("_esphomelib._tcp.local.", _WEB)
_TIMEOUT: Final = 3000
"""Milliseconds."""


@dataclass(frozen=True, slots=True)
class AnnouncedFirmware:
    """The firmware that a device says it runs; ``mac`` is lower case with colons.

    ``addresses``: the IP addresses at which it says that it can be reached.
    """

    node_name: str
    esphome_version: str
    mac: str | None = None
    config_hash: int | None = None
    addresses: tuple[str, ...] = ()

    @property
    def stem(self) -> str:
        """The node name without its last part, which may be a MAC suffix."""
        return self.node_name.rpartition("-")[0]


class FirmwareAnnouncements:
    """Listens on Home Assistant's own mDNS sockets; ``announced`` is called at each change."""

    def __init__(self, hass: HomeAssistant, announced: Callable[[AnnouncedFirmware], None]) -> None:
        self._hass = hass
        self._announced = announced
        self._browser: AsyncServiceBrowser | None = None
        self._lookups = BackgroundTasks()

    async def async_start(self) -> None:
        """Start to listen, if this Home Assistant uses mDNS."""
        if self._browser is None and zeroconf.DOMAIN in self._hass.config.components:
            shared = await zeroconf.async_get_instance(self._hass)
            self._browser = AsyncServiceBrowser(shared, [*SERVICES], handlers=[self._changed])

    async def async_stop(self) -> None:
        """Stop listening."""
        browser, self._browser = self._browser, None
        if browser is not None:
            await browser.async_cancel()
        await self._lookups.cancel()

    @callback
    def _changed(
        self,
        zeroconf: Zeroconf,
        service_type: str,
        name: str,
        state_change: ServiceStateChange,
    ) -> None:
        # What is gone may sleep: its firmware is still the one that it announced.
        if state_change is ServiceStateChange.Removed:
            return
        try:
            info = AsyncServiceInfo(service_type, name)
        except BadTypeInNameException:
            return
        if info.load_from_cache(zeroconf):
            self._take(info)
        else:
            self._lookups.start(self._async_look_up(zeroconf, info), f"look up {name}")

    async def _async_look_up(self, zeroconf: Zeroconf, info: AsyncServiceInfo) -> None:
        if await info.async_request(zeroconf, _TIMEOUT):
            self._take(info)

    @callback
    def _take(self, info: AsyncServiceInfo) -> None:
        firmware = announced_firmware(info)
        if firmware is not None and self._browser is not None:
            _LOGGER.debug("Announced: %s", firmware)
            self._announced(firmware)


def announced_firmware(info: AsyncServiceInfo) -> AnnouncedFirmware | None:
    """Return what an mDNS record says; None when it is not of an ESPHome device."""
    texts = info.decoded_properties
    version = texts.get("version")
    mac = texts.get("mac")
    config_hash = _hash(texts.get("config_hash"))
    if not version or (config_hash is None and (not mac or info.type == _WEB)):
        return None
    return AnnouncedFirmware(
        node_name=info.name.removesuffix(f".{info.type}"),
        esphome_version=version[:64],
        mac=dr.format_mac(mac[:64]) if mac else None,
        config_hash=config_hash,
        addresses=tuple(info.parsed_addresses()),
    )


def _hash(text: str | None) -> int | None:
    try:
        value = int(text or "", 16)
    except ValueError:
        return None
    return value if 0 <= value < 2**32 else None
