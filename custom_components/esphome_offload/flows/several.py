"""Config flow: several builders at once, which were given the pin of this Home Assistant."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
import re
from typing import Any, Final, override

import aiohttp
from homeassistant.config_entries import SOURCE_SYSTEM, ConfigFlowContext, ConfigFlowResult
from homeassistant.data_entry_flow import FlowResultType
from homeassistant.helpers.aiohttp_client import async_get_clientsession

from ..const import DOMAIN
from ..engine.client.address import host
from ..engine.client.dial import Caller, DialError, DialFailure, dial_link
from ..engine.client.probe import find
from ..engine.protocol.channel import ChannelClosed
from ..engine.protocol.errors import ErrorCode, ProtocolError
from ..engine.protocol.hello import Refused
from ..engine.protocol.identity import IdentityError
from ..peering.caller import async_get_caller
from ..peering.entry import PeerKey, PeerSettings
from ..texts.reasons import common_text, error_text
from .pairing import LINK_REFUSALS, PairingSteps, shown

_PIN: Final = re.compile(r"[0-9a-fA-F]{64}")
_SEPARATOR: Final = re.compile(r"[\n,;]")


@dataclass(frozen=True, slots=True)
class _Typed:
    """A line of the list: an address, and the pin that has to answer there if it was given."""

    text: str
    urls: tuple[str, ...]
    pin: str | None


class SeveralSteps(PairingSteps):
    """The steps from a list of addresses to the entries of those that know this Home Assistant.

    Without a code there is no proof of who answers at an address but the pin: one that is given
    with the address, or that a person compares.
    """

    def __init__(self) -> None:
        super().__init__()
        self._list: dict[str, Any] = {}
        self._knowing: list[PeerSettings] = []

    @override
    async def async_step_pair(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask for the address of a builder, or for a list."""
        lines = [] if user_input is None else _lines(user_input[PeerKey.URL])
        if user_input is None or not _is_list(lines):
            return await super().async_step_pair(user_input)
        self._list = user_input
        errors: dict[str, str] = {}
        typed: list[_Typed] = []
        for line in lines:
            if (each := self._typed(line, errors)) is None:
                break
            typed.append(each)
        else:
            try:
                return await self._async_ask(typed, verify_ssl=user_input[PeerKey.VERIFY_SSL])
            except IdentityError as err:
                errors[PeerKey.URL] = self._identity_error(err)
        return await self._async_address_form("pair", user_input, errors)

    async def async_step_several(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Make an entry of each builder that knows this Home Assistant; its pin was confirmed.

        The last one is the result, and says which of them were paired with meanwhile.
        """
        taken = [each for each in self._knowing if self._taken(each.public.pin_sha256)]
        *others, last = [each for each in self._knowing if each not in taken] or self._knowing
        for each in others:
            result = await self.hass.config_entries.flow.async_init(
                DOMAIN, context=ConfigFlowContext(source=SOURCE_SYSTEM), data=each
            )
            if result["type"] is not FlowResultType.CREATE_ENTRY:
                taken.append(each)
        if not taken:
            return await self._async_create(last)
        not_added = _bullets(
            f"{each.url}: " + error_text(self.hass, "already_paired", {"label": shown(each.label)})
            for each in taken
        )
        return await self._async_create(last, "not_all_added", {"others": not_added})

    async def async_step_system(self, settings: PeerSettings) -> ConfigFlowResult:
        """Make an entry of one of several."""
        return await self._async_create(settings)

    async def async_step_none_knows(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Go back to the list."""
        return await self._async_address_form("pair", self._list, {})

    def _typed(self, line: str, errors: dict[str, str]) -> _Typed | None:
        address, *pin = line.split()
        urls = self._candidates(address, errors)
        if not urls or len(pin) > 1 or not all(map(_PIN.fullmatch, pin)):
            errors[PeerKey.URL] = "invalid_address"
            self._placeholders["address"] = shown(line)
            return None
        return _Typed(address, urls, pin[0].lower() if pin else None)

    async def _async_ask(self, typed: list[_Typed], *, verify_ssl: bool) -> ConfigFlowResult:
        caller = await async_get_caller(self.hass)
        session = async_get_clientsession(self.hass, verify_ssl)
        answers = await asyncio.gather(
            *(self._async_look(session, caller, each, verify_ssl=verify_ssl) for each in typed)
        )
        of_pin: dict[str, tuple[PeerSettings, bool]] = {}
        others: list[str] = []
        for each, answer in zip(typed, answers, strict=True):
            if isinstance(answer, PeerSettings):
                of_pin.setdefault(answer.public.pin_sha256, (answer, each.pin is not None))
            else:
                others.append(f"{shown(each.text)}: {answer}")
        self._knowing = [settings for settings, _ in of_pin.values()]
        not_added = _bullets(others)
        if not of_pin:
            return self.async_show_form(
                step_id="none_knows", description_placeholders={"others": not_added}
            )
        knowing = (
            common_text(
                self.hass,
                "pin_given" if given else "pin_to_compare",
                label=shown(settings.label),
                url=settings.url,
                pin=pin,
            )
            for pin, (settings, given) in of_pin.items()
        )
        if others:
            not_added = common_text(self.hass, "not_added", others=not_added)
        return self.async_show_form(
            step_id="several",
            description_placeholders={"knowing": _bullets(knowing), "others": not_added},
        )

    async def _async_look(
        self, session: aiohttp.ClientSession, caller: Caller, typed: _Typed, *, verify_ssl: bool
    ) -> PeerSettings | str:
        """Return the builder at an address if it knows this Home Assistant, else why it is none."""
        texts = {"tried": ", ".join(typed.urls), "label": host(typed.urls[0])}
        try:
            url, hello = await find(session, typed.urls, caller)
            texts |= {"url": url, "label": shown(hello.label)}
            key = hello.public_key
            if typed.pin not in (None, hello.pin_sha256):
                error = "pin_differs"
            elif hello.pin_sha256 == caller.identity.pin_sha256:
                error = "own_address"
            elif self._taken(hello.pin_sha256):
                error = "already_paired"
            elif key is None or key.pin_sha256 != hello.pin_sha256:
                error = "not_a_guest"
            else:
                async with dial_link(session, url, caller, key) as opened:
                    return PeerSettings(url, verify_ssl, key, opened.introduction.label)
        except DialError as err:
            texts |= {"url": err.url, "label": host(err.url)}
            error = err.failure.value
        except Refused as err:
            error = LINK_REFUSALS.get(err.code, "not_a_guest")
            if err.code is not ErrorCode.UNKNOWN_GUEST and error == "not_a_guest":
                error = DialFailure.MALFORMED.value
        except ChannelClosed:
            error = DialFailure.CANNOT_CONNECT.value
        except ProtocolError:
            error = DialFailure.MALFORMED.value
        return error_text(self.hass, error, texts)


def _lines(typed: str) -> list[str]:
    return [line for each in _SEPARATOR.split(typed) if (line := each.strip())]


def _is_list(lines: list[str]) -> bool:
    """Return whether there are several addresses, or one with a pin."""
    return len(lines) > 1 or any(_PIN.search(line) is not None for line in lines)


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)
