"""How attempts end: cancelled, unwanted, unattended, acknowledged, interrupted."""

import asyncio

import pytest

from custom_components.esphome_offload.engine.build.model import BuildRequest, BuildSink
from custom_components.esphome_offload.engine.const import FailureReason
from custom_components.esphome_offload.engine.host import runner as builds
from custom_components.esphome_offload.engine.host.attempt import AttemptKey
from custom_components.esphome_offload.engine.host.attempt_store import FORMER
from custom_components.esphome_offload.engine.host.runner import KEEP, LEASE
from custom_components.esphome_offload.engine.protocol.errors import ErrorCode
from custom_components.esphome_offload.engine.protocol.messages import (
    AttemptState,
    Known,
    SentReason,
)
from custom_components.esphome_offload.engine.reason import ReasonKey

from ..jobs.fakes import Block, failing, settle
from .builder import (
    BuilderMachine,
    GuestCalls,
    printing,
    refused,
    then,
    until,
)

FAN = {"fan.yaml": b""}


def known(answer: Known) -> dict[str, AttemptState]:
    return {event.attempt_id: event.state for event in answer.attempts}


async def test_a_cancel_is_answered_when_the_build_has_stopped(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    attempt_id, block = await builder.start_blocked(guest)
    await guest.cancel(attempt_id)
    assert block.cancelled
    assert builder.slots.busy == 0
    assert (await guest.end(attempt_id)).state is AttemptState.CANCELLED
    await guest.cancel(attempt_id)


async def test_only_the_newest_ended_builds_are_kept(
    builder: BuilderMachine, guest: GuestCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builds, "ENDED", 2)
    other = await builder.pair("other")
    theirs = await other.submit()
    await other.end(theirs)
    ids = [await guest.submit() for _ in range(3)]
    for attempt_id in ids[1:]:
        await guest.end(attempt_id)
    assert known(await guest.wanted(*ids)) == dict.fromkeys(ids[1:], AttemptState.COMPLETED)
    assert known(await other.wanted(theirs)) == {theirs: AttemptState.COMPLETED}


async def test_a_waiting_build_is_cancelled_before_it_starts(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    block = Block()
    builder.script = [block]
    await guest.submit()
    waiting = await guest.submit(FAN, configuration="fan.yaml")
    await block.entered.wait()
    await guest.cancel(waiting)
    block.release.set()
    await settle()
    assert len(builder.builds) == 1
    assert builder.slots.waiting == 0


async def test_a_build_cancelled_during_its_submit_never_starts(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    attempt_id = await guest.submit()
    await guest.cancel(attempt_id)
    assert not builder.builds
    assert (await guest.end(attempt_id)).state is AttemptState.CANCELLED


async def test_a_cancelled_build_ends_as_cancelled_whatever_the_builder_raises(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    entered = asyncio.Event()

    async def stubborn(_request: BuildRequest, _sink: BuildSink) -> None:
        entered.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return

    builder.script = [stubborn]
    attempt_id = await guest.submit()
    await entered.wait()
    await guest.cancel(attempt_id)
    assert (await guest.end(attempt_id)).state is AttemptState.CANCELLED


async def test_unwanted_attempts_are_cancelled_and_forgotten(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    other = await builder.pair("other")
    builder.slots.set_count(3)
    done = await guest.submit()
    await guest.end(done)
    blocks = [Block(), Block()]
    builder.script = list(blocks)
    running = await guest.submit(FAN, configuration="fan.yaml")
    await blocks[0].entered.wait()
    theirs = await other.submit()
    await blocks[1].entered.wait()
    nobody_s = builder.new_id()
    assert known(await guest.wanted(running, nobody_s, theirs)) == {running: AttemptState.COMPILING}
    assert await refused(guest.end(done)) is ErrorCode.UNKNOWN_ATTEMPT
    assert known(await guest.wanted()) == {}
    assert [block.cancelled for block in blocks] == [True, False]
    assert known(await other.wanted(theirs)) == {theirs: AttemptState.COMPILING}
    blocks[1].release.set()


async def test_an_acknowledged_attempt_is_forgotten_its_log_is_shown_to_the_owner(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    builder.script = [printing("hello")]
    attempt_id = await guest.submit()
    await guest.end(attempt_id)
    await until(lambda: len(list(builder.layout.guest_logs.glob("*"))) == 1)
    await guest.acknowledge(attempt_id)
    assert await refused(guest.acknowledge(attempt_id)) is ErrorCode.UNKNOWN_ATTEMPT
    assert await refused(guest.end(attempt_id)) is ErrorCode.UNKNOWN_ATTEMPT
    assert [each.key.attempt_id for each in builder.host.shown()] == [attempt_id]
    page = await builder.host.logs.read(builder.host.shown()[0].key.log_id)
    assert page.lines == ("hello",)
    await builder.restart()
    assert known(await guest.wanted(attempt_id)) == {}
    assert builder.host.shown() == ()
    assert not list(builder.layout.guest_logs.glob("*"))


async def test_of_each_guest_the_owner_sees_the_last_builds(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    attempt_ids = []
    for _ in range(FORMER + 1):
        builder.script = [printing("hello")]
        attempt_ids.append(await guest.submit())
        await guest.end(attempt_ids[-1])
        await guest.acknowledge(attempt_ids[-1])
    shown = builder.host.shown()
    assert [each.key.attempt_id for each in shown] == attempt_ids[1:]
    await until(lambda: len(list(builder.layout.guest_logs.glob("*"))) == FORMER)
    await builder.host.remove_guest(guest.pin)
    assert builder.host.shown() == ()
    await until(lambda: not list(builder.layout.guest_logs.glob("*")))


async def test_a_build_without_a_listener_for_half_an_hour_is_stopped(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    attempt_id, block = await builder.start_blocked(guest)
    await builder.time.go(LEASE - 1)
    assert not block.cancelled
    stream = guest.attach(attempt_id)
    await anext(stream)
    await builder.time.go(2 * LEASE)
    assert not block.cancelled
    await stream.aclose()
    await builder.time.go(LEASE - 1)
    assert not block.cancelled
    await builder.time.go(1)
    assert block.cancelled
    end = await guest.end(attempt_id)
    assert (end.state, end.reason) == (
        AttemptState.CANCELLED,
        SentReason(ReasonKey.NOBODY_ATTACHED),
    )


async def test_a_second_listener_keeps_a_build_running(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    attempt_id, block = await builder.start_blocked(guest)
    first, second = guest.attach(attempt_id), guest.attach(attempt_id)
    await anext(first)
    await anext(second)
    await first.aclose()
    await builder.time.go(2 * LEASE)
    assert not block.cancelled
    await second.aclose()
    await builder.time.go(LEASE)
    assert block.cancelled


async def test_an_ended_attempt_is_kept_for_a_day(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    attempt_id = await guest.submit()
    await guest.end(attempt_id)
    await builder.time.go(KEEP - 1)
    assert (await guest.fetch(attempt_id))[1]
    await builder.time.go(1)
    assert await refused(guest.fetch(attempt_id)) is ErrorCode.UNKNOWN_ATTEMPT


@pytest.mark.parametrize("hours", [0, 20, -6])
async def test_a_restart_and_a_jump_of_the_clock_do_not_change_how_long_an_attempt_is_kept(
    builder: BuilderMachine, guest: GuestCalls, hours: int
) -> None:
    attempt_id = await guest.submit()
    await guest.end(attempt_id)
    await builder.time.go(KEEP - 10)
    builder.time.jump(hours)
    await builder.restart()
    assert known(await guest.wanted(attempt_id)) == {attempt_id: AttemptState.COMPLETED}
    await builder.time.go(10)
    assert await refused(guest.fetch(attempt_id)) is ErrorCode.UNKNOWN_ATTEMPT


async def test_an_ended_attempt_survives_a_restart(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    builder.script = [
        printing("one", "two"),
        failing(FailureReason.COMPILE_FAILED, "x.cpp:1: error: no", 1),
    ]
    built = await guest.submit()
    await guest.end(built)
    failed = await guest.submit(FAN, configuration="fan.yaml")
    await guest.end(failed)
    before = [await guest.events(built), await guest.events(failed)]
    firmware = (await guest.fetch(built))[1]
    await builder.restart()
    assert [await guest.events(built), await guest.events(failed)] == before
    assert (await guest.fetch(built))[1] == firmware


@pytest.mark.parametrize("how", ["stopped", "killed"])
async def test_attempts_interrupted_by_a_restart_are_lost_and_can_be_submitted_with_a_new_id(
    builder: BuilderMachine, guest: GuestCalls, how: str
) -> None:
    running, waiting = Block(), Block()
    builder.script = [running, waiting]
    attempts = [await guest.submit(), await guest.submit(FAN, configuration="fan.yaml")]
    await running.entered.wait()
    await (builder.restart() if how == "stopped" else builder.crash())
    assert running.cancelled
    assert known(await guest.wanted(*attempts)) == {}
    for attempt_id in attempts:
        assert await refused(guest.end(attempt_id)) is ErrorCode.UNKNOWN_ATTEMPT
        assert await refused(guest.ask(attempt_id, "0" * 64)) is ErrorCode.ATTEMPT_OVER
    builder.script = []
    assert (await guest.end(await guest.submit())).state is AttemptState.COMPLETED


async def test_a_stop_leaves_no_timer(builder: BuilderMachine, guest: GuestCalls) -> None:
    await guest.end(await guest.submit(FAN, configuration="fan.yaml"))
    block = Block()
    builder.script = [then(printing("first"), printing("second"), block)]
    await guest.put(builder.new_id(), guest.bundle())
    events = guest.attach(await guest.submit())
    await anext(events)
    await block.entered.wait()
    assert min(builder.time.next_in) < 1, "the second line is told a little later"
    await builder.host.stop()
    await events.aclose()
    await settle()
    assert builder.time.next_in == []


async def test_only_the_damaged_records_of_a_store_are_lost(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    attempt_id = await guest.submit()
    await guest.end(attempt_id)
    await builder.host.stop()
    text = builder.store.text
    builder.store.text = text.replace('"attempts": [', '"attempts": [{"lines": 1}, 7, ').replace(
        '"used": {', '"used": {"aa": 3, "bb": {"times": 1, "horizon": ""}, '
    )
    builder._make()
    await builder.start()
    assert known(await guest.wanted(attempt_id)) == {attempt_id: AttemptState.COMPLETED}


async def test_a_device_is_built_by_one_build_at_a_time(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    builder.slots.set_count(4)
    block = Block()
    builder.script = [then(block), printing("second")]
    first = await guest.submit({"lamp.yaml": b"1"})
    second = await guest.submit({"lamp.yaml": b"2"})
    await block.entered.wait()
    other = await guest.submit(FAN, configuration="fan.yaml")
    await guest.end(other)
    assert builder.slots.busy == 1
    block.release.set()
    await guest.end(first)
    await guest.end(second)
    assert (await guest.fetch(first))[1] == b"firmware of 1"
    assert (await guest.fetch(second))[1] == b"firmware of 2"


async def test_a_build_submitted_while_the_builder_stops_is_not_started(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    await builder.host._builds.stop()
    attempt_id = await guest.submit()
    assert builder.builds == []
    await guest.cancel(attempt_id)
    assert (await guest.end(attempt_id)).state is AttemptState.CANCELLED


async def test_nobody_listens_to_a_build_that_has_ended(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    attempt_id, _ = await builder.start_blocked(guest)
    attempt = builder.host._attempts.get(AttemptKey(guest.pin, attempt_id))
    assert attempt.state_changed
    assert attempt.attached_changed
    await guest.cancel(attempt_id)
    await settle()
    assert not attempt.state_changed
    assert not attempt.attached_changed
