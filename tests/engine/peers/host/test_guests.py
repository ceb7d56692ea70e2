"""Guests: each for itself, none sees another's; removed, nothing of them is left."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
import json

import pytest

from custom_components.esphome_offload.engine.build.model import BuilderStatus
from custom_components.esphome_offload.engine.host.admission import Caller, Lending
from custom_components.esphome_offload.engine.host.guests import Guest, GuestRegistry
from custom_components.esphome_offload.engine.protocol.definitions import ErrorCode, ProtocolError
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

from ...jobs.fakes import Block
from .lender import (
    Lender,
    MemoryStore,
    Offloader,
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
    pi, attic = guest("pi"), guest("attic")
    await registry.add(pi)
    await registry.add(attic)
    registry.seen(pi.pin_sha256, NOW + timedelta(hours=1))
    registry.built(pi.pin_sha256)
    registry.built(pi.pin_sha256)
    registry.relabel(attic.pin_sha256, "loft")
    again = GuestRegistry(store)
    await again.load()
    expected = replace(pi, last_seen=NOW + timedelta(hours=1), builds=2)
    assert again.all() == (expected, replace(attic, label="loft"))
    assert again.by_user("user of pi") == expected
    assert again.get(attic.pin_sha256) == replace(attic, label="loft")
    assert again.by_user("owner") is None


async def test_a_guest_that_pairs_again_stays_one(lender: Lender) -> None:
    identity = Identity.generate()
    await lender.pair("old", identity)
    await lender.pair("new", identity)
    assert [each.label for each in lender.guests.all()] == ["new"]


async def test_a_damaged_record_is_left_out() -> None:
    store = MemoryStore()
    registry = GuestRegistry(store)
    pi = guest("pi")
    await registry.add(pi)
    state = json.loads(store.text)
    state["guests"] += [{}, 3, {**state["guests"][0], "public_key": "AAAA"}]
    store.text = json.dumps(state)
    again = GuestRegistry(store)
    await again.load()
    assert again.all() == (pi,)


async def test_listeners_hear_of_guests_until_taken_off() -> None:
    registry = GuestRegistry(MemoryStore())
    heard: list[int] = []
    unsubscribe = registry.subscribe(lambda: heard.append(len(registry.all())))
    pi = guest("pi")
    await registry.add(pi)
    registry.built(pi.pin_sha256)
    registry.built("somebody else")
    registry.relabel(pi.pin_sha256, "pi")
    await registry.remove(pi.pin_sha256)
    assert heard == [1, 1, 0]
    assert await registry.remove(pi.pin_sha256) is None
    unsubscribe()
    await registry.add(pi)
    assert heard == [1, 1, 0]


async def test_one_guest_cannot_see_stop_or_fetch_another_s(lender: Lender, pi: Offloader) -> None:
    mallory = await lender.pair("mallory")
    lender.slots.set_count(2)
    done = await pi.submit()
    await pi.end(done)
    block = Block()
    lender.script = [block]
    running = await pi.submit({"fan.yaml": b""}, configuration="fan.yaml")
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
    assert (await pi.fetch(done))[1]
    assert len((await pi.wanted(done, running)).attempts) == 2
    block.release.set()


async def test_what_is_asked_for_without_proof_is_refused(lender: Lender, pi: Offloader) -> None:
    attempt_id = await pi.submit()
    await pi.end(attempt_id)
    stranger = Caller("owner", pi.pin)
    for caller, code in ((pi.http, ErrorCode.NOT_PROVEN), (stranger, ErrorCode.UNKNOWN_GUEST)):
        with pytest.raises(ProtocolError) as refusal:
            pi.host.attach(caller, Attach(attempt_id))
        assert refusal.value.code is code
        for act in (
            pi.host.submit(caller, Submit(attempt_id, "0" * 64)),
            pi.host.cancel(caller, Cancel(attempt_id)),
            pi.host.acknowledge(caller, Acknowledge(attempt_id)),
            pi.host.clean(caller, Clean("lamp.yaml")),
            anext(pi.host.status(caller)),
        ):
            with pytest.raises(ProtocolError) as refusal:
                await act
            assert refusal.value.code is code
    with pytest.raises(ProtocolError) as refusal:
        await pi.host.firmware(stranger, attempt_id, FirmwarePart.OTA)
    assert refusal.value.code is ErrorCode.UNKNOWN_GUEST


async def test_two_guests_may_have_a_device_and_an_attempt_of_the_same_name(
    lender: Lender, pi: Offloader
) -> None:
    attic = await lender.pair("attic")
    attempt_id = lender.new_id()
    lender.script = [printing("for pi"), printing("for attic")]
    for guest_, text in ((pi, b"of pi"), (attic, b"of attic")):
        sealer = guest_.sealer(attempt_id, {"lamp.yaml": text})
        await guest_.put(attempt_id, sealer)
        await guest_.host.submit(guest_.caller, Submit(attempt_id, sealer.sha256))
    assert (await pi.end(attempt_id)).state is AttemptState.COMPLETED
    assert (await attic.end(attempt_id)).state is AttemptState.COMPLETED
    assert (await pi.fetch(attempt_id))[1] == b"firmware of of pi"
    assert (await attic.fetch(attempt_id))[1] == b"firmware of of attic"
    first, second = lender.builds
    assert first.config_dir != second.config_dir
    await pi.acknowledge(attempt_id)
    assert (await attic.fetch(attempt_id))[1] == b"firmware of of attic"


async def test_builds_that_succeed_are_counted(lender: Lender, pi: Offloader) -> None:
    await pi.end(await pi.submit())
    await pi.cancel(await pi.submit())
    registered = lender.guests.get(pi.pin)
    assert registered is not None
    assert registered.builds == 1


async def test_of_a_guest_that_was_removed_nothing_is_left_but_what_keeps_replays_out(
    lender: Lender, pi: Offloader
) -> None:
    attic = await lender.pair("attic")
    lender.slots.set_count(2)
    theirs = await attic.submit()
    await attic.end(theirs)
    lender.script = [printing("hello")]
    done = await pi.submit()
    await pi.end(done)
    waiting = lender.new_id()
    sealer = pi.sealer(waiting)
    await pi.put(waiting, sealer)
    block = Block()
    lender.script = [block]
    running = await pi.submit({"fan.yaml": b""}, configuration="fan.yaml")
    await block.entered.wait()
    stream = pi.attach(running)
    await anext(stream)
    removed = await lender.host.remove_guest(pi.pin)
    assert removed is not None
    assert removed.label == "pi"
    assert block.cancelled
    assert [event async for event in stream][-1].state is AttemptState.CANCELLED  # type: ignore[union-attr]
    assert [path.name for path in lender.layout.guests.iterdir()] == [attic.pin[:32]]
    await until(lambda: not list(lender.layout.inbox.rglob(waiting + "*")))
    await until(lambda: not list(lender.layout.guest_logs.glob(pi.pin[:32] + "*")))
    with pytest.raises(ProtocolError) as refusal:
        await pi.cancel(running)
    assert refusal.value.code is ErrorCode.UNKNOWN_GUEST
    assert (await attic.fetch(theirs))[1]

    back = await lender.pair("pi", pi.identity)
    assert (await back.wanted(done, running)).attempts == ()
    for attempt_id in (done, running):
        with pytest.raises(ProtocolError) as refusal:
            await back.put(attempt_id, back.sealer(attempt_id))
        assert refusal.value.code is ErrorCode.ATTEMPT_OVER
    await lender.time.go(1)
    assert (await back.end(await back.submit())).state is AttemptState.COMPLETED


async def test_a_guest_is_told_what_the_machine_can_do_for_it(
    lender: Lender, pi: Offloader
) -> None:
    lender.slots.set_count(2)
    attic = await lender.pair("attic")
    block = Block()
    lender.script = [block]
    await attic.submit()
    await block.entered.wait()
    await pi.status()
    lender.builders[pi.pin[:32]].become(
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
    assert await pi.status() == StatusEvent(
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


async def test_a_guest_is_told_when_and_why_that_changes(lender: Lender, pi: Offloader) -> None:
    stream = lender.host.status(pi.caller)
    assert (await anext(stream)).available
    lender.slots.set_count(3)
    assert (await anext(stream)).slots == 3
    for lending, why in (
        (Lending.PAUSED, "paused by its owner"),
        (Lending.OFF, "not lent to others any more"),
    ):
        await lender.host.lend(lending)
        status = await anext(stream)
        assert (status.available, status.why_not) == (False, why)
    await lender.host.lend(Lending.ON)
    assert (await anext(stream)).available
    builder = lender.builders[pi.pin[:32]]
    builder.become(BuilderStatus(available=False, why_not="no\ncompiler"))
    assert (await anext(stream)).why_not == "no compiler"
    builder.become(BuilderStatus(available=True, disk_mib=5))
    assert "too little free disk" in ((await anext(stream)).why_not or "")
    await lender.host.remove_guest(pi.pin)
    with pytest.raises(ProtocolError) as refusal:
        await anext(stream)
    assert refusal.value.code is ErrorCode.UNKNOWN_GUEST
