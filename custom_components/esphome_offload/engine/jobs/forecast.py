"""Forecast: the place of a job in the queue, and when it is expected to end."""

from dataclasses import dataclass

from .build_lane import BuildLane
from .build_times import BuildTimes
from .ledger import Ledger
from .model import FirmwareJob


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

    def __init__(self, lane: BuildLane, ledger: Ledger, times: BuildTimes) -> None:
        self._lane = lane
        self._ledger = ledger
        self._times = times

    def of(self, job: FirmwareJob) -> Forecast:
        """Return what is expected of a job now."""
        if job.terminal or job.pending:
            return Forecast()
        plan = self._lane.plan()
        place, built_in = plan.places.get(job.job_id), plan.ends.get(job.job_id)
        self._ledger.add_time(job)
        flash = self._times.flash_left(job)
        if built_in is not None:
            return Forecast(place, built_in + (flash or 0.0))
        is_built = place is None and job.firmware_sha256 is not None
        return Forecast(place, flash if is_built else None)
