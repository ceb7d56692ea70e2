"""Attaching to a build: from any line, at any pace, without harm to the build."""

import asyncio
from collections.abc import AsyncGenerator
from itertools import pairwise

import pytest

from custom_components.esphome_offload.engine.build.model import BuildRequest, BuildSink
from custom_components.esphome_offload.engine.const import FailureReason, Stage
from custom_components.esphome_offload.engine.host.attempt import NOTIFY_INTERVAL
from custom_components.esphome_offload.engine.protocol.limits import (
    BATCH_CHARACTERS,
    LINES_PER_BATCH,
)
from custom_components.esphome_offload.engine.protocol.messages import (
    AttemptEvent,
    AttemptState,
    BuildEvent,
    LinesEvent,
    ProgressEvent,
    QueueEvent,
)
from custom_components.esphome_offload.engine.reason import LINE_LIMIT as REASON_LINE_LIMIT

from ..jobs.fakes import Block, failing, settle
from .builder import (
    BuilderMachine,
    GuestCalls,
    lines_of,
    printing,
    then,
    until,
)


async def take(stream: AsyncGenerator[BuildEvent], count: int) -> list[BuildEvent]:
    return [await anext(stream) for _ in range(count)]


def states_of(events: list[BuildEvent]) -> list[AttemptState]:
    return [event.state for event in events if isinstance(event, AttemptEvent)]


async def test_events_begin_with_the_state_and_the_kept_lines(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    block = Block()
    builder.script = [then(printing("one", "two"), block, printing("three"))]
    attempt_id = await guest.submit()
    await block.entered.wait()
    stream = guest.attach(attempt_id)
    assert await take(stream, 2) == [
        AttemptEvent(attempt_id, AttemptState.COMPILING, lines=2),
        LinesEvent(attempt_id, 0, ("one", "two")),
    ]
    block.release.set()
    rest = [event async for event in stream]
    assert rest == [
        LinesEvent(attempt_id, 2, ("three",)),
        AttemptEvent(attempt_id, AttemptState.COMPLETED, lines=3),
    ]


async def test_lines_are_sent_again_from_any_number(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    lines = [f"line {number}" for number in range(1200)]
    builder.script = [printing(*lines)]
    attempt_id = await guest.submit()
    whole = await guest.events(attempt_id)
    assert lines_of(whole) == list(enumerate(lines))
    batches = [event for event in whole if isinstance(event, LinesEvent)]
    assert max(len(batch.lines) for batch in batches) == LINES_PER_BATCH
    late = await guest.events(attempt_id, 1199)
    assert lines_of(late) == [(1199, "line 1199")]
    assert states_of(late) == [AttemptState.COMPLETED]
    assert lines_of(await guest.events(attempt_id, 5000)) == []
    await builder.restart()
    assert lines_of(await guest.events(attempt_id, 700)) == list(enumerate(lines))[700:]


async def test_a_lost_connection_neither_loses_nor_repeats_lines(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    first, second = Block(), Block()
    builder.script = [then(printing("1", "2"), first, printing("3"), second, printing("4"))]
    attempt_id = await guest.submit()
    await first.entered.wait()
    stream = guest.attach(attempt_id)
    before = await take(stream, 2)
    await stream.aclose()
    first.release.set()
    await second.entered.wait()
    stream = guest.attach(attempt_id, 2)
    before += await take(stream, 2)
    second.release.set()
    before += [event async for event in stream]
    assert lines_of(before) == list(enumerate(["1", "2", "3", "4"]))
    assert len(builder.builds) == 1


async def test_lines_left_out_of_a_long_log_are_a_gap(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    lines = [f"{number:06} {'x' * 200}" for number in range(8000)]
    builder.script = [printing(*lines)]
    got = lines_of(await guest.events(await guest.submit()))
    assert all(line == lines[number] for number, line in got)
    assert (got[0][0], got[-1][0]) == (0, 7999)
    assert len(got) < 8000
    gaps = [after - before for (before, _), (after, _) in pairwise(got) if after != before + 1]
    assert len(gaps) == 1


async def test_long_lines_are_sent_in_small_messages(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    builder.script = [printing(*["x" * 3900] * 100)]
    events = await guest.events(await guest.submit())
    sizes = [sum(map(len, each.lines)) for each in events if isinstance(each, LinesEvent)]
    assert len(sizes) > 1
    assert max(sizes) <= BATCH_CHARACTERS


async def test_a_slow_listener_gets_the_newest_state_and_delays_nothing(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    entered = Block()

    async def busy(_request: BuildRequest, sink: BuildSink) -> None:
        for percent in range(101):
            sink.progress(percent)
            sink.lines([f"{percent} %"])
            await builder.time.go(NOTIFY_INTERVAL)

    builder.script = [then(entered, busy)]
    attempt_id = await guest.submit()
    slow, quick = guest.attach(attempt_id), guest.attach(attempt_id)
    await anext(slow)
    entered.release.set()
    events = [event async for event in quick]
    percents = [event.percent for event in events if isinstance(event, ProgressEvent)]
    assert percents == sorted(set(percents))
    rest = [event async for event in slow]
    assert len(lines_of(rest)) == 101
    assert states_of(rest) == [AttemptState.COMPLETED]
    assert len(rest) < 5


async def test_lines_printed_at_once_are_sent_in_one_batch(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    block, entered = Block(), Block()

    async def chatter(_request: BuildRequest, sink: BuildSink) -> None:
        for number in range(50):
            sink.lines([str(number)])
            await settle()

    builder.script = [then(entered, chatter, block)]
    attempt_id = await guest.submit()
    await entered.entered.wait()
    told: list[BuildEvent] = []

    async def listen() -> None:
        async for event in guest.attach(attempt_id):
            told.append(event)  # noqa: PERF401 - to be looked at meanwhile

    listening = asyncio.create_task(listen())
    entered.release.set()
    await block.entered.wait()
    assert lines_of(told) == []
    await builder.time.go(NOTIFY_INTERVAL)
    assert len(lines_of(told)) == 50
    assert len(told) == 2
    block.release.set()
    await listening


async def test_a_fast_listener_gets_every_line_of_a_build_that_prints_fast(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    entered = Block()

    async def print_fast(_request: BuildRequest, sink: BuildSink) -> None:
        for number in range(0, 20_000, 100):
            sink.lines([f"{each} {'x' * 90}" for each in range(number, number + 100)])
            await settle()

    builder.script = [then(entered, print_fast)]
    attempt_id = await guest.submit()
    await entered.entered.wait()
    stream = guest.attach(attempt_id)
    await anext(stream)
    entered.release.set()
    numbers = [number for number, _ in lines_of([event async for event in stream])]
    assert numbers == list(range(20_000))


async def test_a_listener_that_raises_does_not_affect_the_build(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    block = Block()
    builder.script = [then(block, printing("on it goes"))]
    attempt_id = await guest.submit()
    await block.entered.wait()
    stream = guest.attach(attempt_id)
    await anext(stream)
    with pytest.raises(ConnectionResetError):
        await stream.athrow(ConnectionResetError)
    block.release.set()
    assert (await guest.end(attempt_id)).state is AttemptState.COMPLETED


async def test_a_waiting_build_gets_its_queue_position(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    other = await builder.pair("other")
    blocks = [Block() for _ in range(3)]
    builder.script = list(blocks)
    await guest.submit()
    await blocks[0].entered.wait()
    fan = {"fan.yaml": b""}
    mine = await guest.submit(fan, configuration="fan.yaml")
    theirs = await other.submit()
    await until(lambda: builder.slots.waiting == 2)
    stream = guest.attach(mine)
    assert await take(stream, 2) == [
        AttemptEvent(mine, AttemptState.QUEUED),
        QueueEvent(mine, 1),
    ]
    blocks[0].release.set()
    await blocks[1].entered.wait()
    assert (await anext(stream)) == QueueEvent(mine, 0)
    assert builder.builds[1].attempt_id == theirs
    blocks[1].release.set()
    await blocks[2].entered.wait()
    states = [await anext(stream)]
    assert states_of(states) == [AttemptState.COMPILING]
    blocks[2].release.set()
    await stream.aclose()


async def test_a_change_while_an_event_is_sent_is_sent_next(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    blocks = [Block(), Block(), Block()]

    async def percents(request: BuildRequest, sink: BuildSink) -> None:
        for percent, block in enumerate(blocks):
            sink.progress(percent)
            await block(request, sink)

    builder.script = [percents]
    stream = guest.attach(await guest.submit())
    told: list[BuildEvent] = []
    for percent, block in enumerate(blocks):
        await block.entered.wait()
        await builder.time.go(NOTIFY_INTERVAL)
        while not told or told[-1] != ProgressEvent(told[0].attempt_id, percent):
            told.append(await anext(stream))
        block.release.set()
    await stream.aclose()


async def test_stages_are_sent_and_each_restarts_the_progress(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    first, second = Block(), Block()

    async def stages(request: BuildRequest, sink: BuildSink) -> None:
        sink.stage(Stage.PREPARING)
        sink.progress(50.4)
        await first(request, sink)
        sink.stage(Stage.COMPILING)
        await second(request, sink)

    builder.script = [stages]
    attempt_id = await guest.submit()
    await first.entered.wait()
    stream = guest.attach(attempt_id)
    assert await take(stream, 2) == [
        AttemptEvent(attempt_id, AttemptState.PREPARING),
        ProgressEvent(attempt_id, 50),
    ]
    first.release.set()
    await second.entered.wait()
    assert await anext(stream) == AttemptEvent(attempt_id, AttemptState.COMPILING)
    second.release.set()
    assert states_of([event async for event in stream]) == [AttemptState.COMPLETED]


async def test_errors_of_any_kind_can_be_sent(builder: BuilderMachine, guest: GuestCalls) -> None:
    builder.script = [failing(FailureReason.CONFIG_INVALID, "\udc80" * 5000, 100_000)]
    end = await guest.end(await guest.submit())
    assert end.reason is not None
    assert len(end.reason.line or "") == REASON_LINE_LIMIT
    assert end.exit_code is None


async def test_reports_after_the_end_are_ignored(
    builder: BuilderMachine, guest: GuestCalls
) -> None:
    sinks: list[BuildSink] = []

    async def leak(_request: BuildRequest, sink: BuildSink) -> None:
        sinks.append(sink)

    builder.script = [leak]
    attempt_id = await guest.submit()
    await guest.end(attempt_id)
    sinks[0].lines(["late"])
    sinks[0].progress(3)
    sinks[0].stage(Stage.PREPARING)
    events = await guest.events(attempt_id)
    assert (lines_of(events), states_of(events)) == ([], [AttemptState.COMPLETED])
