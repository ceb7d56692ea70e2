"""Config flow: builders that are discovered; the steps of those that announce themselves."""

from abc import abstractmethod
import re
from typing import Any, override

from homeassistant.config_entries import SOURCE_IGNORE, ConfigEntryState, ConfigFlowResult
from homeassistant.data_entry_flow import AbortFlow, BaseServiceInfo
from homeassistant.helpers.aiohttp_client import async_get_clientsession
from homeassistant.helpers.service_info.zeroconf import ZeroconfServiceInfo

from ..const import DOMAIN, INSTANCE_UNIQUE_ID
from ..coordinator import OffloadConfigEntry
from ..engine.client.address import candidates
from ..engine.client.dial import Caller, DialError, dial_link
from ..engine.protocol.channel import ChannelClosed
from ..engine.protocol.errors import ProtocolError
from ..engine.protocol.hello import Refused
from ..engine.protocol.identity import IdentityError
from ..peering.caller import async_get_caller
from ..peering.entry import PeerConfigEntry, PeerKey, PeerSettings
from ..texts.reasons import reason_text
from .pairing import PairingSteps, shown

_PIN = re.compile(r"[0-9a-f]{64}")


class DiscoverySteps(PairingSteps):
    """The steps from an announcement to pairing; pin, label and URL in it are hints.

    ``discovery`` is what the flow was started with, ``announced`` where the builder may be; never
    empty once it was discovered.
    """

    def __init__(self) -> None:
        super().__init__()
        self.discovery: BaseServiceInfo | None = None
        self.announced: tuple[str, ...] = ()

    @abstractmethod
    async def async_step_instance(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Set up "this instance"; then the discovered builder is shown again."""

    @override
    async def async_step_zeroconf(self, discovery_info: ZeroconfServiceInfo) -> ConfigFlowResult:
        """Handle a builder that announces itself."""
        properties = discovery_info.properties
        pin = properties.get("pin") or ""
        if not _PIN.fullmatch(pin):
            return self.async_abort(reason="malformed")
        label = properties.get("label") or discovery_info.host
        await self._async_discovered(discovery_info, pin, label, _announced(discovery_info))
        # Home Assistants have the same name in many homes.
        where = self.announced[0].partition("://")[2]
        self._set_title(f"{self._placeholders['label']} ({where})")
        return await self.async_step_zeroconf_confirm()

    async def _async_discovered(
        self,
        discovery: BaseServiceInfo,
        pin: str,
        label: str,
        announced: tuple[str, ...],
        *,
        raise_on_progress: bool = True,
    ) -> None:
        """Go on with a builder that is new; try the address of one that is known, and abort."""
        try:
            caller = await async_get_caller(self.hass)
        except IdentityError as err:
            placeholders = {"reason": reason_text(self.hass, err.reason)}
            raise AbortFlow("identity_damaged", placeholders) from err
        if pin == caller.identity.pin_sha256:
            raise AbortFlow("own_address")
        self.discovery, self.announced = discovery, announced
        known = await self.async_set_unique_id(pin, raise_on_progress=raise_on_progress)
        if known is not None and known.source != SOURCE_IGNORE:
            await self._async_try_address(known, caller)
        self._abort_if_unique_id_configured(error="already_paired")
        self._placeholders["label"] = shown(label)
        self._set_title(self._placeholders["label"])

    def _set_title(self, name: str) -> None:
        self.context["title_placeholders"] = {"name": name}

    @property
    def _address(self) -> str:
        """Where the builder is said to be, as people type it: with a scheme only if one was said."""
        first, *others = self.announced
        plain = first.partition("://")[2]
        return plain if f"http://{plain}" in others else first

    async def async_step_zeroconf_confirm(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Ask whether to pair with the discovered builder."""
        if user_input is not None:
            if self._instance is None:
                return await self.async_step_instance()
            errors = await self._async_find(self.announced, verify_ssl=True)
            if not errors:
                return await self._async_continue()
            # There the address can be changed, and a certificate be accepted as it is.
            return await self._async_address_form("pair", {PeerKey.URL: self._address}, errors)
        return self.async_show_form(
            step_id="zeroconf_confirm",
            description_placeholders={**self._placeholders, "url": self._address},
        )

    @property
    def _instance(self) -> OffloadConfigEntry | None:
        return self.hass.config_entries.async_entry_for_domain_unique_id(DOMAIN, INSTANCE_UNIQUE_ID)

    async def _async_try_address(self, entry: PeerConfigEntry, caller: Caller) -> None:
        """Change the address of a known peer if it is at the announced one, and not at its own.

        Anybody may announce the pin, also while the peer restarts: only a link to its key counts.
        The own address is tried last, because a relay in between can hold its answer back until
        the peer is there again. To and from an https address only people change it.
        """
        try:
            settings = PeerSettings.from_entry(entry)
        except ValueError:
            return
        peer = entry.runtime_data if entry.state is ConfigEntryState.LOADED else None
        if peer is not None:
            if peer.link.connected:
                return
            peer.link.wake()
        if settings.url.startswith("https:"):
            return
        for url in self.announced:
            if url.startswith("https:") or url == settings.url:
                continue
            if not await self._async_is_peer_at(url, settings, caller):
                continue
            if peer is not None and peer.link.connected:
                return
            if not await self._async_is_peer_at(settings.url, settings, caller):
                self._move(entry, {PeerKey.URL: url})
            return

    async def _async_is_peer_at(self, url: str, settings: PeerSettings, caller: Caller) -> bool:
        session = async_get_clientsession(self.hass, settings.verify_ssl)
        try:
            async with dial_link(session, url, caller, settings.public):
                return True
        except DialError, ChannelClosed, Refused, ProtocolError:
            return False


def _announced(discovery: ZeroconfServiceInfo) -> tuple[str, ...]:
    """Return where a builder that announces itself may be; never empty."""
    name = f"[{discovery.host}]" if ":" in discovery.host else discovery.host
    urls: list[str] = []
    for address in (discovery.properties.get("url"), f"{name}:{discovery.port}"):
        try:
            urls += candidates(address or "")[:2]
        except ValueError:
            continue
    return tuple(dict.fromkeys(urls)) or (f"http://{name}",)
