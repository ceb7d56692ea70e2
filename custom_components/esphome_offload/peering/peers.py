"""Peering: the builders that are paired, each with its connection, one per config entry."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta
import logging
from typing import Final

from homeassistant.config_entries import SOURCE_REAUTH, ConfigEntryState
from homeassistant.core import HassJob, HomeAssistant, callback
from homeassistant.exceptions import ConfigEntryAuthFailed, ConfigEntryError
from homeassistant.helpers.aiohttp_client import async_get_clientsession
from homeassistant.helpers.event import async_call_later
from homeassistant.util import dt as dt_util

from ..const import DOMAIN
from ..engine.build.services import BuildServices
from ..engine.client.link import LinkState, PeerLink
from ..engine.client.peer_builder import PeerBuilder
from ..engine.jobs.pool import BuilderPool
from ..engine.protocol.calls import CommandRefused
from ..engine.protocol.channel import ChannelClosed
from ..engine.protocol.errors import ProtocolError
from ..engine.protocol.identity import IdentityError
from ..engine.reason import Reason, ReasonKey
from ..issues import (
    async_create_builder_unreachable,
    async_delete_builder_unreachable,
    async_delete_peer_incompatible,
    async_set_peer_incompatible,
)
from ..stores.absences import Absences
from ..texts.reasons import reason_text
from .caller import async_get_caller
from .entity import async_update_device
from .entry import Peer, PeerConfigEntry, PeerSettings, is_peer, is_used

_LOGGER = logging.getLogger(__name__)

START_GRACE: Final = 20.0
"""Seconds after a start that a job waits for a peer to connect, rather than be built here."""
_LONG_ABSENCE: Final = timedelta(days=1)
_TIME_TO_RETURN: Final = timedelta(minutes=1)
"""What a builder has to connect after a start, however long it was away before."""
_UNPAIR_TIMEOUT: Final = 10.0
"""Seconds; a person waits for this in a dialog."""

type WantedAttempts = Callable[[str], Iterable[str]]


class Peering:
    """The peers whose entries are loaded. Entries come in any order, and at the same time."""

    def __init__(
        self,
        hass: HomeAssistant,
        pool: BuilderPool,
        build_services: BuildServices,
        wanted: WantedAttempts,
    ) -> None:
        """``wanted`` gives the attempts at a builder, by its pin, that are still of use."""
        self._hass = hass
        self._pool = pool
        self._build_services = build_services
        self._wanted = wanted
        self._peers: dict[str, Peer] = {}
        self._absences = Absences(hass, "builders")
        self._grace_ends: float | None = None

    @property
    def peers(self) -> tuple[Peer, ...]:
        """The peers whose entries are loaded."""
        return tuple(self._peers.values())

    def get(self, entry_id: str) -> Peer | None:
        """Return the peer of an entry."""
        return self._peers.get(entry_id)

    async def async_start(self) -> None:
        """Load which builders were away before a restart; call it before any entry is set up."""
        await self._absences.async_load()

    @callback
    def start_grace(self) -> None:
        """Give peers time to connect, once per start of Home Assistant."""
        if self._grace_ends is None:
            self._grace_ends = self._hass.loop.time() + START_GRACE

    @property
    def expected(self) -> float:
        """The seconds for which a peer that is not connected yet may still connect."""
        if self._grace_ends is None:
            return 0.0
        left = self._grace_ends - self._hass.loop.time()
        return left if left > 0 and any(map(self._on_its_way, self._entries)) else 0.0

    async def async_connect(self, entry: PeerConfigEntry) -> Peer:
        """Start the connection to the peer of an entry and register its builder.

        Returns before it is connected. Raises ConfigEntryAuthFailed when the two have to be
        paired again, ConfigEntryError when the identity of this instance cannot be used.
        """
        try:
            settings = PeerSettings.from_entry(entry)
        except ValueError as err:
            raise ConfigEntryAuthFailed(
                translation_domain=DOMAIN,
                translation_key="peer_to_pair_again",
                translation_placeholders={"label": entry.title},
            ) from err
        pin = settings.public.pin_sha256
        try:
            link = await self._async_link(settings, lambda: self._wanted(pin))
        except (IdentityError, ProtocolError) as err:
            reason = err.reason if isinstance(err, IdentityError) else Reason(ReasonKey.PEER_COPIED)
            raise ConfigEntryError(
                translation_domain=DOMAIN,
                translation_key="peer_unusable",
                translation_placeholders={
                    "label": entry.title,
                    "reason": reason_text(self._hass, reason),
                },
            ) from err
        build = self._build_services
        builder = PeerBuilder(link, build.bundles, build.firmware, build.layout)
        unregister = self._pool.register(builder, use=is_used(entry))
        peer = Peer(entry, settings, link, builder, unregister)
        self._peers[entry.entry_id] = peer
        link.subscribe(lambda: self._link_changed(peer))
        await link.start()
        return peer

    async def async_disconnect(self, entry: PeerConfigEntry) -> None:
        """Close the connection at once; what the peer builds for us goes on there."""
        if (peer := self._peers.pop(entry.entry_id, None)) is None:
            return
        peer.unregister()
        peer.stop_timer()
        # Not at each reload: Home Assistant remembers of a repair that it is to be ignored.
        if entry.disabled_by is not None:
            self._forget(entry.entry_id)
        await peer.link.stop()

    @callback
    def apply(self, entry: PeerConfigEntry) -> None:
        """Apply a changed entry; a build that runs outlives another address."""
        if (peer := self._peers.get(entry.entry_id)) is None:  # it is being unloaded
            return
        try:
            settings = PeerSettings.from_entry(entry)
        except ValueError:
            settings = None
        if settings is None or replace(settings, url=peer.settings.url) != peer.settings:
            self._hass.config_entries.async_schedule_reload(entry.entry_id)
        else:
            self._pool.use(peer.builder.builder_id, use=is_used(entry))
            peer.settings = settings
            peer.link.set_url(settings.url)

    async def async_stop(self) -> None:
        """Close all connections: Home Assistant stops."""
        await asyncio.gather(*(peer.link.stop() for peer in self.peers))

    async def async_unpair(self, entry: PeerConfigEntry) -> None:
        """End the pairing at the peer, if it can be reached, and delete its repairs."""
        self._forget(entry.entry_id)
        try:
            link = await self._async_link(PeerSettings.from_entry(entry), tuple)
            try:
                await link.start()
                await link.wait_connected(_UNPAIR_TIMEOUT)
                await link.unpair()
            finally:
                await link.stop()
        except (ValueError, IdentityError, ProtocolError, ChannelClosed, CommandRefused) as err:
            _LOGGER.warning(
                "%s could not be unpaired (%s): remove this instance there too",
                entry.title,
                err,
            )

    @callback
    def reload(self) -> None:
        """Set up all peers again, under another identity: they have to be paired again."""
        for entry in self._entries:
            self._hass.config_entries.async_schedule_reload(entry.entry_id)

    async def async_remove_entries(self) -> None:
        """Remove the entries of all peers: "this instance" is gone."""
        await asyncio.gather(
            *(
                self._hass.config_entries.async_remove(entry.entry_id)
                for entry in self._hass.config_entries.async_entries(DOMAIN)
                if is_peer(entry)
            )
        )

    @property
    def _entries(self) -> list[PeerConfigEntry]:
        return [
            entry
            for entry in self._hass.config_entries.async_entries(
                DOMAIN, include_disabled=False, include_ignore=False
            )
            if is_peer(entry)
        ]

    def _on_its_way(self, entry: PeerConfigEntry) -> bool:
        if (peer := self._peers.get(entry.entry_id)) is not None:
            if peer.link.connected:
                return peer.link.status is None
            # With a code it has answered, and will hardly change its mind within seconds.
            return peer.link.state is LinkState.CONNECTING and peer.link.code is None
        if entry.state is ConfigEntryState.NOT_LOADED:
            # Once Home Assistant runs, it was unloaded by a person.
            return not self._hass.is_running
        return entry.state is ConfigEntryState.SETUP_IN_PROGRESS

    async def _async_link(
        self, settings: PeerSettings, wanted: Callable[[], Iterable[str]]
    ) -> PeerLink:
        return PeerLink(
            url=settings.url,
            caller=await async_get_caller(self._hass),
            peer_key=settings.public,
            label=settings.label,
            session=async_get_clientsession(self._hass, settings.verify_ssl),
            wanted=wanted,
        )

    @callback
    def _link_changed(self, peer: Peer) -> None:
        entry, link = peer.entry, peer.link
        if self._peers.get(entry.entry_id) is not peer:
            return
        _log_availability(peer)
        self._follow_absence(peer)
        if link.state is LinkState.REFUSED:
            entry.async_start_reauth(self._hass)
        if link.state is LinkState.INCOMPATIBLE:
            async_set_peer_incompatible(self._hass, entry.entry_id, peer.settings.label, link.why)
        elif link.state in (LinkState.CONNECTED, LinkState.REFUSED):
            async_delete_peer_incompatible(self._hass, entry.entry_id)
        if link.connected:
            async_update_device(self._hass, peer)
            # Nothing needs to be done any more.
            for flow in entry.async_get_active_flows(self._hass, {SOURCE_REAUTH}):
                self._hass.config_entries.flow.async_abort(flow["flow_id"])

    @callback
    def _follow_absence(self, peer: Peer) -> None:
        """Create a repair when a peer is away for a day, and delete it when it is back."""
        if peer.link.connected:
            peer.stop_timer()
            self._end_absence(peer.entry.entry_id)
            return
        # At the end of Home Assistant all links are stopped, wherever their builders are.
        if peer.end_absence is not None or peer.stopped:
            return

        @callback
        def too_long(_now: datetime) -> None:
            # Of one that refuses this instance, or is incompatible, Home Assistant says so already.
            if peer.link.state is LinkState.CONNECTING:
                async_create_builder_unreachable(
                    self._hass, peer.entry.entry_id, peer.settings.label
                )

        passed = dt_util.utcnow() - self._absences.since(peer.entry.entry_id)
        left = max(_LONG_ABSENCE - passed, _TIME_TO_RETURN)
        peer.end_absence = async_call_later(
            self._hass, left, HassJob(too_long, cancel_on_shutdown=True)
        )

    @callback
    def _end_absence(self, entry_id: str) -> None:
        self._absences.end(entry_id)
        async_delete_builder_unreachable(self._hass, entry_id)

    @callback
    def _forget(self, entry_id: str) -> None:
        """Delete the repairs of a peer that is not wanted any more."""
        self._end_absence(entry_id)
        async_delete_peer_incompatible(self._hass, entry_id)


def _log_availability(peer: Peer) -> None:
    """Log once that a peer is not connected, and once that it is again."""
    link, label = peer.link, peer.settings.label
    if link.connected and peer.reported_down:
        _LOGGER.info("%s is connected", label)
        peer.reported_down = False
    elif link.state is LinkState.CONNECTING and link.why and not peer.reported_down:
        # What is refused, or incompatible, the link itself logs.
        _LOGGER.info("%s is not connected: %s", label, link.why)
        peer.reported_down = True
