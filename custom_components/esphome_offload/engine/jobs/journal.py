"""JobJournal: the jobs on disk, in a file to which each transition adds a line.

A store that is written as a whole would write a megabyte at each transition of one of a few
hundred jobs, and many homes run from an SD card.
"""

import asyncio
from collections.abc import Iterable
from contextlib import suppress
import json
import logging
import os
from pathlib import Path
from typing import override

from ..codec import encode
from ..const import MIB
from ..private_file import write_private
from ..tasks import BackgroundTasks, CoalescedTask
from ..threads import in_thread
from .model import FirmwareJob
from .ports import Persistence
from .store import decode_all, to_drop

_LOGGER = logging.getLogger(__name__)

# The transitions of one moment make one write, and a job is on disk well within a second.
WRITE_AFTER = 0.1
RETRY_AFTER = 30.0
# How long somebody is kept waiting for a disk that hangs.
FLUSH_TIMEOUT = 5.0
# What may be added before the file is written anew: a line has one or two kilobytes.
ADDED_LIMIT = 2 * MIB
_BATCH = 50


class JobJournal(Persistence):
    """Stores jobs in one file, mode 0600, as lines of JSON; the last line of a job counts."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pending: dict[str, FirmwareJob] = {}
        self._writer = CoalescedTask(self._write, "store jobs")
        self._flushes = BackgroundTasks()
        self._writing = asyncio.Lock()
        self._urgent = asyncio.Event()
        self._compact_size = 0
        self._failing = False

    @override
    async def load(self) -> list[FirmwareJob]:
        return await asyncio.to_thread(self._load)

    @override
    def save_soon(self, job: FirmwareJob) -> None:
        self._pending[job.job_id] = job
        if job.terminal:
            # After a crash it would run again, and end a second time.
            self._urgent.set()
        self._writer.request()

    @override
    async def flush(self) -> None:
        flush = self._flushes.start(self._flush(), "store jobs at once")
        await asyncio.wait([flush], timeout=FLUSH_TIMEOUT)

    @override
    async def aclose(self) -> None:
        await self._writer.stop()
        await self._flushes.wait()
        await self._write_pending()

    async def _flush(self) -> None:
        await self._write_pending()

    async def _write(self) -> None:
        while self._pending:
            with suppress(TimeoutError):
                async with asyncio.timeout(WRITE_AFTER):
                    await self._urgent.wait()
            if not await self._write_pending():
                await asyncio.sleep(RETRY_AFTER)

    async def _write_pending(self) -> bool:
        """Write what is pending; returns False when that failed, it is still pending then."""
        async with self._writing:
            return await self._write_now()

    async def _write_now(self) -> bool:
        jobs, self._pending = self._pending, {}
        self._urgent.clear()
        if not jobs:
            return True
        try:
            records = []
            for job in tuple(jobs.values()):
                records.append(encode(job))
                if len(records) % _BATCH == 0:
                    await asyncio.sleep(0)
            await in_thread(lambda _stop: self._append(records))
        except BaseException as error:
            self._pending = jobs | self._pending
            if not isinstance(error, OSError):
                raise
            if not self._failing:
                _LOGGER.error("The jobs cannot be stored; this is tried again: %s", error)  # noqa: TRY400
            self._failing = True
            return False
        self._failing = False
        return True

    def _load(self) -> list[FirmwareJob]:
        try:
            return self._read()
        except OSError as error:
            # Out of the way: what was active then must not be continued at some later start.
            aside = self._path.with_name(f"{self._path.name}.unreadable")
            _LOGGER.error("The jobs of before cannot be read, see %s: %s", aside, error)  # noqa: TRY400
            with suppress(OSError):
                self._path.replace(aside)
            return []

    def _read(self) -> list[FirmwareJob]:
        try:
            text = self._path.read_bytes()
        except FileNotFoundError:
            return []
        # Each in the place of its first line: in the order in which the jobs were made.
        records: dict[object, object] = {}
        damaged = 0
        for line in text.splitlines():
            try:
                record = json.loads(line)
                records[record["job_id"]] = record
            except ValueError, TypeError, LookupError:
                damaged += 1
        # One is the line that was being written when the machine was switched off.
        if damaged > 1:
            _LOGGER.warning("%d lines of the stored jobs are damaged and left out", damaged)
        jobs = decode_all(records.values())
        dropped = {job.job_id for job in to_drop(jobs)}
        return [job for job in jobs if job.job_id not in dropped]

    def _append(self, records: Iterable[object]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "rb+", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            try:
                rest = memoryview(_lines(records, after=_last_byte(descriptor, size)))
                while rest:  # of what does not fit, the first part is taken without an error
                    rest = rest[file.write(rest) :]
                os.fsync(descriptor)
            except OSError:
                # Half a line would make the next one unreadable too.
                with suppress(OSError):
                    os.ftruncate(descriptor, size)
                raise
        if size > self._compact_size + ADDED_LIMIT:
            self._compact_size = size
            with suppress(OSError):  # then it stays long, until as much again was added
                self._compact()

    def _compact(self) -> None:
        """Write the file anew, with one line for each job that is kept."""
        content = _lines(encode(job) for job in self._read())
        write_private(self._path, content)
        self._compact_size = len(content)


def _last_byte(descriptor: int, size: int) -> bytes:
    return os.pread(descriptor, 1, size - 1) if size else b"\n"


def _lines(records: Iterable[object], after: bytes = b"\n") -> bytes:
    """Return the records as lines; a line that ``after`` does not end is ended first."""
    lines = (json.dumps(record, separators=(",", ":")) for record in records)
    start = "" if after == b"\n" else "\n"
    return (start + "".join(f"{line}\n" for line in lines)).encode()
