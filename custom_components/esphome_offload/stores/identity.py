"""The identity of this instance, kept beside Home Assistant's own secrets."""

import asyncio
from pathlib import Path

from homeassistant.core import HomeAssistant
from homeassistant.helpers.storage import STORAGE_DIR
from homeassistant.util.hass_dict import HassKey

from ..const import DOMAIN
from ..engine.protocol.identity import Identity, load_or_create, renew
from ..engine.protocol.limits import LABEL_LIMIT
from ..engine.text import one_line

_DATA_IDENTITY: HassKey[_Kept] = HassKey(f"{DOMAIN}.identity")


class _Kept:
    """The loaded identity, and the lock of its file."""

    def __init__(self) -> None:
        self.identity: Identity | None = None
        self.turn = asyncio.Lock()


async def async_get_identity(hass: HomeAssistant) -> Identity:
    """Return the identity of this instance, made on first use; raises IdentityError."""
    kept = hass.data.setdefault(_DATA_IDENTITY, _Kept())
    async with kept.turn:
        if kept.identity is None:
            kept.identity = await hass.async_add_executor_job(_load, _path(hass))
        return kept.identity


async def async_renew_identity(hass: HomeAssistant) -> Identity:
    """Make a new identity in place of the present one; raises IdentityError.

    Every pairing must be made again, on both sides.
    """
    kept = hass.data.setdefault(_DATA_IDENTITY, _Kept())
    async with kept.turn:
        kept.identity = await hass.async_add_executor_job(renew, _path(hass))
        return kept.identity


def instance_label(hass: HomeAssistant) -> str:
    """Return the name that other instances show for this one."""
    return one_line(hass.config.location_name, LABEL_LIMIT) or "Home Assistant"


def _path(hass: HomeAssistant) -> Path:
    return Path(hass.config.path(STORAGE_DIR, f"{DOMAIN}.identity"))


def _load(path: Path) -> Identity:
    # On a new Home Assistant nothing was stored yet.
    path.parent.mkdir(parents=True, exist_ok=True)
    return load_or_create(path)
