"""Who builds a job: a pure function of what is known at one moment."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..build.model import BuilderStatus
from ..const import REQUESTED_AUTO, REQUESTED_LOCAL, Source

GRACE = 20.0
"""Seconds that a builder gets to be there again after Home Assistant was restarted."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A builder as the router sees it.

    ``ours`` counts our own jobs that are bound to it, of which ``status`` may not know yet.
    ``failed`` says what went wrong when this job was tried there, ``again_in`` in how many
    seconds it may be tried there again; None: never.
    """

    builder_id: str
    label: str
    source: Source
    status: BuilderStatus
    ours: int = 0
    failed: str | None = None
    again_in: float | None = None

    @property
    def hopeless(self) -> bool:
        """Whether this builder will never take the job, however long one waits."""
        return self.failed is not None and self.again_in is None

    @property
    def why_not(self) -> str | None:
        """Why this builder is out of the question for the job; None when it is not."""
        if self.failed is not None:
            return self.failed
        return None if self.status.available else self.status.why_not or "not available"

    @property
    def load(self) -> int:
        """Builds that run or wait there."""
        return max(self.status.busy, self.ours) + self.status.queue_length

    @property
    def idle_slot(self) -> bool:
        """Whether a build would begin at once."""
        return max(self.status.busy, self.ours) < self.status.slots

    @property
    def takes_more(self) -> bool:
        """Whether a job may be bound.

        This machine's builds are ours to put in order. A peer that is busy for others has a
        queue of its own: one who waits outside of it never gets a turn.
        """
        if self.source is Source.LOCAL:
            return self.idle_slot
        return self.ours < self.status.slots


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that the choice depends on; times in seconds, None for no limit.

    ``peers_expected`` is for how long peers may still connect after a start.
    """

    configuration: str
    requested_source: str
    candidates: tuple[Candidate, ...]
    waited: float = 0.0
    wait_for_builder: float | None = 0.0
    fall_back_to_local: bool = True
    peers_expected: float = 0.0


@dataclass(frozen=True, slots=True)
class Bind:
    """This builder takes the job; ``why_not`` is keyed by the other builders' labels."""

    builder_id: str
    reason: str
    why_not: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Wait:
    """Nobody takes the job now; look again at any change, and in ``look_again`` seconds.

    ``for_slot`` are the builders of which any would take it, had it a free slot.
    """

    why: str
    look_again: float | None = None
    for_slot: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Fail:
    """Nobody will take the job; keyed by label."""

    reasons: Mapping[str, str]


def choose(snapshot: Snapshot) -> Bind | Wait | Fail:
    """Choose: a warm tree for this device, else an idle builder, else the shortest queue.

    ``auto`` means the peers where there are any; this machine then builds only when none of
    them can and waiting is over, because whoever pairs a builder wants to spare this machine.
    """
    pool = _pool(snapshot)
    usable = [candidate for candidate in pool if candidate.why_not is None]
    if _too_early(snapshot, usable):
        return Wait("builders to connect", snapshot.peers_expected)
    if not usable:
        return _nobody(snapshot, pool)
    open_ones = [candidate for candidate in usable if candidate.takes_more]
    if not open_ones:
        return wait_for_slot(snapshot, *(candidate.builder_id for candidate in usable))
    best = min(open_ones, key=lambda candidate: _preference(snapshot, candidate))
    return Bind(best.builder_id, _reason(snapshot, best), _why_not(snapshot, pool, best))


def find_again(snapshot: Snapshot, builder_id: str, label: str) -> Bind | Wait | Fail:
    """Go back to the builder that has the build already, whatever it says to new ones."""
    builder = next((each for each in snapshot.candidates if each.builder_id == builder_id), None)
    if builder is not None and builder.status.reachable:
        return Bind(builder_id, "has this build already", {})
    left = GRACE - snapshot.waited
    if left > 0:
        return Wait(f"{label}, which has the build already", left)
    why = None if builder is None else builder.status.why_not
    return Fail({label: why or "is not there again"})


def wait_for_slot(snapshot: Snapshot, *builder_ids: str) -> Wait:
    """Wait until one of these builders has a slot for the job."""
    names = (each.label for each in snapshot.candidates if each.builder_id in builder_ids)
    return Wait(f"a free build slot ({', '.join(names)})", for_slot=builder_ids)


def _too_early(snapshot: Snapshot, usable: Iterable[Candidate]) -> bool:
    """Whether a peer that this job needs may only not be there yet."""
    if snapshot.peers_expected <= 0 or snapshot.requested_source == REQUESTED_LOCAL:
        return False
    return all(candidate.source is Source.LOCAL for candidate in usable)


def _pool(snapshot: Snapshot) -> list[Candidate]:
    everyone = snapshot.candidates
    local = [candidate for candidate in everyone if candidate.source is Source.LOCAL]
    if snapshot.requested_source == REQUESTED_LOCAL:
        return local
    if snapshot.requested_source != REQUESTED_AUTO:
        return [c for c in everyone if c.builder_id == snapshot.requested_source]
    peers = [candidate for candidate in everyone if candidate.source is not Source.LOCAL]
    if not peers:
        return local
    if any(peer.why_not is None for peer in peers) or not snapshot.fall_back_to_local:
        return peers
    hope = not all(peer.hopeless for peer in peers)
    return peers if hope and _patience(snapshot) != 0 else local


def _nobody(snapshot: Snapshot, pool: Iterable[Candidate]) -> Wait | Fail:
    """Nobody in the pool is usable: wait for one that may come back, or give up."""
    hope = snapshot.requested_source != REQUESTED_LOCAL and (
        not pool or not all(candidate.hopeless for candidate in pool)
    )
    patience = _patience(snapshot)
    if hope and patience != 0:
        reasons = "; ".join(f"{c.label}: {c.why_not}" for c in pool)
        looks = [c.again_in for c in pool if c.again_in is not None]
        if patience is not None:
            looks.append(patience)
        return Wait(f"a builder ({reasons or 'none is there'})", min(looks, default=None))
    reasons_by_label = {c.label: c.why_not for c in snapshot.candidates if c.why_not is not None}
    if not pool and snapshot.requested_source != REQUESTED_AUTO:
        reasons_by_label = {snapshot.requested_source: "no such builder"}
    elif snapshot.requested_source != REQUESTED_AUTO:
        reasons_by_label = {c.label: c.why_not for c in pool if c.why_not is not None}
    return Fail(reasons_by_label)


def _patience(snapshot: Snapshot) -> float | None:
    """Return for how many seconds more to wait for a builder; None without limit."""
    if snapshot.wait_for_builder is None:
        return None
    return max(0.0, snapshot.wait_for_builder - snapshot.waited)


def _preference(snapshot: Snapshot, candidate: Candidate) -> tuple[bool, bool, int]:
    cold = snapshot.configuration not in candidate.status.warm
    return (not candidate.idle_slot, cold, candidate.load)


def _reason(snapshot: Snapshot, best: Candidate) -> str:
    if snapshot.requested_source != REQUESTED_AUTO:
        return "asked for"
    if not best.idle_slot:
        return "shortest queue"
    if snapshot.configuration in best.status.warm:
        return "has built this device before"
    return "idle" if best.load == 0 else "free build slot"


def _why_not(snapshot: Snapshot, pool: list[Candidate], best: Candidate) -> dict[str, str]:
    why_not = {}
    for other in snapshot.candidates:
        if other.builder_id == best.builder_id:
            continue
        if other.why_not is not None:
            why = other.why_not
        elif other not in pool:
            asked = snapshot.requested_source != REQUESTED_AUTO
            why = "another builder was asked for" if asked else "builds only when no peer can"
        elif not other.idle_slot:
            why = f"busy ({other.load} of {other.status.slots})"
        else:
            why = f"{best.label} is preferred: {_reason(snapshot, best)}"
        why_not[other.label] = why
    return why_not
