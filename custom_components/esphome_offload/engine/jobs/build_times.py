"""BuildTimes: how long builds and flashes are expected to take, from what the kept jobs took."""

from collections import deque
from collections.abc import Iterable, Mapping
from statistics import median
from typing import Final

from ..const import Stage
from ..target import TargetId
from .model import FirmwareJob

_BUILDS: Final = (Stage.PREPARING, Stage.COMPILING, Stage.FETCHING)
"""Downloading the tools is not among them: the next build has them."""
_FLASHES: Final = (Stage.UPLOADING, Stage.VERIFYING)
_RECENT: Final = 9
"""Builds of a builder that decide how slow it is: its compiler cache fills, its load changes."""
_TYPICAL: Final = 50
"""Builds or flashes that say what an unknown device takes."""
_WARM_SHARE: Final = 0.3
"""What a build in a warm tree takes of one from nothing, until both were measured."""
_OVERDUE: Final = 0.1
"""What is left of something that takes longer than expected, as a share of what it has taken."""


class BuildTimes:
    """What was measured: the work in each configuration, and how slow each builder is.

    A build is expected to take the one times the other, so that what a device took on one builder
    tells what it takes on others. ``warm`` builds, in a tree that the same version left, are kept
    apart from those that compile everything. Nothing of this is stored: the kept jobs have it all.
    """

    def __init__(self) -> None:
        self._work: dict[tuple[str, bool], float] = {}
        self._typical_work: dict[bool, deque[float]] = {
            True: deque(maxlen=_TYPICAL),
            False: deque(maxlen=_TYPICAL),
        }
        self._ratios: dict[str, deque[float]] = {}
        self._slowness: dict[str, float] = {}
        self._versions: dict[tuple[str, str], str] = {}
        self._flash: dict[TargetId, float] = {}
        self._typical_flash: deque[float] = deque(maxlen=_TYPICAL)

    def learn_all(self, jobs: Iterable[FirmwareJob]) -> None:
        """Learn from the kept jobs, oldest first."""
        for job in jobs:
            self.learn_build(job)
            self.learn_flash(job)

    def learn_build(self, job: FirmwareJob) -> None:
        """Learn from a job whose last attempt has succeeded."""
        attempt = job.attempts[-1] if job.attempts else None
        if attempt is None or attempt.finished_at is None or attempt.failure_reason is not None:
            return
        builder_id, configuration = attempt.builder_id, job.request.configuration
        self._versions[builder_id, configuration] = job.request.esphome_version
        seconds = _spent(job.stage_seconds, _BUILDS)
        if len(job.attempts) > 1 or seconds <= 0:
            # The stages are those of all attempts together.
            return
        work = self._work_of(configuration, warm=attempt.warm)
        ratios = self._ratios.setdefault(builder_id, deque(maxlen=_RECENT))
        ratios.append(1.0 if work is None else seconds / work)
        self._slowness[builder_id] = median(ratios)
        work = seconds / self._slowness[builder_id]
        self._work[configuration, attempt.warm] = work
        self._typical_work[attempt.warm].append(work)

    def learn_flash(self, job: FirmwareJob) -> None:
        """Learn from a job that has flashed its device."""
        seconds = _spent(job.stage_seconds, _FLASHES)
        if job.terminal and job.outcome.verified and seconds > 0:
            self._flash[job.request.target] = seconds
            self._typical_flash.append(seconds)

    def is_warm(self, builder_id: str, job: FirmwareJob) -> bool:
        """Return whether a build tree at a builder is one of the version that a job wants."""
        request = job.request
        known = self._versions.get((builder_id, request.configuration))
        return not request.clean and known == request.esphome_version

    def build(self, builder_id: str, configuration: str, *, warm: bool) -> float | None:
        """Return the seconds that a build is expected to take; None when nothing was measured."""
        work = self._work_of(configuration, warm=warm)
        return None if work is None else work * self._slowness_of(builder_id)

    def build_left(self, job: FirmwareJob) -> float | None:
        """Return the seconds until the running build of a job is expected to end."""
        attempt = job.current_attempt
        if attempt is None:
            return None
        whole = self.build(attempt.builder_id, job.request.configuration, warm=attempt.warm)
        return None if whole is None else _left(whole, _spent(job.stage_seconds, _BUILDS))

    def flash_left(self, job: FirmwareJob) -> float | None:
        """Return the seconds that a job is expected to need for its device; None when unknown."""
        if not job.request.operation.flashes:
            return 0.0
        whole = self._flash.get(job.request.target)
        if whole is None:
            if not self._typical_flash:
                return None
            whole = median(self._typical_flash)
        return _left(whole, _spent(job.stage_seconds, _FLASHES))

    def _work_of(self, configuration: str, *, warm: bool) -> float | None:
        """Return the seconds on a builder of slowness 1."""
        share = _WARM_SHARE if warm else 1 / _WARM_SHARE
        works = self._work
        if (work := works.get((configuration, warm))) is not None:
            return work
        if warm and (work := works.get((configuration, False))) is not None:
            return work * share
        if typical := self._typical_work[warm]:
            return median(typical)
        if typical := self._typical_work[not warm]:
            return median(typical) * share
        return None

    def _slowness_of(self, builder_id: str) -> float:
        if (slowness := self._slowness.get(builder_id)) is not None:
            return slowness
        # One that was never measured may be as good as the others.
        return median(self._slowness.values())


def _spent(stages: Mapping[Stage, float], which: Iterable[Stage]) -> float:
    return sum(stages.get(stage, 0.0) for stage in which)


def _left(whole: float, spent: float) -> float:
    return max(whole - spent, spent * _OVERDUE)
