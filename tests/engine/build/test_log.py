"""The log of a job: numbered, bounded, on disk."""

import asyncio
from collections.abc import AsyncIterator, Callable
import errno
import gc
from pathlib import Path
import threading

import pytest

from custom_components.esphome_offload.engine import job_log as log_module
from custom_components.esphome_offload.engine.clock import SystemTime
from custom_components.esphome_offload.engine.job_log import (
    FILE_LIMIT,
    WRITE_EVERY,
    JobLogs,
)
from custom_components.esphome_offload.engine.numbered_lines import LogPage, Run

from ..jobs.fakes import VirtualTime

JOB = "0" * 32


@pytest.fixture
async def logs(tmp_path: Path) -> AsyncIterator[JobLogs]:
    logs = JobLogs(tmp_path / "logs", VirtualTime())
    logs.open(JOB)
    yield logs
    await logs.aclose()


async def again(tmp_path: Path) -> LogPage:
    """Read the log as another process would."""
    return await JobLogs(tmp_path / "logs").read(JOB, 0, 10**6)


async def written(logs: JobLogs) -> None:
    """Let the pause of the writer pass, and wait for it."""
    assert isinstance(logs._time, VirtualTime)
    await logs._time.go(WRITE_EVERY)
    await logs._tasks.wait()


async def test_lines_are_numbered_from_zero_and_read_from_anywhere(logs: JobLogs) -> None:
    logs.append(JOB, ["a", "b"])
    logs.append(JOB, ["c"])
    assert await logs.read(JOB) == LogPage(0, ("a", "b", "c"), 3, 3)
    assert await logs.read(JOB, 1, 1) == LogPage(1, ("b",), 2, 3)
    assert await logs.read(JOB, 3) == LogPage(3, (), 3, 3)
    assert await logs.read(JOB, 99) == LogPage(3, (), 3, 3)
    assert await logs.read(JOB, -5, 1) == LogPage(0, ("a",), 1, 3)


async def test_a_log_reads_the_same_after_the_end_and_after_a_restart(
    logs: JobLogs, tmp_path: Path
) -> None:
    logs.append(JOB, ["grün", "\ttab", "", "two\nlines", "x" * 10_000])
    live = await logs.read(JOB)
    logs.finish(JOB)
    logs.append(JOB, ["too late"])
    assert await logs.read(JOB) == live
    await logs.aclose()
    assert await logs.read(JOB) == await again(tmp_path) == live
    assert live.lines[3] == "two lines"
    assert len(live.lines[4]) == 4000


async def test_an_unknown_log_is_empty(logs: JobLogs) -> None:
    assert await logs.read("f" * 32) == LogPage(0, (), 0, 0)
    logs.append("f" * 32, ["lost"])
    logs.finish("f" * 32)
    assert (await logs.read("f" * 32)).total == 0


async def test_writing_is_batched_and_needs_no_end(logs: JobLogs, tmp_path: Path) -> None:
    logs.append(JOB, ["a"])
    logs.append(JOB, ["b"])
    assert (await again(tmp_path)).total == 0
    await written(logs)
    assert (await again(tmp_path)).lines == ("a", "b")
    logs.append(JOB, ["c"])
    await written(logs)
    assert (await again(tmp_path)).lines == ("a", "b", "c")


async def test_head_and_tail_are_kept_and_the_gap_shows(logs: JobLogs, tmp_path: Path) -> None:
    lines = [f"line {n} {'x' * 80}" for n in range(30_000)]
    for begin in range(0, len(lines), 500):
        logs.append(JOB, lines[begin : begin + 500])
    first = await logs.read(JOB, 0, 10**6)
    assert first.lines == tuple(lines[: len(first.lines)])
    assert first.next_line < first.total == len(lines)
    second = await logs.read(JOB, first.next_line, 10**6)
    assert second.first_line > first.next_line
    assert second.lines == tuple(lines[second.first_line :])
    assert second.next_line == second.total

    await logs.aclose()
    path = tmp_path / "logs" / f"{JOB}.log"
    assert path.stat().st_size <= FILE_LIMIT
    other = JobLogs(tmp_path / "logs")
    assert await other.read(JOB, 0, 10**6) == first
    assert await other.read(JOB, first.next_line + 1, 10**6) == second


async def test_the_file_never_outgrows_its_limit_while_it_is_written(
    logs: JobLogs, tmp_path: Path
) -> None:
    path = tmp_path / "logs" / f"{JOB}.log"
    sizes = []
    for batch in range(20):
        logs.append(JOB, [f"{batch} {n} {'ä' * 50}" for n in range(1000)])
        await written(logs)
        sizes.append(path.stat().st_size)
        assert (await again(tmp_path)).total == 1000 * (batch + 1)
    assert max(sizes) <= FILE_LIMIT
    assert sorted(sizes) != sizes  # it was rewritten at least once


async def test_a_line_cut_off_by_a_kill_is_left_out_and_the_log_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "logs" / f"{JOB}.log"
    path.parent.mkdir()
    path.write_bytes(b"0\ta\nnonsense\n1\tb\n2\tcut o")
    logs = JobLogs(tmp_path / "logs", VirtualTime())
    await logs.resume(JOB)
    assert (await logs.read(JOB)).lines == ("a", "b")
    logs.append(JOB, ["c"])
    await logs.aclose()
    assert await again(tmp_path) == LogPage(0, ("a", "b", "c"), 3, 3)


async def test_a_resumed_log_keeps_its_gap(tmp_path: Path) -> None:
    path = tmp_path / "logs" / f"{JOB}.log"
    path.parent.mkdir()
    path.write_bytes(b"0\ta\n7\th\n8\ti\n")
    logs = JobLogs(tmp_path / "logs", VirtualTime())
    await logs.resume(JOB)
    logs.append(JOB, ["j"])
    assert await logs.read(JOB) == LogPage(0, ("a",), 1, 10)
    assert await logs.read(JOB, 1) == LogPage(7, ("h", "i", "j"), 10, 10)
    await logs.aclose()


async def test_following_yields_what_is_there_then_what_comes_until_the_end(
    logs: JobLogs,
) -> None:
    woken, ended = asyncio.Event(), False
    unsubscribe = logs.subscribe(JOB, woken.set)
    logs.append(JOB, ["a", "b", "c"])
    pages = logs.follow(JOB, 0, woken=woken, ended=lambda: ended, limit=2)
    assert await anext(pages) == LogPage(0, ("a", "b"), 2, 3)
    assert await anext(pages) == LogPage(2, ("c",), 3, 3)
    waiting = asyncio.ensure_future(anext(pages))
    await asyncio.sleep(0)
    assert not waiting.done()
    logs.append(JOB, ["d"])
    assert await waiting == LogPage(3, ("d",), 4, 4)
    # The caller wakes it as well, for a change that is not in the log.
    woken.set()
    assert await anext(pages) == LogPage(4, (), 4, 4)
    ended = True
    logs.finish(JOB)
    assert await anext(pages) == LogPage(4, (), 4, 4, last=True)
    with pytest.raises(StopAsyncIteration):
        await anext(pages)
    unsubscribe()
    assert not logs._listeners


async def test_following_an_ended_log_reads_its_file_once(
    logs: JobLogs, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs.append(JOB, [f"line {n}" for n in range(10)])
    logs.finish(JOB)
    await logs.aclose()
    loads = []
    load = log_module._load
    monkeypatch.setattr(log_module, "_load", lambda path: (loads.append(path), load(path))[1])
    pages = logs.follow(JOB, 1, woken=asyncio.Event(), ended=lambda: True, limit=4)
    assert [(page.first_line, len(page.lines), page.last) async for page in pages] == [
        (1, 4, False),
        (5, 4, False),
        (9, 1, True),
    ]
    assert len(loads) == 1


async def test_what_comes_during_the_pause_is_in_the_page_after_it(logs: JobLogs) -> None:
    woken, pauses = asyncio.Event(), list[None]()
    unsubscribe = logs.subscribe(JOB, woken.set)

    async def pause() -> None:
        pauses.append(None)
        logs.append(JOB, [f"during pause {len(pauses)}"])

    logs.append(JOB, ["a", "b", "c"])
    pages = logs.follow(JOB, 0, woken=woken, ended=lambda: False, limit=2, pause=pause)
    assert (await anext(pages)).lines == ("a", "b")
    assert not pauses
    assert (await anext(pages)).lines == ("c", "during pause 1")
    logs.append(JOB, ["d"])
    assert (await anext(pages)).lines == ("d", "during pause 2")
    unsubscribe()
    await pages.aclose()


async def test_following_goes_on_with_a_log_that_ends_meanwhile(logs: JobLogs) -> None:
    woken = asyncio.Event()
    logs.append(JOB, ["a", "b"])
    pages = logs.follow(JOB, 0, woken=woken, ended=lambda: False, limit=1)
    assert (await anext(pages)).lines == ("a",)
    logs.append(JOB, ["c"])
    logs.finish(JOB)
    await logs.aclose()
    assert [(await anext(pages)).lines for _ in range(2)] == [("b",), ("c",)]


async def test_a_page_is_bounded_in_bytes_but_has_at_least_one_line(logs: JobLogs) -> None:
    logs.append(JOB, ["x" * 90, "y" * 90, "z" * 500])
    pages = logs.follow(JOB, 0, woken=asyncio.Event(), ended=lambda: True, limit=9, size=200)
    assert [len(page.lines) async for page in pages] == [2, 1]


async def test_twenty_thousand_lines_make_few_writes_and_no_task_per_line(
    logs: JobLogs, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes = []
    append = log_module._append
    monkeypatch.setattr(
        log_module,
        "_append",
        lambda path, run: (writes.append(len(run.lines)), append(path, run))[1],
    )
    for n in range(20_000):
        logs.append(JOB, [f"line {n}"])
    assert not logs._tasks
    await written(logs)
    assert writes == [20_000]


async def test_lines_are_nothing_that_the_garbage_collector_counts(logs: JobLogs) -> None:
    lines = [f"line {n}" for n in range(10_000)]
    gc.collect()
    gc.disable()
    before = gc.get_count()[0]
    for first in range(0, len(lines), 100):
        logs.append(JOB, lines[first : first + 100])
    counted = gc.get_count()[0] - before
    gc.enable()
    assert counted < 100


async def test_a_disk_that_cannot_be_written_is_said_and_does_no_harm(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "logs").write_text("in the way")
    logs = JobLogs(tmp_path / "logs", VirtualTime())
    logs.open(JOB)
    logs.append(JOB, ["a"])
    await written(logs)
    assert "cannot be written" in caplog.text
    assert (await logs.read(JOB)).lines == ("a",)
    await logs.aclose()


def fill_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Let every write take half of it; return what makes room again."""
    write, is_full = Path.write_bytes, True

    def append(path: Path, run: Run) -> int:
        path.parent.mkdir(exist_ok=True)
        return half(path, log_module._text(run))

    def half(path: Path, text: bytes) -> int:
        if is_full:
            write(path, text[: len(text) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, text)

    def make_room() -> None:
        nonlocal is_full
        is_full = False

    monkeypatch.setattr(log_module, "_append", append)
    monkeypatch.setattr(Path, "write_bytes", half)
    return make_room


async def test_what_a_full_disk_does_not_take_is_written_when_it_has_room(
    logs: JobLogs,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_room = fill_disk(monkeypatch)
    assert isinstance(logs._time, VirtualTime)
    for line in ("a", "b"):
        logs.append(JOB, [line])
        await written(logs)
    assert logs._time.next_in == [log_module.RETRY_AFTER - WRITE_EVERY]
    await logs._time.go(log_module.RETRY_AFTER)
    await logs._tasks.wait()
    assert caplog.text.count("cannot be written") == 1, "once for all tries"
    assert not list((tmp_path / "logs").glob("*.new"))
    make_room()
    await logs._time.go(log_module.RETRY_AFTER)
    await logs._tasks.wait()
    assert (await again(tmp_path)).lines == ("a", "b")


async def test_a_log_that_ends_on_a_full_disk_is_readable_and_written_later(
    logs: JobLogs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_room = fill_disk(monkeypatch)
    logs.append(JOB, ["a"])
    logs.finish(JOB)
    await written(logs)
    assert (await logs.read(JOB)).lines == ("a",)
    make_room()
    await logs.aclose()
    assert (await again(tmp_path)).lines == ("a",)


async def test_only_so_many_logs_wait_for_a_full_disk_and_none_that_was_deleted(
    logs: JobLogs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_room = fill_disk(monkeypatch)
    names = [f"{number:032}" for number in range(1, log_module._UNWRITTEN + 2)]
    for name in names:
        logs.open(name)
        logs.append(name, [name])
        logs.finish(name)
        await written(logs)
    assert [name for name in names if name in logs._live] == names[1:]
    logs.forget(names[1:2])
    await logs._tasks.wait()
    make_room()
    assert isinstance(logs._time, VirtualTime)
    await logs._time.go(log_module.RETRY_AFTER)
    await logs._tasks.wait()
    assert (await logs.read(names[2])).lines == (names[2],)
    assert not (tmp_path / "logs" / f"{names[1]}.log").exists()


async def test_lines_that_come_while_writing_are_written_next(
    logs: JobLogs, tmp_path: Path
) -> None:
    logs.append(JOB, ["a"])
    assert isinstance(logs._time, VirtualTime)
    logs._write_now(logs._live[JOB])
    await asyncio.sleep(0)
    logs.append(JOB, ["b"])
    await logs._tasks.wait()
    assert logs._time.next_in == [WRITE_EVERY]
    await written(logs)
    assert (await again(tmp_path)).lines == ("a", "b")


async def test_logs_of_other_jobs_are_pruned(logs: JobLogs, tmp_path: Path) -> None:
    logs.append(JOB, ["a"])
    await logs.aclose()
    old = tmp_path / "logs" / f"{'1' * 32}.log"
    old.write_text("0\told\n")
    await logs.prune([JOB])
    assert not old.exists()
    assert (await again(tmp_path)).total == 1
    logs.forget([JOB])
    await logs.aclose()
    assert (await again(tmp_path)).total == 0
    await JobLogs(tmp_path / "nowhere").prune([])


async def test_a_log_that_is_deleted_while_it_is_written_does_not_come_back(
    logs: JobLogs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_write = threading.Event()
    append = log_module._append

    def late(path: Path, run: Run) -> int:
        may_write.wait(30)
        return append(path, run)

    monkeypatch.setattr(log_module, "_append", late)
    logs.append(JOB, ["a"])
    logs.finish(JOB)
    await asyncio.sleep(0)
    logs.forget([JOB])
    await asyncio.sleep(0)
    may_write.set()
    await logs.aclose()
    assert not list((tmp_path / "logs").iterdir())


async def test_what_cannot_be_deleted_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "logs" / "a folder").mkdir(parents=True)
    await JobLogs(tmp_path / "logs").prune([])
    assert "cannot be deleted" in caplog.text


async def test_the_systems_time_calls_back() -> None:
    called = asyncio.Event()
    SystemTime().call_later(0, called.set)
    await asyncio.wait_for(called.wait(), 30)
    assert SystemTime().now().utcoffset() is not None
