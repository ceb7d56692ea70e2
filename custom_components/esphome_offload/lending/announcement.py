"""The announcement of a builder in the local network."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from ipaddress import ip_address
import logging

from homeassistant.components import network, zeroconf
from homeassistant.const import EVENT_CORE_CONFIG_UPDATE
from homeassistant.core import CALLBACK_TYPE, CoreState, Event, HomeAssistant, callback
from homeassistant.helpers.network import NoURLAvailableError, get_url
from homeassistant.helpers.start import async_at_started
from zeroconf import Error as ZeroconfError, NonUniqueNameException
from zeroconf.asyncio import AsyncServiceInfo

from ..engine.host.announcement import AnnouncedBuilder

_LOGGER = logging.getLogger(__name__)


class Announcement:
    """Announce from ``start`` to ``async_stop``, as soon as Home Assistant answers requests.

    Another name or URL of this Home Assistant is announced as soon as it has it.
    """

    def __init__(self, hass: HomeAssistant) -> None:
        self._hass = hass
        self._turn = asyncio.Lock()
        self._info: AsyncServiceInfo | None = None
        self._announced: AnnouncedBuilder | None = None
        self._cancel: list[CALLBACK_TYPE] = []

    @callback
    def start(self, pin_sha256: str, label: Callable[[], str]) -> None:
        """Announce a builder with this pin; ``label`` gives its name."""
        if self._cancel:
            return

        async def announce(_hass: HomeAssistant) -> None:
            await self._async_announce(pin_sha256, label)

        async def changed(_event: Event) -> None:
            if self._hass.state is CoreState.running:
                await self._async_announce(pin_sha256, label)

        self._cancel = [self._hass.bus.async_listen(EVENT_CORE_CONFIG_UPDATE, changed)]
        # Announces at once when Home Assistant has started already.
        self._cancel.append(async_at_started(self._hass, announce))

    async def async_stop(self) -> None:
        """Withdraw the announcement."""
        cancel, self._cancel = self._cancel, []
        for each in cancel:
            each()
        async with self._turn:
            await self._async_withdraw()

    async def _async_withdraw(self) -> None:
        info, self._info = self._info, None
        if info is not None:
            shared = await zeroconf.async_get_async_instance(self._hass)
            # Withdrawn already when zeroconf was closed first.
            with suppress(ZeroconfError, OSError):
                await shared.async_unregister_service(info)

    async def _async_announce(self, pin_sha256: str, label: Callable[[], str]) -> None:
        if zeroconf.DOMAIN not in self._hass.config.components:
            _LOGGER.debug("Not announced, because zeroconf is not set up")
            return
        async with self._turn:
            builder = AnnouncedBuilder(pin_sha256, label(), self._url())
            if not self._cancel or (self._info is not None and builder == self._announced):
                return
            await self._async_withdraw()
            http = self._hass.http
            addresses = await network.async_get_announce_addresses(self._hass)
            info = builder.service(listened_on(addresses, http.server_host), http.server_port)
            shared = await zeroconf.async_get_async_instance(self._hass)
            try:
                await shared.async_register_service(info, allow_name_change=True)
            except (ZeroconfError, NonUniqueNameException, OSError) as err:
                _LOGGER.warning("Cannot announce this machine in the network: %s", err)
                return
            self._info, self._announced = info, builder

    def _url(self) -> str:
        with suppress(NoURLAvailableError):
            return get_url(self._hass, allow_external=False, allow_cloud=False)
        return ""


def listened_on(addresses: Sequence[str], hosts: Sequence[str] | None) -> Sequence[str]:
    """Return those of the addresses that a server listens on that is bound to ``hosts``.

    Return all where it listens on none of them, because a proxy on this machine does then, and
    where it is bound to a name: it is not known which address that is.
    """
    try:
        bound = {ip_address(host) for host in hosts or ()}
    except ValueError:
        return addresses
    versions = {each.version for each in bound if each.is_unspecified}
    found = [
        address
        for address, ip in zip(addresses, map(ip_address, addresses), strict=True)
        if ip in bound or ip.version in versions
    ]
    return found or addresses
