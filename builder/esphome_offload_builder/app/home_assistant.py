"""The app towards Home Assistant: its page, and the offer to the one on this machine."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
import logging
from typing import Final

import aiohttp

from ..engine.clock import SystemTime, Time, sleep, timeout
from ..engine.host.ports import StateStore
from ..engine.host.server import Served
from ..engine.protocol.app_discovery import AppDiscovery
from ..settings import Supervisor
from .supervisor import AppInfo, SupervisorClient, SupervisorError

_LOGGER = logging.getLogger(__name__)

RENEW_EVERY: Final = 12 * 3600.0
"""Seconds; a secret that waits in a dialog must not get too old."""

_PAUSES: Final = (5.0, 15.0, 60.0, 300.0)
"""Seconds between tries; Supervisor is not always ready."""

_GUEST: Final = "guest"


class HomeAssistantApp:
    """Offers this builder to the Home Assistant on this machine, until it has paired.

    Supervisor passes on a secret that replaces the code. Once Home Assistant is a guest by it
    there is none, until that guest is removed.
    """

    def __init__(
        self,
        *,
        supervisor: Supervisor,
        served: Served,
        port: int,
        store: StateStore,
        serve_page: Callable[[AppInfo], Awaitable[None]],
        time: Time | None = None,
    ) -> None:
        """``store`` keeps which guest was paired by the secret."""
        self._supervisor = supervisor
        self._served = served
        self._guests = served.host.guests
        self._port = port
        self._store = store
        self._serve_page = serve_page
        self._time = time or SystemTime()
        self._guest: object = None
        self._offered: AppDiscovery | None = None
        self._changed = asyncio.Event()

    async def run(self) -> None:
        """Serve the page and keep the offer up to date, until this is cancelled."""
        self._guest = (await self._store.load() or {}).get(_GUEST)
        self._served.secret.used.subscribe(self._paired)
        self._guests.changed.subscribe(self._guests_changed)
        async with aiohttp.ClientSession() as session:
            client = SupervisorClient(session, self._supervisor)
            info = await self._until_done(client.app_info)
            await self._serve_page(info)
            while True:
                self._changed.clear()
                await self._until_done(lambda: self._offer(client, info.ip_address))
                if not await self._wait():
                    self._served.secret.revoke()

    async def _offer(self, client: SupervisorClient, host: str) -> None:
        discovery = self._discovery(host)
        if discovery != self._offered:
            await client.offer(discovery)
            self._offered = discovery

    def _discovery(self, host: str) -> AppDiscovery:
        """Return what to tell; without a secret while Home Assistant is a guest by it."""
        pin, secret = self._served.identity.pin_sha256, self._served.secret
        if self._has_paired:
            secret.revoke()
            return AppDiscovery(host, self._port, pin)
        return AppDiscovery(host, self._port, pin, secret.value or secret.renew())

    @property
    def _has_paired(self) -> bool:
        return any(each.pin_sha256 == self._guest for each in self._guests.all())

    def _guests_changed(self) -> None:
        if self._offered is None or self._has_paired == (self._offered.secret is not None):
            self._changed.set()

    def _paired(self, pin_sha256: str) -> None:
        self._guest = pin_sha256
        self._store.save_soon(lambda: {_GUEST: pin_sha256})
        self._changed.set()

    async def _wait(self) -> bool:
        """Return whether there is something else to offer; False: the secret has got old."""
        with suppress(TimeoutError):
            async with timeout(self._time, RENEW_EVERY):
                return await self._changed.wait()
        return False

    async def _until_done[T](self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask Supervisor until it does it; what is wrong is logged once."""
        logged = ""
        tries = 0
        while True:
            try:
                return await ask()
            except SupervisorError as err:
                if str(err) != logged:
                    _LOGGER.warning("Supervisor is asked again in a while, %s", err)
                    logged = str(err)
            await sleep(self._time, _PAUSES[min(tries, len(_PAUSES) - 1)])
            tries += 1
