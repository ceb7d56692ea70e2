"""Commands, events and their ends on a session."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import ClassVar

import pytest

from custom_components.esphome_offload.engine.protocol import session as session_module
from custom_components.esphome_offload.engine.protocol.calls import Call, CommandRefused, Handler
from custom_components.esphome_offload.engine.protocol.channel import ChannelClosed
from custom_components.esphome_offload.engine.protocol.errors import ErrorCode, ProtocolError
from custom_components.esphome_offload.engine.protocol.session import CALLS, Session
from custom_components.esphome_offload.engine.tasks import uninterrupted

from .ends import link


@dataclass(frozen=True)
class Ask:
    TYPE: ClassVar[str] = "ask"


@dataclass(frozen=True)
class Note:
    TYPE: ClassVar[str] = "note"
    number: int


@dataclass
class Pair:
    """Both sessions of a link, running."""

    offloader: Session
    builder: Session
    lost: list[asyncio.Task[str]] = field(default_factory=list)

    async def builder_wants(self) -> None:
        """Wait until the builder is ready for the body of the command that it serves."""
        while not self.builder._bodies._incoming:  # noqa: ASYNC110 - nothing is told of that
            await asyncio.sleep(0)


@asynccontextmanager
async def sessions(
    handler: Handler | None = None, *, silence: float | None = None
) -> AsyncIterator[Pair]:
    async with link() as ends:
        pair = Pair(Session(ends.offloader.channel), Session(ends.builder.channel, handler))
        pair.lost = [
            asyncio.create_task(pair.offloader.run()),
            asyncio.create_task(pair.builder.run(silence=silence)),
        ]
        try:
            yield pair
        finally:
            await pair.offloader.close()
            await pair.builder.close()
            await asyncio.gather(*pair.lost)


def events(*notes: Note, then: Callable[[], Awaitable[object]] | None = None) -> Handler:
    async def handler(call: Call) -> None:
        await call.answer(Note(0))
        for each in notes:
            await call.event(each)
        if then is not None:
            await then()

    return handler


class Endless:
    """A handler that serves until it is cancelled."""

    def __init__(self) -> None:
        self.started, self.cancelled = asyncio.Event(), asyncio.Event()

    async def __call__(self, _: Call) -> None:
        self.started.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.cancelled.set()


async def test_a_command_gets_its_result() -> None:
    async def handler(call: Call) -> Note:
        assert call.type == "ask"
        return Note(1)

    async with sessions(handler) as pair:
        assert await pair.offloader.call(Ask()) == {"type": "note", "number": 1}


async def test_results_find_their_commands_in_any_order() -> None:
    first_may_end = asyncio.Event()
    numbers = iter((1, 2))

    async def handler(_: Call) -> Note:
        number = next(numbers)
        if number == 1:
            await first_may_end.wait()
        return Note(number)

    async with sessions(handler) as pair:
        first = asyncio.create_task(pair.offloader.call(Ask()))
        while not pair.builder._served:  # noqa: ASYNC110 - nothing is told of that
            await asyncio.sleep(0)
        assert await pair.offloader.call(Ask()) == {"type": "note", "number": 2}
        first_may_end.set()
        assert await first == {"type": "note", "number": 1}


async def test_a_refusal_has_its_code_and_a_clean_detail() -> None:
    async def handler(_: Call) -> None:
        raise ProtocolError(ErrorCode.NO_SPACE, "the disk\nERROR is full")

    async with sessions(handler) as pair:
        with pytest.raises(CommandRefused) as caught:
            await pair.offloader.call(Ask())
        assert caught.value.code is ErrorCode.NO_SPACE
        assert caught.value.detail == "the disk ERROR is full"


async def test_a_fault_of_the_handler_is_logged_there_and_says_nothing_here(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def handler(_: Call) -> None:
        raise RuntimeError("secret")

    async with sessions(handler) as pair:
        with pytest.raises(CommandRefused) as caught:
            await pair.offloader.call(Ask())
        assert caught.value.code is ErrorCode.INTERNAL
        assert "secret" not in str(caught.value)
        assert "secret" in caplog.text
        # The session goes on.
        with pytest.raises(CommandRefused):
            await pair.offloader.call(Ask())


async def test_without_a_handler_commands_are_refused() -> None:
    async with sessions() as pair:
        with pytest.raises(CommandRefused) as caught:
            await pair.offloader.call(Ask())
        assert caught.value.code is ErrorCode.MALFORMED


async def test_a_code_that_only_a_later_protocol_knows_is_still_a_refusal() -> None:
    async with link() as ends:
        offloader = Session(ends.offloader.channel)
        running = asyncio.create_task(offloader.run())
        asking = asyncio.create_task(offloader.call(Ask()))
        command = await ends.builder.channel.receive()
        assert isinstance(command, dict)
        error = {"code": "of_tomorrow", "message": "x" * 5000}
        await ends.builder.channel.send(
            {"id": command["id"], "type": "result", "success": False, "error": error}
        )
        with pytest.raises(CommandRefused) as caught:
            await asking
        assert caught.value.code is ErrorCode.MALFORMED
        assert len(caught.value.detail) <= 256
        await offloader.close()
        await running


async def test_events_of_a_subscription_come_in_order_until_it_is_unsubscribed() -> None:
    cancelled = asyncio.Event()
    got: asyncio.Queue[object] = asyncio.Queue()

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with sessions(events(Note(1), Note(2), then=wait)) as pair:
        unsubscribe = await pair.offloader.subscribe(Ask(), got.put_nowait)
        assert [await got.get(), await got.get()] == [
            {"type": "note", "number": 1},
            {"type": "note", "number": 2},
        ]
        unsubscribe()
        await asyncio.wait_for(cancelled.wait(), 20)
        assert got.empty()


async def test_a_command_that_is_cancelled_here_is_cancelled_there() -> None:
    endless = Endless()
    async with sessions(endless) as pair:
        asking = asyncio.create_task(pair.offloader.call(Ask()))
        await endless.started.wait()
        asking.cancel()
        await asyncio.wait_for(endless.cancelled.wait(), 20)
        assert pair.offloader.lost is None


async def test_a_lost_connection_ends_what_is_called_and_what_is_served() -> None:
    endless = Endless()
    async with sessions(endless) as pair:
        asking = asyncio.create_task(pair.offloader.call(Ask()))
        await endless.started.wait()
        await pair.builder.close()
        with pytest.raises(ChannelClosed):
            await asking
        assert endless.cancelled.is_set()
        with pytest.raises(ChannelClosed):
            await pair.offloader.call(Ask())


async def test_nothing_is_served_any_more_when_a_run_has_ended_that_was_cancelled_often() -> None:
    started, may_end = asyncio.Event(), asyncio.Event()
    ended: list[str] = []

    async def handler(_: Call) -> None:
        started.set()
        try:
            await uninterrupted(may_end.wait())
        finally:
            ended.append("the command")

    async with sessions(handler) as pair:
        called = asyncio.create_task(pair.offloader.call(Ask()))
        await started.wait()
        run = pair.lost.pop()
        run.add_done_callback(lambda _: ended.append("the run"))
        for _ in range(20):
            run.cancel()
            await asyncio.sleep(0)
        may_end.set()
        await asyncio.wait([run])
        assert ended == ["the command", "the run"]
        with pytest.raises(ChannelClosed):
            await called


async def test_an_end_that_does_not_answer_in_time_has_lost_its_connection() -> None:
    async def handler(_: Call) -> None:
        await asyncio.Event().wait()

    async with sessions(handler) as pair:
        with pytest.raises(ChannelClosed, match="did not answer"):
            await pair.offloader.call(Ask(), timeout=0.01)
        assert pair.offloader.lost is not None


async def test_pings_are_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "HEARTBEAT", 0.0)
    async with sessions() as pair:
        pinging = asyncio.create_task(pair.offloader.keep_alive())
        for _ in range(200):
            await asyncio.sleep(0)
        assert pair.offloader.lost is None
        pair.offloader.lose("the test is over")
        await pinging


async def test_a_dead_connection_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "HEARTBEAT", 0.0)
    monkeypatch.setattr(session_module, "PONG_TIMEOUT", 0.01)
    async with link() as ends:  # the builder's end never receives
        offloader = Session(ends.offloader.channel)
        running = asyncio.create_task(offloader.run())
        await offloader.keep_alive()
        assert offloader.lost == "it did not answer for 0 s"
        await offloader.close()
        await running


async def test_an_end_that_serves_takes_silence_for_a_lost_connection() -> None:
    async with sessions(silence=0.01) as pair:
        assert await pair.lost[1] == "nothing came for too long"


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"type": "ask"},
        *({"id": strange, "type": "ask"} for strange in ("1", True, 0, -1, 2**32)),
    ],
)
async def test_a_message_without_an_id_breaks_the_protocol(message: dict[str, object]) -> None:
    async with sessions(events()) as pair:
        await pair.offloader.channel.send(message)
        assert "protocol" in await pair.lost[1]


async def test_what_belongs_to_nothing_is_ignored() -> None:
    async with sessions(events()) as pair:
        for kind in ("result", "event", "body_ack", "unsubscribe"):
            await pair.offloader.channel.send({"id": 99, "type": kind, "bytes": 1})
        assert await pair.offloader.call(Ask()) == {"type": "note", "number": 0}


async def test_an_id_that_is_in_use_breaks_the_protocol() -> None:
    async def handler(_: Call) -> None:
        await asyncio.Event().wait()

    async with sessions(handler) as pair:
        for _ in range(2):
            await pair.offloader.channel.send({"id": 1, "type": "ask"})
        assert "protocol" in await pair.lost[1]


async def test_only_so_many_commands_are_served_at_once() -> None:
    async def handler(_: Call) -> None:
        await asyncio.Event().wait()

    async with sessions(handler) as pair:
        for number in range(CALLS + 1):
            await pair.offloader.channel.send({"id": number, "type": "ask"})
        assert "protocol" in await pair.lost[1]


async def test_a_flood_does_not_hold_up_the_loop() -> None:
    async with sessions(events()) as pair:
        for _ in range(2000):
            await pair.offloader.channel.send({"id": 99, "type": "event"})
        turns = 0
        answer = asyncio.create_task(pair.offloader.call(Ask()))
        while not answer.done():
            turns += 1
            await asyncio.sleep(0)
        # Between two messages everything else has its turn.
        assert turns >= 1000


async def test_a_subscription_that_fails_later_loses_the_connection() -> None:
    async def handler(call: Call) -> None:
        await call.answer()
        raise ProtocolError(ErrorCode.INTERNAL, "it failed")

    async with sessions(handler) as pair:
        await pair.offloader.subscribe(Ask(), lambda _: None)
        assert "subscription failed" in await pair.offloader.wait_lost()


async def test_a_result_that_is_too_long_is_refused_instead() -> None:
    @dataclass(frozen=True)
    class Long:
        text: str = "x" * 600_000

    async def handler(_: Call) -> Long:
        return Long()

    async with sessions(handler) as pair:
        with pytest.raises(CommandRefused) as caught:
            await pair.offloader.call(Ask())
        assert caught.value.code is ErrorCode.TOO_LARGE
