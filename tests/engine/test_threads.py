"""Work that may hang holds up nobody."""

import asyncio
import threading

import pytest

from custom_components.esphome_offload.engine.threads import UnreliableThreads


async def test_work_returns_or_raises() -> None:
    threads = UnreliableThreads()
    assert await threads.run(lambda: 1, 5) == 1
    with pytest.raises(ZeroDivisionError):
        await threads.run(lambda: 1 // 0, 5)


async def test_what_hangs_is_left_alone_and_nothing_else_is_started() -> None:
    threads = UnreliableThreads()
    go_on = threading.Event()
    done: list[int] = []
    with pytest.raises(TimeoutError):
        await threads.run(lambda: go_on.wait(10), 0.05)
    with pytest.raises(TimeoutError):
        await threads.run(lambda: done.append(1), 0.05)
    assert done == []

    go_on.set()

    await threads.run(lambda: done.append(2), 10)
    assert done == [2]


async def test_two_at_a_time_run_one_after_the_other() -> None:
    threads = UnreliableThreads()
    running: list[int] = []

    def work(number: int) -> int:
        running.append(number)
        return len(running)

    found = await asyncio.gather(*(threads.run(lambda n=n: work(n), 10) for n in range(5)))
    assert sorted(found) == [1, 2, 3, 4, 5]


def test_a_loop_that_ends_meanwhile_is_not_bothered() -> None:
    threads = UnreliableThreads()
    go_on = threading.Event()

    async def impatient() -> None:
        with pytest.raises(TimeoutError):
            await threads.run(lambda: go_on.wait(10), 0.05)

    asyncio.run(impatient())
    stuck = [each for each in threading.enumerate() if each.name == "unreliable work"]
    go_on.set()
    for each in stuck:
        each.join(10)
    assert stuck


async def test_where_no_thread_can_be_started_the_next_call_is_not_held_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads = UnreliableThreads()

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as short:
        short.setattr(threading.Thread, "start", refuse)
        with pytest.raises(OSError, match="no thread"):
            await threads.run(lambda: 1, 10)
    assert await threads.run(lambda: 2, 10) == 2
