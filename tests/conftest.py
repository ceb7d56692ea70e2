"""Home Assistant's test plugin finds the integration in this checkout."""

import custom_components  # noqa: F401 else the plugin's own package of that name is used
