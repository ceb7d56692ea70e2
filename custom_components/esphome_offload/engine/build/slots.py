"""Slots: how many builds run on this machine, shared fairly by its own jobs and its guests."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count as counter
from typing import Final

from ..listeners import Listeners

OWN: Final = "own"
"""The owner of this machine's own jobs; a guest's builds are owned by its pin."""


class Slot:
    """The right to run one build."""

    def __init__(self, free: Callable[[], None]) -> None:
        self._free: Callable[[], None] | None = free

    def release(self) -> None:
        """Free the slot; a second call does nothing."""
        free, self._free = self._free, None
        if free is not None:
            free()


@dataclass(slots=True, eq=False)
class _Demand:
    """The builds of one owner that wait for a slot."""

    since: int
    builds: int
    on_turn: Callable[[], None]


@dataclass(slots=True, eq=False)
class _Waiter:
    """A waiting build of an owner whose builds are served in order."""

    on_ahead: Callable[[int], None]
    granted: asyncio.Future[Slot] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    ahead: int | None = None


class Slots:
    """The slots of one machine; a free one goes to the owner that was served longest ago.

    Use it on the event loop only. Listeners and turns are called in the middle of a change:
    they may take, want and release.
    """

    def __init__(self, count: int = 1) -> None:
        """``count`` builds may run at the same time."""
        self._count = max(1, count)
        self._busy = 0
        self._numbers = counter(1)
        self._served: dict[str, int] = {}
        self._demands: dict[str, _Demand] = {}
        self._waiters: dict[str, deque[_Waiter]] = {}
        self._listeners: Listeners[[]] = Listeners()
        self._serving = False
        self._turn: str | None = None

    @property
    def count(self) -> int:
        """The number of builds that may run."""
        return self._count

    @property
    def busy(self) -> int:
        """The number of slots that are held; above ``count`` after that was lowered."""
        return self._busy

    @property
    def waiting(self) -> int:
        """The number of builds that wait for a slot, of all owners."""
        return sum(line.builds for line in self._demands.values())

    def set_count(self, count: int) -> None:
        """Change how many builds may run; running ones continue."""
        count = max(1, count)
        if count != self._count:
            self._count = count
            self._serve()

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call ``listener`` whenever count, busy or waiting changed; returns unsubscribe."""
        return self._listeners.subscribe(listener)

    def take(self, owner: str) -> Slot | None:
        """Return a slot to hold; None when none is free or it is another owner's turn."""
        if self._busy >= self._count or (self._serving and self._turn != owner):
            return None
        self._turn = None
        self._busy += 1
        self._served[owner] = next(self._numbers)
        self._changed()
        return Slot(self._free)

    def want(self, owner: str, builds: int, on_turn: Callable[[], None]) -> None:
        """Set how many builds of an owner wait; 0 withdraws its demand.

        ``on_turn`` is called when there is a slot for it; it takes it, or is passed over.
        """
        line = self._demands.get(owner)
        if builds == (line.builds if line else 0):
            return
        if builds == 0:
            del self._demands[owner]
        elif line is None:
            self._demands[owner] = _Demand(next(self._numbers), builds, on_turn)
        else:
            line.builds = builds
        self._changed()

    @asynccontextmanager
    async def slot(self, owner: str, on_ahead: Callable[[int], None]) -> AsyncIterator[None]:
        """Wait for a slot and hold it; an owner's builds are served in the order they came.

        ``on_ahead`` is called with the number of waiting builds before this one, at each change.
        """
        slot = self.take(owner)
        if slot is None:
            slot = await self._wait(owner, _Waiter(on_ahead))
        try:
            yield
        finally:
            slot.release()

    async def _wait(self, owner: str, waiter: _Waiter) -> Slot:
        line = self._waiters.setdefault(owner, deque())
        line.append(waiter)
        self._want_waiters(owner)
        try:
            return await waiter.granted
        except asyncio.CancelledError:
            if waiter in line:
                line.remove(waiter)
                self._want_waiters(owner)
            elif not waiter.granted.cancelled():
                waiter.granted.result().release()
            raise

    def _want_waiters(self, owner: str) -> None:
        self.want(owner, len(self._waiters[owner]), partial(self._grant, owner))

    def _grant(self, owner: str) -> None:
        line = self._waiters[owner]
        while line and line[0].granted.cancelled():
            line.popleft()
        if line and (slot := self.take(owner)) is not None:
            line.popleft().granted.set_result(slot)
        self._want_waiters(owner)

    def _free(self) -> None:
        self._busy -= 1
        self._serve()

    def _serve(self) -> None:
        if self._serving:
            # The loop that is running serves it.
            return
        self._serving = True
        passed_over: set[str] = set()
        try:
            while self._busy < self._count and (owner := self._next(passed_over)) is not None:
                self._turn = owner
                self._demands[owner].on_turn()
                if self._turn is not None:
                    passed_over.add(owner)
        finally:
            self._serving = False
            self._turn = None
        self._changed()

    def _next(self, passed_over: set[str]) -> str | None:
        owners = (owner for owner in self._in_turn() if owner not in passed_over)
        return next(owners, None)

    def _in_turn(self) -> list[str]:
        return sorted(
            self._demands,
            key=lambda owner: (self._served.get(owner, 0), self._demands[owner].since),
        )

    def _changed(self) -> None:
        if self._serving:
            return
        self._notify_waiters()
        self._listeners.notify()

    def _notify_waiters(self) -> None:
        """Notify the waiters whose queue position changed, by counting through the rounds."""
        owners = self._in_turn()
        ahead = 0
        # Nobody is told how many come before those that wait for their turn elsewhere.
        rounds = max(map(len, self._waiters.values()), default=0)
        for number in range(rounds):
            for owner in owners:
                if number >= self._demands[owner].builds:
                    continue
                waiters = self._waiters.get(owner, ())
                if number < len(waiters) and waiters[number].ahead != ahead:
                    waiters[number].ahead = ahead
                    waiters[number].on_ahead(ahead)
                ahead += 1
