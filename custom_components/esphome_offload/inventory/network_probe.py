"""NetworkProbe: what devices tell without their API."""

import asyncio
from contextlib import suppress
from typing import Final

from homeassistant.components import zeroconf
from homeassistant.core import HomeAssistant
from zeroconf import AddressResolver  # type: ignore[attr-defined]  # not in its __all__
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

from ..engine.build.model import BuildInfo
from .announced_firmware import SERVICES, announced_firmware
from .api_hello import DeviceIdentity, ask_identity

_TIMEOUT: Final = 3.0
"""Seconds; a device in the house answers within one, or not at all."""


class NetworkProbe:
    """Connects to ports, and asks for announcements by mDNS."""

    def __init__(self, hass: HomeAssistant) -> None:
        self._hass = hass

    async def listens(self, address: str, port: int) -> bool:
        """Return whether something accepts connections there."""
        for resolved in await self._resolve(address):
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(_TIMEOUT):
                    _, writer = await asyncio.open_connection(resolved, port)
                writer.close()
                return True
        return False

    async def announced(self, node_name: str) -> BuildInfo | None:
        """Return the build that a device announces under this name."""
        if (shared := await self._shared()) is None:
            return None
        for service in SERVICES:
            info = AsyncServiceInfo(service, f"{node_name}.{service}")
            if not await info.async_request(shared.zeroconf, _TIMEOUT * 1000):
                continue
            firmware = announced_firmware(info)
            if firmware is not None and firmware.config_hash is not None:
                return BuildInfo(firmware.esphome_version, "", firmware.config_hash)
        return None

    async def identity(self, address: str, port: int) -> DeviceIdentity | None:
        """Return what the device with its API there says of itself."""
        for resolved in await self._resolve(address):
            if (said := await ask_identity(resolved, port)) is not None:
                return said
        return None

    async def _resolve(self, address: str) -> list[str]:
        """Return where a name leads to; ``.local`` ones need no resolver of the system."""
        if not address.endswith(".local"):
            return [address]
        if (shared := await self._shared()) is None:
            return []
        resolver = AddressResolver(f"{address}.")
        if not await resolver.async_request(shared.zeroconf, _TIMEOUT * 1000):
            return []
        return resolver.parsed_scoped_addresses()

    async def _shared(self) -> AsyncZeroconf | None:
        """Return what Home Assistant asks by mDNS with, if it does."""
        if zeroconf.DOMAIN not in self._hass.config.components:
            return None
        return await zeroconf.async_get_async_instance(self._hass)
