"""Guests: each for itself, none sees another's; removed, nothing of them is left."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
import json

import pytest

from custom_components.esphome_offload.engine.build.model import BuilderStatus
from custom_components.esphome_offload.engine.host.guests import GuestRegistry
from custom_components.esphome_offload.engine.host.lending import Lending
from custom_components.esphome_offload.engine.protocol.errors import ErrorCode, ProtocolError
from custom_components.esphome_offload.engine.protocol.identity import Identity
from custom_components.esphome_offload.engine.protocol.messages import (
    AttemptState,
    SentReason,
    StatusEvent,
)
from custom_components.esphome_offload.engine.reason import Reason, ReasonKey

from .builder import (
    BuilderMachine,
    GuestCalls,
    MemoryStore,
    printing,
    refused,
    until,
)

NOW = datetime(2026, 10, 20, tzinfo=UTC)


async def test_guests_survive_a_restart() -> None:
    store = MemoryStore()
    registry = GuestRegistry(store)
    await registry.load()
    lamp = await registry.add(Identity.generate().public, "lamp", NOW)
    attic = await registry.add(Identity.generate().public, "attic", NOW)
    later = NOW + timedelta(hours=1)
    registry.mark_disconnected(lamp.pin_sha256, later)
    registry.count_build(lamp.pin_sha256, NOW)
    registry.count_build(lamp.pin_sha256, later)
    registry.mark_connected(attic.pin_sha256, "loft", later)
    again = GuestRegistry(store)
    await again.load()
    assert again.all() == (
        replace(lamp, last_seen=later, builds=2, last_build=later),
        replace(attic, label="loft", last_seen=later),
    )
    assert again.get(attic.pin_sha256) == again.all()[1]
    assert again.get("0" * 64) is None


async def test_a_guest_that_pairs_again_stays_one(builder: BuilderMachine) -> None:
    identity = Identity.generate()
    await builder.pair("old", identity)
    builder.guests.count_build(identity.pin_sha256, NOW)
    await builder.pair("new", identity)
    assert [(each.label, each.builds) for each in builder.guests.all()] == [("new", 1)]


async def test_a_damaged_record_is_left_out() -> None:
    store = MemoryStore()
    registry = GuestRegistry(store)
    lamp = await registry.add(Identity.generate().public, "lamp", NOW)
    state = json.loads(store.text)
    state["guests"] += [
        {},
        3,
        {**state["guests"][0], "public_key": {"raw": "AAAA"}},
        {**state["guests"][0], "label": "two\nlines"},
    ]
    store.text = json.dumps(state)
    again = GuestRegistry(store)
    await again.load()
    assert again.all() == (lamp,)


async def test_listeners_are_notified_of_changes() -> None:
    registry = GuestRegistry(MemoryStore())
    counts: list[int] = []
    registry.changed.subscribe(lambda: counts.append(len(registry.all())))
    lamp = await registry.add(Identity.generate().public, "lamp", NOW)
    registry.count_build(lamp.pin_sha256, NOW)
    registry.count_build("0" * 64, NOW)
    registry.mark_connected(lamp.pin_sha256, "lamp", NOW)
    registry.mark_connected(lamp.pin_sha256, "lamp", NOW)
    await registry.remove(lamp.pin_sha256)
    assert counts == [1, 1, 1, 0]
    assert await registry.remove(lamp.pin_sha256) is None


async def test_one_guest_cannot_see_stop_or_fetch_another_s(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    mallory = await builder.pair("mallory")
    builder.slots.set_count(2)
    done = await guest.submit()
    await guest.end(done)
    running, block = await builder.start_blocked(guest, {"fan.yaml": b""}, configuration="fan.yaml")
    for attempt_id in (done, running):
        with pytest.raises(ProtocolError) as refusal:
            mallory.attach(attempt_id)
        assert refusal.value.code is ErrorCode.UNKNOWN_ATTEMPT
        for act in (
            mallory.cancel(attempt_id),
            mallory.acknowledge(attempt_id),
            mallory.fetch(attempt_id),
        ):
            assert await refused(act) is ErrorCode.UNKNOWN_ATTEMPT
    assert (await mallory.wanted(done, running)).attempts == ()
    await mallory.clean("lamp.yaml")
    assert not block.cancelled
    assert (await guest.fetch(done))[1]
    assert len((await guest.wanted(done, running)).attempts) == 2
    block.release.set()


async def test_two_guests_may_have_a_device_and_an_attempt_of_the_same_name(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    other = await builder.pair("other")
    attempt_id = builder.new_id()
    builder.script = [printing("for guest"), printing("for other")]
    for each, text in ((guest, b"of guest"), (other, b"of other")):
        bundle = each.bundle({"lamp.yaml": text})
        await each.put(attempt_id, bundle)
        await each.ask(attempt_id, bundle.sha256)
    assert (await guest.end(attempt_id)).state is AttemptState.COMPLETED
    assert (await other.end(attempt_id)).state is AttemptState.COMPLETED
    assert (await guest.fetch(attempt_id))[1] == b"firmware of of guest"
    assert (await other.fetch(attempt_id))[1] == b"firmware of of other"
    first, second = builder.builds
    assert first.config_dir != second.config_dir
    await guest.acknowledge(attempt_id)
    assert (await other.fetch(attempt_id))[1] == b"firmware of of other"


async def test_builds_that_succeed_are_counted(builder: BuilderMachine, guest: GuestCalls) -> None:
    await guest.end(await guest.submit())
    await guest.cancel(await guest.submit())
    registered = builder.guests.get(guest.pin)
    assert registered is not None
    assert registered.builds == 1


async def test_of_a_guest_that_was_removed_nothing_is_left_but_what_keeps_replays_out(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    other = await builder.pair("other")
    builder.slots.set_count(2)
    theirs = await other.submit()
    await other.end(theirs)
    builder.script = [printing("hello")]
    done = await guest.submit()
    await guest.end(done)
    waiting = builder.new_id()
    await guest.put(waiting, guest.bundle())
    running, block = await builder.start_blocked(guest, {"fan.yaml": b""}, configuration="fan.yaml")
    stream = guest.attach(running)
    await anext(stream)
    await builder.host.remove_guest(guest.pin)
    assert block.cancelled
    assert [event async for event in stream][-1].state is AttemptState.CANCELLED  # type: ignore[union-attr]
    assert [path.name for path in builder.layout.guests.iterdir()] == [other.pin[:32]]
    await until(lambda: not list(builder.layout.inbox.rglob(waiting + "*")))
    await until(lambda: not list(builder.layout.guest_logs.glob(guest.pin[:32] + "*")))
    assert await refused(guest.cancel(running)) is ErrorCode.UNKNOWN_GUEST
    assert (await other.fetch(theirs))[1]

    back = await builder.pair("guest", guest.identity)
    assert (await back.wanted(done, running)).attempts == ()
    for attempt_id in (done, running):
        assert await refused(back.put(attempt_id, back.bundle())) is ErrorCode.ATTEMPT_OVER
    await builder.time.go(1)
    assert (await back.end(await back.submit())).state is AttemptState.COMPLETED


async def test_a_guest_is_told_what_the_machine_can_do_for_it(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    builder.slots.set_count(2)
    other = await builder.pair("other")
    _, block = await builder.start_blocked(other)
    await guest.status()
    builder.builders[guest.pin[:32]].become(
        BuilderStatus(
            available=True,
            slots=7,
            versions=("2026.10.0", "2026.9.3"),
            warm=frozenset({"lamp.yaml", "../x.yaml", "no yaml"}),
            memory_mib=2000,
            disk_mib=30_000,
            ccache=True,
            ccache_hits=118,
            ccache_files=120,
        )
    )
    assert await guest.status() == StatusEvent(
        available=True,
        slots=2,
        busy=1,
        queue_length=0,
        versions=("2026.10.0", "2026.9.3"),
        warm=("lamp.yaml",),
        memory_mib=2000,
        disk_mib=30_000,
        ccache=True,
        ccache_hits=118,
        ccache_files=120,
    )
    block.release.set()


async def test_a_guest_is_told_when_and_why_that_changes(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    stream = builder.host.status(guest.pin)
    assert (await anext(stream)).available
    builder.slots.set_count(3)
    assert (await anext(stream)).slots == 3
    for lending, why in (
        (Lending.DRAINING, ReasonKey.ACCEPTS_NO_BUILDS),
        (Lending.OFF, ReasonKey.NOT_LENT),
    ):
        await builder.host.lend(lending)
        status = await anext(stream)
        assert (status.available, status.why_not) == (False, SentReason(why))
    await builder.host.lend(Lending.ON)
    assert (await anext(stream)).available
    scripted = builder.builders[guest.pin[:32]]
    scripted.become(
        BuilderStatus(available=False, why_not=Reason(ReasonKey.NOT_LINUX, {"system": "a\nb"}))
    )
    assert (await anext(stream)).why_not == SentReason(ReasonKey.NOT_LINUX, {"system": "a b"})
    scripted.become(BuilderStatus(available=True, disk_mib=5))
    low = (await anext(stream)).why_not
    assert low is not None
    assert low.key is ReasonKey.DISK_LOW
    await builder.host.remove_guest(guest.pin)
    with pytest.raises(StopAsyncIteration):
        await anext(stream)
