"""Fields of several forms."""

from enum import StrEnum

from homeassistant.helpers.selector import (
    NumberSelector,
    NumberSelectorConfig,
    NumberSelectorMode,
    SelectSelector,
    SelectSelectorConfig,
    SelectSelectorMode,
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


def choice(members: type[StrEnum], translation_key: str) -> SelectSelector:
    """Return a list of which one is chosen."""
    return SelectSelector(
        SelectSelectorConfig(
            options=list(members), mode=SelectSelectorMode.LIST, translation_key=translation_key
        )
    )
