"""JobLog: what a job printed, numbered, on disk, readable from any line."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .ports import SystemTime, Time


@dataclass(frozen=True, slots=True)
class LogPage:
    """A run of neighbouring lines; the first has the number ``first_line``, counted from 0.

    ``first_line`` is greater than asked for where lines were left out. Go on reading at
    ``next_line``; nothing more is there (yet) when it equals ``total``.
    """

    first_line: int
    lines: tuple[str, ...]
    next_line: int
    total: int


class JobLogs:
    """The logs of all jobs, one file each in ``folder``."""

    def __init__(self, folder: Path, time: Time | None = None) -> None:
        """Touch nothing yet."""
        self._folder = folder
        self._time = time or SystemTime()

    def append(self, job_id: str, lines: Sequence[str]) -> None:
        """Add lines; cheap, they reach the disk within half a second."""
        raise NotImplementedError

    async def read(self, job_id: str, from_line: int = 0, limit: int = 1000) -> LogPage:
        """Return at most ``limit`` lines; an unknown job has none."""
        raise NotImplementedError

    async def changed(self, job_id: str, seen: int) -> bool:
        """Wait until there are more than ``seen`` lines (True) or the log has ended (False)."""
        raise NotImplementedError

    async def prune(self, keep: Iterable[str]) -> None:
        """Delete the logs of all other jobs."""
        raise NotImplementedError

    async def aclose(self) -> None:
        """Write out what is still in memory."""
        raise NotImplementedError
