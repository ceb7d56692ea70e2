"""The build slots of one machine, shared by owners."""

import asyncio
from contextlib import AsyncExitStack
from functools import partial

import pytest

from custom_components.esphome_offload.engine.build.slots import OWN, Slot, Slots

from ..jobs.fakes import settle

ATTIC = "aa"
CELLAR = "cc"


class Guest:
    """An owner whose builds wait in line; each goes on until it is ended by name."""

    def __init__(self, slots: Slots, owner: str, order: list[str]) -> None:
        self.slots = slots
        self.owner = owner
        self.order = order
        self.ahead: dict[str, list[int]] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self._ends: dict[str, asyncio.Event] = {}

    async def submit(self, *names: str) -> None:
        for name in names:
            self._ends[name] = asyncio.Event()
            self.ahead[name] = []
            self.tasks[name] = asyncio.create_task(self._build(name))
        await settle()

    async def end(self, name: str) -> None:
        self._ends[name].set()
        await settle()

    async def cancel(self, name: str) -> None:
        self.tasks[name].cancel()
        await settle()

    async def _build(self, name: str) -> None:
        async with self.slots.slot(self.owner, self.ahead[name].append):
            self.order.append(name)
            await self._ends[name].wait()


class Own:
    """This machine's jobs: they say how many they are and take what they are offered."""

    def __init__(self, slots: Slots, order: list[str]) -> None:
        self.slots = slots
        self.order = order
        self.jobs: list[str] = []
        self.held: list[Slot] = []

    def submit(self, *names: str) -> None:
        self.jobs.extend(names)
        self.turn()

    def turn(self) -> None:
        while self.jobs and (slot := self.slots.take(OWN)) is not None:
            self.held.append(slot)
            self.order.append(self.jobs.pop(0))
        self.slots.want(OWN, len(self.jobs), self.turn)


@pytest.fixture
def order() -> list[str]:
    """Return what got a slot, in this order."""
    return []


async def test_no_more_builds_run_than_there_are_slots(order: list[str]) -> None:
    slots = Slots(2)
    guest = Guest(slots, ATTIC, order)
    await guest.submit("a1", "a2", "a3")
    assert (order, slots.busy, slots.waiting) == (["a1", "a2"], 2, 1)
    await guest.end("a2")
    assert (order, slots.busy, slots.waiting) == (["a1", "a2", "a3"], 2, 0)
    await guest.end("a1")
    await guest.end("a3")
    assert slots.busy == 0


async def test_one_owner_s_builds_are_served_first_come_first_served(order: list[str]) -> None:
    guest = Guest(Slots(1), ATTIC, order)
    names = ["a1", "a2", "a3", "a4"]
    await guest.submit(*names)
    for name in names:
        await guest.end(name)
    assert order == names


async def test_owners_take_turns_however_many_builds_one_has(order: list[str]) -> None:
    slots = Slots(1)
    attic, cellar = Guest(slots, ATTIC, order), Guest(slots, CELLAR, order)
    await attic.submit("a1", "a2", "a3")
    await cellar.submit("c1", "c2")
    for guest, name in ((attic, "a1"), (cellar, "c1"), (attic, "a2"), (cellar, "c2")):
        await guest.end(name)
    assert order == ["a1", "c1", "a2", "c2", "a3"]
    await attic.end("a3")


async def test_own_jobs_are_one_owner_among_the_others(order: list[str]) -> None:
    slots = Slots(1)
    own, attic, cellar = Own(slots, order), Guest(slots, ATTIC, order), Guest(slots, CELLAR, order)
    own.submit("o1", "o2", "o3")
    await attic.submit("a1", "a2")
    await cellar.submit("c1")
    own.held.pop().release()
    await settle()
    for guest, name in ((attic, "a1"), (cellar, "c1")):
        await guest.end(name)
    assert order == ["o1", "a1", "c1", "o2"]
    own.held.pop().release()
    await settle()
    await attic.end("a2")
    assert order == ["o1", "a1", "c1", "o2", "a2", "o3"]


async def test_one_turn_is_one_slot(order: list[str]) -> None:
    slots = Slots(1)
    own, attic = Own(slots, order), Guest(slots, ATTIC, order)
    own.submit("o1", "o2", "o3")
    await attic.submit("a1", "a2")
    slots.set_count(4)
    await settle()
    assert set(order) == {"o1", "o2", "a1", "a2"}
    for name in ("a1", "a2"):
        await attic.end(name)


async def test_who_does_not_take_its_turn_is_passed_over(order: list[str]) -> None:
    slots = Slots(1)
    attic = Guest(slots, ATTIC, order)
    held = slots.take(ATTIC)
    assert held is not None
    turns: list[str] = []
    slots.want(OWN, 3, partial(turns.append, "own"))
    await attic.submit("a1")
    held.release()
    await settle()
    assert (turns, order) == (["own"], ["a1"])
    await attic.end("a1")
    assert (turns, slots.busy) == (["own", "own"], 0)


async def test_who_is_in_another_s_turn_gets_nothing(order: list[str]) -> None:
    slots = Slots(1)
    held = slots.take(ATTIC)
    assert held is not None
    stolen: list[Slot | None] = []
    slots.want(OWN, 1, lambda: stolen.append(slots.take(CELLAR)))
    held.release()
    assert stolen == [None]


async def test_a_waiting_build_knows_how_many_come_before_it(order: list[str]) -> None:
    slots = Slots(1)
    own, attic, cellar = Own(slots, order), Guest(slots, ATTIC, order), Guest(slots, CELLAR, order)
    own.submit("o1", "o2")
    await attic.submit("a1", "a2")
    assert (attic.ahead["a1"], attic.ahead["a2"]) == ([0], [2])
    await cellar.submit("c1")
    assert (attic.ahead["a1"], cellar.ahead["c1"], attic.ahead["a2"]) == ([0], [1], [2, 3])
    own.held.pop().release()
    await settle()
    assert order[-1] == "a1"
    assert (cellar.ahead["c1"], attic.ahead["a2"]) == ([1, 0], [2, 3, 2])
    await attic.cancel("a1")
    await cellar.cancel("c1")
    own.held.pop().release()
    await settle()
    await attic.end("a2")


async def test_more_slots_are_used_at_once_and_fewer_end_nothing(order: list[str]) -> None:
    slots = Slots(1)
    guest = Guest(slots, ATTIC, order)
    await guest.submit("a1", "a2", "a3", "a4")
    slots.set_count(3)
    await settle()
    assert order == ["a1", "a2", "a3"]
    slots.set_count(1)
    await guest.end("a1")
    assert (order, slots.busy) == (["a1", "a2", "a3"], 2)
    await guest.end("a2")
    await guest.end("a3")
    assert order == ["a1", "a2", "a3", "a4"]
    await guest.end("a4")


async def test_a_build_that_is_cancelled_while_it_waits_leaves_the_line(order: list[str]) -> None:
    slots = Slots(1)
    guest = Guest(slots, ATTIC, order)
    await guest.submit("a1", "a2", "a3")
    await guest.cancel("a2")
    assert slots.waiting == 1
    await guest.end("a1")
    assert order == ["a1", "a3"]
    await guest.end("a3")
    assert (slots.busy, slots.waiting) == (0, 0)


async def test_a_build_that_is_cancelled_just_as_its_slot_comes_free_gives_it_on(
    order: list[str],
) -> None:
    slots = Slots(1)
    guest = Guest(slots, ATTIC, order)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(slots.slot(CELLAR, print))
        await guest.submit("a1", "a2")
    guest.tasks["a1"].cancel()  # granted, but not yet running
    await settle()
    assert order == ["a2"]
    await guest.end("a2")
    assert (slots.busy, slots.waiting) == (0, 0)


async def test_a_build_that_is_cancelled_just_before_its_slot_comes_free_gets_none(
    order: list[str],
) -> None:
    slots = Slots(1)
    guest = Guest(slots, ATTIC, order)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(slots.slot(CELLAR, print))
        await guest.submit("a1", "a2")
        guest.tasks["a1"].cancel()
    await settle()
    assert order == ["a2"]
    await guest.end("a2")
    assert (slots.busy, slots.waiting) == (0, 0)


async def test_a_slot_that_is_given_back_twice_counts_once() -> None:
    slots = Slots(1)
    slot = slots.take(OWN)
    assert slot is not None
    slot.release()
    slot.release()
    assert slots.busy == 0
    assert slots.take(OWN) is not None
    assert slots.take(OWN) is None


async def test_listeners_hear_of_every_change_and_may_be_taken_off(order: list[str]) -> None:
    slots = Slots(1)
    heard: list[tuple[int, int, int]] = []
    unsubscribe = slots.subscribe(lambda: heard.append((slots.count, slots.busy, slots.waiting)))
    guest = Guest(slots, ATTIC, order)
    await guest.submit("a1", "a2")
    slots.set_count(2)
    assert heard == [(1, 1, 0), (1, 1, 1), (2, 2, 0)]
    unsubscribe()
    await guest.end("a1")
    await guest.end("a2")
    assert heard[-1] == (2, 2, 0)
