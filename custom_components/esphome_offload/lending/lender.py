"""Lender: whom this machine builds for, and whether it does now."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
import logging
import secrets
from typing import Final

from homeassistant.core import HomeAssistant, callback
from homeassistant.loader import async_get_integration

from ..const import DOMAIN
from ..engine.build.process.containment import ContainmentHere, Degree
from ..engine.build.services import BuildServices
from ..engine.clock import SystemTime
from ..engine.codec import Json, encode
from ..engine.host.admission import Lending
from ..engine.host.build_host import BuildHost
from ..engine.host.guests import Guest, GuestRegistry
from ..engine.protocol.definitions import ErrorCode, ProtocolError
from ..engine.protocol.greetings import Info, Refusal
from ..engine.protocol.handshake import BuilderHandshake
from ..engine.protocol.identity import Identity, IdentityError, PublicKey
from ..engine.protocol.negotiation import Offer, own_offer
from ..engine.protocol.pairing import (
    Paired,
    PairingWindow,
    WindowEnd,
    WindowState,
)
from ..engine.protocol.seal import Channel
from ..engine.protocol.tickets import TicketDesk
from ..errors import validation_error
from ..identity_store import async_get_identity, async_renew_identity
from ..options import OffloadOptions
from ..storage import StatePersistence
from .announcement import Announcement
from .connections import GuestConnections
from .guest_users import GuestUsers
from .issues import async_forget_wrong_codes, async_tell_impossible, async_tell_wrong_codes

_LOGGER = logging.getLogger(__name__)

_GIB: Final = 1024**3


class _LendingImpossibleError(Exception):
    """This machine cannot be lent any more; says why, for people."""


@dataclass(frozen=True, slots=True)
class _HostSession:
    """What there is once this machine was lent for the first time since its start."""

    identity: Identity
    offer: Offer
    host: BuildHost
    desk: TicketDesk
    window: PairingWindow


class Lender:
    """The builder's side of this instance. It lives as long as the coordinator."""

    def __init__(
        self, hass: HomeAssistant, build_services: BuildServices, make_room_soon: Callable[[], None]
    ) -> None:
        """Lend nothing, and touch nothing before ``async_start``.

        ``make_room_soon`` is called when a build for a guest has ended.
        """
        self._hass = hass
        self._build_services = build_services
        self._make_room_soon = make_room_soon
        self._time = SystemTime()
        self._store = StatePersistence(hass, "lending")
        self._users = GuestUsers(hass)
        self._announcement = Announcement(hass)
        self._session: _HostSession | None = None
        self._turn = asyncio.Lock()
        self._arriving: set[asyncio.Task[None]] = set()
        self._listeners: list[Callable[[], None]] = []
        self._last_address: str | None = None
        self._active = 0
        self._options: OffloadOptions | None = None
        self._run_id = secrets.token_hex(16)
        self.guests = GuestRegistry(StatePersistence(hass, "guests"))
        self.connections = GuestConnections(hass)
        self.paused = False
        self.newest_guest: str | None = None

    @property
    def lending(self) -> Lending:
        """Whether this machine is lent now."""
        return Lending.OFF if self._session is None else self._session.host.lending

    @property
    def label(self) -> str:
        """How others know this instance."""
        return self._hass.config.location_name.strip() or "Home Assistant"

    @property
    def host(self) -> BuildHost:
        """What builds for guests; raises ProtocolError NOT_LENDING while there is none."""
        return self._require_lending().host

    @property
    def window(self) -> WindowState | None:
        """The pairing window, while it is open."""
        return None if self._session is None else self._session.window.state

    @property
    def window_end(self) -> WindowEnd | None:
        """Why the last window ended."""
        return None if self._session is None else self._session.window.end

    @property
    def why_cannot_build(self) -> str | None:
        """Why nothing can be compiled here, for people; None when it can."""
        status = self._build_services.builder.status()
        return None if status.available else status.why_not

    @property
    def containment(self) -> ContainmentHere:
        """How far builds of guests are contained here."""
        return self._build_services.containment

    async def async_start(self) -> None:
        """Take up guests; call it when what an earlier run left has been ended."""
        await self.guests.load()
        self.paused = (await self._store.load() or {}).get("paused") is True
        self.guests.subscribe(self._notify)
        await self._users.async_remove_strays({guest.user_id for guest in self.guests.all()})

    async def async_stop(self) -> None:
        """Home Assistant stops: end all builds of guests."""
        async with self._turn:
            await self._announcement.async_end()
            shop, self._session = self._session, None
            if shop is not None:
                shop.window.close()
                await shop.host.stop()

    async def async_apply(self, options: OffloadOptions | None) -> None:
        """Lend as the options say; None: not at all."""
        async with self._turn:
            before, self._options = self._options, options
            if options is None or not options.lend:
                async_tell_impossible(self._hass, None)
                await self._async_close()
            else:
                if before is not None and not before.lend and self.paused:
                    # Who switches lending on means it, whatever was paused long ago.
                    await self._async_store_paused(paused=False)
                await self._async_open(options)
        self._notify()

    async def async_hold(self) -> None:
        """Take nothing new while "this instance" is reloaded; what runs goes on."""
        async with self._turn:
            await self._announcement.async_end()
            if self._session is not None and self._session.host.lending is not Lending.OFF:
                await self._session.host.lend(Lending.PAUSED)

    async def async_set_paused(self, *, paused: bool) -> None:
        """Pause lending, or go on; what runs for guests goes on in either case."""
        async with self._turn:
            await self._async_store_paused(paused=paused)
            if self._session is not None and self._session.host.lending is not Lending.OFF:
                await self._session.host.lend(self._wanted)
        self._notify()

    @callback
    def open_window(self) -> WindowState:
        """Open the pairing window anew; raises ServiceValidationError while nothing is lent."""
        try:
            shop = self._require_lending()
        except ProtocolError as err:
            raise validation_error("lending_off") from err
        return shop.window.open()

    def info(self) -> Json:
        """Say who is here; raises ProtocolError NOT_LENDING."""
        shop = self._require_lending()
        pairing = shop.window.state is not None
        return encode(Info(shop.offer, shop.identity.pin_sha256, self.label, pairing))

    async def async_pair(self, raw: object, remote: str | None) -> Json:
        """Answer one step of a pairing."""
        if self.lending is Lending.OFF or self._session is None:
            return encode(Refusal(ErrorCode.WINDOW_CLOSED, "no window is open"))
        self._last_address = remote
        return await self._session.window.handle(raw)

    async def async_ticket(self, raw: object, remote: str | None) -> Json:
        """Answer a guest that wants to connect."""
        # Whoever was told that it is paired may ask at once.
        if self._arriving:
            await asyncio.wait(self._arriving)
        if self._session is None:
            return encode(Refusal(ErrorCode.NOT_LENDING, "this machine is not lent"))

        async def issue(pin_sha256: str) -> str:
            self._require_lending()
            if (guest := self.guests.get(pin_sha256)) is None:
                raise ProtocolError(ErrorCode.UNKNOWN_GUEST, "this guest was removed")
            return await self._users.async_access_token(guest.user_id, remote)

        return await self._session.desk.handle(raw, issue)

    def handshake(self, user_id: str) -> tuple[Guest, BuilderHandshake]:
        """Return who this user is, and what must come first on its connection.

        Raises ProtocolError UNKNOWN_GUEST or NOT_LENDING.
        """
        if (guest := self.guests.by_user(user_id)) is None:
            raise ProtocolError(ErrorCode.UNKNOWN_GUEST, "this user is no guest")
        shop = self._require_lending()
        channel = Channel(shop.identity, guest.public_key)
        return guest, BuilderHandshake(channel, shop.offer, self.label, self._run_id)

    @callback
    def seen(self, pin_sha256: str) -> None:
        """Note that a guest is, or was until now, connected."""
        self.guests.seen(pin_sha256, self._time.now())

    async def async_unpair(self, pin_sha256: str, *, tell: bool = True) -> None:
        """Forget a guest: its key, its user, its connections, its builds and their trees."""
        if (guest := self.guests.get(pin_sha256)) is None:
            return
        try:
            shop: _HostSession | None = await self._async_session()
        except IdentityError:
            shop = None
        # Out of the registry first: from then on everything is refused.
        await self.guests.remove(pin_sha256)
        await self.connections.async_say_goodbye(pin_sha256 if tell else None)
        await self._users.async_remove(guest.user_id)
        if shop is not None:
            shop.desk.forget(pin_sha256)
            await shop.host.remove_guest(pin_sha256)

    async def async_renew_identity(self) -> Identity:
        """Make a new identity, for which nobody is a guest yet; raises IdentityError."""
        await self._async_unpair_all()
        async with self._turn:
            options, shop = self._options, self._session
            await self._async_close()
            identity = await async_renew_identity(self._hass)
            if shop is not None:
                await shop.host.stop()
                self._session = None
        await self.async_apply(options)
        return identity

    async def async_forget(self) -> None:
        """Unpair all guests: "this instance" was removed."""
        await self._async_unpair_all()
        await self.async_apply(None)

    @callback
    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call ``listener`` when lending, guests or the window changed; returns unsubscribe."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    @property
    def _wanted(self) -> Lending:
        return Lending.PAUSED if self.paused else Lending.ON

    def _require_lending(self) -> _HostSession:
        if self._session is None or self._session.host.lending is Lending.OFF:
            raise ProtocolError(ErrorCode.NOT_LENDING, "this machine is not lent")
        return self._session

    async def _async_unpair_all(self) -> None:
        await asyncio.gather(*(self.async_unpair(each.pin_sha256) for each in self.guests.all()))

    async def _async_open(self, options: OffloadOptions) -> None:
        try:
            shop = await self._async_session_if_possible(options)
        except (_LendingImpossibleError, IdentityError) as err:
            async_tell_impossible(self._hass, str(err))
            await self._async_close()
            return
        async_tell_impossible(self._hass, None)
        shop.host.limit_disk(options.lend_disk_gib * _GIB)
        await shop.host.lend(self._wanted)
        self._announcement.begin(shop.identity.pin_sha256, lambda: self.label)

    async def _async_session_if_possible(self, options: OffloadOptions) -> _HostSession:
        if (reason := self.why_cannot_build) is not None:
            raise _LendingImpossibleError(reason)
        if self.containment.degree is Degree.UNCONTAINED and not options.run_uncontained:
            raise _LendingImpossibleError("builds of guests cannot be contained here any more")
        return await self._async_session()

    async def _async_close(self) -> None:
        await self._announcement.async_end()
        async_forget_wrong_codes(self._hass)
        if self._session is not None and self._session.host.lending is not Lending.OFF:
            self._session.window.close()
            await self._session.host.lend(Lending.OFF)
            await self.connections.async_close_all()

    async def _async_session(self) -> _HostSession:
        if self._session is not None:
            return self._session
        identity = await async_get_identity(self._hass)
        integration = await async_get_integration(self._hass, DOMAIN)
        offer = own_offer(str(integration.version))
        host = BuildHost(
            identity=identity,
            guests=self.guests,
            store=StatePersistence(self._hass, "guest_builds"),
            layout=self._build_services.layout,
            slots=self._build_services.builder.slots,
            make_build_services=self._build_services.make_guest,
        )
        await host.start()
        host.subscribe(self._host_changed)
        self._session = _HostSession(
            identity=identity,
            offer=offer,
            host=host,
            desk=TicketDesk(identity, self._guest_key),
            window=PairingWindow(
                identity,
                offer,
                lambda: self.label,
                on_paired=self._paired,
                on_change=self._window_changed,
            ),
        )
        return self._session

    def _guest_key(self, pin_sha256: str) -> PublicKey | None:
        guest = self.guests.get(pin_sha256)
        return None if guest is None else guest.public_key

    @callback
    def _paired(self, paired: Paired) -> None:
        self.newest_guest = paired.label
        task = self._hass.async_create_task(
            self._async_add(paired), f"{DOMAIN} new guest", eager_start=False
        )
        self._arriving.add(task)
        task.add_done_callback(self._arriving.discard)

    async def _async_add(self, paired: Paired) -> None:
        pin_sha256 = paired.public.pin_sha256
        known = self.guests.get(pin_sha256)
        user_id = await self._users.async_ensure(known.user_id if known else None, paired.label)
        await self.guests.add(
            Guest(
                public_key=paired.public,
                label=paired.label,
                user_id=user_id,
                paired_at=self._time.now(),
                last_seen=known.last_seen if known else None,
                builds=known.builds if known else 0,
            )
        )
        _LOGGER.info("%s may build here from now on", paired.label)

    @callback
    def _window_changed(self) -> None:
        end = self.window_end
        if end in (WindowEnd.WRONG_CODES, WindowEnd.TOO_MANY_EXCHANGES):
            async_tell_wrong_codes(self._hass, self._last_address or "?")
        elif end is None or end is WindowEnd.PAIRED:
            async_forget_wrong_codes(self._hass)
        self._notify()

    @callback
    def _host_changed(self) -> None:
        """When a build for a guest has ended, keep what it installed within its budget."""
        before, self._active = (
            self._active,
            0 if self._session is None else len(self._session.host.active()),
        )
        if self._active < before:
            self._make_room_soon()

    async def _async_store_paused(self, *, paused: bool) -> None:
        self.paused = paused
        await self._store.save_now({"paused": paused})

    @callback
    def _notify(self) -> None:
        for listener in tuple(self._listeners):
            listener()
