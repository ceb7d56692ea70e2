"""Config flow: builders that announce themselves in the network."""

from abc import abstractmethod
from contextlib import suppress
import re
from typing import Any, override

from homeassistant.config_entries import SOURCE_IGNORE, ConfigFlowResult
from homeassistant.helpers.aiohttp_client import async_get_clientsession
from homeassistant.helpers.service_info.zeroconf import ZeroconfServiceInfo

from ..const import DOMAIN, INSTANCE_UNIQUE_ID
from ..coordinator import DATA_COORDINATOR, OffloadConfigEntry
from ..engine.client import probe as visit
from ..engine.client.address import candidates
from ..engine.client.probe import ProbeError
from ..engine.protocol.definitions import ProtocolError
from ..engine.protocol.identity import Identity, IdentityError
from ..engine.protocol.tickets import ClockSkewError
from ..identity_store import async_get_identity
from ..markup import plain
from ..peering.entry import PeerConfigEntry, PeerKey, PeerSettings
from .pairing import PairingSteps

_PIN = re.compile(r"[0-9a-f]{64}")


class DiscoverySteps(PairingSteps):
    """From an announcement to pairing; nothing that is announced is believed."""

    def __init__(self) -> None:
        """Begin with nothing found."""
        super().__init__()
        self.discovery: ZeroconfServiceInfo | None = None

    @abstractmethod
    async def async_step_instance(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Set up "this instance"; then what was found is shown again."""

    @override
    async def async_step_zeroconf(self, discovery_info: ZeroconfServiceInfo) -> ConfigFlowResult:
        """Take up a builder that announces itself; nothing of that is believed."""
        properties = discovery_info.properties
        pin = properties.get("pin") or ""
        if not _PIN.fullmatch(pin):
            return self.async_abort(reason="malformed")
        try:
            identity = await async_get_identity(self.hass)
        except IdentityError as err:
            return self.async_abort(
                reason="identity_damaged", description_placeholders={"reason": str(err)}
            )
        if pin == identity.pin_sha256:
            return self.async_abort(reason="own_address")
        self.discovery = discovery_info
        known = await self.async_set_unique_id(pin)
        if known is not None and known.source != SOURCE_IGNORE:
            await self._async_follow(known, identity)
        self._abort_if_unique_id_configured(error="already_paired")
        self._placeholders["label"] = plain(properties.get("label") or discovery_info.host)
        self.context["title_placeholders"] = {"name": self._placeholders["label"]}
        return await self.async_step_zeroconf_confirm()

    async def async_step_zeroconf_confirm(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Ask whether to pair with what was found."""
        if user_input is not None:
            if self._instance is None:
                return await self.async_step_instance()
            urls = self._announced()
            errors = await self._async_meet(urls, verify_ssl=True)
            if not errors:
                return await self._async_met()
            # There the address can be changed, and a certificate be taken as it is.
            return self._address_form("pair", {PeerKey.URL: urls[0]}, errors)
        return self.async_show_form(
            step_id="zeroconf_confirm",
            description_placeholders={**self._placeholders, "url": self._announced()[0]},
        )

    @property
    def _instance(self) -> OffloadConfigEntry | None:
        return self.hass.config_entries.async_entry_for_domain_unique_id(DOMAIN, INSTANCE_UNIQUE_ID)

    def _announced(self) -> tuple[str, ...]:
        """Return where a discovered builder may be; never empty."""
        assert self.discovery is not None  # noqa: S101 - it was discovered
        name = f"[{self.discovery.host}]" if ":" in self.discovery.host else self.discovery.host
        urls: list[str] = []
        for address in (self.discovery.properties.get("url"), f"{name}:{self.discovery.port}"):
            try:
                urls += candidates(address or "")[:2]
            except ValueError:
                continue
        return tuple(dict.fromkeys(urls)) or (f"http://{name}",)

    async def _async_follow(self, entry: PeerConfigEntry, identity: Identity) -> None:
        """Take over a peer's new address, if it is not at the old one and proves itself."""
        try:
            settings = PeerSettings.from_entry(entry)
        except ValueError:
            return
        coordinator = self.hass.data.get(DATA_COORDINATOR)
        peer = None if coordinator is None else coordinator.peering.get(entry.entry_id)
        if peer is not None and peer.link.connected:
            return
        session = async_get_clientsession(self.hass, settings.verify_ssl)
        secure = settings.url.startswith("https:")
        for url in dict.fromkeys((settings.url, *self._announced())):
            if secure and not url.startswith("https:"):
                continue
            try:
                with suppress(ClockSkewError):  # it says so under its seal
                    await visit.prove(session, url, identity, settings.public)
            except ProbeError, ProtocolError:
                continue
            if url != settings.url:
                self._move(entry, {PeerKey.URL: url})
            elif peer is not None:
                peer.link.wake()
            return
