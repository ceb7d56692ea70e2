"""The choice of the builder for a job: a pure function of a snapshot."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
import math

from ..build.model import BuilderStatus
from ..const import REQUESTED_AUTO, REQUESTED_LOCAL, Source
from ..reason import Reason, ReasonKey

WORTH_WAITING = 20.0
"""Seconds that waiting for a better builder has to save; nothing is expected more exactly."""
RECONSIDER = 10.0
"""Seconds until a builder that is worth waiting for is compared again: it may be overdue."""
GRACE = 20.0
"""Seconds that a builder gets to reconnect after a restart of Home Assistant."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A builder at the moment of the snapshot.

    ``ours`` counts our own jobs that are bound to it, of which ``status`` may not know yet.
    ``tree_busy``: one of these has the same configuration; a builder builds one after the other.
    ``unused``: a person has switched it off for jobs that do not ask for it, as this one.
    ``failed`` is why this job failed there, ``again_in`` the seconds until it may be tried there
    again; None: never. ``starts_in`` and ``takes`` are the seconds until a slot is expected to be
    free for it, and then to build it; of ``takes`` None: nothing was measured yet.
    """

    builder_id: str
    label: str
    source: Source
    status: BuilderStatus
    ours: int = 0
    tree_busy: bool = False
    unused: bool = False
    failed: Reason | None = None
    again_in: float | None = None
    starts_in: float = 0.0
    takes: float | None = None

    @property
    def hopeless(self) -> bool:
        """Whether this builder will never accept the job, however long it waits."""
        return self.unused or (self.failed is not None and self.again_in is None)

    @property
    def why_not(self) -> Reason | None:
        """Why this builder cannot build the job; None when it can."""
        if self.unused:
            return Reason(ReasonKey.NOT_BY_CHOICE)
        if self.failed is not None:
            return self.failed
        if self.status.available:
            return None
        return self.status.why_not or Reason(ReasonKey.NOT_AVAILABLE)

    @property
    def load(self) -> int:
        """Builds that run or wait at the builder."""
        return max(self.status.busy, self.ours) + self.status.queue_length

    @property
    def free_slots(self) -> int:
        """Builds that would start at once."""
        return max(0, self.status.slots - max(self.status.busy, self.ours))

    @property
    def idle_slot(self) -> bool:
        """Whether a build would start at once."""
        return self.free_slots > 0

    @property
    def ready_in(self) -> float | None:
        """Seconds until the build is expected to be done; None when that is not known."""
        return None if self.takes is None else self.starts_in + self.takes

    @property
    def takes_more(self) -> bool:
        """Whether a job may be bound, and would not hold a slot while it waits for a tree.

        This machine's builds are queued here. A peer that is busy for others has a queue of its
        own, in which a job has to be to get a turn.
        """
        if self.tree_busy:
            return False
        if self.source is Source.LOCAL:
            return self.idle_slot
        return self.ours < self.status.slots


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What the choice depends on; times in seconds, None for no limit.

    ``peers_expected`` is how long peers may still connect after a start.
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
    """The builder for the job; ``why_not`` is keyed by the other builders' labels."""

    builder_id: str
    reason: Reason
    why_not: Mapping[str, Reason]


@dataclass(frozen=True, slots=True)
class Wait:
    """No builder for now; choose again at any change, and in ``look_again`` seconds.

    Each of the builders in ``for_slot`` would do, as soon as it has a free slot; with ``better``,
    that builder is worth waiting for, although another could start at once.
    """

    reason: Reason
    look_again: float | None = None
    for_slot: tuple[str, ...] = ()
    better: str | None = None


@dataclass(frozen=True, slots=True)
class Fail:
    """No builder, and none to wait for."""

    reason: Reason


def choose(snapshot: Snapshot) -> Bind | Wait | Fail:
    """Choose where the build is expected to be done first, which may be worth waiting for.

    Before anything was measured: a warm tree for this device, else an idle builder, else the
    shortest queue. ``auto`` means the peers where there are any; this machine then builds only
    when none of them can and waiting is over, because a builder is paired to spare this machine.
    """
    pool = _pool(snapshot)
    usable = [candidate for candidate in pool if candidate.why_not is None]
    if _too_early(snapshot, usable):
        return Wait(Reason(ReasonKey.WAITS_FOR_CONNECTIONS), snapshot.peers_expected)
    if not usable:
        return _none_usable(snapshot, pool)
    open_ones = [candidate for candidate in usable if candidate.takes_more]
    if not open_ones:
        return wait_for_slot(snapshot, *(candidate.builder_id for candidate in usable))
    first = min(usable, key=lambda candidate: _expectation(snapshot, candidate))
    best = min(open_ones, key=lambda candidate: _expectation(snapshot, candidate))
    if _worth_waiting(first, best):
        wait = wait_for_slot(snapshot, *(candidate.builder_id for candidate in usable))
        return replace(wait, look_again=RECONSIDER, better=first.builder_id)
    reason = _reason(snapshot, best, usable)
    return Bind(best.builder_id, reason, _why_not(snapshot, pool, best))


def usable_for(snapshot: Snapshot) -> tuple[str, ...]:
    """Return the builders that a job would be given to, now or when they have a free slot."""
    usable = [candidate for candidate in _pool(snapshot) if candidate.why_not is None]
    return () if _too_early(snapshot, usable) else tuple(each.builder_id for each in usable)


def find_again(snapshot: Snapshot, builder_id: str, label: str) -> Bind | Wait | Fail:
    """Choose the builder that has the build already, even if it accepts no new ones."""
    builder = next((each for each in snapshot.candidates if each.builder_id == builder_id), None)
    if builder is not None and builder.status.reachable:
        return Bind(builder_id, Reason(ReasonKey.CHOSEN_HAS_BUILD), {})
    left = GRACE - snapshot.waited
    if left > 0:
        return Wait(Reason(ReasonKey.WAITS_FOR_ITS_BUILDER, {"label": label}), left)
    why = None if builder is None else builder.status.why_not
    return _fail({label: why or Reason(ReasonKey.NOT_BACK_AGAIN)})


def wait_for_slot(snapshot: Snapshot, *builder_ids: str) -> Wait:
    """Wait until one of these builders has a slot for the job."""
    labels = (each.label for each in snapshot.candidates if each.builder_id in builder_ids)
    reason = Reason(ReasonKey.WAITS_FOR_SLOT, {"labels": ", ".join(labels)})
    return Wait(reason, for_slot=builder_ids)


def _too_early(snapshot: Snapshot, usable: Iterable[Candidate]) -> bool:
    """Whether a peer that this job could use may still connect."""
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


def _none_usable(snapshot: Snapshot, pool: Sequence[Candidate]) -> Wait | Fail:
    """Wait for a builder of the pool that may become usable, or fail."""
    hope = snapshot.requested_source != REQUESTED_LOCAL and (
        not pool or not all(candidate.hopeless for candidate in pool)
    )
    patience = _patience(snapshot)
    if hope and patience != 0:
        looks = [c.again_in for c in pool if c.again_in is not None]
        if patience is not None:
            looks.append(patience)
        reason = Reason(ReasonKey.WAITS_FOR_BUILDER, causes=_reasons_of(pool))
        return Wait(reason, min(looks, default=None))
    if snapshot.requested_source == REQUESTED_AUTO:
        return _fail(_reasons_of(snapshot.candidates))
    if not pool:
        return _fail({snapshot.requested_source: Reason(ReasonKey.NO_SUCH_BUILDER)})
    return _fail(_reasons_of(pool))


def _reasons_of(candidates: Iterable[Candidate]) -> dict[str, Reason]:
    return {each.label: each.why_not for each in candidates if each.why_not is not None}


def _fail(causes: Mapping[str, Reason]) -> Fail:
    if not causes:
        return Fail(Reason(ReasonKey.NO_BUILDER))
    return Fail(Reason(ReasonKey.NO_BUILDER_TAKES, causes=causes))


def _patience(snapshot: Snapshot) -> float | None:
    """Return the seconds left to wait for a builder; None without limit."""
    if snapshot.wait_for_builder is None:
        return None
    return max(0.0, snapshot.wait_for_builder - snapshot.waited)


def _preference(snapshot: Snapshot, candidate: Candidate) -> tuple[bool, bool, int]:
    cold = snapshot.configuration not in candidate.status.warm
    return (not candidate.idle_slot, cold, candidate.load)


def _expectation(snapshot: Snapshot, candidate: Candidate) -> tuple[float, bool, bool, int]:
    """Return when it is done and what is preferred of equals; the lowest is the best."""
    ready_in = candidate.ready_in
    return (math.inf if ready_in is None else ready_in, *_preference(snapshot, candidate))


def _worth_waiting(first: Candidate, best: Candidate) -> bool:
    """Return whether a builder without a slot is done enough earlier than the best of the others."""
    if first.ready_in is None or best.ready_in is None:
        return False
    return best.ready_in - first.ready_in > WORTH_WAITING


def _reason(snapshot: Snapshot, best: Candidate, usable: Iterable[Candidate]) -> Reason:
    if snapshot.requested_source != REQUESTED_AUTO:
        return Reason(ReasonKey.CHOSEN_AS_ASKED)
    others = [(each.ready_in, each.label) for each in usable if each is not best]
    second, label = min(
        ((ready, who) for ready, who in others if ready is not None), default=(None, "")
    )
    if best.ready_in is not None and second is not None:
        parameters = {"time": about(best.ready_in), "label": label, "other": about(second)}
        return Reason(ReasonKey.CHOSEN_FIRST, parameters)
    if not best.idle_slot:
        return Reason(ReasonKey.CHOSEN_SHORTEST_QUEUE)
    if snapshot.configuration in best.status.warm:
        return Reason(ReasonKey.CHOSEN_WARM)
    return Reason(ReasonKey.CHOSEN_IDLE if best.load == 0 else ReasonKey.CHOSEN_FREE_SLOT)


def _why_not(snapshot: Snapshot, pool: list[Candidate], best: Candidate) -> dict[str, Reason]:
    why_not = {}
    for other in snapshot.candidates:
        if other.builder_id == best.builder_id:
            continue
        if other.why_not is not None:
            why = other.why_not
        elif other not in pool:
            asked = snapshot.requested_source != REQUESTED_AUTO
            why = Reason(ReasonKey.NOT_ASKED_FOR if asked else ReasonKey.NOT_WHILE_PEERS_CAN)
        elif other.ready_in is not None:
            why = Reason(ReasonKey.NOT_FIRST, {"time": about(other.ready_in)})
        elif not other.idle_slot:
            load, slots = str(other.load), str(other.status.slots)
            why = Reason(ReasonKey.SLOTS_BUSY, {"load": load, "slots": slots})
        else:
            why = Reason(ReasonKey.NOT_PREFERRED, {"label": best.label})
        why_not[other.label] = why
    return why_not


def about(seconds: float) -> str:
    """Return a duration for people, no more exact than an expectation can be."""
    return f"{max(1, round(seconds))} s" if seconds < 99.5 else f"{round(seconds / 60)} min"
