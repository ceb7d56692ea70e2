"""BuilderOutlook: a builder during one look at the queue, with what is bound to it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from heapq import heapreplace
import math

from ..build.model import Builder
from ..build.slots import Slot
from ..const import REQUESTED_AUTO, Stage
from ..reason import Reason
from .build_times import BuildTimes, left_of, spent_building
from .model import FirmwareJob, JobRequest
from .router import Bind, Candidate


@dataclass(frozen=True, slots=True)
class BuilderFailure:
    """Why a job failed at a builder, and when it may be tried there again; None: never.

    ``again_at`` is in seconds of the monotonic clock.
    """

    reason: Reason
    again_at: float | None = None

    def left(self, now: float) -> float | None:
        """Return in how many seconds the job may be tried there again; None: never."""
        return None if self.again_at is None else self.again_at - now

    def over(self, now: float) -> bool:
        """Whether it may be tried there again by now."""
        return self.again_at is not None and now >= self.again_at


@dataclass(frozen=True, slots=True, eq=False)
class Binding:
    """A slot on a builder for a job, and why it is this one.

    ``slot`` is None where the builder itself puts the builds in order. ``takes`` is the seconds
    that the build is expected to take, None when that is not known, and ``spent`` those that the
    job was built before; ``warm`` as in ``Attempt``.
    """

    builder: Builder
    job: FirmwareJob
    choice: Bind
    slot: Slot | None
    takes: float | None
    warm: bool
    spent: float


class BuilderOutlook:
    """What a builder has to do, and when it has a slot for more."""

    def __init__(
        self,
        builder: Builder,
        bound: Sequence[Binding],
        wanted: int,
        times: BuildTimes,
        *,
        used: bool = True,
    ) -> None:
        """``wanted`` of our own jobs are in its status as waiting.

        ``used``: whether jobs use it that do not ask for it.
        """
        self.builder = builder
        self._used = used
        self.status = builder.status()
        self._bound = list(bound)
        self._wanted = wanted
        self._times = times
        self.ends: dict[str, float] = {}
        """Seconds until the builds of the jobs that are bound to it are expected to be done."""
        self._free_in = self._start()

    @property
    def starts_in(self) -> float:
        """Seconds until a slot is expected to be free."""
        return self._free_in[0]

    @property
    def has_room(self) -> bool:
        """Whether a job of some configuration may be bound to it now."""
        return self._candidate("", None, None, None).takes_more

    @property
    def in_line(self) -> list[FirmwareJob]:
        """The jobs that are bound to it and wait there, first in line first."""
        return [each.job for each in self._bound if _waits(each)]

    def expected(self, request: JobRequest) -> tuple[float | None, bool]:
        """Return the seconds that a build is expected to take there, and whether it is warm."""
        warm = request.configuration in self.status.warm
        warm = warm and self._times.is_warm(self.builder.builder_id, request)
        builder_id = self.builder.builder_id
        return self._times.build(builder_id, request.configuration, warm=warm), warm

    def when(self, request: JobRequest) -> tuple[float, float]:
        """Return the seconds until a build is expected to be done, and until it starts."""
        takes = self.expected(request)[0]
        return math.inf if takes is None else self.starts_in + takes, self.starts_in

    def candidate(
        self, request: JobRequest, failure: BuilderFailure | None, now: float
    ) -> Candidate:
        """Return it as the router sees it; ``failure`` is that of the job there."""
        if failure is not None and failure.over(now):
            failure = None
        candidate = self._candidate(
            request.configuration,
            None if failure is None else failure.reason,
            None if failure is None else failure.left(now),
            self.expected(request)[0],
        )
        if self._used or request.requested_source != REQUESTED_AUTO:
            return candidate
        return replace(candidate, unused=True)

    def reserve(self, seconds: float | None) -> None:
        """Note that a build is to be there next."""
        if seconds is not None:
            heapreplace(self._free_in, self._free_in[0] + seconds)

    def bind(self, binding: Binding) -> None:
        """Note that a job was bound to it just now."""
        self.status = self.builder.status()
        self._bound.append(binding)
        self.reserve(binding.takes)

    def _candidate(
        self,
        configuration: str,
        failed: Reason | None,
        again_in: float | None,
        takes: float | None,
    ) -> Candidate:
        builder = self.builder
        same = [each for each in self._bound if each.job.request.configuration == configuration]
        starts_in = max([self.starts_in, *(self.ends.get(each.job.job_id, 0.0) for each in same)])
        return Candidate(
            builder_id=builder.builder_id,
            label=builder.label,
            source=builder.source,
            status=self.status,
            ours=len(self._bound),
            tree_busy=bool(same),
            failed=failed,
            again_in=again_in,
            starts_in=starts_in,
            takes=takes,
        )

    def _start(self) -> list[float]:
        """Return in how many seconds each slot is free, by what runs and waits there."""
        free_in = [0.0] * max(1, self.status.slots)
        running = [each for each in self._bound if not _waits(each)]
        for binding in running:
            self._end(binding, free_in)
        others = max(0, self.status.busy - len(running))
        waiting = max(0, self.status.queue_length - self._wanted)
        in_line = [each for each in self._bound if _waits(each)]
        typical = self._times.typical_build(self.builder.builder_id)
        for _ in range(others):
            # Nobody knows how far they are.
            heapreplace(free_in, free_in[0] + typical / 2)
        for _ in range(max(0, waiting - len(in_line))):
            heapreplace(free_in, free_in[0] + typical)
        for binding in in_line:
            self._end(binding, free_in)
        return free_in

    def _end(self, binding: Binding, free_in: list[float]) -> None:
        if binding.takes is not None:
            end = free_in[0] + left_of(binding.takes, spent_building(binding.job) - binding.spent)
            self.ends[binding.job.job_id] = end
            heapreplace(free_in, end)


def _waits(binding: Binding) -> bool:
    """Return whether a builder puts the builds of others before this one."""
    return binding.job.stage is Stage.WAITING_BUILDER
