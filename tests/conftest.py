"""Home Assistant's test plugin finds the integration in this checkout."""

import custom_components  # noqa: F401 else the plugin's own package of that name is used

# ENGINE_ONLY=1: the engine's tests while the rest of the integration does not import.
import os  # noqa: E402

if os.environ.get("ENGINE_ONLY"):
    from pathlib import Path
    import sys
    import types

    _NAME = "custom_components.esphome_offload"
    _package = types.ModuleType(_NAME)
    _package.__path__ = [str(Path(__file__).parents[1] / "custom_components" / "esphome_offload")]
    sys.modules[_NAME] = _package
