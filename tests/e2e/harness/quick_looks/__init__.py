"""A component that has our integration look more often, and wait for less long.

That is for tests of what it does then; how often it looks is what quick tests are about.
"""

from datetime import timedelta

from homeassistant.core import HomeAssistant
from homeassistant.helpers.typing import ConfigType

from custom_components.esphome_offload.engine.jobs import verifying
from custom_components.esphome_offload.inventory import configuration_changes, configuration_folder
from custom_components.esphome_offload.inventory.device_link import CoreDeviceLink

DOMAIN = "quick_looks"


async def async_setup(hass: HomeAssistant, config: ConfigType) -> bool:
    """Shorten intervals and time limits; the latter also of what is set up already."""
    for module, name, value in (
        (configuration_folder, "_SCAN_INTERVAL", timedelta(seconds=3)),
        (configuration_changes, "_INTERVAL", timedelta(seconds=3)),
        (verifying, "ANNOUNCED_WITHIN", 5.0),
    ):
        assert name in vars(module)
        vars(module)[name] = value
    defaults = CoreDeviceLink.__init__.__kwdefaults__
    assert defaults is not None
    assert "return_timeout" in defaults
    defaults["return_timeout"] = 30.0
    return True
