"""The options for automatic updates, as the rest of the code uses them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import time, timedelta
from enum import StrEnum
from typing import Final, Self

from homeassistant.const import WEEKDAYS

from ..options import NUMBERS, EntryKey

_START: Final = time(2)
_END: Final = time(5)


class AutomaticFor(StrEnum):
    """The devices that are updated automatically."""

    OFF = "off"
    CHOSEN = "chosen"
    """Those whose switch was turned on."""
    ALL = "all"
    """All but those whose switch was turned off."""


@dataclass(frozen=True, slots=True)
class AutomaticSettings:
    """When and what is updated automatically.

    A window begins on one of ``days`` at ``start``, and ends at the next ``end``; both are local.
    ``delay`` counts from the release of a version. ``canary`` is the id of an update entity in the
    registry, ``canary_time`` how long its device has to run a version before others get it.
    ``failure_limit`` is how many installations may fail in a window.
    """

    devices: AutomaticFor = AutomaticFor.CHOSEN
    days: frozenset[str] = frozenset(WEEKDAYS)
    start: time = _START
    end: time = _END
    delay: timedelta = timedelta(days=NUMBERS[EntryKey.AUTOMATIC_DELAY_DAYS].default)
    canary: str | None = None
    canary_time: timedelta = timedelta(hours=NUMBERS[EntryKey.AUTOMATIC_CANARY_HOURS].default)
    failure_limit: int = NUMBERS[EntryKey.AUTOMATIC_FAILURES].default

    def takes_part(self, chosen: bool | None) -> bool:
        """Return whether a device takes part; ``chosen`` is what its switch was set to."""
        if self.devices is AutomaticFor.OFF:
            return False
        return self.devices is AutomaticFor.ALL if chosen is None else chosen

    @classmethod
    def from_options(cls, options: Mapping[str, object]) -> Self:
        """Read the options of a config entry; a missing or invalid one gets its default."""
        numbers = {key: number.read(options.get(key)) for key, number in NUMBERS.items()}
        chosen = options.get(EntryKey.AUTOMATIC)
        days = options.get(EntryKey.AUTOMATIC_DAYS)
        canary = options.get(EntryKey.AUTOMATIC_CANARY)
        return cls(
            devices=AutomaticFor(chosen)
            if isinstance(chosen, str) and chosen in AutomaticFor
            else AutomaticFor.CHOSEN,
            days=frozenset(days if isinstance(days, list) else WEEKDAYS),
            start=_time(options.get(EntryKey.AUTOMATIC_START), _START),
            end=_time(options.get(EntryKey.AUTOMATIC_END), _END),
            delay=timedelta(days=numbers[EntryKey.AUTOMATIC_DELAY_DAYS]),
            canary=canary if isinstance(canary, str) and canary else None,
            canary_time=timedelta(hours=numbers[EntryKey.AUTOMATIC_CANARY_HOURS]),
            failure_limit=numbers[EntryKey.AUTOMATIC_FAILURES],
        )


def _time(value: object, default: time) -> time:
    try:
        return time.fromisoformat(value) if isinstance(value, str) else default
    except ValueError:
        return default
