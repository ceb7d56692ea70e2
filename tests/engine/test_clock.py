import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from custom_components.esphome_offload.engine.clock import SystemTime, sleep

from .jobs.fakes import VirtualTime


def test_the_present_time_is_in_utc() -> None:
    before = datetime.now(UTC)
    now = SystemTime().now()
    assert now.tzinfo is UTC
    assert before <= now <= before + timedelta(minutes=1)


def test_monotonic_time_does_not_follow_a_clock_that_is_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    time = SystemTime()
    before = time.monotonic()
    monkeypatch.setattr("time.time", lambda: 0.0)
    assert before <= time.monotonic() < before + 60


async def test_a_timer_calls_once_unless_it_is_cancelled() -> None:
    calls: list[str] = []
    called = asyncio.Event()
    time = SystemTime()
    cancel = time.call_later(0, lambda: calls.append("cancelled"))
    time.call_later(0, lambda: (calls.append("called"), called.set()))
    cancel()
    await asyncio.wait_for(called.wait(), 30)
    assert calls == ["called"]


async def test_sleep_ends_with_its_timer() -> None:
    time = VirtualTime()
    sleeping = asyncio.ensure_future(sleep(time, 10))
    await time.go(9.9)
    assert not sleeping.done()
    await time.go(0.1)
    assert sleeping.done()


async def test_a_sleep_that_is_cancelled_leaves_no_timer() -> None:
    time = VirtualTime()
    sleeping = asyncio.ensure_future(sleep(time, 10))
    await time.go(0)
    assert time.next_in == [10]
    sleeping.cancel()
    await time.go(0)
    assert time.next_in == []
