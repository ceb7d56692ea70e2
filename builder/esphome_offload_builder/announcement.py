"""The announcement of this builder in the local network."""

import asyncio
from contextlib import suppress
from ipaddress import ip_address
import logging
import re
from typing import Final

import ifaddr
from zeroconf import Error as ZeroconfError, NonUniqueNameException
from zeroconf.asyncio import AsyncZeroconf

from .engine.host.announcement import AnnouncedBuilder

_LOGGER = logging.getLogger(__name__)

_OF_CONTAINERS: Final = re.compile(
    r"docker|hassio|br-[0-9a-f]{12}|veth|podman|cni|virbr|lxcbr|lxdbr"
)
"""Interfaces whose addresses mean another machine elsewhere: each Home Assistant OS has the same."""


class Announcement:
    """Announces a builder from ``start`` to ``stop``; without a network it only logs."""

    def __init__(self) -> None:
        self._zeroconf: AsyncZeroconf | None = None

    async def start(self, builder: AnnouncedBuilder, port: int) -> None:
        """Announce."""
        try:
            self._zeroconf = AsyncZeroconf()
            service = builder.service(await asyncio.to_thread(own_addresses), port)
            await self._zeroconf.async_register_service(service, allow_name_change=True)
        except (ZeroconfError, NonUniqueNameException, OSError) as err:
            _LOGGER.warning("Cannot announce this machine in the network: %r", err)

    async def stop(self) -> None:
        """Withdraw the announcement."""
        if self._zeroconf is not None:
            with suppress(ZeroconfError, OSError):
                await self._zeroconf.async_unregister_all_services()
            await self._zeroconf.async_close()


def own_addresses() -> list[str]:
    """Return the addresses of this machine at which others may reach it. Blocks."""
    texts = [
        ip.ip if isinstance(ip.ip, str) else ip.ip[0]
        for adapter in ifaddr.get_adapters()
        if not _OF_CONTAINERS.match(adapter.nice_name)
        for ip in adapter.ips
    ]
    addresses = map(ip_address, texts)
    return [str(each) for each in addresses if not (each.is_loopback or each.is_link_local)]
