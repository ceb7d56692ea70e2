"""Slots: how many builds run on this machine, shared fairly by its own jobs and its guests."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count as counter
from typing import Final

OWN: Final = "own"
"""The owner of this machine's own jobs; a guest's builds are owned by its pin."""


class Slot:
    """The right to run one build."""

    def __init__(self, give_back: Callable[[], None]) -> None:
        """Held from now on."""
        self._give_back: Callable[[], None] | None = give_back

    def release(self) -> None:
        """Give it back; a second time does nothing."""
        give_back, self._give_back = self._give_back, None
        if give_back is not None:
            give_back()


@dataclass(slots=True, eq=False)
class _Line:
    """What one owner waits for."""

    since: int
    builds: int
    on_turn: Callable[[], None]


@dataclass(slots=True, eq=False)
class _Place:
    """One build in the line of an owner that leaves the order to us."""

    on_ahead: Callable[[int], None]
    granted: asyncio.Future[Slot] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )
    ahead: int | None = None


class Slots:
    """A slot that comes free goes to the owner whose last turn is longest ago.

    Use it on the event loop only. Listeners and turns are called in the middle of a change:
    they may take, want and release.
    """

    def __init__(self, count: int = 1) -> None:
        """``count`` builds may run at the same time."""
        self._count = max(1, count)
        self._busy = 0
        self._numbers = counter(1)
        self._served: dict[str, int] = {}
        self._lines: dict[str, _Line] = {}
        self._places: dict[str, deque[_Place]] = {}
        self._listeners: list[Callable[[], None]] = []
        self._serving = False
        self._turn: str | None = None

    @property
    def count(self) -> int:
        """How many builds may run."""
        return self._count

    @property
    def busy(self) -> int:
        """How many slots are held; more than ``count`` after that was lowered."""
        return self._busy

    @property
    def waiting(self) -> int:
        """How many builds wait for a slot, whoever's they are."""
        return sum(line.builds for line in self._lines.values())

    def set_count(self, count: int) -> None:
        """Change how many builds may run; those that run go on."""
        count = max(1, count)
        if count != self._count:
            self._count = count
            self._serve()

    def subscribe(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call ``listener`` whenever count, busy or waiting changed; returns unsubscribe."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def take(self, owner: str) -> Slot | None:
        """Hold a slot at once; None when none is free or it is another owner's turn."""
        if self._busy >= self._count or (self._serving and self._turn != owner):
            return None
        self._turn = None
        self._busy += 1
        self._served[owner] = next(self._numbers)
        self._changed()
        return Slot(self._give_back)

    def want(self, owner: str, builds: int, on_turn: Callable[[], None]) -> None:
        """Say how many builds of an owner wait; 0 takes it out of the line.

        ``on_turn`` is called when a slot is there for it; it takes it, or is passed over.
        """
        line = self._lines.get(owner)
        if builds == (line.builds if line else 0):
            return
        if builds == 0:
            del self._lines[owner]
        elif line is None:
            self._lines[owner] = _Line(next(self._numbers), builds, on_turn)
        else:
            line.builds = builds
        self._changed()

    @asynccontextmanager
    async def slot(self, owner: str, on_ahead: Callable[[int], None]) -> AsyncIterator[None]:
        """Wait for a slot and hold it; first come, first served among an owner's builds.

        ``on_ahead`` gets told how many waiting builds come before this one, at each change.
        """
        slot = self.take(owner)
        if slot is None:
            slot = await self._wait(owner, _Place(on_ahead))
        try:
            yield
        finally:
            slot.release()

    async def _wait(self, owner: str, place: _Place) -> Slot:
        line = self._places.setdefault(owner, deque())
        line.append(place)
        self._want_places(owner)
        try:
            return await place.granted
        except asyncio.CancelledError:
            if place in line:
                line.remove(place)
                self._want_places(owner)
            elif not place.granted.cancelled():
                place.granted.result().release()
            raise

    def _want_places(self, owner: str) -> None:
        self.want(owner, len(self._places[owner]), partial(self._grant, owner))

    def _grant(self, owner: str) -> None:
        line = self._places[owner]
        while line and line[0].granted.cancelled():
            line.popleft()
        if line and (slot := self.take(owner)) is not None:
            line.popleft().granted.set_result(slot)
        self._want_places(owner)

    def _give_back(self) -> None:
        self._busy -= 1
        self._serve()

    def _serve(self) -> None:
        if self._serving:
            # The loop that runs sees what changed.
            return
        self._serving = True
        passed_over: set[str] = set()
        try:
            while self._busy < self._count and (owner := self._next(passed_over)) is not None:
                self._turn = owner
                self._lines[owner].on_turn()
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
            self._lines, key=lambda owner: (self._served.get(owner, 0), self._lines[owner].since)
        )

    def _changed(self) -> None:
        if self._serving:
            return
        self._tell_places()
        for listener in tuple(self._listeners):
            listener()

    def _tell_places(self) -> None:
        """Count through the rounds to come."""
        owners = self._in_turn()
        ahead = 0
        for number in range(max((line.builds for line in self._lines.values()), default=0)):
            for owner in owners:
                if number >= self._lines[owner].builds:
                    continue
                places = self._places.get(owner, ())
                if number < len(places) and places[number].ahead != ahead:
                    places[number].ahead = ahead
                    places[number].on_ahead(ahead)
                ahead += 1
