"""How attempts end: cancelled, unwanted, unattended, acknowledged, interrupted."""

import asyncio

import pytest

from custom_components.esphome_offload.engine.build.model import BuildRequest, BuildSink
from custom_components.esphome_offload.engine.const import FailureReason
from custom_components.esphome_offload.engine.host import runner as builds
from custom_components.esphome_offload.engine.host.runner import KEEP, LEASE
from custom_components.esphome_offload.engine.protocol.definitions import ErrorCode, ProtocolError
from custom_components.esphome_offload.engine.protocol.messages import AttemptState, Known, Submit

from ...jobs.fakes import Block, failing, settle
from .lender import (
    Lender,
    Offloader,
    printing,
    then,
    until,
)

FAN = {"fan.yaml": b""}


async def unknown(act: object) -> None:
    with pytest.raises(ProtocolError) as refusal:
        await act  # type: ignore[misc]
    assert refusal.value.code is ErrorCode.UNKNOWN_ATTEMPT


def known(answer: Known) -> dict[str, AttemptState]:
    return {event.attempt_id: event.state for event in answer.attempts}


async def test_a_cancelled_build_has_stopped_when_that_is_answered(
    lender: Lender, pi: Offloader
) -> None:
    block = Block()
    lender.script = [block]
    attempt_id = await pi.submit()
    await block.entered.wait()
    await pi.cancel(attempt_id)
    assert block.cancelled
    assert lender.slots.busy == 0
    assert (await pi.end(attempt_id)).state is AttemptState.CANCELLED
    await pi.cancel(attempt_id)


async def test_of_ended_builds_only_the_newest_are_kept(
    lender: Lender, pi: Offloader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builds, "ENDED", 2)
    attic = await lender.pair("attic")
    theirs = await attic.submit()
    await attic.end(theirs)
    ids = [await pi.submit() for _ in range(3)]
    for attempt_id in ids[1:]:
        await pi.end(attempt_id)
    assert known(await pi.wanted(*ids)) == dict.fromkeys(ids[1:], AttemptState.COMPLETED)
    assert known(await attic.wanted(theirs)) == {theirs: AttemptState.COMPLETED}


async def test_a_waiting_build_is_cancelled_before_it_begins(lender: Lender, pi: Offloader) -> None:
    block = Block()
    lender.script = [block]
    await pi.submit()
    waiting = await pi.submit(FAN, configuration="fan.yaml")
    await block.entered.wait()
    await pi.cancel(waiting)
    block.release.set()
    await settle()
    assert len(lender.builds) == 1
    assert lender.slots.waiting == 0


async def test_a_build_that_is_cancelled_in_the_moment_of_its_submit_never_begins(
    lender: Lender, pi: Offloader
) -> None:
    attempt_id = await pi.submit()
    await pi.cancel(attempt_id)
    assert not lender.builds
    assert (await pi.end(attempt_id)).state is AttemptState.CANCELLED


async def test_a_cancel_wins_over_what_the_builder_makes_of_it(
    lender: Lender, pi: Offloader
) -> None:
    entered = asyncio.Event()

    async def stubborn(_request: BuildRequest, _sink: BuildSink) -> None:
        entered.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return

    lender.script = [stubborn]
    attempt_id = await pi.submit()
    await entered.wait()
    await pi.cancel(attempt_id)
    assert (await pi.end(attempt_id)).state is AttemptState.CANCELLED


async def test_what_is_not_wanted_is_ended_and_forgotten(lender: Lender, pi: Offloader) -> None:
    attic = await lender.pair("attic")
    lender.slots.set_count(3)
    done = await pi.submit()
    await pi.end(done)
    blocks = [Block(), Block()]
    lender.script = list(blocks)
    running = await pi.submit(FAN, configuration="fan.yaml")
    theirs = await attic.submit()
    for block in blocks:
        await block.entered.wait()
    nobody_s = lender.new_id()
    assert known(await pi.wanted(running, nobody_s, theirs)) == {running: AttemptState.COMPILING}
    await unknown(pi.end(done))
    assert known(await pi.wanted()) == {}
    assert [block.cancelled for block in blocks] == [True, False]
    assert known(await attic.wanted(theirs)) == {theirs: AttemptState.COMPILING}
    blocks[1].release.set()


async def test_an_acknowledged_attempt_is_forgotten_with_its_log(
    lender: Lender, pi: Offloader
) -> None:
    lender.script = [printing("hello")]
    attempt_id = await pi.submit()
    await pi.end(attempt_id)
    await until(lambda: len(list(lender.layout.guest_logs.glob("*"))) == 1)
    await pi.acknowledge(attempt_id)
    await unknown(pi.acknowledge(attempt_id))
    await unknown(pi.end(attempt_id))
    await until(lambda: not list(lender.layout.guest_logs.glob("*")))
    await lender.restart()
    assert known(await pi.wanted(attempt_id)) == {}


async def test_a_build_that_nobody_attended_for_half_an_hour_is_stopped(
    lender: Lender, pi: Offloader
) -> None:
    block = Block()
    lender.script = [block]
    attempt_id = await pi.submit()
    await block.entered.wait()
    await lender.time.go(LEASE - 1)
    assert not block.cancelled
    stream = pi.attach(attempt_id)
    await anext(stream)
    await lender.time.go(2 * LEASE)
    assert not block.cancelled
    await stream.aclose()
    await lender.time.go(LEASE - 1)
    assert not block.cancelled
    await lender.time.go(1)
    assert block.cancelled
    end = await pi.end(attempt_id)
    assert (end.state, end.error) == (
        AttemptState.CANCELLED,
        "Nobody was attached for 30 minutes",
    )


async def test_a_second_listener_keeps_a_build_alive(lender: Lender, pi: Offloader) -> None:
    block = Block()
    lender.script = [block]
    attempt_id = await pi.submit()
    await block.entered.wait()
    first, second = pi.attach(attempt_id), pi.attach(attempt_id)
    await anext(first)
    await anext(second)
    await first.aclose()
    await lender.time.go(2 * LEASE)
    assert not block.cancelled
    await second.aclose()
    await lender.time.go(LEASE)
    assert block.cancelled


async def test_an_ended_attempt_is_kept_for_a_day(lender: Lender, pi: Offloader) -> None:
    attempt_id = await pi.submit()
    await pi.end(attempt_id)
    await lender.time.go(KEEP - 1)
    assert (await pi.fetch(attempt_id))[1]
    await lender.time.go(1)
    await unknown(pi.fetch(attempt_id))


async def test_a_restart_does_not_make_the_day_longer(lender: Lender, pi: Offloader) -> None:
    attempt_id = await pi.submit()
    await pi.end(attempt_id)
    await lender.time.go(KEEP - 10)
    await lender.restart()
    assert known(await pi.wanted(attempt_id)) == {attempt_id: AttemptState.COMPLETED}
    await lender.time.go(10)
    await unknown(pi.fetch(attempt_id))


async def test_an_ended_attempt_survives_a_restart(lender: Lender, pi: Offloader) -> None:
    lender.script = [
        printing("one", "two"),
        failing(FailureReason.COMPILE_FAILED, "x.cpp:1: error: no", 1),
    ]
    built = await pi.submit()
    await pi.end(built)
    failed = await pi.submit(FAN, configuration="fan.yaml")
    await pi.end(failed)
    before = [await pi.events(built), await pi.events(failed)]
    firmware = (await pi.fetch(built))[1]
    await lender.restart()
    assert [await pi.events(built), await pi.events(failed)] == before
    assert (await pi.fetch(built))[1] == firmware


@pytest.mark.parametrize("how", ["stopped", "killed"])
async def test_what_a_restart_interrupted_is_gone_and_submitted_anew(
    lender: Lender, pi: Offloader, how: str
) -> None:
    running, waiting = Block(), Block()
    lender.script = [running, waiting]
    attempts = [await pi.submit(), await pi.submit(FAN, configuration="fan.yaml")]
    await running.entered.wait()
    await (lender.restart() if how == "stopped" else lender.crash())
    assert running.cancelled
    assert known(await pi.wanted(*attempts)) == {}
    for attempt_id in attempts:
        await unknown(pi.end(attempt_id))
        with pytest.raises(ProtocolError) as refusal:
            await pi.host.submit(pi.caller, Submit(attempt_id, "0" * 64))
        assert refusal.value.code is ErrorCode.ATTEMPT_OVER
    lender.script = []
    assert (await pi.end(await pi.submit())).state is AttemptState.COMPLETED


async def test_a_stop_leaves_no_timer(lender: Lender, pi: Offloader) -> None:
    await pi.end(await pi.submit(FAN, configuration="fan.yaml"))
    block = Block()
    lender.script = [then(printing("first"), printing("second"), block)]
    await pi.put(unsubmitted := lender.new_id(), pi.sealer(unsubmitted))
    events = pi.attach(await pi.submit())
    await anext(events)
    await block.entered.wait()
    assert min(lender.time.next_in) < 1, "the second line is told a little later"
    await lender.host.stop()
    await events.aclose()
    await settle()
    assert lender.time.next_in == []


async def test_a_damaged_store_loses_no_more_than_what_is_damaged(
    lender: Lender, pi: Offloader
) -> None:
    attempt_id = await pi.submit()
    await pi.end(attempt_id)
    await lender.host.stop()
    text = lender.store.text
    lender.store.text = text.replace('"attempts": [', '"attempts": [{"lines": 1}, 7, ').replace(
        '"seen": {', '"seen": {"aa": 3, "bb": {"times": 1, "horizon": ""}, '
    )
    lender.host = lender._make()
    await lender.start()
    assert known(await pi.wanted(attempt_id)) == {attempt_id: AttemptState.COMPLETED}


async def test_one_device_is_built_once_at_a_time(lender: Lender, pi: Offloader) -> None:
    lender.slots.set_count(4)
    block = Block()
    lender.script = [then(block), printing("second")]
    first = await pi.submit({"lamp.yaml": b"1"})
    second = await pi.submit({"lamp.yaml": b"2"})
    await block.entered.wait()
    other = await pi.submit(FAN, configuration="fan.yaml")
    await pi.end(other)
    assert lender.slots.busy == 1
    block.release.set()
    await pi.end(first)
    await pi.end(second)
    assert (await pi.fetch(first))[1] == b"firmware of 1"
    assert (await pi.fetch(second))[1] == b"firmware of 2"
