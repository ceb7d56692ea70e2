"""Fields of several forms."""

from homeassistant.helpers.selector import (
    NumberSelector,
    NumberSelectorConfig,
    NumberSelectorMode,
)
import probatio

from ..options import NUMBERS, EntryKey


def whole_number(key: EntryKey) -> probatio.All[int]:
    """Return the number box of an option; the frontend sends floats."""
    number = NUMBERS[key]
    config = NumberSelectorConfig(
        min=number.least, max=number.most, step=1, mode=NumberSelectorMode.BOX
    )
    if number.unit is not None:
        config["unit_of_measurement"] = number.unit
    return probatio.All(NumberSelector(config), probatio.Coerce(int))
