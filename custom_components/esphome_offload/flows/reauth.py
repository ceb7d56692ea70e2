"""Config flow: pair again with a peer, or change its address."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from homeassistant.config_entries import ConfigFlowResult
from homeassistant.helpers.aiohttp_client import async_get_clientsession

from ..engine.client import probe as visit
from ..engine.client.probe import ProbeError
from ..engine.protocol.definitions import ErrorCode, ProtocolError
from ..engine.protocol.identity import IdentityError, PublicKey
from ..engine.protocol.tickets import ClockSkewError
from ..identity_store import async_get_identity
from ..markup import plain
from ..peering.entry import PeerConfigEntry, PeerKey, PeerSettings
from .pairing import PairingSteps

_REFUSALS: Final = {
    ErrorCode.UNKNOWN_GUEST: "not_known_there",
    ErrorCode.NOT_LENDING: "not_lending",
    ErrorCode.BUSY: "busy",
}


class MendingSteps(PairingSteps):
    """What can be done about a peer that is paired already."""

    async def async_step_reauth(self, entry_data: Mapping[str, Any]) -> ConfigFlowResult:
        """Pair again: the builder does not know this instance any more."""
        return await self.async_step_reauth_confirm()

    async def async_step_reauth_confirm(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Ask for the address, which may have changed as well."""
        entry = self._get_reauth_entry()
        self._about(entry)
        return await self._async_address_step("reauth_confirm", user_input, entry.data)

    async def async_step_reconfigure_peer(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Change the address of a peer, which has to be there and to prove it."""
        entry = self._get_reconfigure_entry()
        self._about(entry)
        try:
            public = PeerSettings.from_entry(entry).public
        except ValueError:
            return self.async_abort(reason="entry_damaged")
        errors: dict[str, str] = {}
        if user_input is not None:
            verify_ssl: bool = user_input[PeerKey.VERIFY_SSL]
            url = await self._async_reached(
                public, user_input[PeerKey.URL], errors, verify_ssl=verify_ssl
            )
            if url is not None:
                self._move(entry, {PeerKey.URL: url, PeerKey.VERIFY_SSL: verify_ssl})
                return self.async_abort(reason="address_changed")
        return self._address_form("reconfigure_peer", user_input or entry.data, errors)

    def _about(self, entry: PeerConfigEntry) -> None:
        """Name the peer; an error may have another label, of who was found instead."""
        name = plain(entry.title)
        self._placeholders |= {"builder": name, "label": name}

    async def _async_reached(
        self, public: PublicKey, typed: str, errors: dict[str, str], *, verify_ssl: bool
    ) -> str | None:
        """Return where the peer with this key is, else None and say what is wrong."""
        urls = self._candidates(typed, errors)
        if not urls:
            return None
        session = async_get_clientsession(self.hass, verify_ssl)
        try:
            url, _ = await visit.find(session, urls, await self._async_offer())
            identity = await async_get_identity(self.hass)
            with suppress(ClockSkewError):  # it says so under its seal
                await visit.prove(session, url, identity, public)
        except IdentityError as err:
            errors[PeerKey.URL] = self._identity_error(err)
        except ProbeError as err:
            errors[PeerKey.URL] = self._visit_error(err, urls)
        except ProtocolError as err:
            self._placeholders["url"] = ", ".join(urls)
            errors[PeerKey.URL] = _REFUSALS.get(err.code, "another_builder")
        else:
            return url
        return None
