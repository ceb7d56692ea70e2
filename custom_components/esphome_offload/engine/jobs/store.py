"""The stored form of jobs, and which of them are kept."""

from collections.abc import Iterable
import logging

from ..codec import CodecError, decode
from .model import FirmwareJob

_LOGGER = logging.getLogger(__name__)

KEPT_JOBS = 500


def decode_all(records: Iterable[object]) -> list[FirmwareJob]:
    """Return the jobs that can be read, oldest first; the others are logged and left out."""
    jobs: dict[str, FirmwareJob] = {}
    for record in records:
        try:
            job = decode(FirmwareJob, record)
        except CodecError as err:
            _LOGGER.warning("A stored job cannot be read and is left out: %s", err)
            continue
        jobs[job.job_id] = job
    return [jobs[job_id] for job_id in sorted(jobs)]


def to_drop(jobs: Iterable[FirmwareJob], limit: int = KEPT_JOBS) -> list[FirmwareJob]:
    """Return the jobs that are too old to be kept.

    Active jobs, the newest ``limit`` ones and the newest ended one of each target are kept.
    """
    newest_first = sorted(jobs, key=lambda job: job.job_id, reverse=True)
    if len(newest_first) <= limit:
        return []
    targets: set[str] = set()
    drop = []
    for index, job in enumerate(newest_first):
        newest_of_target = job.terminal and job.request.target not in targets
        if job.terminal:
            targets.add(job.request.target)
        if index >= limit and job.terminal and not newest_of_target:
            drop.append(job)
    return drop
