"""GuestUsers: what a guest is to Home Assistant: a user without any rights."""

from collections.abc import Container
from datetime import timedelta
import logging
from typing import Final

from homeassistant.auth.models import TOKEN_TYPE_SYSTEM, User
from homeassistant.core import HomeAssistant

from ..engine.protocol.definitions import TICKET_LIFETIME, ErrorCode, ProtocolError

_LOGGER = logging.getLogger(__name__)

_PREFIX: Final = "ESPHome Offload guest: "


class GuestUsers:
    """System users, member of no group. Their refresh tokens never leave this machine."""

    def __init__(self, hass: HomeAssistant) -> None:
        """Touch nothing yet."""
        self._auth = hass.auth

    async def async_ensure(self, user_id: str | None, label: str) -> str:
        """Return the id of the user that stands for a guest, made unless it is there."""
        name = f"{_PREFIX}{label}"
        user = None if user_id is None else await self._auth.async_get_user(user_id)
        if user is None:
            user = await self._auth.async_create_system_user(name)
        elif user.name != name:
            await self._auth.async_update_user(user, name=name)
        return user.id

    async def async_access_token(self, user_id: str, remote: str | None) -> str:
        """Return a token that lives TICKET_LIFETIME; raises ProtocolError UNKNOWN_GUEST."""
        user = await self._auth.async_get_user(user_id)
        if user is None or not user.is_active:
            raise ProtocolError(ErrorCode.UNKNOWN_GUEST, "the guest's user was removed here")
        refresh_token = next(
            (each for each in user.refresh_tokens.values() if each.token_type == TOKEN_TYPE_SYSTEM),
            None,
        )
        if refresh_token is None:
            refresh_token = await self._auth.async_create_refresh_token(
                user, access_token_expiration=timedelta(seconds=TICKET_LIFETIME)
            )
        return self._auth.async_create_access_token(refresh_token, remote)

    async def async_remove(self, user_id: str) -> None:
        """Remove a user, which closes its connections and voids its tokens."""
        if (user := await self._auth.async_get_user(user_id)) is not None:
            await self._auth.async_remove_user(user)

    async def async_remove_strays(self, keep: Container[str]) -> None:
        """Remove users of guests that are none, left by a stop in the middle of a pairing."""
        for user in await self._auth.async_get_users():
            if _is_ours(user) and user.id not in keep:
                _LOGGER.info("%s is no guest any more; its user is removed", user.name)
                await self._auth.async_remove_user(user)


def _is_ours(user: User) -> bool:
    return user.system_generated and not user.groups and (user.name or "").startswith(_PREFIX)
