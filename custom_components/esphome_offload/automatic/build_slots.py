"""The slots that builds of automatic updates may use."""

from collections import Counter
from collections.abc import Iterable

from ..engine.const import Source
from ..engine.jobs.model import FirmwareJob
from ..engine.jobs.pool import BuilderPool


def free_slots(
    pool: BuilderPool,
    jobs: Iterable[FirmwareJob],
    *,
    peers_expected: bool,
    falls_back: bool,
) -> int:
    """Return how many more builds would start soon, of jobs that ask for no certain builder.

    Those are built by peers while one can, as the router has it. ``jobs`` are all that have not
    ended, ``peers_expected``: one may still connect; ``falls_back``: without peers they are built
    on this machine.
    """
    peers = [each for each in pool.builders if each.source is not Source.LOCAL]
    usable = [each for each in peers if each.status().available]
    if not usable and (not peers or falls_back) and not peers_expected:
        here = (each for each in pool.builders if each.source is Source.LOCAL)
        usable = [each for each in here if each.status().available]
    unfinished = [
        job
        for job in jobs
        if job.request.operation.builds
        and not (job.terminal or job.pending)
        and job.firmware_sha256 is None
    ]
    ours = Counter(
        None if job.current_attempt is None else job.current_attempt.builder_id
        for job in unfinished
    )
    statuses = [(each.builder_id, each.status()) for each in usable]
    free = sum(
        max(0, status.slots - max(status.busy, ours[builder_id])) for builder_id, status in statuses
    )
    return max(0, free - ours[None])
