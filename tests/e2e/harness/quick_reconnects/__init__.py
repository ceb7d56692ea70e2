"""A component that has core's esphome connect to its devices again within two seconds.

By itself it waits five after a restart of a device, and up to a minute for one that was off.
"""

from aioesphomeapi import reconnect_logic
from homeassistant.core import HomeAssistant
from homeassistant.helpers.typing import ConfigType

DOMAIN = "quick_reconnects"


async def async_setup(hass: HomeAssistant, config: ConfigType) -> bool:
    """Shorten the pauses."""
    pauses = {"EXPECTED_DISCONNECT_COOLDOWN": 0.5, "MAXIMUM_BACKOFF": 2.0}
    assert pauses.keys() <= vars(reconnect_logic).keys()
    vars(reconnect_logic).update(pauses)
    return True
