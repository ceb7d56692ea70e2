"""Fields of several forms."""

from homeassistant.helpers.selector import (
    NumberSelector,
    NumberSelectorConfig,
    NumberSelectorMode,
)
import probatio


def whole_number(least: int, most: int, unit: str | None = None) -> probatio.All[int]:
    """Return a number box for whole numbers; the frontend sends floats."""
    config = NumberSelectorConfig(min=least, max=most, step=1, mode=NumberSelectorMode.BOX)
    if unit is not None:
        config["unit_of_measurement"] = unit
    return probatio.All(NumberSelector(config), probatio.Coerce(int))
