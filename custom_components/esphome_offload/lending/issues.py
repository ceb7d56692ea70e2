"""What the owner of a machine that lends itself is told as a repair."""

from typing import Final

from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import issue_registry as ir

from ..const import DOMAIN

_IMPOSSIBLE: Final = "lending_impossible"
_WRONG_CODES: Final = "pairing_wrong_codes"


@callback
def async_tell_impossible(hass: HomeAssistant, reason: str | None) -> None:
    """Say why nothing is lent although the options say so; None: nothing is wrong (any more)."""
    if reason is None:
        ir.async_delete_issue(hass, DOMAIN, _IMPOSSIBLE)
        return
    ir.async_create_issue(
        hass,
        DOMAIN,
        _IMPOSSIBLE,
        is_fixable=False,
        severity=ir.IssueSeverity.WARNING,
        translation_key="lending_impossible",
        translation_placeholders={"reason": reason},
    )


@callback
def async_tell_wrong_codes(hass: HomeAssistant, address: str) -> None:
    """Say that a window was closed, and where the last try came from."""
    ir.async_create_issue(
        hass,
        DOMAIN,
        _WRONG_CODES,
        is_fixable=False,
        severity=ir.IssueSeverity.WARNING,
        translation_key="pairing_wrong_codes",
        translation_placeholders={"address": address},
    )


@callback
def async_forget_wrong_codes(hass: HomeAssistant) -> None:
    """Take that back: the owner opened a window again."""
    ir.async_delete_issue(hass, DOMAIN, _WRONG_CODES)
