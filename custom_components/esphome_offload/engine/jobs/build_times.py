"""BuildTimes: how long builds and flashes are expected to take, from what the kept jobs took."""

from collections import deque
from collections.abc import Iterable
from statistics import median
from typing import Final

from ..const import Stage
from ..target import TargetId
from .model import FirmwareJob, JobRequest

_BUILDS: Final = (Stage.COMPILING, Stage.FETCHING)
"""What the next build takes as well; it has the ESPHome version and the tools already."""
_FLASHES: Final = (Stage.UPLOADING, Stage.VERIFYING)
_RECENT: Final = 9
"""Builds of a builder that decide how slow it is: its compiler cache fills, its load changes."""
_ROUGH: Final = 25
"""The same for builds of devices of which nothing was known before."""
_ENOUGH: Final = 3
"""Builds of known devices that make those of others needless."""
_TYPICAL: Final = 50
"""Builds or flashes that say what an unknown device takes."""
_WARM_SHARE: Final = 0.3
"""What a build in a warm tree takes of one from nothing, until both were measured."""
_OVERDUE: Final = 0.5
"""What is left of something that takes longer than expected, as a share of what it has taken."""


class _Typical:
    """The median of the last measurements."""

    def __init__(self, count: int) -> None:
        self.last: deque[float] = deque(maxlen=count)
        self.value: float | None = None

    def add(self, measured: float) -> None:
        self.last.append(measured)
        self.value = median(self.last)


class _Slowness:
    """How much longer builds take on a builder than where this is 1."""

    def __init__(self) -> None:
        self._known: deque[float] = deque(maxlen=_RECENT)
        self._rough: deque[float] = deque(maxlen=_ROUGH)
        self.value = 1.0

    def add(self, ratio: float, *, known: bool) -> None:
        """Add a build; ``known``: how much work there is in that device was measured before."""
        (self._known if known else self._rough).append(ratio)
        enough = len(self._known) >= _ENOUGH
        self.value = median(self._known if enough else [*self._known, *self._rough])

    def among(self, others: Iterable[float]) -> float:
        """Return it, half as far from the others when its first build alone is known.

        That one filled its compiler cache.
        """
        if len(self._known) + len(self._rough) > 1 or not (usual := list(others)):
            return self.value
        return median([self.value, median(usual)])


class BuildTimes:
    """What was measured: the work in each configuration, and how slow each builder is.

    A build is expected to take the one times the other, so that what a device took on one builder
    tells what it takes on others. ``warm`` builds, in a tree that the same version left, are kept
    apart from those that compile everything. Nothing of this is stored: the kept jobs have it all.
    """

    def __init__(self) -> None:
        self._work: dict[tuple[str, bool], float] = {}
        self._typical_work = {True: _Typical(_TYPICAL), False: _Typical(_TYPICAL)}
        self._slowness: dict[str, _Slowness] = {}
        self._versions: dict[tuple[str, str], str] = {}
        self._flash: dict[TargetId, float] = {}
        self._typical_flash = _Typical(_TYPICAL)
        self._typical_upload = _Typical(_TYPICAL)

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
        seconds = spent_building(job)
        if len(job.attempts) > 1 or seconds <= 0:
            # The stages are those of all attempts together.
            return
        work = self._work_of(configuration, warm=attempt.warm)
        if work is None or self._typical_work[attempt.warm].value is not None:
            known = (configuration, attempt.warm) in self._work
            slowness = self._slowness.setdefault(builder_id, _Slowness())
            slowness.add(1.0 if work is None else seconds / work, known=known)
        # Else it was a guess what such a build takes: that it is wrong says nothing of the builder.
        own = self._slowness.get(builder_id)
        work = seconds / (self._slowness_of(builder_id) if own is None else own.value)
        self._work[configuration, attempt.warm] = work
        self._typical_work[attempt.warm].add(work)

    def learn_flash(self, job: FirmwareJob) -> None:
        """Learn from a job that has flashed its device."""
        seconds = _spent(job, _FLASHES)
        if job.terminal and job.outcome.verified and seconds > 0:
            self._flash[job.request.target] = seconds
            self._typical_flash.add(seconds)
            self._typical_upload.add(_spent(job, (Stage.UPLOADING,)))

    def is_warm(self, builder_id: str, request: JobRequest) -> bool:
        """Return whether a builder built the version of a request last, as far as is known."""
        known = self._versions.get((builder_id, request.configuration))
        return known == request.esphome_version and not request.clean

    def build(self, builder_id: str, configuration: str, *, warm: bool) -> float | None:
        """Return the seconds that a build is expected to take; None when nothing was measured."""
        work = self._work_of(configuration, warm=warm)
        return None if work is None else work * self._slowness_of(builder_id)

    def typical_build(self, builder_id: str) -> float:
        """Return the seconds that any build takes there, 0 when nothing was measured."""
        work = self._typical(warm=False)
        return 0.0 if work is None else work * self._slowness_of(builder_id)

    def work(self, configuration: str) -> float:
        """Return how much there is to compile, comparable between configurations."""
        return self._work_of(configuration, warm=False) or 0.0

    def flash_left(self, job: FirmwareJob) -> float | None:
        """Return the seconds that a job is expected to need for its device; None when unknown."""
        if not job.request.operation.flashes:
            return 0.0
        whole = self._flash.get(job.request.target, self._typical_flash.value)
        return None if whole is None else left_of(whole, _spent(job, _FLASHES))

    def upload_left(self, job: FirmwareJob) -> float:
        """Return the seconds for which a job needs an upload slot, 0 when nothing was measured."""
        return left_of(self._typical_upload.value or 0.0, _spent(job, (Stage.UPLOADING,)))

    def _work_of(self, configuration: str, *, warm: bool) -> float | None:
        """Return the seconds on a builder of slowness 1."""
        work = self._work.get((configuration, warm))
        if work is None and warm and (full := self._work.get((configuration, False))):
            work = full * _WARM_SHARE
        return self._typical(warm=warm) if work is None else work

    def _typical(self, *, warm: bool) -> float | None:
        work, other = self._typical_work[warm].value, self._typical_work[not warm].value
        if work is None and other is not None:
            return other * _WARM_SHARE if warm else other / _WARM_SHARE
        return work

    def _slowness_of(self, builder_id: str) -> float:
        own = self._slowness.get(builder_id)
        others = (each.value for each in self._slowness.values() if each is not own)
        # One that was never measured may be as good as the others.
        return median(others) if own is None else own.among(others)


def spent_building(job: FirmwareJob) -> float:
    """Return the seconds that a job has been built, in all its attempts."""
    return _spent(job, _BUILDS)


def left_of(whole: float, spent: float) -> float:
    """Return the seconds that are left of what was expected to take ``whole``."""
    return max(whole - spent, spent * _OVERDUE)


def _spent(job: FirmwareJob, stages: Iterable[Stage]) -> float:
    return sum(job.stage_seconds.get(stage, 0.0) for stage in stages)
