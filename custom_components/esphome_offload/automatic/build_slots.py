"""The slots that builds of automatic updates may use."""

from collections import Counter
from collections.abc import Iterable

from ..engine.const import REQUESTED_AUTO
from ..engine.jobs.model import FirmwareJob
from ..engine.jobs.pool import BuilderPool
from ..engine.jobs.router import Candidate, Snapshot, usable_for


def free_slots(
    pool: BuilderPool,
    jobs: Iterable[FirmwareJob],
    *,
    peers_expected: float,
    falls_back: bool,
) -> int:
    """Return how many more builds would start soon, of jobs that ask for no certain builder.

    ``jobs`` are all that have not ended, ``peers_expected`` is for how many seconds peers may
    still connect; ``falls_back``: without peers they are built on this machine.
    """
    ours = Counter(
        None if job.current_attempt is None else job.current_attempt.builder_id
        for job in jobs
        if job.request.operation.builds
        and not (job.terminal or job.pending)
        and job.firmware_sha256 is None
    )
    candidates = tuple(
        Candidate(
            each.builder_id,
            each.label,
            each.source,
            each.status(),
            ours=ours[each.builder_id],
            unused=not pool.uses(each.builder_id),
        )
        for each in pool.builders
    )
    usable = usable_for(
        Snapshot(
            configuration="",
            requested_source=REQUESTED_AUTO,
            candidates=candidates,
            fall_back_to_local=falls_back,
            peers_expected=peers_expected,
        )
    )
    free = sum(each.free_slots for each in candidates if each.builder_id in usable)
    return max(0, free - ours[None])
