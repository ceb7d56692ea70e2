"""Guests: each for itself, none sees another's; removed, nothing of them is left."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
import json

import pytest

from custom_components.esphome_offload.engine.build.model import BuilderStatus
from custom_components.esphome_offload.engine.host.guests import Guest, GuestRegistry
from custom_components.esphome_offload.engine.host.lending import Caller, Lending
from custom_components.esphome_offload.engine.protocol.errors import ErrorCode, ProtocolError
from custom_components.esphome_offload.engine.protocol.identity import Identity
from custom_components.esphome_offload.engine.protocol.messages import (
    Acknowledge,
    Attach,
    AttemptState,
    Cancel,
    Clean,
    StatusEvent,
    Submit,
)
from custom_components.esphome_offload.engine.protocol.payloads import FirmwarePart

from ..jobs.fakes import Block
from .builder import (
    BuilderMachine,
    GuestCalls,
    MemoryStore,
    printing,
    until,
)

NOW = datetime(2026, 10, 20, tzinfo=UTC)


def guest(label: str) -> Guest:
    return Guest(Identity.generate().public, label, f"user of {label}", NOW)


async def test_guests_survive_a_restart() -> None:
    store = MemoryStore()
    registry = GuestRegistry(store)
    await registry.load()
    guest, other = guest("guest"), guest("other")
    await registry.add(guest)
    await registry.add(other)
    registry.seen(guest.pin_sha256, NOW + timedelta(hours=1))
    registry.built(guest.pin_sha256)
    registry.built(guest.pin_sha256)
    registry.relabel(other.pin_sha256, "loft")
    again = GuestRegistry(store)
    await again.load()
    expected = replace(guest, last_seen=NOW + timedelta(hours=1), builds=2)
    assert again.all() == (expected, replace(other, label="loft"))
    assert again.by_user("user of guest") == expected
    assert again.get(other.pin_sha256) == replace(other, label="loft")
    assert again.by_user("owner") is None


async def test_a_guest_that_pairs_again_stays_one(builder: BuilderMachine) -> None:
    identity = Identity.generate()
    await builder.pair("old", identity)
    await builder.pair("new", identity)
    assert [each.label for each in builder.guests.all()] == ["new"]


async def test_a_damaged_record_is_left_out() -> None:
    store = MemoryStore()
    registry = GuestRegistry(store)
    guest = guest("guest")
    await registry.add(guest)
    state = json.loads(store.text)
    state["guests"] += [{}, 3, {**state["guests"][0], "public_key": "AAAA"}]
    store.text = json.dumps(state)
    again = GuestRegistry(store)
    await again.load()
    assert again.all() == (guest,)


async def test_listeners_hear_of_guests_until_taken_off() -> None:
    registry = GuestRegistry(MemoryStore())
    heard: list[int] = []
    unsubscribe = registry.subscribe(lambda: heard.append(len(registry.all())))
    guest = guest("guest")
    await registry.add(guest)
    registry.built(guest.pin_sha256)
    registry.built("somebody else")
    registry.relabel(guest.pin_sha256, "guest")
    await registry.remove(guest.pin_sha256)
    assert heard == [1, 1, 0]
    assert await registry.remove(guest.pin_sha256) is None
    unsubscribe()
    await registry.add(guest)
    assert heard == [1, 1, 0]


async def test_one_guest_cannot_see_stop_or_fetch_another_s(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    mallory = await builder.pair("mallory")
    builder.slots.set_count(2)
    done = await guest.submit()
    await guest.end(done)
    block = Block()
    builder.script = [block]
    running = await guest.submit({"fan.yaml": b""}, configuration="fan.yaml")
    await block.entered.wait()
    for attempt_id in (done, running):
        with pytest.raises(ProtocolError) as refusal:
            mallory.host.attach(mallory.caller, Attach(attempt_id))
        assert refusal.value.code is ErrorCode.UNKNOWN_ATTEMPT
        for act in (
            mallory.host.cancel(mallory.caller, Cancel(attempt_id)),
            mallory.host.acknowledge(mallory.caller, Acknowledge(attempt_id)),
            mallory.host.firmware(mallory.http, attempt_id, FirmwarePart.OTA),
        ):
            with pytest.raises(ProtocolError) as refusal:
                await act
            assert refusal.value.code is ErrorCode.UNKNOWN_ATTEMPT
    assert (await mallory.wanted(done, running)).attempts == ()
    await mallory.host.clean(mallory.caller, Clean("lamp.yaml"))
    assert not block.cancelled
    assert (await guest.fetch(done))[1]
    assert len((await guest.wanted(done, running)).attempts) == 2
    block.release.set()


async def test_what_is_asked_for_without_proof_is_refused(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    attempt_id = await guest.submit()
    await guest.end(attempt_id)
    stranger = Caller("owner", guest.pin)
    for caller, code in ((guest.http, ErrorCode.NOT_PROVEN), (stranger, ErrorCode.UNKNOWN_GUEST)):
        with pytest.raises(ProtocolError) as refusal:
            guest.host.attach(caller, Attach(attempt_id))
        assert refusal.value.code is code
        for act in (
            guest.host.submit(caller, Submit(attempt_id, "0" * 64)),
            guest.host.cancel(caller, Cancel(attempt_id)),
            guest.host.acknowledge(caller, Acknowledge(attempt_id)),
            guest.host.clean(caller, Clean("lamp.yaml")),
            anext(guest.host.status(caller)),
        ):
            with pytest.raises(ProtocolError) as refusal:
                await act
            assert refusal.value.code is code
    with pytest.raises(ProtocolError) as refusal:
        await guest.host.firmware(stranger, attempt_id, FirmwarePart.OTA)
    assert refusal.value.code is ErrorCode.UNKNOWN_GUEST


async def test_two_guests_may_have_a_device_and_an_attempt_of_the_same_name(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    other = await builder.pair("other")
    attempt_id = builder.new_id()
    builder.script = [printing("for guest"), printing("for other")]
    for guest_, text in ((guest, b"of guest"), (other, b"of other")):
        sealer = guest_.sealer(attempt_id, {"lamp.yaml": text})
        await guest_.put(attempt_id, sealer)
        await guest_.host.submit(guest_.caller, Submit(attempt_id, sealer.sha256))
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
    sealer = guest.sealer(waiting)
    await guest.put(waiting, sealer)
    block = Block()
    builder.script = [block]
    running = await guest.submit({"fan.yaml": b""}, configuration="fan.yaml")
    await block.entered.wait()
    stream = guest.attach(running)
    await anext(stream)
    removed = await builder.host.remove_guest(guest.pin)
    assert removed is not None
    assert removed.label == "guest"
    assert block.cancelled
    assert [event async for event in stream][-1].state is AttemptState.CANCELLED  # type: ignore[union-attr]
    assert [path.name for path in builder.layout.guests.iterdir()] == [other.pin[:32]]
    await until(lambda: not list(builder.layout.inbox.rglob(waiting + "*")))
    await until(lambda: not list(builder.layout.guest_logs.glob(guest.pin[:32] + "*")))
    with pytest.raises(ProtocolError) as refusal:
        await guest.cancel(running)
    assert refusal.value.code is ErrorCode.UNKNOWN_GUEST
    assert (await other.fetch(theirs))[1]

    back = await builder.pair("guest", guest.identity)
    assert (await back.wanted(done, running)).attempts == ()
    for attempt_id in (done, running):
        with pytest.raises(ProtocolError) as refusal:
            await back.put(attempt_id, back.sealer(attempt_id))
        assert refusal.value.code is ErrorCode.ATTEMPT_OVER
    await builder.time.go(1)
    assert (await back.end(await back.submit())).state is AttemptState.COMPLETED


async def test_a_guest_is_told_what_the_machine_can_do_for_it(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    builder.slots.set_count(2)
    other = await builder.pair("other")
    block = Block()
    builder.script = [block]
    await other.submit()
    await block.entered.wait()
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
    )
    block.release.set()


async def test_a_guest_is_told_when_and_why_that_changes(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    stream = builder.host.status(guest.caller)
    assert (await anext(stream)).available
    builder.slots.set_count(3)
    assert (await anext(stream)).slots == 3
    for lending, why in (
        (Lending.PAUSED, "paused by its owner"),
        (Lending.OFF, "not lent to others any more"),
    ):
        await builder.host.lend(lending)
        status = await anext(stream)
        assert (status.available, status.why_not) == (False, why)
    await builder.host.lend(Lending.ON)
    assert (await anext(stream)).available
    builder = builder.builders[guest.pin[:32]]
    builder.become(BuilderStatus(available=False, why_not="no\ncompiler"))
    assert (await anext(stream)).why_not == "no compiler"
    builder.become(BuilderStatus(available=True, disk_mib=5))
    assert "too little free disk" in ((await anext(stream)).why_not or "")
    await builder.host.remove_guest(guest.pin)
    with pytest.raises(ProtocolError) as refusal:
        await anext(stream)
    assert refusal.value.code is ErrorCode.UNKNOWN_GUEST
