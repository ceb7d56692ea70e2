"""The announcement of this builder in the local network."""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
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

    async def start(self, builder: AnnouncedBuilder, port: int, listening: Iterable[str]) -> None:
        """Announce at those of the addresses it is listening on that others may reach."""
        try:
            addresses = await asyncio.to_thread(reachable, listening)
            if not addresses:
                _LOGGER.warning("Not announced in the network: nobody else reaches this address")
                return
            self._zeroconf = AsyncZeroconf()
            service = builder.service(addresses, port)
            await self._zeroconf.async_register_service(service, allow_name_change=True)
        except (ZeroconfError, NonUniqueNameException, OSError) as err:
            _LOGGER.warning("Cannot announce this machine in the network: %r", err)

    async def stop(self) -> None:
        """Withdraw the announcement."""
        if self._zeroconf is not None:
            with suppress(ZeroconfError, OSError):
                await self._zeroconf.async_unregister_all_services()
            await self._zeroconf.async_close()


def reachable(listening: Iterable[str]) -> list[str]:
    """Return where others may reach a program that listens on these addresses. Blocks.

    An unspecified one stands for all addresses of this machine.
    """
    addresses = [ip_address(each) for each in listening]
    if any(each.is_unspecified for each in addresses):
        return own_addresses()
    return _of_others(addresses)


def own_addresses() -> list[str]:
    """Return the addresses of this machine at which others may reach it. Blocks."""
    texts = [
        ip.ip if isinstance(ip.ip, str) else ip.ip[0]
        for adapter in ifaddr.get_adapters()
        if not _OF_CONTAINERS.match(adapter.nice_name)
        for ip in adapter.ips
    ]
    return _of_others(map(ip_address, texts))


def _of_others(addresses: Iterable[IPv4Address | IPv6Address]) -> list[str]:
    return [str(each) for each in addresses if not (each.is_loopback or each.is_link_local)]
