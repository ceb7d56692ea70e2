"""Forecast: the place of a job in the queue, and when it is expected to end."""

from dataclasses import dataclass

from .build_times import BuildTimes
from .lanes import BuildLane
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
        place = self._lane.place(job)
        if place is not None:
            return Forecast(place)
        self._ledger.add_time(job)
        flash = self._times.flash_left(job)
        if job.firmware_sha256 is not None and job.current_attempt is None:
            return Forecast(seconds=flash)
        build = self._times.build_left(job)
        return Forecast(seconds=None if build is None else build + (flash or 0.0))
