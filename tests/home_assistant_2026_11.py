"""What the test plugin of Home Assistant 2026.10.4 needs to run on 2026.11.

Loaded with ``-p`` before all other plugins; to be deleted with the first release of the plugin
that is made for 2026.11. On 2026.10.4 it changes nothing.
"""

# Home Assistant 2026.11 puts httpx2 in the place of httpx when it is imported, and refuses when
# httpx was imported before it. The plugins of respx and of Home Assistant import httpx first.
import homeassistant  # noqa: F401
from homeassistant.components import logger
from homeassistant.components.logger import helpers

# The plugin imports it from where it was in 2026.10.
if not hasattr(logger, "_clear_logger_overwrites"):
    logger._clear_logger_overwrites = helpers._clear_logger_overwrites
