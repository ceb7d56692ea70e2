"""Config flow: pair with a builder."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from homeassistant.config_entries import (
    SOURCE_IGNORE,
    SOURCE_REAUTH,
    ConfigFlow,
    ConfigFlowResult,
)
from homeassistant.core import callback
from homeassistant.helpers.aiohttp_client import async_get_clientsession
from homeassistant.helpers.selector import BooleanSelector, TextSelector, TextSelectorConfig
import probatio

from ..const import DOMAIN
from ..coordinator import DATA_COORDINATOR
from ..engine.client.address import candidates, host
from ..engine.client.dial import DialError, DialFailure, dial
from ..engine.client.probe import find
from ..engine.protocol.channel import ChannelClosed
from ..engine.protocol.errors import ErrorCode
from ..engine.protocol.hello import Purpose
from ..engine.protocol.identity import IdentityError
from ..engine.protocol.limits import LABEL_LIMIT
from ..engine.protocol.pairing import Paired, PairingError, pair, read_code
from ..engine.text import one_line, without_markup
from ..peering.caller import async_get_caller
from ..peering.entry import (
    ENTRY_MINOR_VERSION,
    PeerConfigEntry,
    PeerKey,
    PeerSettings,
)
from ..peering.self_check import async_is_self
from ..stores.identity import async_get_identity, async_renew_identity
from ..texts.reasons import reason_text

CONF_CODE: Final = "code"


def _address_schema(*, multiline: bool) -> probatio.Schema:
    return probatio.Schema(
        {
            probatio.Required(PeerKey.URL): TextSelector(TextSelectorConfig(multiline=multiline)),
            probatio.Required(PeerKey.VERIFY_SSL, default=True): BooleanSelector(),
        }
    )


ADDRESS_SCHEMA = _address_schema(multiline=False)
ADDRESSES_SCHEMA = _address_schema(multiline=True)
CODE_SCHEMA = probatio.Schema({probatio.Required(CONF_CODE): TextSelector()})

EXAMPLE_URL: Final = "https://home.example.org"

_PAIRING_ERRORS: Final = {
    ErrorCode.WINDOW_CLOSED: "window_closed",
    ErrorCode.WINDOW_EXPIRED: "window_expired",
    ErrorCode.BUSY: "pairing_busy",
    ErrorCode.TIMED_OUT: "pairing_timed_out",
    ErrorCode.TOO_OLD: "too_old",
    ErrorCode.TOO_NEW: "too_new",
}


LINK_REFUSALS: Final = {
    ErrorCode.NOT_LENDING: DialFailure.NOT_LENDING.value,
    ErrorCode.BUSY: DialFailure.BUSY.value,
}
"""What a refused link says of the builder, and not of who wanted it."""

UNREACHED: Final = (ChannelClosed, DialError, IdentityError)
"""What keeps pairing from coming to a result."""


@dataclass(frozen=True, slots=True)
class Found:
    """The builder that seems to be at an address; only the code will prove it."""

    url: str
    label: str
    pin_sha256: str
    verify_ssl: bool


class PairingSteps(ConfigFlow):
    """The steps from an address to a paired builder."""

    def __init__(self) -> None:
        self._found: Found | None = None
        self._placeholders: dict[str, str] = {"example_url": EXAMPLE_URL}

    async def async_step_pair(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask for the address of a builder."""
        return await self._async_address_step("pair", user_input, {})

    async def async_step_code(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask for the code that the builder shows, and pair."""
        assert self._found is not None  # noqa: S101 - the step before found it
        errors: dict[str, str] = {}
        code = None if user_input is None else read_code(user_input[CONF_CODE])
        if user_input is not None and code is None:
            errors[CONF_CODE] = "not_a_code"
        elif code is not None:
            try:
                return await self._async_pair(self._found, code)
            except PairingError as err:
                if err.code is ErrorCode.SAME_IDENTITY:
                    return await self.async_step_same_identity()
                errors[CONF_CODE] = self._pairing_error(err)
            except UNREACHED as err:
                errors[CONF_CODE] = self._unreached_error(err, self._found.url)
        return self._code_form(self._found, user_input, errors)

    def _code_form(
        self, found: Found, user_input: dict[str, Any] | None, errors: dict[str, str]
    ) -> ConfigFlowResult:
        return self.async_show_form(
            step_id="code",
            data_schema=self.add_suggested_values_to_schema(CODE_SCHEMA, user_input),
            errors=errors,
            description_placeholders=self._placeholders_of(found),
        )

    async def async_step_same_identity(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Offer a new identity: the configuration folder of one was copied to the other."""
        assert self._found is not None  # noqa: S101 - the step before found it
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
            description_placeholders=self._placeholders_of(self._found),
        )

    def _placeholders_of(self, found: Found) -> dict[str, str]:
        return {**self._placeholders, "label": shown(found.label), "url": found.url}

    async def _async_address_step(
        self, step_id: str, user_input: dict[str, Any] | None, proposed: Mapping[str, Any]
    ) -> ConfigFlowResult:
        errors: dict[str, str] = {}
        if user_input is not None:
            urls = self._candidates(user_input[PeerKey.URL], errors)
            if urls:
                errors = await self._async_find(urls, verify_ssl=user_input[PeerKey.VERIFY_SSL])
            if not errors:
                return await self._async_continue()
        return await self._async_address_form(step_id, user_input or proposed, errors)

    async def _async_address_form(
        self, step_id: str, proposed: Mapping[str, Any], errors: dict[str, str]
    ) -> ConfigFlowResult:
        schema = ADDRESS_SCHEMA
        if step_id == "pair":
            schema = ADDRESSES_SCHEMA
            self._placeholders["pin"] = "?"
            with suppress(IdentityError):  # which is said when it is needed
                own = await async_get_identity(self.hass)
                self._placeholders["pin"] = own.pin_sha256
        return self.async_show_form(
            step_id=step_id,
            data_schema=self.add_suggested_values_to_schema(schema, proposed),
            errors=errors,
            description_placeholders=self._placeholders,
        )

    def _candidates(self, typed: str, errors: dict[str, str]) -> tuple[str, ...]:
        try:
            return candidates(typed)
        except ValueError:
            errors[PeerKey.URL] = "invalid_address"
            self._placeholders["address"] = shown(typed)
            return ()

    async def _async_find(self, urls: Sequence[str], *, verify_ssl: bool) -> dict[str, str]:
        """Find out which builder is there; returns what is wrong, by field."""
        session = async_get_clientsession(self.hass, verify_ssl)
        try:
            caller = await async_get_caller(self.hass)
            url, hello = await find(session, urls, caller)
        except IdentityError as err:
            return {PeerKey.URL: self._identity_error(err)}
        except DialError as err:
            if err.failure is DialFailure.NOT_LENDING and await async_is_self(
                self.hass, session, err.url
            ):
                return {PeerKey.URL: "own_address"}
            return {PeerKey.URL: self._dial_error(err, urls)}
        self._found = Found(url, hello.label, hello.pin_sha256, verify_ssl)
        if hello.pin_sha256 == caller.identity.pin_sha256:
            if await async_is_self(self.hass, session, url):
                return {PeerKey.URL: "own_address"}
        elif self._taken(hello.pin_sha256):
            self._placeholders["label"] = shown(hello.label)
            return {PeerKey.URL: "already_paired"}
        return {}

    async def _async_continue(self) -> ConfigFlowResult:
        assert self._found is not None  # noqa: S101 - it was found just now
        identity = await async_get_identity(self.hass)
        if self._found.pin_sha256 == identity.pin_sha256:
            return await self.async_step_same_identity()
        return await self.async_step_code()

    async def _async_renew_identity(self) -> None:
        coordinator = self.hass.data.get(DATA_COORDINATOR)
        if coordinator is None:  # "this instance" is disabled
            await async_renew_identity(self.hass)
        else:
            await coordinator.async_renew_identity()

    async def _async_pair(
        self, found: Found, code: str, *, purpose: bytes = Purpose.PAIR
    ) -> ConfigFlowResult:
        """Pair and end the flow; raises PairingError and one of UNREACHED."""
        session = async_get_clientsession(self.hass, found.verify_ssl)
        caller = await async_get_caller(self.hass)
        async with dial(session, found.url, caller) as answered:
            paired = await pair(answered.opening, answered.hello, code, purpose=purpose)
        # Both ends have stored the pairing: an entry is made now, whatever else is wrong.
        return await self._async_finish(found, paired)

    async def _async_finish(self, found: Found, paired: Paired) -> ConfigFlowResult:
        pin = paired.public.pin_sha256
        settings = PeerSettings(found.url, found.verify_ssl, paired.public, paired.label)
        if self.source == SOURCE_REAUTH:
            entry = self._get_reauth_entry()
            if self._taken(pin):
                return self.async_abort(reason="already_paired")
            # The builder may have another identity by now: its owner gave the code.
            self._move(entry, settings.data, pin)
            return self.async_abort(reason="paired_again")
        return await self._async_create(settings)

    async def _async_create(
        self,
        settings: PeerSettings,
        description: str | None = None,
        placeholders: Mapping[str, str] | None = None,
    ) -> ConfigFlowResult:
        pin = settings.public.pin_sha256
        await self.async_set_unique_id(pin, raise_on_progress=False)
        # The new entry replaces an ignored one, whichever dialog it was found in.
        if self._taken(pin):
            # A changed entry is set up again by its update listener.
            self._abort_if_unique_id_configured(
                updates=settings.data, reload_on_update=False, error="already_paired"
            )
        return self.async_create_entry(
            title=settings.label,
            data=settings.data,
            description=description,
            description_placeholders=placeholders,
        )

    def _taken(self, pin_sha256: str) -> bool:
        """Return whether another entry than the one that is paired again is for this peer."""
        entry = self.hass.config_entries.async_entry_for_domain_unique_id(DOMAIN, pin_sha256)
        if entry is None or entry.source == SOURCE_IGNORE:
            return False
        return self.source != SOURCE_REAUTH or entry is not self._get_reauth_entry()

    @callback
    def _move(
        self, entry: PeerConfigEntry, data: Mapping[str, Any], unique_id: str | None = None
    ) -> None:
        """Change an entry and set it up again, also when nothing changed.

        With ``unique_id``, the pin, it was paired again.
        """
        changed = self.hass.config_entries.async_update_entry(
            entry,
            data={**entry.data, **data},
            unique_id=unique_id or entry.unique_id,
            minor_version=ENTRY_MINOR_VERSION if unique_id else entry.minor_version,
        )
        # The update listener of a loaded entry applies the change.
        if not (changed and entry.update_listeners):
            self.hass.config_entries.async_schedule_reload(entry.entry_id)

    def _dial_error(self, err: DialError, tried: Sequence[str]) -> str:
        self._placeholders |= {"tried": ", ".join(tried), "url": err.url, "label": host(err.url)}
        return err.failure.value

    def _unreached_error(self, err: Exception, url: str) -> str:
        """Return the key of what is wrong, for one of UNREACHED."""
        if isinstance(err, IdentityError):
            return self._identity_error(err)
        if not isinstance(err, DialError):
            err = DialError(DialFailure.CANNOT_CONNECT, url, str(err))
        return self._dial_error(err, (err.url,))

    def _identity_error(self, err: IdentityError) -> str:
        self._placeholders["reason"] = reason_text(self.hass, err.reason)
        return "identity_damaged"

    def _pairing_error(self, err: PairingError) -> str:
        if err.code is not ErrorCode.WRONG_CODE:
            return _PAIRING_ERRORS.get(err.code, "malformed")
        if err.tries_left is None:
            # What answered does not know the code, so it is not the builder that shows it.
            return "malformed"
        self._placeholders["tries"] = str(err.tries_left)
        return "wrong_code" if err.tries_left else "wrong_code_closed"


def shown(text: str) -> str:
    """Return a text from the network, of which nothing is proven, as dialogs may show it."""
    return one_line(without_markup(text[: 2 * LABEL_LIMIT]), LABEL_LIMIT)
