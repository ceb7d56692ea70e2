"""Ids of jobs and attempts."""

from datetime import UTC, datetime, timedelta
import time
import uuid

import pytest

from custom_components.esphome_offload.engine.host.used_ids import UsedAttemptIds
from custom_components.esphome_offload.engine.jobs import ids
from custom_components.esphome_offload.engine.jobs.ids import new_id

NOW = datetime(2026, 10, 20, tzinfo=UTC)


def set_clock(monkeypatch: pytest.MonkeyPatch, moment: datetime) -> None:
    monkeypatch.setattr(time, "time_ns", lambda: int(moment.timestamp() * 1000) * 1_000_000)


@pytest.fixture(autouse=True)
def _from_the_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ids, "_last_time", 0)


def test_they_are_uuids_of_version_7_with_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    set_clock(monkeypatch, NOW)
    made = uuid.UUID(hex=new_id())
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert made.time == int(NOW.timestamp() * 1000)


def test_those_of_one_moment_differ_and_sort_as_they_were_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_clock(monkeypatch, NOW)
    made = [new_id() for _ in range(1000)]
    assert made == sorted(set(made))


def test_a_clock_that_is_corrected_a_little_does_not_change_their_order(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_clock(monkeypatch, NOW)
    first = new_id()
    set_clock(monkeypatch, NOW - timedelta(seconds=20))
    assert first < new_id()


def test_after_a_clock_was_ahead_they_are_of_the_present_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    set_clock(monkeypatch, NOW + timedelta(days=400))
    new_id()
    set_clock(monkeypatch, NOW)
    UsedAttemptIds().check(new_id(), NOW)
