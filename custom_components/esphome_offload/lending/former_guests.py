"""Guests of the former kind, which were users of Home Assistant."""

import logging
from typing import Final

from homeassistant.auth.models import User
from homeassistant.core import HomeAssistant

_LOGGER = logging.getLogger(__name__)

_PREFIX: Final = "ESPHome Offload guest: "


async def async_remove_former_guests(hass: HomeAssistant) -> None:
    """Remove their users with all tokens: a guest has no user any more."""
    for user in await hass.auth.async_get_users():
        if _is_former_guest(user):
            _LOGGER.warning("The user of a former guest is removed; it has to be paired again")
            await hass.auth.async_remove_user(user)


def _is_former_guest(user: User) -> bool:
    return user.system_generated and not user.groups and (user.name or "").startswith(_PREFIX)
