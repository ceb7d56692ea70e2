"""Forecast: the place of a job in the queue, and when it is expected to end."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from heapq import heapify, heapreplace

from ..const import Stage
from .build_lane import BuildLane, Plan
from .build_times import BuildTimes
from .ledger import Ledger
from .model import FirmwareJob
from .ports import QueueSettings


@dataclass(frozen=True, slots=True)
class Forecast:
    """What is expected of a job.

    ``place``: 1 is the next to get a build slot; None when it waits for none. ``seconds`` until it
    has ended; None when that is not known: nothing was measured yet, or it waits for something
    that may never come.
    """

    place: int | None = None
    seconds: float | None = None


class Forecasts:
    """Forecasts of the jobs that have not ended."""

    def __init__(
        self,
        lane: BuildLane,
        ledger: Ledger,
        times: BuildTimes,
        settings: Callable[[], QueueSettings],
    ) -> None:
        self._lane = lane
        self._ledger = ledger
        self._times = times
        self._settings = settings
        self._of_plan: Plan | None = None
        self._waits: Mapping[str, float] = {}

    def of(self, job: FirmwareJob) -> Forecast:
        """Return what is expected of a job now."""
        if job.terminal or job.pending:
            return Forecast()
        plan = self._lane.plan()
        place, built_in = plan.places.get(job.job_id), plan.ends.get(job.job_id)
        self._ledger.add_time(job)
        flash = self._times.flash_left(job)
        if built_in is None:
            is_built = place is None and job.firmware_sha256 is not None
            if not is_built or flash is None:
                return Forecast(place)
            built_in = 0.0
        return Forecast(place, built_in + self._wait(job, plan) + (flash or 0.0))

    def _wait(self, job: FirmwareJob, plan: Plan) -> float:
        """Return the seconds for which built firmware is expected to wait for an upload slot."""
        if self._of_plan is not plan:
            self._of_plan, self._waits = plan, self._upload_waits(plan)
        return self._waits.get(job.job_id, 0.0)

    def _upload_waits(self, plan: Plan) -> dict[str, float]:
        """Plan the uploads as if each took as long as is expected, in the order of the builds."""
        free = [0.0] * max(1, self._settings().parallel_uploads)
        coming: list[tuple[float, str, float]] = []
        for job, ready_in in self._to_upload(plan):
            takes = self._times.upload_left(job)
            if job.uploading:
                # All slots may be taken, by more uploads than there are to be.
                free[free.index(min(free))] += takes
            else:
                coming.append((ready_in, job.job_id, takes))
        heapify(free)
        waits = {}
        for ready_in, job_id, takes in sorted(coming):
            starts = max(ready_in, free[0])
            heapreplace(free, starts + takes)
            waits[job_id] = starts - ready_in
        return waits

    def _to_upload(self, plan: Plan) -> Iterator[tuple[FirmwareJob, float]]:
        """Yield the jobs whose upload is to come or runs, and in how many seconds it can begin."""
        for job in self._ledger.jobs.values():
            if job.terminal or job.pending or not job.request.operation.flashes:
                continue
            if (built_in := plan.ends.get(job.job_id)) is not None:
                yield job, built_in
            elif job.firmware_sha256 is not None and job.stage is not Stage.VERIFYING:
                self._ledger.add_time(job)
                yield job, 0.0
