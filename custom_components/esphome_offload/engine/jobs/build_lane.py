"""BuildLane: the jobs that wait for a builder, and those that hold a slot on one."""

import asyncio
from bisect import insort
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
import math
from operator import attrgetter
from typing import Final

from ..build.model import BuildError
from ..build.slots import OWN, Slots
from ..clock import Time
from ..const import FailureReason, JobStatus, Operation, Stage
from ..reason import Reason
from .build_times import BuildTimes, spent_building
from .builder_outlook import Binding, BuilderFailure, BuilderOutlook
from .lanes import DispatchGate
from .ledger import Ledger
from .model import Attempt, FirmwareJob, JobRequest
from .order import QueueOrder, Rank
from .pool import BuilderPool
from .ports import QueueSettings
from .router import (
    Bind,
    Fail,
    Snapshot,
    Wait,
    choose,
    find_again,
    usable_for,
    wait_for_slot,
)

_TOLD_AT_ONCE: Final = 50
"""Jobs of which the listeners are told what they wait for, before others get a turn."""
_TELL_AGAIN: Final = 0.05
_PLAN_FOR: Final = 2.0
"""Seconds for which a plan holds when nothing changes."""


@dataclass(slots=True, eq=False)
class _Ticket:
    """A job that waits for a builder; ``resumed``: for the one that has the attempt already.

    ``since`` is in seconds of the monotonic clock.
    """

    job: FirmwareJob
    failed: Mapping[str, BuilderFailure]
    since: float
    resumed: Attempt | None
    kind: str | None
    """What it has in common with others that any builder would do as well; None: nothing."""
    rank: Rank
    binding: asyncio.Future[Binding] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )

    @property
    def waits(self) -> bool:
        return not (self.binding.done() or self.job.terminal)

    @property
    def bound(self) -> bool:
        future = self.binding
        return future.done() and not future.cancelled() and future.exception() is None


@dataclass(frozen=True, slots=True)
class Plan:
    """What is expected of the jobs without a builder, by job id.

    ``places`` are those in the queue, from 1; ``ends`` the seconds until each is built.
    """

    places: Mapping[str, int]
    ends: Mapping[str, float]


class _Look:
    """One look at all that waits: the builders meanwhile, and what it came to."""

    def __init__(self, outlooks: Mapping[str, BuilderOutlook]) -> None:
        self.outlooks = outlooks
        self.again_in: list[float] = []
        self.told = 0
        self.waiting: Counter[str] = Counter()
        """How many jobs wait for a slot of each builder, apart from those of a kind in ``full``."""
        self.counted: Counter[str | None] = Counter()
        self.passed_over: set[tuple[str, ...]] = set()
        """Builders with a free slot that is a guest's now."""
        self.full: dict[str, Wait] = {}
        """Kinds of jobs of which none can have a slot now."""

    def has_room(self, builder_ids: tuple[str, ...]) -> bool:
        """Return whether any of these builders has a slot for some job."""
        return builder_ids not in self.passed_over and any(
            self.outlooks[builder_id].has_room for builder_id in builder_ids
        )


class BuildLane:
    """One queue for all builders; what comes first is served first, as far as it can be."""

    def __init__(
        self,
        *,
        builders: BuilderPool,
        ledger: Ledger,
        gate: DispatchGate,
        settings: Callable[[], QueueSettings],
        order: QueueOrder,
        times: BuildTimes,
        time: Time,
    ) -> None:
        self._builders = builders
        self._ledger = ledger
        self._gate = gate
        self._settings = settings
        self._order = order
        self._times = times
        self._time = time
        self._tickets: list[_Ticket] = []
        self._new: list[_Ticket] = []
        self._kinds: Counter[str | None] = Counter()
        self._told: dict[str, Reason] = {}
        self._bound: dict[str, Binding] = {}
        self._shared: dict[str, Slots] = {}
        self._wanted: Counter[str] = Counter()
        self._serving = False
        self._again = False
        self._timer: Callable[[], None] | None = None
        self._plan: Plan | None = None
        self._planned_at = 0.0

    @asynccontextmanager
    async def slot(
        self,
        job: FirmwareJob,
        failed: Mapping[str, BuilderFailure],
        resumed: Attempt | None = None,
    ) -> AsyncIterator[Binding]:
        """Hold a slot on a builder where the job has not ``failed`` (keyed by builder id).

        With ``resumed``, on the builder of that attempt, which has it already. Raises BuildError
        (no_builder) when no builder accepts the job.
        """
        since = self._time.monotonic()
        if job.status is JobStatus.QUEUED and resumed is None:
            # What a job has waited before a restart counts.
            since -= self._ledger.seconds_in(job, Stage.WAITING_BUILDER)
        plain = resumed is None and not failed
        kind = job.request.requested_source if plain else None
        # In whole seconds, so that the patience of what was asked for together ends at once.
        ticket = _Ticket(job, failed, math.floor(since), resumed, kind, self._order.rank(job))
        self._kinds[kind] += 1
        insort(self._tickets, ticket, key=attrgetter("rank"))
        self._new.append(ticket)
        self.serve()
        try:
            yield await ticket.binding
        finally:
            self._remove(ticket)
            if ticket.bound:
                binding = self._bound.pop(job.job_id)
                if binding.slot is not None:
                    binding.slot.release()
            self.serve()

    def serve(self) -> None:
        """Serve all that waits; to be called after any change."""
        if self._serving:
            # Listeners are notified of what a job waits for, and may change something.
            self._again = True
            return
        self._serving = True
        try:
            again = True
            while again:
                self._again = False
                self._serve()
                again = self._again
        finally:
            self._serving = False

    def reorder(self, job_ids: Iterable[str]) -> None:
        """Rank jobs again, after something about their order has changed."""
        ids = frozenset(job_ids)
        changed = [ticket for ticket in self._tickets if ticket.job.job_id in ids]
        for ticket in changed:
            ticket.rank = self._order.rank(ticket.job)
        if changed:
            self._tickets.sort(key=attrgetter("rank"))
            self.serve()

    def outlook(self, configuration: str) -> Bind | Wait | Fail:
        """Return what would be chosen for a job that is submitted now."""
        request = JobRequest(Operation.COMPILE, configuration, configuration, "")
        return choose(self._snapshot_of(request, {}, 0.0, self._outlooks()))

    def plan(self) -> Plan:
        """Return what is expected of the jobs that are in this lane."""
        now = self._time.monotonic()
        if self._plan is None or now >= self._planned_at + _PLAN_FOR:
            self._plan, self._planned_at = self._make_plan(), now
        return self._plan

    def close(self) -> None:
        """Drop the timer and the places in the queues of builders."""
        self._drop_timer()
        self._update_queue_demand(Counter())

    def _remove(self, ticket: _Ticket) -> None:
        if ticket in self._tickets:
            self._tickets.remove(ticket)
            self._kinds[ticket.kind] -= 1

    def _drop_timer(self) -> None:
        if self._timer is not None:
            self._timer()
            self._timer = None

    def _serve(self) -> None:
        self._drop_timer()
        self._plan = None
        look = _Look(self._outlooks())
        if self._gate.is_open:
            self._serve_tickets(look)
            self._tell_kinds(look)
            self._new.clear()
        for kind, wait in look.full.items():
            count = self._kinds[kind] - look.counted[kind]
            look.waiting.update(dict.fromkeys(wait.for_slot, count))
        self._update_queue_demand(look.waiting)
        if look.again_in:
            self._timer = self._time.call_later(min(look.again_in), self.serve)

    def _serve_tickets(self, look: _Look) -> None:
        """Serve in order, until none of those behind can have a slot now."""
        others = self._kinds[None]
        kinds = sum(1 for kind, count in self._kinds.items() if kind is not None and count)
        for ticket in tuple(self._tickets):
            if not others and len(look.full) == kinds:
                break
            if ticket.kind is None:
                others -= 1
            if ticket.waits and ticket.kind not in look.full:
                self._serve_one(ticket, look)

    def _serve_one(self, ticket: _Ticket, look: _Look) -> None:
        snapshot = self._snapshot(ticket, look.outlooks)
        if ticket.resumed is None:
            choice = choose(snapshot)
        else:
            choice = find_again(snapshot, ticket.resumed.builder_id, ticket.resumed.label)
        if isinstance(choice, Bind) and not self._bind(ticket, choice, look):
            choice = wait_for_slot(snapshot, choice.builder_id)
            look.passed_over.add(choice.for_slot)
        match choice:
            case Fail(reason=reason):
                ticket.binding.set_exception(BuildError(FailureReason.NO_BUILDER, reason))
            case Wait():
                self._wait(ticket, choice, look)

    def _wait(self, ticket: _Ticket, wait: Wait, look: _Look) -> None:
        if wait.better is not None:
            outlook = look.outlooks[wait.better]
            outlook.reserve(outlook.expected(ticket.job.request)[0])
        elif ticket.kind is not None and wait.for_slot and not look.has_room(wait.for_slot):
            look.full[ticket.kind] = wait
            return
        if wait.look_again is not None:
            look.again_in.append(wait.look_again)
        look.waiting.update(wait.for_slot)
        look.counted[ticket.kind] += 1
        if ticket.kind is not None and self._told.get(ticket.kind) != wait.reason:
            self._told.pop(ticket.kind, None)
        self._tell(ticket, wait.reason, look)

    def _tell_kinds(self, look: _Look) -> None:
        """Set what the jobs wait for that were not looked at one by one."""
        for kind, wait in look.full.items():
            known = self._told.pop(kind, None) == wait.reason
            some = tuple(self._new if known else self._tickets)
            if all(self._tell(each, wait.reason, look) for each in some if each.kind == kind):
                self._told[kind] = wait.reason

    def _tell(self, ticket: _Ticket, reason: Reason, look: _Look) -> bool:
        """Set what a job waits for; False when that has to be done the next time."""
        if not ticket.waits or ticket.job.waiting_for == reason:
            return True
        if look.told >= _TOLD_AT_ONCE:
            look.again_in.append(_TELL_AGAIN)
            return False
        look.told += 1
        self._ledger.wait_for_builder(ticket.job, reason)
        return True

    def _bind(self, ticket: _Ticket, choice: Bind, look: _Look) -> bool:
        """Bind, unless it is a guest's turn to take the free slot."""
        job, outlook = ticket.job, look.outlooks[choice.builder_id]
        builder = outlook.builder
        slot = builder.slots.take(OWN) if builder.slots is not None else None
        if builder.slots is not None and slot is None:
            return False
        takes, warm = outlook.expected(job.request)
        spent = 0.0 if ticket.resumed is not None else spent_building(job)
        binding = Binding(builder, job, choice, slot, takes, warm, spent)
        self._remove(ticket)
        self._bound[job.job_id] = binding
        outlook.bind(binding)
        ticket.binding.set_result(binding)
        return True

    def _update_queue_demand(self, waiting: Counter[str]) -> None:
        """Register how many of our jobs wait for slots that are shared with guests."""
        shared = {
            builder.builder_id: builder.slots
            for builder in self._builders.builders
            if builder.slots is not None
        }
        self._wanted = waiting
        for builder_id, slots in (self._shared | shared).items():
            slots.want(OWN, waiting[builder_id], self.serve)
        self._shared = shared

    def _make_plan(self) -> Plan:
        """Plan as if nothing else came, and all took as long as is expected."""
        outlooks = self._outlooks()
        in_line = [job.job_id for outlook in outlooks.values() for job in outlook.in_line]
        ends = {name: end for outlook in outlooks.values() for name, end in outlook.ends.items()}
        starts: list[tuple[float, int, str]] = []
        usable: dict[str, tuple[str, ...]] = {}
        for number, ticket in enumerate(self._tickets):
            if not ticket.waits or ticket.resumed is not None:
                continue
            ids = None if ticket.kind is None else usable.get(ticket.kind)
            if ids is None:
                ids = usable_for(self._snapshot(ticket, outlooks))
            if ticket.kind is not None:
                usable[ticket.kind] = ids
            job = ticket.job
            best = min(((*outlooks[each].when(job.request), each) for each in ids), default=None)
            if best is None:
                continue
            end, start, builder_id = best
            starts.append((start, number, job.job_id))
            if self._gate.is_open and end < math.inf:
                outlooks[builder_id].reserve(end - start)
                ends[job.job_id] = end
        order = in_line + [job_id for _, _, job_id in sorted(starts)]
        return Plan({job_id: place for place, job_id in enumerate(order, 1)}, ends)

    def _outlooks(self) -> dict[str, BuilderOutlook]:
        bound: dict[str, list[Binding]] = {}
        for binding in self._bound.values():
            self._ledger.add_time(binding.job)
            bound.setdefault(binding.builder.builder_id, []).append(binding)
        return {
            (name := builder.builder_id): BuilderOutlook(
                builder,
                bound.get(name, ()),
                self._wanted[name],
                self._times,
                used=self._builders.uses(name),
            )
            for builder in self._builders.builders
        }

    def _snapshot(self, ticket: _Ticket, outlooks: Mapping[str, BuilderOutlook]) -> Snapshot:
        waited = self._time.monotonic() - ticket.since
        return self._snapshot_of(ticket.job.request, ticket.failed, waited, outlooks)

    def _snapshot_of(
        self,
        request: JobRequest,
        failed: Mapping[str, BuilderFailure],
        waited: float,
        outlooks: Mapping[str, BuilderOutlook],
    ) -> Snapshot:
        settings, now = self._settings(), self._time.monotonic()
        return Snapshot(
            configuration=request.configuration,
            requested_source=request.requested_source,
            candidates=tuple(
                outlook.candidate(request, failed.get(builder_id), now)
                for builder_id, outlook in outlooks.items()
            ),
            waited=waited,
            wait_for_builder=settings.wait_for_builder,
            fall_back_to_local=settings.fall_back_to_local,
            peers_expected=settings.peers_expected,
        )
