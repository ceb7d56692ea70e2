"""The file that the jobs are stored in."""

import asyncio
from collections.abc import AsyncGenerator, Iterable
from datetime import UTC, datetime
import errno
from pathlib import Path
import resource
import signal
import stat
import threading

import pytest

from custom_components.esphome_offload.engine.jobs import journal as journal_module
from custom_components.esphome_offload.engine.jobs.ids import new_id
from custom_components.esphome_offload.engine.jobs.journal import JobJournal
from custom_components.esphome_offload.engine.jobs.model import FirmwareJob
from custom_components.esphome_offload.engine.jobs.store import KEPT_JOBS

from .fakes import request

NOW = datetime(2026, 10, 20, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / ".storage" / "jobs.jsonl"


@pytest.fixture
async def journal(path: Path) -> AsyncGenerator[JobJournal]:
    journal = JobJournal(path)
    yield journal
    await journal.aclose()


def job(configuration: str = "lamp.yaml") -> FirmwareJob:
    return FirmwareJob(new_id(), request(configuration), NOW)


async def store(path: Path, *jobs: FirmwareJob) -> None:
    """Store jobs in a run of their own."""
    journal = JobJournal(path)
    for each in jobs:
        journal.save_soon(each)
    await journal.aclose()


async def test_jobs_are_there_after_a_restart_as_they_were_last(
    journal: JobJournal, path: Path
) -> None:
    first, second = job("a.yaml"), job("b.yaml")
    await store(path, first, second)
    first.start(NOW)
    await store(path, first)
    assert await journal.load() == [first, second]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_jobs_keep_the_order_in_which_they_were_made_also_where_ids_go_back(
    journal: JobJournal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second, first = job("a.yaml"), job("a.yaml")
    for each in (first, second):
        each.cancel(NOW)
    monkeypatch.setattr(journal_module, "ADDED_LIMIT", -1)  # written anew each time
    await store(path, first, second)
    await store(path, first)
    assert path.read_bytes().count(b"\n") == 2
    assert await journal.load() == [first, second]


async def test_where_nothing_was_stored_there_is_nothing(journal: JobJournal) -> None:
    assert await journal.load() == []


async def test_a_job_is_stored_soon_while_others_keep_changing(
    journal: JobJournal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "WRITE_AFTER", 0.0)
    saved = job()
    journal.save_soon(saved)
    while not path.exists():
        journal.save_soon(saved)
        await asyncio.sleep(0)
    assert await journal.load() == [saved]


@pytest.fixture
def never_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have nothing written but what is urgent."""
    monkeypatch.setattr(journal_module, "WRITE_AFTER", 3600.0)


@pytest.mark.usefixtures("never_by_itself")
async def test_what_was_saved_before_a_flush_is_on_disk_after_it(journal: JobJournal) -> None:
    first, second = job("a.yaml"), job("b.yaml")
    journal.save_soon(first)
    journal.save_soon(second)
    await asyncio.gather(journal.flush(), journal.flush())
    assert await journal.load() == [first, second]
    first.start(NOW)
    journal.save_soon(first)
    await journal.flush()
    assert await journal.load() == [first, second]


@pytest.mark.usefixtures("never_by_itself")
async def test_the_end_of_a_job_waits_for_no_other(journal: JobJournal, path: Path) -> None:
    ended = job()
    journal.save_soon(ended)
    ended.cancel(NOW)
    journal.save_soon(ended)
    async with asyncio.timeout(30):
        while not path.exists():  # noqa: ASYNC110 - nothing is told of that
            await asyncio.sleep(0)
    await journal.aclose()
    assert await journal.load() == [ended]


async def test_a_flush_does_not_wait_for_a_disk_that_hangs(
    journal: JobJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "FLUSH_TIMEOUT", 0.01)
    append, answers = journal._append, threading.Event()

    def hang(records: Iterable[object]) -> None:
        answers.wait()
        append(records)

    monkeypatch.setattr(journal, "_append", hang)
    saved = job()
    journal.save_soon(saved)
    await journal.flush()
    assert await journal.load() == []
    answers.set()
    await journal.aclose()
    assert await journal.load() == [saved]


async def test_what_one_job_adds_does_not_depend_on_how_many_there_are(path: Path) -> None:
    await store(path, job())
    alone = path.stat().st_size
    await store(path, *(job() for _ in range(400)))
    among_many = path.stat().st_size
    await store(path, job())
    assert path.stat().st_size - among_many == alone


async def test_a_line_that_was_cut_off_costs_only_that_line(
    journal: JobJournal, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, cut, last = job(), job(), job()
    await store(path, first, cut)
    path.write_bytes(path.read_bytes()[:-20])
    await store(path, last)
    assert await journal.load() == [first, last]
    assert not caplog.text


async def test_damage_is_left_out_and_logged(
    journal: JobJournal, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good = job()
    await store(path, good)
    with path.open("ab") as file:
        file.write(b'\xff\xfe\n[]\n{}\n"x"\n')
    assert await journal.load() == [good]
    assert "4 lines of the stored jobs are damaged" in caplog.text


async def test_nothing_is_lost_while_the_disk_is_full(
    journal: JobJournal, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.parent.mkdir()
    path.symlink_to("/dev/full")
    first, second = job(), job()
    await store(path, first)
    assert "No space left on device" in caplog.text

    journal.save_soon(first)
    assert not await journal._write_pending()
    assert not await journal._write_pending()
    assert caplog.text.count("cannot be stored") == 2
    path.unlink()
    journal.save_soon(second)
    assert await journal._write_pending()
    assert await journal.load() == [first, second]


async def test_of_what_fits_only_partly_nothing_is_taken(
    journal: JobJournal, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second, third = job(), job(), job()
    await store(path, first)
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        # A part of a line fits, as on a disk that is nearly full.
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 100, hard))
        journal.save_soon(second)
        journal.save_soon(third)
        assert not await journal._write_pending()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert path.read_bytes() == before
    assert await journal._write_pending()
    assert await journal.load() == [first, second, third]
    assert "cannot be stored" in caplog.text


async def test_what_is_stored_while_the_last_write_ends_is_written_too(
    journal: JobJournal, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = job(), job()
    write, written = journal._write_pending, asyncio.Event()

    async def write_then_save() -> bool:
        before = len(await journal.load())
        result = await write()
        if before:
            written.set()
        else:
            # Comes after the end of the task's coroutine and before what follows its end.
            asyncio.get_running_loop().call_soon(journal.save_soon, second)
        return result

    monkeypatch.setattr(journal, "_write_pending", write_then_save)
    journal.save_soon(first)
    async with asyncio.timeout(30):
        await written.wait()
    assert await journal.load() == [first, second]


async def test_what_cannot_be_read_is_put_aside_and_keeps_nothing_from_starting(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.mkdir(parents=True)
    journal = JobJournal(path)
    assert await journal.load() == []
    assert "cannot be read" in caplog.text
    new = job()
    journal.save_soon(new)
    await journal.aclose()
    assert await JobJournal(path).load() == [new]
    assert path.with_name(f"{path.name}.unreadable").is_dir()


async def test_a_read_error_while_the_file_is_to_be_written_anew_loses_nothing(
    journal: JobJournal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = job(), job()
    await store(path, first)
    monkeypatch.setattr(journal_module, "ADDED_LIMIT", 0)

    def fail(_path: Path) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", fail)
        journal.save_soon(second)
        assert await journal._write_pending()
    assert await journal.load() == [first, second]


async def test_the_file_is_written_anew_when_much_of_it_is_outdated(
    journal: JobJournal, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_module, "ADDED_LIMIT", 20_000)
    only = job()
    largest = 0
    for _ in range(200):
        journal.save_soon(only)
        assert await journal._write_pending()
        largest = max(largest, path.stat().st_size)
    one = len(path.read_bytes().splitlines()[0])
    assert largest < 20_000 + 4 * one
    assert await journal.load() == [only]
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


async def test_jobs_that_are_not_kept_are_gone_after_a_restart(
    journal: JobJournal, path: Path
) -> None:
    jobs = [job() for _ in range(KEPT_JOBS + 3)]
    for each in jobs:
        each.cancel(NOW)
    await store(path, *jobs)
    assert await journal.load() == jobs[3:]
