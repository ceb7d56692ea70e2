"""The stored form of jobs, and which of them are kept."""

from collections.abc import Iterable, Sequence
import logging

from ..codec import CodecError, decode
from .model import FirmwareJob

_LOGGER = logging.getLogger(__name__)

KEPT_JOBS = 500


def decode_all(records: Iterable[object]) -> list[FirmwareJob]:
    """Return the jobs that can be read, in their order; the others are logged and left out."""
    jobs: list[FirmwareJob] = []
    for record in records:
        try:
            jobs.append(decode(FirmwareJob, record))
        except CodecError as err:
            _LOGGER.warning("A stored job cannot be read and is left out: %s", err)
    return jobs


def to_drop(jobs: Sequence[FirmwareJob], limit: int = KEPT_JOBS) -> list[FirmwareJob]:
    """Return the jobs, of some that are given oldest first, that are too old to be kept.

    Active jobs, the newest ``limit`` ones and the newest ended one of each target are kept.
    """
    if len(jobs) <= limit:
        return []
    targets: set[str] = set()
    drop = []
    for index, job in enumerate(reversed(jobs)):
        newest_of_target = job.terminal and job.request.target not in targets
        if job.terminal:
            targets.add(job.request.target)
        if index >= limit and job.terminal and not newest_of_target:
            drop.append(job)
    return drop
