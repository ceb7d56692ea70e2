"""The windows of time for automatic updates."""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest

from custom_components.esphome_offload.automatic.settings import AutomaticFor, AutomaticSettings
from custom_components.esphome_offload.automatic.window import Window, length, window_at

BERLIN = ZoneInfo("Europe/Berlin")
KATHMANDU = ZoneInfo("Asia/Kathmandu")
HOUR = timedelta(hours=1)


def window(
    start: str, end: str, now: str, zone: ZoneInfo = BERLIN, *, days: str = "", fold: int = 0
) -> Window | None:
    """Return the window at a local time."""
    settings = AutomaticSettings(
        start=time.fromisoformat(start),
        end=time.fromisoformat(end),
        **({"days": frozenset(days.split())} if days else {}),
    )
    local = datetime.fromisoformat(now).replace(tzinfo=zone, fold=fold)
    return window_at(settings, local.astimezone(UTC), zone)


# 2026-11-30 is a Monday.
@pytest.mark.parametrize(
    ("start", "end", "now", "days", "inside"),
    [
        ("02:00", "05:00", "2026-11-30 02:00", "", True),
        ("02:00", "05:00", "2026-11-30 04:59:59", "", True),
        ("02:00", "05:00", "2026-11-30 05:00", "", False),
        ("02:00", "05:00", "2026-11-30 01:59:59", "", False),
        ("02:00", "05:00", "2026-11-30 03:00", "mon", True),
        ("02:00", "05:00", "2026-11-30 03:00", "tue wed sun", False),
        ("23:00", "03:00", "2026-11-30 23:30", "mon", True),
        ("23:00", "03:00", "2026-12-01 02:59", "mon", True),
        ("23:00", "03:00", "2026-12-01 02:59", "tue", False),
        ("23:00", "03:00", "2026-11-30 02:59", "sun", True),
        ("23:00", "03:00", "2026-11-30 12:00", "", False),
        ("12:00", "11:59", "2026-11-30 11:58", "", True),
        ("12:00", "11:59", "2026-11-30 11:59", "", False),
        ("00:00", "00:30", "2026-11-30 00:00", "mon", True),
        ("23:30", "00:00", "2026-11-30 23:59", "mon", True),
        ("23:30", "00:00", "2026-12-01 00:00", "mon", False),
    ],
)
def test_a_window_belongs_to_the_day_on_which_it_begins(
    start: str, end: str, now: str, days: str, *, inside: bool
) -> None:
    assert (window(start, end, now, days=days) is not None) is inside


def test_a_window_is_in_the_time_zone_of_home_assistant() -> None:
    found = window("02:00", "05:00", "2026-11-30 03:00", KATHMANDU)
    assert found == Window(
        datetime(2026, 11, 29, 20, 15, tzinfo=UTC), datetime(2026, 11, 29, 23, 15, tzinfo=UTC)
    )


def test_after_midnight_it_is_still_the_window_of_the_day_before() -> None:
    before = window("23:00", "03:00", "2026-11-30 23:30")
    assert before == window("23:00", "03:00", "2026-12-01 01:00")
    assert before != window("23:00", "03:00", "2026-12-01 23:30")


class TestWhenClocksArePutForward:
    """In Berlin on 2027-03-28 there is no time from 02:00 to 03:00."""

    def test_a_window_around_it_is_an_hour_shorter(self) -> None:
        found = window("01:00", "05:00", "2027-03-28 03:30")
        assert found is not None
        assert found.end - found.start == 3 * HOUR

    def test_one_that_would_begin_in_it_begins_an_hour_later(self) -> None:
        assert window("02:30", "05:00", "2027-03-28 03:29") is None
        found = window("02:30", "05:00", "2027-03-28 03:30")
        assert found is not None
        assert found.end - found.start == 1.5 * HOUR

    def test_one_in_it_is_an_hour_later(self) -> None:
        found = window("02:00", "02:45", "2027-03-28 03:40")
        assert found is not None
        assert found.end - found.start == timedelta(minutes=45)

    @pytest.mark.parametrize("end", ["03:00", "03:15"])
    def test_one_that_would_end_before_it_begins_has_the_least_length(self, end: str) -> None:
        assert window("02:30", end, "2027-03-28 03:10") is None
        found = window("02:30", end, "2027-03-28 03:35", ZoneInfo("Europe/Amsterdam"))
        start = datetime(2027, 3, 28, 1, 30, tzinfo=UTC)
        assert found == Window(start, start + HOUR / 2)


class TestWhenClocksArePutBack:
    """In Berlin on 2026-10-25 the time from 02:00 to 03:00 comes twice."""

    def test_a_window_around_it_is_an_hour_longer_and_still_one(self) -> None:
        first = window("01:00", "04:00", "2026-10-25 02:30", fold=0)
        assert first is not None
        assert first.end - first.start == 4 * HOUR
        assert window("01:00", "04:00", "2026-10-25 02:30", fold=1) == first

    def test_one_in_it_comes_once(self) -> None:
        assert window("02:00", "03:00", "2026-10-25 02:15", fold=0) is not None
        assert window("02:10", "02:50", "2026-10-25 02:15", fold=0) is not None
        assert window("02:10", "02:50", "2026-10-25 02:15", fold=1) is None


@pytest.mark.parametrize(
    ("start", "end", "minutes"),
    [
        ("02:00", "05:00", 180),
        ("23:00", "01:00", 120),
        ("02:00", "02:00", 0),
        ("0:00", "23:59", 1439),
    ],
)
def test_how_long_windows_are(start: str, end: str, minutes: int) -> None:
    found = length(time.fromisoformat(start.zfill(5)), time.fromisoformat(end))
    assert found == timedelta(minutes=minutes)


class TestSettings:
    def test_what_is_not_stored_has_its_default(self) -> None:
        settings = AutomaticSettings.from_options({})
        assert settings == AutomaticSettings()
        assert settings.devices is AutomaticFor.CHOSEN
        assert (settings.start, settings.end) == (time(2), time(5))
        assert len(settings.days) == 7
        assert settings.canary is None

    def test_what_is_stored_is_read(self) -> None:
        assert AutomaticSettings.from_options(
            {
                "automatic_updates": "all",
                "automatic_days": ["sat", "sun"],
                "automatic_start": "23:00:00",
                "automatic_end": "01:30:00",
                "automatic_delay_days": 7.0,
                "automatic_canary": "abc",
                "automatic_canary_hours": 2.0,
                "automatic_failures": 1.0,
            }
        ) == AutomaticSettings(
            devices=AutomaticFor.ALL,
            days=frozenset({"sat", "sun"}),
            start=time(23),
            end=time(1, 30),
            delay=timedelta(days=7),
            canary="abc",
            canary_time=2 * HOUR,
            failure_limit=1,
        )

    def test_what_is_damaged_has_its_default(self) -> None:
        damaged = {
            "automatic_updates": "sometimes",
            "automatic_days": "all",
            "automatic_start": "25:00",
            "automatic_end": 5,
            "automatic_delay_days": "x",
            "automatic_canary": "",
        }
        assert AutomaticSettings.from_options(damaged) == AutomaticSettings()

    @pytest.mark.parametrize(
        ("devices", "switched_on", "untouched", "switched_off"),
        [("off", False, False, False), ("chosen", True, False, False), ("all", True, True, False)],
    )
    def test_which_devices_take_part(
        self, devices: str, *, switched_on: bool, untouched: bool, switched_off: bool
    ) -> None:
        settings = AutomaticSettings.from_options({"automatic_updates": devices})
        assert settings.takes_part(chosen=True) is switched_on
        assert settings.takes_part(chosen=None) is untouched
        assert settings.takes_part(chosen=False) is switched_off
