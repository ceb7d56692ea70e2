"""Lender: the builder's role of this instance: whether it accepts builds, of whom, and pairing."""

import asyncio
from collections.abc import Callable
import logging
from typing import override

from homeassistant.core import CALLBACK_TYPE, HomeAssistant, callback
from homeassistant.helpers.update_coordinator import BaseDataUpdateCoordinatorProtocol
from homeassistant.loader import async_get_integration

from ..const import DOMAIN, INSTANCE_UNIQUE_ID
from ..engine.build.compiler_cache import CacheUse
from ..engine.build.process.machine_containment import ContainmentHere
from ..engine.build.services import BuildServices
from ..engine.build.slots import Slots
from ..engine.clock import SystemTime
from ..engine.const import GIB
from ..engine.host.build_host import BuildHost
from ..engine.host.guests import GuestRegistry
from ..engine.host.lending import Lending
from ..engine.host.pairing_window import PairingWindow, WindowEnd, WindowState
from ..engine.host.server import LinkServer, Served
from ..engine.host.status import why_not_lent
from ..engine.listeners import Listeners
from ..engine.protocol.identity import Identity, IdentityError
from ..engine.protocol.negotiation import own_offer
from ..engine.reason import Reason
from ..engine.tasks import CoalescedTask
from ..issues import (
    async_create_wrong_codes,
    async_delete_wrong_codes,
    async_set_lending_impossible,
)
from ..options import EntryKey, OffloadOptions
from ..stores.identity import async_get_identity, async_renew_identity, instance_label
from ..stores.storage import StatePersistence
from ..texts.errors import validation_error
from ..texts.reasons import reason_text
from .announcement import Announcement
from .former_guests import async_remove_former_guests
from .view import async_register_link_view

_LOGGER = logging.getLogger(__name__)


class Lender(BaseDataUpdateCoordinatorProtocol):
    """The builder's role. It lives as long as the coordinator.

    ``changed`` notifies when lending, guests, builds, slots or the pairing window change.
    """

    def __init__(
        self,
        hass: HomeAssistant,
        build_services: BuildServices,
        build_ended: Callable[[], None],
    ) -> None:
        """``build_ended`` is called when a build for a guest has ended."""
        self.changed = Listeners[[]]()
        self.server = LinkServer()
        self.guests = GuestRegistry(StatePersistence(hass, "guests"))
        self._hass = hass
        self._build_services = build_services
        self._build_ended = build_ended
        self._announcement = Announcement(hass)
        self._turn = asyncio.Lock()
        self._starting = asyncio.Lock()
        self._applying = CoalescedTask(self._async_apply_again, f"{DOMAIN} guests")
        self._options: OffloadOptions | None = None
        self.pairing = PairingWindow(SystemTime().monotonic)

    @property
    def accepts_builds(self) -> bool:
        """Whether builds of guests are accepted, as its owner wants it."""
        return self._options is not None and self._options.accept_builds

    @property
    def lending(self) -> Lending:
        """Whether this machine really accepts builds now."""
        return Lending.OFF if self.host is None else self.host.lending

    @property
    def host(self) -> BuildHost | None:
        """What builds for guests; None until this machine is lent for the first time."""
        return None if self.server.served is None else self.server.served.host

    @property
    def why_not(self) -> Reason | None:
        """Why no builds of guests can be accepted here as the options are; None when they can."""
        return None if self._options is None else self._why_not_lent(self._options)

    @property
    def why_cannot_build(self) -> Reason | None:
        """Why nothing can be compiled here; None when it can."""
        status = self._build_services.builder.status()
        return None if status.available else status.why_not

    @property
    def slots(self) -> Slots:
        """The build slots of this machine, for own builds and those of guests."""
        return self._build_services.builder.slots

    @property
    def cache_use(self) -> CacheUse:
        """What all compiler caches of this machine did since the start."""
        return self._build_services.compiler_caches.use

    @property
    def label(self) -> str:
        """The name that other instances show for this one."""
        return instance_label(self._hass)

    @property
    def disk_limit_gib(self) -> int | None:
        """How much disk all guests may use together, in GiB."""
        return None if self._options is None else self._options.lend_disk_gib

    @property
    def containment(self) -> ContainmentHere:
        """How far builds of guests are contained here."""
        return self._build_services.containment

    @callback
    @override
    def async_add_listener(
        self, update_callback: CALLBACK_TYPE, context: object = None
    ) -> CALLBACK_TYPE:
        """Call ``update_callback`` after each change; returns unsubscribe."""
        return self.changed.subscribe(update_callback)

    async def async_start(self) -> None:
        """Load the guests; call it when what an earlier run left running has been ended."""
        await self.guests.load()
        self.guests.changed.subscribe(self._guests_changed)
        self.slots.subscribe(self.changed.notify)
        self.pairing.changed.subscribe(self._window_changed)
        await async_remove_former_guests(self._hass)
        async_register_link_view(self._hass, self.server)

    async def async_stop(self) -> None:
        """Home Assistant stops: end all connections and builds of guests."""
        await self._applying.stop()
        async with self._turn:
            await self._announcement.async_stop()
            self.pairing.close()
            await self.server.close()
            await self._async_stop_host()

    async def async_apply(self, options: OffloadOptions | None) -> None:
        """Lend as the options say; None: not at all."""
        async with self._turn:
            self._options = options
            if options is None:
                async_set_lending_impossible(self._hass, None)
                await self._async_end_lending()
            else:
                await self._async_lend(options)
        self.changed.notify()

    async def async_hold(self) -> None:
        """Start nothing new while "this instance" is reloaded; what runs goes on."""
        async with self._turn:
            await self._announcement.async_stop()
            if self.host is not None and self.host.lending is not Lending.OFF:
                await self.host.lend(Lending.DRAINING)

    @callback
    def accept_builds(self, *, accept: bool) -> None:
        """Change the option, which is applied soon; what runs for guests goes on in either case.

        Raises ServiceValidationError when this machine cannot build for others.
        """
        entry = self._hass.config_entries.async_entry_for_domain_unique_id(
            DOMAIN, INSTANCE_UNIQUE_ID
        )
        if entry is None or self._options is None:
            raise validation_error("not_set_up")
        if accept and (why_not := self.why_not) is not None:
            raise validation_error("cannot_accept_builds", reason=reason_text(self._hass, why_not))
        self._hass.config_entries.async_update_entry(
            entry, options={**entry.options, EntryKey.ACCEPT_BUILDS: accept}
        )

    @callback
    def open_window(self) -> WindowState:
        """Open the pairing window with a new code.

        Raises ServiceValidationError while no builds are accepted.
        """
        if self.lending is not Lending.ON:
            raise validation_error("lending_off")
        return self.pairing.open()

    async def async_unpair(self, pin_sha256: str) -> None:
        """Remove a guest: its key, its connections, its builds and their trees."""
        if self.guests.get(pin_sha256) is None:
            return
        try:
            await self._async_start_host()
        except IdentityError:
            await self.guests.remove(pin_sha256)
        else:
            await self.server.unpair(pin_sha256)

    async def async_renew_identity(self) -> Identity:
        """Make a new identity, which has no guests yet; raises IdentityError."""
        await self._async_unpair_all()
        async with self._turn:
            options = self._options
            await self._async_end_lending()
            identity = await async_renew_identity(self._hass)
            await self._async_stop_host()
        await self.async_apply(options)
        return identity

    async def async_forget(self) -> None:
        """Unpair all guests: "this instance" was removed."""
        await self._async_unpair_all()
        await self.async_apply(None)

    def _why_not_lent(self, options: OffloadOptions) -> Reason | None:
        own = self._build_services.builder.status()
        return why_not_lent(own, self.containment, uncontained=options.run_uncontained)

    async def _async_unpair_all(self) -> None:
        await asyncio.gather(*(self.async_unpair(each.pin_sha256) for each in self.guests.all()))

    async def _async_lend(self, options: OffloadOptions) -> None:
        """Serve the guests: also while no build is accepted, so that they get what was built."""
        accept, why_not, served = options.accept_builds, None, None
        if accept or self.guests.all():
            why_not = self._why_not_lent(options)
            if why_not is None:
                try:
                    served = await self._async_start_host()
                except IdentityError as err:
                    why_not = err.reason
        async_set_lending_impossible(self._hass, why_not if accept else None)
        if served is None:
            await self._async_end_lending()
            return
        served.host.limit_disk(options.lend_disk_gib * GIB)
        self._build_services.compiler_caches.guest_disk = options.lend_disk_gib * GIB
        if accept:
            await served.host.lend(Lending.ON)
            self._announcement.start(served.identity.pin_sha256, lambda: instance_label(self._hass))
        else:
            await self._async_end_pairing()
            await served.host.lend(Lending.DRAINING)

    async def _async_end_lending(self) -> None:
        await self._async_end_pairing()
        if self.host is not None and self.host.lending is not Lending.OFF:
            await self.host.lend(Lending.OFF)
            await self.server.close()

    async def _async_end_pairing(self) -> None:
        await self._announcement.async_stop()
        self.pairing.close()
        async_delete_wrong_codes(self._hass)

    async def _async_start_host(self) -> Served:
        async with self._starting:
            if self.server.served is None:
                self.server.served = await self._async_served()
            return self.server.served

    async def _async_served(self) -> Served:
        identity = await async_get_identity(self._hass)
        integration = await async_get_integration(self._hass, DOMAIN)
        host = BuildHost(
            guests=self.guests,
            store=StatePersistence(self._hass, "guest_builds"),
            layout=self._build_services.layout,
            slots=self._build_services.builder.slots,
            make_build_services=self._build_services.make_guest,
        )
        await host.start()
        # What it installed has to be kept within its budget.
        host.build_ended.subscribe(self._build_ended)
        host.changed.subscribe(self.changed.notify)
        return Served(
            identity=identity,
            offer=own_offer(str(integration.version)),
            label=lambda: instance_label(self._hass),
            host=host,
            window=self.pairing,
        )

    async def _async_stop_host(self) -> None:
        if (host := self.host) is not None:
            self.server.served = None
            await host.stop()

    @callback
    def _guests_changed(self) -> None:
        if not self.guests.all() and not self.accepts_builds:
            self._applying.request()
        self.changed.notify()

    async def _async_apply_again(self) -> None:
        """Stop serving: the last guest is gone, and no new one is wanted."""
        async with self._turn:
            if self._options is not None:
                await self._async_lend(self._options)
        self.changed.notify()

    @callback
    def _window_changed(self) -> None:
        end = self.pairing.end
        if end is WindowEnd.WRONG_CODES:
            async_create_wrong_codes(self._hass, self.pairing.tried_from or "?")
        elif end is None or end is WindowEnd.PAIRED:
            async_delete_wrong_codes(self._hass)
        self.changed.notify()
