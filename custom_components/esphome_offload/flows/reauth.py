"""Config flow: pair again with a peer, or change its address."""

from typing import Any

from homeassistant.config_entries import ConfigFlowResult
from homeassistant.helpers.aiohttp_client import async_get_clientsession

from ..engine.client.dial import DialError, DialFailure, dial_link
from ..engine.client.probe import find
from ..engine.protocol.channel import ChannelClosed
from ..engine.protocol.errors import ErrorCode, ProtocolError
from ..engine.protocol.hello import Refused
from ..engine.protocol.identity import IdentityError, PublicKey
from ..peering.caller import async_get_caller
from ..peering.entry import PeerConfigEntry, PeerKey, PeerSettings
from .pairing import LINK_REFUSALS, PairingSteps, shown


class ReauthSteps(PairingSteps):
    """The steps about a peer that is paired already."""

    async def async_step_reauth_confirm(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Ask for the address, which may have changed as well, and pair again."""
        entry = self._get_reauth_entry()
        self._set_names(entry)
        return await self._async_address_step("reauth_confirm", user_input, entry.data)

    async def async_step_reconfigure_peer(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Change the address of a peer; a link to its key has to be established there."""
        entry = self._get_reconfigure_entry()
        self._set_names(entry)
        try:
            public = PeerSettings.from_entry(entry).public
        except ValueError:
            return self.async_abort(reason="entry_damaged")
        errors: dict[str, str] = {}
        if user_input is not None:
            verify_ssl: bool = user_input[PeerKey.VERIFY_SSL]
            url = await self._async_reach(
                public, user_input[PeerKey.URL], errors, verify_ssl=verify_ssl
            )
            if url is not None:
                self._move(entry, {PeerKey.URL: url, PeerKey.VERIFY_SSL: verify_ssl})
                return self.async_abort(reason="address_changed")
        return await self._async_address_form("reconfigure_peer", user_input or entry.data, errors)

    def _set_names(self, entry: PeerConfigEntry) -> None:
        """Name the peer; an error may replace ``label`` by that of another builder."""
        name = shown(entry.title)
        self._placeholders |= {"builder": name, "label": name}

    async def _async_reach(
        self, public: PublicKey, typed: str, errors: dict[str, str], *, verify_ssl: bool
    ) -> str | None:
        """Return where the peer with this key is, else None and add what is wrong to ``errors``."""
        urls = self._candidates(typed, errors)
        if not urls:
            return None
        session = async_get_clientsession(self.hass, verify_ssl)
        self._placeholders["url"] = ", ".join(urls)
        try:
            caller = await async_get_caller(self.hass)
            url, hello = await find(session, urls, caller)
            if hello.pin_sha256 != public.pin_sha256:
                errors[PeerKey.URL] = "another_builder"
                return None
            async with dial_link(session, url, caller, public):
                return url
        except IdentityError as err:
            errors[PeerKey.URL] = self._identity_error(err)
        except DialError as err:
            errors[PeerKey.URL] = self._dial_error(err, urls)
        except Refused as err:
            unknown = err.code is ErrorCode.UNKNOWN_GUEST
            refused = "not_known_there" if unknown else "another_builder"
            errors[PeerKey.URL] = LINK_REFUSALS.get(err.code, refused)
        except ChannelClosed as err:
            lost = DialError(DialFailure.CANNOT_CONNECT, urls[0], str(err))
            errors[PeerKey.URL] = self._dial_error(lost, urls)
        except ProtocolError:
            errors[PeerKey.URL] = DialFailure.MALFORMED.value
        return None
