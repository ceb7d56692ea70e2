"""Windows of time in which automatic updates may start."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Final

from homeassistant.const import WEEKDAYS

from .settings import AutomaticSettings

LEAST: Final = timedelta(minutes=30)
"""Long enough that a check always lies in it."""

_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Window:
    """One of the windows; both ends are UTC."""

    start: datetime
    end: datetime

    def __contains__(self, moment: datetime) -> bool:
        return self.start <= moment < self.end


def length(start: time, end: time) -> timedelta:
    """Return how long windows are from one time to the next other one; 0 for the same."""
    return (datetime.combine(date.min, end) - datetime.combine(date.min, start)) % _DAY


def window_at(settings: AutomaticSettings, now: datetime, zone: tzinfo) -> Window | None:
    """Return the window that ``now`` lies in.

    One over midnight belongs to the day on which it begins.
    """
    today = now.astimezone(zone).date()
    for day in (today - _DAY, today):
        if WEEKDAYS[day.weekday()] not in settings.days:
            continue
        last = day if settings.start < settings.end else day + _DAY
        start, end = _moment(day, settings.start, zone), _moment(last, settings.end, zone)
        # Where a clock leaps over the start, the end may be before it.
        window = Window(start, max(end, start + LEAST))
        if now in window:
            return window
    return None


def _moment(day: date, at: time, zone: tzinfo) -> datetime:
    """Return when a local time is: the first of two, an hour later where a clock leaps over it."""
    return datetime.combine(day, at, tzinfo=zone).astimezone(UTC)
