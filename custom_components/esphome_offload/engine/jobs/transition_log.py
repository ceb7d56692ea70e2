"""TransitionLog: what Home Assistant's log says of jobs, in moderation."""

from collections import Counter
from collections.abc import Callable, Mapping
import logging
from typing import Final

from ..clock import Time
from ..const import Stage
from .model import FirmwareJob, JobEvent

_LOGGER = logging.getLogger(__name__)

_PERIOD: Final = 60.0
_MOST: Final = 25
"""Lines in a period. Home Assistant complains of a module with 200 within five minutes."""

_LEVELS: Mapping[JobEvent, int] = {
    JobEvent.QUEUED: logging.DEBUG,
    JobEvent.STARTED: logging.INFO,
    JobEvent.CHANGED: logging.DEBUG,
    JobEvent.COMPLETED: logging.INFO,
    JobEvent.FAILED: logging.WARNING,
    JobEvent.CANCELLED: logging.INFO,
}
_WAITING: Final = "waiting for the device"


class TransitionLog:
    """Logs how jobs start and end, and which wait for their device; all else is for debugging.

    Of many at once it logs the first ones, and sums up the others.
    """

    def __init__(self, time: Time) -> None:
        self._time = time
        self._period_ends = 0.0
        self._lines = 0
        self._left_out: Counter[str] = Counter()
        self._level = logging.DEBUG
        self._cancel: Callable[[], None] | None = None

    def add(self, event: JobEvent, job: FirmwareJob, text: str) -> None:
        """Log an event; ``text`` is the state of the job in a few words."""
        # Once per job, whose caller may take the end of its wait for the installation.
        first_wait = job.pending and Stage.WAITING_DEVICE not in job.stage_seconds
        level = logging.WARNING if first_wait else _LEVELS[event]
        if level > logging.DEBUG and not self._has_room():
            self._leave_out(_WAITING if first_wait else event.value, level)
            level = logging.DEBUG
        _LOGGER.log(level, "Job %s (%s): %s", job.job_id, job.request.target, text)

    def close(self) -> None:
        """Sum up what was left out until now."""
        if self._cancel is not None:
            self._cancel()
            self._sum_up()

    def _has_room(self) -> bool:
        now = self._time.monotonic()
        if now >= self._period_ends:
            self._period_ends, self._lines = now + _PERIOD, 0
        self._lines += 1
        return self._lines <= _MOST

    def _leave_out(self, what: str, level: int) -> None:
        self._left_out[what] += 1
        self._level = max(self._level, level)
        if self._cancel is None:
            left = self._period_ends - self._time.monotonic()
            self._cancel = self._time.call_later(left, self._sum_up)

    def _sum_up(self) -> None:
        counts = ", ".join(f"{count} {what}" for what, count in self._left_out.most_common())
        _LOGGER.log(self._level, "More jobs in the last minute: %s", counts)
        self._left_out.clear()
        self._level, self._cancel = logging.DEBUG, None
