"""The lanes of work: build slots per builder, upload slots, and the gate before both."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from ..build.model import Builder, BuildError
from ..build.slots import OWN, Slot, Slots
from ..clock import Time
from ..const import REQUESTED_AUTO, FailureReason, JobStatus, Stage
from ..reason import Reason, ReasonKey
from .ledger import Ledger
from .model import Attempt, FirmwareJob
from .pool import BuilderPool
from .ports import QueueSettings
from .router import (
    Bind,
    Candidate,
    Fail,
    Snapshot,
    Wait,
    choose,
    find_again,
    wait_for_slot,
)


class DispatchGate:
    """Closed while nothing may start; what runs continues."""

    def __init__(self) -> None:
        self._opened = asyncio.Event()

    @property
    def is_open(self) -> bool:
        """Whether work may start."""
        return self._opened.is_set()

    def set(self, *, is_open: bool) -> None:
        """Open or close."""
        if is_open:
            self._opened.set()
        else:
            self._opened.clear()

    async def passed(self) -> None:
        """Return when work may start."""
        while not self.is_open:
            await self._opened.wait()


@dataclass(frozen=True, slots=True, eq=False)
class Binding:
    """A slot on a builder, and why it is this one.

    ``slot`` is None where the builder itself puts the builds in order.
    """

    builder: Builder
    configuration: str
    choice: Bind
    slot: Slot | None


def _new_future[T]() -> asyncio.Future[T]:
    return asyncio.get_running_loop().create_future()


def _granted[T](future: asyncio.Future[T]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None


@dataclass(frozen=True, slots=True)
class BuilderFailure:
    """Why a job failed at a builder, and when it may be tried there again; None: never.

    ``again_at`` is in seconds of the monotonic clock.
    """

    reason: Reason
    again_at: float | None = None

    def left(self, now: float) -> float | None:
        """Return in how many seconds the job may be tried there again; None: never."""
        return None if self.again_at is None else self.again_at - now

    def over(self, now: float) -> bool:
        """Whether it may be tried there again by now."""
        return self.again_at is not None and now >= self.again_at


@dataclass(slots=True, eq=False)
class _BuildTicket:
    """A job that waits for a builder; ``resumed``: for the one that has the attempt already.

    ``since`` is in seconds of the monotonic clock.
    """

    job: FirmwareJob
    failed: Mapping[str, BuilderFailure]
    since: float
    resumed: Attempt | None = None
    binding: asyncio.Future[Binding] = field(default_factory=_new_future)


class BuildLane:
    """One queue for all builders; the jobs are served in their order."""

    def __init__(
        self,
        builders: BuilderPool,
        ledger: Ledger,
        gate: DispatchGate,
        settings: Callable[[], QueueSettings],
        time: Time,
    ) -> None:
        self._builders = builders
        self._ledger = ledger
        self._gate = gate
        self._settings = settings
        self._time = time
        self._tickets: list[_BuildTicket] = []
        self._bound: list[Binding] = []
        self._shared: dict[str, Slots] = {}
        self._serving = False
        self._again = False
        self._timer: Callable[[], None] | None = None

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
        ticket = _BuildTicket(job, failed, since, resumed)
        self._tickets.append(ticket)
        self.serve()
        try:
            yield await ticket.binding
        finally:
            if ticket in self._tickets:
                self._tickets.remove(ticket)
            if _granted(ticket.binding):
                self._give_back(ticket.binding.result())
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

    def outlook(self, configuration: str) -> Bind | Wait | Fail:
        """Return what would be chosen for a job that is submitted now."""
        return choose(self._snapshot_of(configuration, REQUESTED_AUTO, {}, 0.0))

    def place(self, job: FirmwareJob) -> int | None:
        """Return which one in the queue a job is, from 1; None when it is not in it."""
        waiting = (ticket for ticket in self._tickets if not ticket.binding.done())
        return next((n for n, ticket in enumerate(waiting, 1) if ticket.job is job), None)

    def close(self) -> None:
        """Drop the timer and the places in the queues of builders."""
        self._drop_timer()
        self._update_queue_demand(Counter())

    def _drop_timer(self) -> None:
        if self._timer is not None:
            self._timer()
            self._timer = None

    def _serve(self) -> None:
        self._drop_timer()
        looks: list[float] = []
        waiting: Counter[str] = Counter()
        if self._gate.is_open:
            self._serve_tickets(looks, waiting)
        self._update_queue_demand(waiting)
        if looks:
            self._timer = self._time.call_later(min(looks), self.serve)

    def _serve_tickets(self, looks: list[float], waiting: Counter[str]) -> None:
        for ticket in tuple(self._tickets):
            if ticket.binding.done() or ticket.job.terminal:
                continue
            snapshot = self._snapshot(ticket)
            if ticket.resumed is None:
                choice = choose(snapshot)
            else:
                choice = find_again(snapshot, ticket.resumed.builder_id, ticket.resumed.label)
            if isinstance(choice, Bind) and not self._bind(ticket, choice):
                choice = wait_for_slot(snapshot, choice.builder_id)
            match choice:
                case Fail(reason=reason):
                    ticket.binding.set_exception(BuildError(FailureReason.NO_BUILDER, reason))
                case Wait(reason=reason, look_again=look_again, for_slot=for_slot):
                    if look_again is not None:
                        looks.append(look_again)
                    waiting.update(for_slot)
                    self._ledger.wait_for_builder(ticket.job, reason)

    def _bind(self, ticket: _BuildTicket, choice: Bind) -> bool:
        """Bind, unless it is a guest's turn to take the free slot."""
        builder = self._builders.get(choice.builder_id)
        assert builder is not None  # noqa: S101 - the snapshot was made in this very moment
        slot = builder.slots.take(OWN) if builder.slots is not None else None
        if builder.slots is not None and slot is None:
            return False
        self._tickets.remove(ticket)
        binding = Binding(builder, ticket.job.request.configuration, choice, slot)
        self._bound.append(binding)
        ticket.binding.set_result(binding)
        return True

    def _give_back(self, binding: Binding) -> None:
        self._bound.remove(binding)
        if binding.slot is not None:
            binding.slot.release()

    def _update_queue_demand(self, waiting: Counter[str]) -> None:
        """Register how many of our jobs wait for slots that are shared with guests."""
        shared = {
            builder.builder_id: builder.slots
            for builder in self._builders.builders
            if builder.slots is not None
        }
        for builder_id, slots in (self._shared | shared).items():
            slots.want(OWN, waiting[builder_id], self.serve)
        self._shared = shared

    def _snapshot(self, ticket: _BuildTicket) -> Snapshot:
        request = ticket.job.request
        return self._snapshot_of(
            request.configuration,
            request.requested_source,
            ticket.failed,
            self._time.monotonic() - ticket.since,
        )

    def _snapshot_of(
        self, configuration: str, source: str, failed: Mapping[str, BuilderFailure], waited: float
    ) -> Snapshot:
        settings = self._settings()
        now = self._time.monotonic()
        return Snapshot(
            configuration=configuration,
            requested_source=source,
            candidates=tuple(
                self._candidate(builder, configuration, failed.get(builder.builder_id), now)
                for builder in self._builders.builders
            ),
            waited=waited,
            wait_for_builder=settings.wait_for_builder,
            fall_back_to_local=settings.fall_back_to_local,
            peers_expected=settings.peers_expected,
        )

    def _candidate(
        self, builder: Builder, configuration: str, failure: BuilderFailure | None, now: float
    ) -> Candidate:
        bound = [
            each.configuration
            for each in self._bound
            if each.builder.builder_id == builder.builder_id
        ]
        if failure is not None and failure.over(now):
            failure = None
        return Candidate(
            builder_id=builder.builder_id,
            label=builder.label,
            source=builder.source,
            status=builder.status(),
            ours=len(bound),
            tree_busy=configuration in bound,
            failed=None if failure is None else failure.reason,
            again_in=None if failure is None else failure.left(now),
        )


@dataclass(slots=True, eq=False)
class UploadLease:
    """The right to flash one device."""

    device_name: str
    granted: asyncio.Future[None] = field(default_factory=_new_future)
    uploading: bool = True


class UploadLane:
    """As many uploads at a time as the options say, never two to the same device."""

    def __init__(self, gate: DispatchGate, settings: Callable[[], QueueSettings]) -> None:
        self._gate = gate
        self._settings = settings
        self._waiting: list[UploadLease] = []
        self._leases: set[UploadLease] = set()

    @asynccontextmanager
    async def lease(
        self, device_name: str, on_wait: Callable[[Reason], None]
    ) -> AsyncIterator[UploadLease]:
        """Hold the device and an upload slot; ``on_wait`` is called with what it waits for."""
        lease = UploadLease(device_name)
        self._waiting.append(lease)
        self.serve()
        if not lease.granted.done():
            on_wait(self._waits_for(lease))
        try:
            await lease.granted
            yield lease
        finally:
            if lease in self._waiting:
                self._waiting.remove(lease)
            self._leases.discard(lease)
            self.serve()

    def uploaded(self, lease: UploadLease) -> None:
        """Free the slot for the next one; the device stays held until it is back."""
        lease.uploading = False
        self.serve()

    def serve(self) -> None:
        """Serve all that waits; to be called after any change."""
        if not self._gate.is_open:
            return
        for lease in tuple(self._waiting):
            if lease.granted.done():
                continue
            if self._free_slots() <= 0:
                return
            if self._held(lease.device_name):
                continue
            self._waiting.remove(lease)
            self._leases.add(lease)
            lease.granted.set_result(None)

    def _free_slots(self) -> int:
        return max(1, self._settings().parallel_uploads) - sum(
            lease.uploading for lease in self._leases
        )

    def _held(self, device_name: str) -> bool:
        return any(lease.device_name == device_name for lease in self._leases)

    def _waits_for(self, lease: UploadLease) -> Reason:
        if self._held(lease.device_name):
            return Reason(ReasonKey.WAITS_FOR_OTHER_JOB)
        return Reason(ReasonKey.WAITS_FOR_UPLOAD_SLOT)
