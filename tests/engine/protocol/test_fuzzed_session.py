"""A session whose other end sends anything in any order; from both ends."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
import hashlib
from pathlib import Path
import tempfile
from typing import ClassVar

from hypothesis import given, strategies as st

from custom_components.esphome_offload.engine.codec import Json
from custom_components.esphome_offload.engine.protocol.bodies import IncomingFile
from custom_components.esphome_offload.engine.protocol.calls import Call, CommandRefused
from custom_components.esphome_offload.engine.protocol.channel import (
    Channel,
    ChannelClosed,
    Piece,
)
from custom_components.esphome_offload.engine.protocol.errors import ErrorCode, ProtocolError
from custom_components.esphome_offload.engine.protocol.session import Session

from ..fuzzing import (
    JSON,
    MemorySocket,
    check_bounded,
    check_empty,
    no_errors_logged,
    no_tasks_left,
    share,
    work_per_turn,
)
from .ends import MemoryEnds, memory_link
from .test_fuzzed_channel import FRAMES_OF_A_MESSAGE

BODY = b"firmware"
DIGEST = hashlib.sha256(BODY).hexdigest()

type Step = Callable[[MemoryEnds, Channel], Awaitable[None]]
"""Something that an end sends."""

ids = st.integers(1, 4) | st.sampled_from([0, -1, 2**32, True, None, "1", [1]])
error = st.fixed_dictionaries({}, optional={"code": st.sampled_from(ErrorCode) | JSON,
                                            "message": JSON})  # fmt: skip
message = st.one_of(
    st.fixed_dictionaries(
        {"id": ids, "type": st.sampled_from(["ask", "endless", "take", "give", "unsubscribe"])}
    ),
    st.fixed_dictionaries({"id": ids, "type": st.just("event"), "event": JSON}),
    st.fixed_dictionaries(
        {"id": ids, "type": st.just("result"), "success": st.booleans() | JSON},
        optional={"result": JSON, "error": error | JSON},
    ),
    st.fixed_dictionaries({"id": ids, "type": st.just("body_ack"), "bytes": st.integers() | JSON}),
    st.fixed_dictionaries({"type": st.sampled_from(["ping", "pong"])}),
    st.fixed_dictionaries({}, optional={"id": ids | JSON, "type": JSON}),
)
pieces = st.builds(
    Piece,
    st.integers(0, 4),
    st.integers(0, 3),
    st.sampled_from([BODY, BODY[:4], BODY[4:], b"", b"x" * 9]).map(memoryview),
)


def sends(said: Json) -> Step:
    async def step(_: MemoryEnds, channel: Channel) -> None:
        await channel.send(said)

    return step


def sends_piece(piece: Piece) -> Step:
    async def step(_: MemoryEnds, channel: Channel) -> None:
        await channel.send_piece(piece)

    return step


def sends_frame(plain: bytes) -> Step:
    async def step(_: MemoryEnds, channel: Channel) -> None:
        await channel._send_frame(plain)

    return step


def waits(turns: int) -> Step:
    async def step(_: MemoryEnds, _channel: Channel) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)

    return step


steps = st.lists(
    st.one_of(
        message.map(sends),
        pieces.map(sends_piece),
        st.binary(max_size=20).map(sends_frame),
        st.sampled_from([1, 5, 30]).map(waits),
    ),
    max_size=25,
)  # fmt: skip


@dataclass(frozen=True)
class Ask:
    TYPE: ClassVar[str] = "ask"


async def play(ends: MemoryEnds, channel: Channel, script: list[Step], session: Session) -> None:
    """Send everything, and read what is answered, as long as there is a connection."""

    async def drain() -> None:
        with suppress(ChannelClosed, ProtocolError):
            while True:
                await channel.receive()

    draining = asyncio.create_task(drain())
    with suppress(ChannelClosed):
        for step in script:
            await step(ends, channel)
            check_bounded(session)
        await waits(30)(ends, channel)
    await ends.sockets[0].close()
    await draining


@share(60)
@given(steps)
async def test_the_end_that_serves_survives_whatever_is_sent_to_it(script: list[Step]) -> None:
    with tempfile.TemporaryDirectory() as folder, no_errors_logged():
        async with no_tasks_left(), memory_link() as ends:
            session = Session(ends.builder.channel, serve_in(Path(folder)))
            running = asyncio.create_task(session.run())
            async with work_per_turn(_taken_from(ends.sockets[1]), FRAMES_OF_A_MESSAGE):
                await play(ends, ends.offloader.channel, script, session)
            assert isinstance(await running, str)
            check_empty(session)
        # Only what was received whole is left.
        assert all(path.read_bytes() == BODY for path in Path(folder).iterdir())


def serve_in(folder: Path) -> Callable[[Call], Awaitable[object | None]]:
    """Return a handler of commands of every form; files go into a folder."""

    async def serve(call: Call) -> object | None:
        match call.type:
            case "ask":
                return Ask()
            case "take":
                await call.receive_file(IncomingFile(folder / f"{call._id}", len(BODY), DIGEST))
            case "give":
                path = folder / "given"
                path.write_bytes(BODY)
                await call.send_file(Ask(), path, len(BODY))
            case "endless":
                await call.answer()
                await asyncio.Event().wait()
            case _:
                raise ProtocolError(ErrorCode.MALFORMED, "no such command")
        return None

    return serve


@share(60)
@given(steps)
async def test_the_end_that_asks_survives_whatever_it_is_answered(script: list[Step]) -> None:
    with tempfile.TemporaryDirectory() as folder, no_errors_logged():
        target, source = Path(folder) / "target", Path(folder) / "source"
        source.write_bytes(BODY)
        async with no_tasks_left(), memory_link() as ends:
            session = Session(ends.offloader.channel)
            running = asyncio.create_task(session.run())
            asked = asking(session, source, target)
            async with work_per_turn(_taken_from(ends.sockets[0]), FRAMES_OF_A_MESSAGE):
                await play(ends, ends.builder.channel, script, session)
            assert isinstance(await running, str)
            for each in await asyncio.gather(*asked, return_exceptions=True):
                if isinstance(each, BaseException):
                    assert isinstance(each, (ChannelClosed, CommandRefused, ProtocolError)), each
            check_empty(session)
        left = set(Path(folder).iterdir()) - {source}
        assert all(path.read_bytes() == BODY for path in left)


def asking(session: Session, source: Path, target: Path) -> list[asyncio.Task[object]]:
    """Ask for something of every form, so that the other end can answer each by its id."""

    def accept(_: object) -> IncomingFile:
        return IncomingFile(target, len(BODY), DIGEST)

    works: tuple[Coroutine[None, None, object], ...] = (
        session.call(Ask()),
        session.subscribe(Ask(), lambda _: None),
        session.send_file(Ask(), source, len(BODY)),
        session.fetch_file(Ask(), accept),
    )
    return [asyncio.create_task(each) for each in works]


def _taken_from(socket: MemorySocket) -> Callable[[], int]:
    return lambda: socket.taken
