"""Config flow: pair with a builder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import ClientSession
from homeassistant.config_entries import (
    SOURCE_IGNORE,
    SOURCE_REAUTH,
    ConfigFlow,
    ConfigFlowResult,
)
from homeassistant.core import callback
from homeassistant.helpers.aiohttp_client import async_get_clientsession
from homeassistant.helpers.selector import BooleanSelector, TextSelector
from homeassistant.loader import async_get_integration
import probatio

from ..const import DOMAIN
from ..coordinator import DATA_COORDINATOR
from ..engine.client import probe as visit
from ..engine.client.address import candidates, host
from ..engine.client.probe import ProbeError, ProbeFailure
from ..engine.protocol.definitions import ProtocolError
from ..engine.protocol.identity import IdentityError
from ..engine.protocol.negotiation import Offer, own_offer
from ..engine.protocol.pairing import Paired, PairingError, PairingFailure
from ..engine.protocol.tickets import ClockSkewError
from ..identity_store import async_get_identity, async_renew_identity
from ..markup import plain
from ..peering.entry import PeerConfigEntry, PeerKey, PeerSettings
from ..peering.self_check import async_is_self

CONF_CODE: Final = "code"

ADDRESS_SCHEMA = probatio.Schema(
    {
        probatio.Required(PeerKey.URL): TextSelector(),
        probatio.Required(PeerKey.VERIFY_SSL, default=True): BooleanSelector(),
    }
)
CODE_SCHEMA = probatio.Schema({probatio.Required(CONF_CODE): TextSelector()})

# What a text from the network, which nobody has vouched for yet, could do in Markdown.

_PAIRING_ERRORS: Final = {
    PairingFailure.WINDOW_CLOSED: "window_closed",
    PairingFailure.WINDOW_EXPIRED: "window_expired",
    PairingFailure.BUSY: "pairing_busy",
    PairingFailure.TIMED_OUT: "pairing_timed_out",
    PairingFailure.TOO_OLD: "too_old",
    PairingFailure.TOO_NEW: "too_new",
    PairingFailure.MALFORMED: "malformed",
}


@dataclass(frozen=True, slots=True)
class _Met:
    """Who seems to be at an address; only the code will prove it."""

    url: str
    label: str
    pin_sha256: str
    verify_ssl: bool


class PairingSteps(ConfigFlow):
    """From an address to a paired builder."""

    def __init__(self) -> None:
        """Know of nobody yet."""
        self._met: _Met | None = None
        self._placeholders: dict[str, str] = {}

    async def async_step_pair(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask for the address of a builder."""
        return await self._async_address_step("pair", user_input, {})

    async def async_step_code(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask for the code that the builder shows, and pair."""
        assert self._met is not None  # noqa: S101 - the step before found it
        errors: dict[str, str] = {}
        if user_input is not None:
            try:
                paired = await self._async_pair(self._met, user_input[CONF_CODE])
            except PairingError as err:
                if err.failure is PairingFailure.SAME_IDENTITY:
                    return await self.async_step_same_identity()
                errors[CONF_CODE] = self._pairing_error(err)
            except ProbeError as err:
                errors[CONF_CODE] = self._visit_error(err, (err.url,))
            except IdentityError as err:
                errors[CONF_CODE] = self._identity_error(err)
            else:
                # Both have confirmed: an entry is made now, whatever else is wrong.
                return await self._async_finish(self._met, paired)
        return self.async_show_form(
            step_id="code",
            data_schema=self.add_suggested_values_to_schema(CODE_SCHEMA, user_input),
            errors=errors,
            description_placeholders={
                **self._placeholders,
                "label": plain(self._met.label),
                "url": self._met.url,
            },
        )

    async def async_step_same_identity(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Offer a new identity: the configuration folder of one was copied to the other."""
        assert self._met is not None  # noqa: S101 - the step before found it
        errors: dict[str, str] = {}
        if user_input is not None:
            try:
                await self._async_renew_identity()
            except IdentityError as err:
                errors["base"] = self._identity_error(err)
            else:
                return await self.async_step_code()
        return self.async_show_form(
            step_id="same_identity",
            errors=errors,
            description_placeholders={
                **self._placeholders,
                "label": plain(self._met.label),
                "url": self._met.url,
            },
        )

    async def _async_address_step(
        self, step_id: str, user_input: dict[str, Any] | None, proposed: Mapping[str, Any]
    ) -> ConfigFlowResult:
        errors: dict[str, str] = {}
        if user_input is not None:
            urls = self._candidates(user_input[PeerKey.URL], errors)
            if urls:
                errors = await self._async_meet(urls, verify_ssl=user_input[PeerKey.VERIFY_SSL])
            if not errors:
                return await self._async_met()
        return self._address_form(step_id, user_input or proposed, errors)

    def _address_form(
        self, step_id: str, proposed: Mapping[str, Any], errors: dict[str, str]
    ) -> ConfigFlowResult:
        return self.async_show_form(
            step_id=step_id,
            data_schema=self.add_suggested_values_to_schema(ADDRESS_SCHEMA, proposed),
            errors=errors,
            description_placeholders=self._placeholders,
        )

    def _candidates(self, typed: str, errors: dict[str, str]) -> tuple[str, ...]:
        try:
            return candidates(typed)
        except ValueError:
            errors[PeerKey.URL] = "invalid_address"
            self._placeholders["address"] = plain(typed)
            return ()

    async def _async_meet(self, urls: Sequence[str], *, verify_ssl: bool) -> dict[str, str]:
        """Find out who is there; returns what is wrong, by field."""
        session = async_get_clientsession(self.hass, verify_ssl)
        try:
            identity = await async_get_identity(self.hass)
            url, info = await visit.find(session, urls, await self._async_offer())
        except IdentityError as err:
            return {PeerKey.URL: self._identity_error(err)}
        except ProbeError as err:
            if err.trouble is ProbeFailure.NOT_LENDING and await async_is_self(
                self.hass, session, err.url
            ):
                return {PeerKey.URL: "own_address"}
            return {PeerKey.URL: self._visit_error(err, urls)}
        self._met = _Met(url, info.label, info.pin_sha256, verify_ssl)
        if await async_is_self(self.hass, session, url):
            return {PeerKey.URL: "own_address"}
        if info.pin_sha256 != identity.pin_sha256 and self._taken(info.pin_sha256):
            self._placeholders["label"] = plain(info.label)
            return {PeerKey.URL: "already_paired"}
        return {}

    async def _async_met(self) -> ConfigFlowResult:
        assert self._met is not None  # noqa: S101 - it was met just now
        identity = await async_get_identity(self.hass)
        if self._met.pin_sha256 == identity.pin_sha256:
            return await self.async_step_same_identity()
        return await self.async_step_code()

    async def _async_renew_identity(self) -> None:
        coordinator = self.hass.data.get(DATA_COORDINATOR)
        if coordinator is None:  # "this instance" is disabled
            await async_renew_identity(self.hass)
        else:
            await coordinator.async_renew_identity()

    async def _async_pair(self, met: _Met, code: str) -> Paired:
        identity = await async_get_identity(self.hass)
        client = visit.pairing(
            self._session(met),
            met.url,
            identity,
            await self._async_offer(),
            self.hass.config.location_name.strip() or "Home Assistant",
        )
        return await client.pair(code)

    async def _async_finish(self, met: _Met, paired: Paired) -> ConfigFlowResult:
        minutes = await self._async_minutes_apart(met, paired)
        said = {"label": plain(paired.label), "minutes": str(minutes)}
        pin = paired.public.pin_sha256
        settings = PeerSettings(met.url, met.verify_ssl, paired.public, paired.label)
        if self.source == SOURCE_REAUTH:
            entry = self._get_reauth_entry()
            if self._taken(pin):
                return self.async_abort(reason="already_paired")
            # It may have another identity by now: whoever has the code has vouched for it.
            self._move(entry, settings.data, pin)
            return self.async_abort(
                reason="paired_again_clocks_differ" if minutes else "paired_again",
                description_placeholders=said,
            )
        await self.async_set_unique_id(pin, raise_on_progress=False)
        # The entry begins anew by itself when it is changed.
        self._abort_if_unique_id_configured(
            updates=settings.data, reload_on_update=False, error="already_paired"
        )
        return self.async_create_entry(
            title=paired.label,
            data=settings.data,
            description="clocks_differ" if minutes else None,
            description_placeholders=said,
        )

    async def _async_minutes_apart(self, met: _Met, paired: Paired) -> int:
        """Return by how much the clocks differ, 0 when that is little enough to connect."""
        try:
            identity = await async_get_identity(self.hass)
            await visit.prove(self._session(met), met.url, identity, paired.public)
        except ClockSkewError as err:
            return max(1, round(abs(err.seconds) / 60))
        except IdentityError, ProbeError, ProtocolError:
            # It was there a moment ago. The entry goes on trying, and says what is wrong.
            pass
        return 0

    def _taken(self, pin_sha256: str) -> bool:
        """Whether another entry than the one that is being mended is for this peer."""
        entry = self.hass.config_entries.async_entry_for_domain_unique_id(DOMAIN, pin_sha256)
        if entry is None or entry.source == SOURCE_IGNORE:
            return False
        return self.source != SOURCE_REAUTH or entry is not self._get_reauth_entry()

    @callback
    def _move(
        self, entry: PeerConfigEntry, data: Mapping[str, Any], unique_id: str | None = None
    ) -> None:
        """Change an entry and have it begin anew, also when nothing changed."""
        changed = self.hass.config_entries.async_update_entry(
            entry, data={**entry.data, **data}, unique_id=unique_id or entry.unique_id
        )
        # A loaded entry begins anew by itself when it is changed.
        if not (changed and entry.update_listeners):
            self.hass.config_entries.async_schedule_reload(entry.entry_id)

    def _session(self, met: _Met) -> ClientSession:
        return async_get_clientsession(self.hass, met.verify_ssl)

    async def _async_offer(self) -> Offer:
        return own_offer(str((await async_get_integration(self.hass, DOMAIN)).version))

    def _visit_error(self, err: ProbeError, tried: Sequence[str]) -> str:
        self._placeholders |= {"tried": ", ".join(tried), "url": err.url, "label": host(err.url)}
        return err.trouble.value

    def _identity_error(self, err: IdentityError) -> str:
        self._placeholders["reason"] = str(err)
        return "identity_damaged"

    def _pairing_error(self, err: PairingError) -> str:
        if err.failure is not PairingFailure.WRONG_CODE:
            return _PAIRING_ERRORS[err.failure]
        if err.tries_left is None:
            return "not_a_code"
        self._placeholders["tries"] = str(err.tries_left)
        return "wrong_code" if err.tries_left else "wrong_code_closed"
