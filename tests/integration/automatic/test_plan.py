"""What is updated automatically at a moment."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from custom_components.esphome_offload.automatic.plan import Canary, Device, Fleet, candidates
from custom_components.esphome_offload.automatic.settings import AutomaticSettings
from custom_components.esphome_offload.engine.target import TargetId

OLD, NEW, BETA = "2026.9.0", "2026.10.0", "2026.11.0b1"
ZONE = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 11, 30, 2, 0, tzinfo=UTC)
"""Monday, 03:00 in Berlin; the window is from 02:00 to 05:00."""
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
SETTINGS = AutomaticSettings(
    delay=timedelta(days=3), canary="id", canary_time=12 * HOUR, failure_limit=3
)


def device(name: str, installed: str | None = OLD, version: str = NEW, **other: object) -> Device:
    values: dict[str, object] = {"out_since": NOW - 30 * DAY, **other}
    return Device(TargetId(name), installed, version, **values)  # type: ignore[arg-type]


LAMP, PLUG, FAN = device("lamp"), device("plug"), device("fan")


def due(
    *devices: Device, settings: AutomaticSettings = SETTINGS, now: datetime = NOW, **fleet: object
) -> tuple[str, ...]:
    state = Fleet(devices, slots=10)
    return candidates(settings, replace(state, **fleet), now, ZONE)


class TestWindow:
    @pytest.mark.parametrize(
        ("now", "found"),
        [
            (NOW, ("lamp",)),
            (NOW - 2 * HOUR, ()),
            (NOW + 2 * HOUR, ()),
            (NOW + 2 * HOUR - timedelta(seconds=1), ("lamp",)),
        ],
    )
    def test_nothing_is_due_outside(self, now: datetime, found: tuple[str, ...]) -> None:
        assert due(LAMP, now=now) == found

    def test_each_device_is_tried_once_in_a_window(self) -> None:
        tried = replace(LAMP, attempted_at=NOW - timedelta(minutes=10))
        assert due(tried, PLUG) == ("plug",)
        assert due(tried, now=NOW + DAY) == ("lamp",)

    def test_a_restart_or_a_moved_end_of_the_window_makes_no_second_attempt(self) -> None:
        tried = replace(LAMP, attempted_at=NOW)
        longer = replace(SETTINGS, end=(NOW + 6 * HOUR).time())
        assert due(tried, settings=longer, now=NOW + 3 * HOUR) == ()

    def test_over_midnight_it_is_still_the_same_window(self) -> None:
        settings = replace(SETTINGS, start=datetime(1, 1, 1, 23).time())
        before_midnight = NOW - 3.5 * HOUR
        assert due(LAMP, settings=settings, now=before_midnight) == ("lamp",)
        assert due(replace(LAMP, attempted_at=before_midnight), settings=settings) == ()

    def test_when_the_hour_comes_twice_there_is_still_one_attempt(self) -> None:
        first = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)  # 02:30
        lamp = device("lamp", out_since=None)
        assert due(lamp, now=first) == ("lamp",)
        assert due(replace(lamp, attempted_at=first), now=first + HOUR) == ()  # 02:30 again

    def test_a_clock_that_was_wrong_for_a_while_stops_nothing(self) -> None:
        assert due(replace(LAMP, attempted_at=NOW + 2000 * DAY)) == ("lamp",)

    def test_a_clock_that_is_set_back_within_the_window_makes_no_second_attempt(self) -> None:
        assert due(replace(LAMP, attempted_at=NOW + HOUR)) == ()


class TestDelay:
    @pytest.mark.parametrize(
        ("out_since", "found"),
        [
            (NOW - 3 * DAY, ("lamp",)),
            (NOW - 3 * DAY + timedelta(seconds=1), ()),
            (NOW + DAY, ()),
            (None, ("lamp",)),
        ],
    )
    def test_a_version_waits_unless_a_person_chose_it(
        self, out_since: datetime | None, found: tuple[str, ...]
    ) -> None:
        assert due(replace(LAMP, out_since=out_since)) == found

    def test_without_a_delay_it_is_due_at_once(self) -> None:
        settings = replace(SETTINGS, delay=timedelta())
        assert due(replace(LAMP, out_since=NOW), settings=settings) == ("lamp",)

    def test_a_changed_configuration_does_not_wait_for_a_version_that_is_installed(self) -> None:
        assert due(replace(LAMP, installed=NEW, out_since=NOW)) == ("lamp",)


class TestCanary:
    @pytest.mark.parametrize(
        ("canary", "released"),
        [
            (None, True),
            (Canary(TargetId("lamp"), NEW, NOW - 12 * HOUR), True),
            (Canary(TargetId("lamp"), BETA, NOW - 12 * HOUR), True),
            (Canary(TargetId("lamp"), NEW, NOW - 11 * HOUR), False),
            (Canary(TargetId("lamp"), NEW, None), False),
            (Canary(TargetId("lamp"), OLD, NOW - 12 * HOUR), False),
            (Canary(TargetId("lamp"), None, NOW - 12 * HOUR), False),
            (Canary(), False),
        ],
        ids=["none", "good", "newer", "too soon", "away", "old", "unknown", "gone"],
    )
    def test_others_follow_when_it_has_run_the_version_for_long_enough(
        self, canary: Canary | None, *, released: bool
    ) -> None:
        assert due(PLUG, FAN, canary=canary) == (("fan", "plug") if released else ())

    def test_it_is_first_and_alone_while_it_has_the_old_version(self) -> None:
        canary = Canary(TargetId("plug"), OLD, NOW - DAY)
        assert due(LAMP, PLUG, FAN, canary=canary) == ("plug",)

    def test_it_is_first_when_its_configuration_changed_too(self) -> None:
        canary = Canary(TargetId("plug"), NEW, NOW - DAY)
        plug = replace(PLUG, installed=NEW)
        assert due(LAMP, plug, FAN, canary=canary) == ("plug", "fan", "lamp")

    def test_after_it_failed_the_others_wait_for_its_next_attempt(self) -> None:
        canary = Canary(TargetId("plug"), OLD, NOW - DAY)
        plug = replace(PLUG, attempted_at=NOW - HOUR)
        state = {"canary": canary, "failed_at": (NOW - HOUR,)}
        assert due(LAMP, plug, FAN, **state) == ()
        assert due(LAMP, plug, FAN, now=NOW + DAY, **state) == ("plug",)

    def test_a_device_with_a_version_of_its_own_does_not_wait_for_it(self) -> None:
        own = replace(FAN, version=BETA, waits_for_canary=False)
        assert due(own, LAMP, canary=Canary(TargetId("plug"), OLD, NOW - DAY)) == ("fan",)

    def test_where_only_the_configuration_is_another_nothing_waits_for_it(self) -> None:
        changed = replace(FAN, installed=NEW)
        assert due(changed, LAMP, canary=Canary(TargetId("plug"), OLD, NOW - DAY)) == ("fan",)


class TestLimit:
    @pytest.mark.parametrize(
        ("failed_at", "running", "found"),
        [
            ((), 0, ("fan", "lamp", "plug")),
            ((NOW,), 0, ("fan", "lamp")),
            ((NOW,), 1, ("fan",)),
            ((NOW, NOW), 1, ()),
            ((NOW, NOW, NOW), 0, ()),
            ((NOW, NOW, NOW, NOW), 0, ()),
            ((NOW - DAY, NOW - DAY, NOW - DAY), 0, ("fan", "lamp", "plug")),
        ],
    )
    def test_no_more_installations_of_a_window_can_fail(
        self, failed_at: tuple[datetime, ...], running: int, found: tuple[str, ...]
    ) -> None:
        assert due(LAMP, PLUG, FAN, failed_at=failed_at, running=running) == found

    @pytest.mark.parametrize(("slots", "count"), [(0, 0), (1, 1), (2, 2), (4, 3)])
    def test_no_more_are_started_than_can_be_built(self, slots: int, count: int) -> None:
        assert len(due(LAMP, PLUG, FAN, slots=slots)) == count


def test_the_oldest_version_is_first() -> None:
    devices = (
        device("a", "2026.9.1"),
        device("b", "2026.10.0b3"),
        device("c", "2025.12.0"),
        device("d", "my fork"),
        device("e", None),
    )
    settings = replace(SETTINGS, failure_limit=10)
    assert due(*devices, settings=settings) == ("d", "e", "c", "a", "b")


def test_devices_that_failed_before_leave_the_failures_of_a_window_to_the_others() -> None:
    broken = [device(f"broken{number}", "2025.1.0", failed=True) for number in range(3)]
    assert due(*broken, LAMP, PLUG, FAN) == ("fan", "lamp", "plug")
