"""CoalescedTask: requests that come while the work runs make it run once more."""

import asyncio

from custom_components.esphome_offload.engine.tasks import CoalescedTask


async def test_requests_during_a_run_cause_one_more_run() -> None:
    runs = 0
    proceed = asyncio.Event()

    async def work() -> None:
        nonlocal runs
        runs += 1
        await proceed.wait()

    task = CoalescedTask(work, "work")
    task.request()
    task.request()
    await asyncio.sleep(0)
    assert runs == 1
    task.request()
    task.request()
    proceed.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert runs == 2
    task.request()
    await asyncio.sleep(0)
    assert runs == 3


async def test_a_stopped_task_is_cancelled_and_ignores_requests() -> None:
    runs = 0

    async def work() -> None:
        nonlocal runs
        runs += 1
        await asyncio.Event().wait()

    task = CoalescedTask(work, "work")
    task.request()
    await asyncio.sleep(0)
    assert await task.stop(timeout=10)
    task.request()
    await asyncio.sleep(0)
    assert runs == 1
