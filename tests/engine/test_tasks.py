import asyncio
import logging

import pytest

from custom_components.esphome_offload.engine.tasks import (
    BackgroundTasks,
    CoalescedTask,
    stop_all,
)


async def test_a_task_is_owned_until_it_ends() -> None:
    tasks = BackgroundTasks()
    assert not tasks
    go = asyncio.Event()

    async def work() -> None:
        await go.wait()

    task = tasks.start(work(), "some work")
    assert task.get_name() == "some work"
    assert tasks
    go.set()
    assert await tasks.wait()
    assert task.done()
    await asyncio.sleep(0)
    assert not tasks


async def test_waiting_ends_with_the_time_it_is_given_and_leaves_the_task_running() -> None:
    tasks = BackgroundTasks()
    go = asyncio.Event()

    async def work() -> None:
        await go.wait()

    task = tasks.start(work(), "some work")
    assert not await tasks.wait(0)
    assert not task.done()
    go.set()
    assert await tasks.wait()


async def test_cancel_cancels_all_tasks_and_waits_for_their_end() -> None:
    tasks = BackgroundTasks()
    ended: list[int] = []

    async def work(number: int) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(number)

    for number in (1, 2):
        tasks.start(work(number), f"work {number}")
    await asyncio.sleep(0)

    assert await tasks.cancel()
    assert sorted(ended) == [1, 2]


async def test_cancel_says_when_a_task_does_not_end_in_time() -> None:
    tasks = BackgroundTasks()
    go = asyncio.Event()

    async def stubborn() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await go.wait()

    tasks.start(stubborn(), "stubborn")
    await asyncio.sleep(0)
    assert not await tasks.cancel(0)
    go.set()
    assert await tasks.wait()


async def test_a_failure_is_logged_with_the_name_and_a_cancellation_is_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tasks = BackgroundTasks()

    async def fail() -> None:
        raise ValueError("a defect")

    async def endless() -> None:
        await asyncio.Event().wait()

    tasks.start(fail(), "first work")
    tasks.start(endless(), "second work")
    await asyncio.sleep(0)
    await tasks.cancel()
    await asyncio.sleep(0)

    (record,) = [each for each in caplog.records if each.levelno >= logging.ERROR]
    assert record.getMessage() == "first work failed"
    assert "a defect" in caplog.text


async def test_a_request_at_the_moment_when_the_work_ends_is_not_lost() -> None:
    runs: list[None] = []

    async def work() -> None:
        if not runs:
            # Called after the work has ended, before anything else can know that.
            asyncio.get_running_loop().call_soon(coalesced.request)
        runs.append(None)

    coalesced = CoalescedTask(work, "some work")
    coalesced.request()
    for _ in range(5):
        await asyncio.sleep(0)

    assert len(runs) == 2


async def test_requests_during_a_run_cause_one_more_run() -> None:
    runs = 0
    proceed = asyncio.Event()

    async def work() -> None:
        nonlocal runs
        runs += 1
        await proceed.wait()

    coalesced = CoalescedTask(work, "work")
    coalesced.request()
    coalesced.request()
    await asyncio.sleep(0)
    assert runs == 1
    coalesced.request()
    coalesced.request()
    proceed.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert runs == 2
    coalesced.request()
    await asyncio.sleep(0)
    assert runs == 3


async def test_a_stopped_task_is_cancelled_and_ignores_requests() -> None:
    runs = 0

    async def work() -> None:
        nonlocal runs
        runs += 1
        await asyncio.Event().wait()

    coalesced = CoalescedTask(work, "work")
    coalesced.request()
    await asyncio.sleep(0)
    assert await coalesced.stop(timeout=10)
    coalesced.request()
    await asyncio.sleep(0)
    assert runs == 1


async def test_a_part_that_cannot_be_stopped_is_logged_and_the_others_stop(
    caplog: pytest.LogCaptureFixture,
) -> None:
    stopped: list[str] = []

    async def fail() -> None:
        raise OSError("the disk is full")

    async def stop() -> None:
        await asyncio.sleep(0)
        stopped.append("second")

    await stop_all(fail(), stop())

    assert stopped == ["second"]
    assert "the disk is full" in caplog.text
