"""QueueOrder: which of the waiting jobs comes first."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
import math
import re
from typing import Final

from .build_times import BuildTimes
from .model import FirmwareJob, JobRequest

GIVES_WAY: Final = 86_400.0
"""Seconds for which jobs of a batch let those pass that a person asked for one by one.

None waits for ever: it lets pass only what is asked for within this time.
"""
_VERSION = re.compile(r"(\d+)\.(\d+)\.(\d+)")

type Rank = tuple[bool, float, str, float, float, str]
"""The lowest comes first; no two are equal."""


@dataclass(slots=True)
class _Batch:
    """The jobs that were asked for together; ``since`` is when, in seconds since the epoch."""

    since: float
    by_person: bool
    jobs: set[str] = field(default_factory=set)
    active: int = 0

    @property
    def alone(self) -> bool:
        """Whether a person asked for nothing else."""
        return self.by_person and len(self.jobs) == 1


class QueueOrder:
    """Ranks jobs: first what somebody looks at, then what a person asked for alone, then batches.

    In a batch, what is furthest behind the wanted version comes first, and what is not known of
    before all; of equals the one that takes longest, which leaves the short ones to fill the end.
    """

    def __init__(self, times: BuildTimes) -> None:
        self._times = times
        self._batches: dict[str, _Batch] = {}
        self._asked: dict[str, list[str]] = {}
        self._watchers: dict[str, int] = {}

    def ask(self, job: FirmwareJob, request: JobRequest) -> Iterable[str]:
        """Note a request for a job; return the ids of jobs whose rank may be another now."""
        batch_id = request.batch or job.job_id
        batch = self._batches.get(batch_id)
        if batch is None:
            since = job.created_at.timestamp()
            batch = self._batches[batch_id] = _Batch(since, request.user_id is not None)
        if job.job_id not in batch.jobs:
            batch.jobs.add(job.job_id)
            batch.active += 1
            self._asked.setdefault(job.job_id, []).append(batch_id)
        return tuple(batch.jobs) if len(batch.jobs) == 2 else (job.job_id,)

    def ask_all(self, jobs: Sequence[FirmwareJob]) -> None:
        """Note the requests for the kept jobs."""
        for job in jobs:
            self.ask(job, job.request)
        for job in jobs:
            if job.terminal:
                self.end(job.job_id)

    def end(self, job_id: str) -> None:
        """Forget a job that has ended, and batches of which all have."""
        for batch_id in self._asked.pop(job_id, ()):
            batch = self._batches[batch_id]
            batch.active -= 1
            if not batch.active:
                del self._batches[batch_id]

    def watch(
        self, job_id: str, reorder: Callable[[Iterable[str]], None] = lambda _job_ids: None
    ) -> Callable[[], None]:
        """Note that somebody looks at a job; returns the end of that.

        ``reorder`` is called with the job, whose rank is another then, both times.
        """
        self._watchers[job_id] = self._watchers.get(job_id, 0) + 1
        watching = True
        reorder((job_id,))

        def end() -> None:
            nonlocal watching
            if watching:
                watching = False
                self._watchers[job_id] -= 1
                if not self._watchers[job_id]:
                    del self._watchers[job_id]
                reorder((job_id,))

        return end

    def rank(self, job: FirmwareJob) -> Rank:
        """Return where a job comes in the queue."""
        watched = job.job_id in self._watchers
        batches = [(each, self._batches[each]) for each in self._asked.get(job.job_id, ())]
        alone = [batch.since for _, batch in batches if batch.alone]
        if alone or not batches:
            since = min(alone, default=job.created_at.timestamp())
            return (not watched, since, job.job_id, 0.0, 0.0, job.job_id)
        batch_id, batch = min(batches, key=lambda each: (each[1].since, each[0]))
        work = self._times.work(job.request.configuration)
        due = batch.since + GIVES_WAY
        return (not watched, due, batch_id, -_behind(job.request), -work, job.job_id)


def _behind(request: JobRequest) -> float:
    """Return how many releases a device is behind, one a month; without end when not known."""
    if request.from_version is None:
        return math.inf
    wanted, runs = _release(request.esphome_version), _release(request.from_version)
    return 0.0 if wanted is None or runs is None else max(0.0, wanted - runs)


def _release(version: str) -> float | None:
    match = _VERSION.match(version)
    if match is None:
        return None
    year, month, patch = map(int, match.groups())
    return year * 12 + month + min(patch, 99) / 100
