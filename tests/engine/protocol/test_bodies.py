"""Files that cross a link as bodies of commands."""

import asyncio
from collections.abc import Iterator
import contextlib
import errno
import hashlib
import os
from pathlib import Path
import threading
from typing import IO
from unittest.mock import patch

import pytest

from custom_components.esphome_offload.engine.protocol import bodies, session as session_module
from custom_components.esphome_offload.engine.protocol.bodies import WINDOW, IncomingFile
from custom_components.esphome_offload.engine.protocol.calls import Call, CommandRefused, Handler
from custom_components.esphome_offload.engine.protocol.channel import (
    PIECE_BYTES,
    ChannelClosed,
    Piece,
)
from custom_components.esphome_offload.engine.protocol.errors import ErrorCode, ProtocolError

from .test_session import Ask, Note, sessions

SIZES = [1, PIECE_BYTES, PIECE_BYTES + 1, 3 * WINDOW + 17]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(os.urandom(300_000))
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "there").mkdir()
    return tmp_path / "there" / "target"


def expected(source: Path, target: Path, **changed: object) -> IncomingFile:
    content = source.read_bytes()
    values = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest(), **changed}
    return IncomingFile(target, **values)  # type: ignore[arg-type]  # what a test changes


def receiving(file: IncomingFile) -> Handler:
    async def handler(call: Call) -> Note:
        await call.receive_file(file)
        return Note(7)

    return handler


def sending(source: Path) -> Handler:
    async def handler(call: Call) -> None:
        await call.send_file(Note(1), source, source.stat().st_size)

    return handler


def left(target: Path) -> list[str]:
    return sorted(each.name for each in target.parent.iterdir())


@pytest.mark.parametrize("size", SIZES)
async def test_a_file_that_is_sent_arrives(source: Path, target: Path, size: int) -> None:
    source.write_bytes(os.urandom(size))
    async with sessions(receiving(expected(source, target))) as pair:
        assert await pair.offloader.send_file(Ask(), source, size) == {"type": "note", "number": 7}
    assert target.read_bytes() == source.read_bytes()
    assert target.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("size", SIZES)
async def test_a_file_that_is_fetched_arrives(source: Path, target: Path, size: int) -> None:
    source.write_bytes(os.urandom(size))
    headers: list[object] = []

    def accept(header: object) -> IncomingFile:
        headers.append(header)
        return expected(source, target)

    async with sessions(sending(source)) as pair:
        await pair.offloader.fetch_file(Ask(), accept)
    assert target.read_bytes() == source.read_bytes()
    assert headers == [{"type": "note", "number": 1}]


async def test_several_bodies_cross_at_the_same_time(source: Path, target: Path) -> None:
    async with sessions(sending(source)) as pair:
        targets = [target.with_name(str(number)) for number in range(5)]
        await asyncio.gather(
            *(
                pair.offloader.fetch_file(Ask(), lambda _, to=to: expected(source, to))
                for to in targets
            )
        )
    assert all(each.read_bytes() == source.read_bytes() for each in targets)


async def test_a_body_with_another_digest_leaves_what_was_there(source: Path, target: Path) -> None:
    target.write_bytes(b"before")
    file = expected(source, target, sha256="0" * 64)
    async with sessions(receiving(file)) as pair:
        with pytest.raises(CommandRefused) as refused:
            await pair.offloader.send_file(Ask(), source, file.size)
        assert refused.value.code is ErrorCode.TAMPERED
    async with sessions(sending(source)) as pair:
        with pytest.raises(ProtocolError) as caught:
            await pair.offloader.fetch_file(Ask(), lambda _: file)
        assert caught.value.code is ErrorCode.TAMPERED
    assert target.read_bytes() == b"before"
    assert left(target) == ["target"]


async def test_more_than_was_announced_is_refused(source: Path, target: Path) -> None:
    file = expected(source, target, size=100_000)
    async with sessions(receiving(file)) as pair:
        with pytest.raises(CommandRefused) as refused:
            await pair.offloader.send_file(Ask(), source, 300_000)
        assert refused.value.code is ErrorCode.MALFORMED
    assert left(target) == []


async def test_less_than_was_announced_is_not_sent_to_its_end(source: Path, target: Path) -> None:
    file = expected(source, target, size=300_001)
    async with sessions(receiving(file)) as pair:
        with pytest.raises(ProtocolError, match="changed while it was sent"):
            await pair.offloader.send_file(Ask(), source, 300_001)
        # The other end learns of it, and keeps nothing.
        while pair.builder._served:  # noqa: ASYNC110 - nothing is told of that
            await asyncio.sleep(0.01)
    assert left(target) == []


async def test_a_refused_body_is_not_sent(source: Path) -> None:
    async def handler(_: Call) -> None:
        raise ProtocolError(ErrorCode.NO_SPACE, "the disk is full")

    async with sessions(handler) as pair:
        with (
            patch.object(Path, "open", side_effect=AssertionError("it was read")),
            pytest.raises(CommandRefused) as refused,
        ):
            await pair.offloader.send_file(Ask(), source, 300_000)
        assert refused.value.code is ErrorCode.NO_SPACE


async def test_a_header_can_be_refused_before_anything_is_written(
    source: Path, target: Path
) -> None:
    def accept(_: object) -> IncomingFile:
        raise ProtocolError(ErrorCode.MALFORMED, "not what was asked for")

    async with sessions(sending(source)) as pair:
        with pytest.raises(ProtocolError, match="not what was asked for"):
            await pair.offloader.fetch_file(Ask(), accept)
        assert pair.offloader.lost is None
    assert left(target) == []


async def test_a_fetch_that_is_refused_says_why(target: Path, source: Path) -> None:
    async def handler(_: Call) -> None:
        raise ProtocolError(ErrorCode.FIRMWARE_NOT_READY, "not yet")

    async with sessions(handler) as pair:
        with pytest.raises(CommandRefused) as refused:
            await pair.offloader.fetch_file(Ask(), lambda _: expected(source, target))
        assert refused.value.code is ErrorCode.FIRMWARE_NOT_READY


async def test_a_fetch_without_a_header_is_malformed(target: Path, source: Path) -> None:
    async def handler(_: Call) -> None:
        return None

    async with sessions(handler) as pair:
        with pytest.raises(ProtocolError, match="without a header"):
            await pair.offloader.fetch_file(Ask(), lambda _: expected(source, target))


async def test_a_sender_that_fails_in_the_middle_leaves_nothing(source: Path, target: Path) -> None:
    async def handler(call: Call) -> None:
        # One byte more than there is: it gives up at the end.
        await call.send_file(Note(1), source, 300_001)

    async with sessions(handler) as pair:
        with pytest.raises((CommandRefused, ChannelClosed)):
            await pair.offloader.fetch_file(Ask(), lambda _: expected(source, target, size=300_001))
    assert left(target) == []


async def test_a_lost_connection_leaves_nothing(source: Path, target: Path) -> None:
    source.write_bytes(os.urandom(2 * WINDOW))
    reading = asyncio.Event()

    async def handler(call: Call) -> None:
        await call.event(Note(1))
        reading.set()
        await asyncio.Event().wait()

    async with sessions(handler) as pair:
        fetching = asyncio.create_task(
            pair.offloader.fetch_file(Ask(), lambda _: expected(source, target))
        )
        await reading.wait()
        await pair.builder.close()
        with pytest.raises(ChannelClosed):
            await fetching
    assert left(target) == []


async def test_cancelled_in_the_middle_it_ends_there_and_leaves_nothing(
    source: Path, target: Path
) -> None:
    cancelled, reading = asyncio.Event(), asyncio.Event()

    async def handler(call: Call) -> None:
        await call.event(Note(1))
        reading.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async with sessions(handler) as pair:
        fetching = asyncio.create_task(
            pair.offloader.fetch_file(Ask(), lambda _: expected(source, target))
        )
        await reading.wait()
        fetching.cancel()
        await asyncio.wait([fetching])
        await asyncio.wait_for(cancelled.wait(), 20)
        assert pair.offloader.lost is None
    assert left(target) == []


async def test_cancelled_while_it_is_put_in_its_place_it_leaves_nothing(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put, goes_on = threading.Event(), threading.Event()
    replace = Path.replace

    def slowly(path: Path, to: Path) -> Path:
        put.set()
        goes_on.wait(20)
        return replace(path, to)

    monkeypatch.setattr(Path, "replace", slowly)
    async with sessions(sending(source)) as pair:
        fetching = asyncio.create_task(
            pair.offloader.fetch_file(Ask(), lambda _: expected(source, target))
        )
        await asyncio.to_thread(put.wait, 20)
        fetching.cancel()
        goes_on.set()
        with pytest.raises(asyncio.CancelledError):
            await fetching
    assert left(target) == []


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    class Full:
        def __init__(self, file: IO[bytes]) -> None:
            self._file = file

        def write(self, _: object) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

        def close(self) -> None:
            self._file.close()

    real = os.fdopen
    with patch.object(bodies.os, "fdopen", lambda *args: Full(real(*args))):
        yield


async def test_a_full_disk_is_said_as_such(source: Path, target: Path) -> None:
    async with sessions(receiving(expected(source, target))) as pair:
        with full_disk(), pytest.raises(CommandRefused) as refused:
            await pair.offloader.send_file(Ask(), source, 300_000)
        assert refused.value.code is ErrorCode.NO_SPACE
    assert left(target) == []


async def test_silence_in_the_middle_ends_it(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "STALL_TIMEOUT", 0.05)

    async def handler(call: Call) -> None:
        await call.event(Note(1))
        await asyncio.Event().wait()

    async with sessions(handler) as pair:
        with pytest.raises(ProtocolError) as caught:
            await pair.offloader.fetch_file(Ask(), lambda _: expected(source, target))
        assert caught.value.code is ErrorCode.STALLED
    assert left(target) == []


async def test_a_receiver_that_takes_nothing_ends_it(
    source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "STALL_TIMEOUT", 0.05)
    source.write_bytes(os.urandom(2 * WINDOW))

    async def handler(call: Call) -> None:
        await call.event(Note(1))  # it says that it wants the body, and looks at none of it
        await asyncio.Event().wait()

    async with sessions(handler) as pair:
        with pytest.raises(ProtocolError) as caught:
            await pair.offloader.send_file(Ask(), source, 2 * WINDOW)
        assert caught.value.code is ErrorCode.STALLED


async def test_never_more_than_a_window_is_on_its_way(source: Path, target: Path) -> None:
    source.write_bytes(os.urandom(3 * WINDOW))
    most = 0
    real = bodies.IncomingBody.accept

    def accept(self: bodies.IncomingBody, piece: Piece) -> None:
        nonlocal most
        real(self, piece)
        most = max(most, self._buffered)

    with patch.object(bodies.IncomingBody, "accept", accept):
        async with sessions(receiving(expected(source, target))) as pair:
            await pair.offloader.send_file(Ask(), source, 3 * WINDOW)
    assert 0 < most <= WINDOW


@pytest.mark.parametrize(
    "pieces",
    [[(1, b"x")], [(0, b"x"), (0, b"x")], [(0, b"x"), (2, b"x")], [(0, b"")]],
    ids=["late", "twice", "gap", "empty"],
)
async def test_pieces_that_are_not_the_next_break_the_protocol(
    source: Path, target: Path, pieces: list[tuple[int, bytes]]
) -> None:
    async with sessions(receiving(expected(source, target))) as pair:
        channel = pair.offloader.channel
        await channel.send({"id": 1, "type": "ask"})
        await pair.builder_wants()
        for number, data in pieces:
            await channel.send_piece(Piece(1, number, memoryview(data)))
        assert "protocol" in await pair.lost[1]
    assert left(target) == []


async def test_more_than_a_window_breaks_the_protocol(source: Path, target: Path) -> None:
    file = expected(source, target, size=100 * WINDOW)
    stop = asyncio.Event()

    async def never(*_: object) -> None:
        await stop.wait()

    async with sessions(receiving(file)) as pair:
        channel = pair.offloader.channel

        async def send_more_than_is_taken() -> None:
            for number in range(WINDOW // PIECE_BYTES + 2):
                await channel.send_piece(Piece(1, number, memoryview(bytes(PIECE_BYTES))))

        with patch.object(bodies, "in_thread", never):
            await channel.send({"id": 1, "type": "ask"})
            await pair.builder_wants()
            sending = asyncio.create_task(send_more_than_is_taken())
            while pair.builder.lost is None:  # noqa: ASYNC110 - nothing is told of that
                await asyncio.sleep(0)
            stop.set()
            assert "protocol" in await pair.lost[1]
            sending.cancel()
            await asyncio.wait([sending])


async def test_many_short_pieces_fill_no_memory(source: Path, target: Path) -> None:
    async def handler(call: Call) -> None:
        # No header, so that nothing is written: it may not send more than may wait.
        for number in range(10_000):
            await call._channel.send_piece(Piece(call._id, number, memoryview(b"x")))

    async with sessions(handler) as pair:
        with pytest.raises(ChannelClosed):
            await pair.offloader.fetch_file(Ask(), lambda _: expected(source, target))
        assert "protocol" in await pair.lost[0]


def hanging(before: Handler | None = None) -> Handler:
    """Return a handler whose disk does not answer any more, ``before`` or from the start."""

    async def handler(call: Call) -> None:
        if before is not None:
            await before(call)
        await asyncio.Event().wait()

    return handler


@pytest.mark.parametrize("begins", [False, True])
async def test_a_fetch_from_a_disk_that_hangs_is_given_up(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch, begins: bool
) -> None:
    monkeypatch.setattr(session_module, "STALL_TIMEOUT", 0.05)
    async with sessions(hanging(sending(source) if begins else None)) as pair:
        with pytest.raises(ProtocolError) as caught:
            await pair.offloader.fetch_file(Ask(), lambda _: expected(source, target))
        assert caught.value.code is ErrorCode.STALLED
        assert pair.offloader.lost is None


@pytest.mark.parametrize("begins", [False, True])
async def test_a_file_that_is_sent_to_a_disk_that_hangs_is_given_up(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch, begins: bool
) -> None:
    monkeypatch.setattr(session_module, "KEEP_TIMEOUT" if begins else "STALL_TIMEOUT", 0.05)
    file = expected(source, target)
    async with sessions(hanging(receiving(file) if begins else None)) as pair:
        with pytest.raises(ProtocolError) as caught:
            await pair.offloader.send_file(Ask(), source, file.size)
        assert caught.value.code is ErrorCode.STALLED
        assert pair.offloader.lost is None
        # The builder has been told that nobody waits for it any more.
        while pair.builder._served:  # noqa: ASYNC110 - nothing is told of that
            await asyncio.sleep(0)
