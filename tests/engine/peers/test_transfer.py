import asyncio
from collections.abc import AsyncIterator, Iterable
import errno
import os
from pathlib import Path
import random
import tracemalloc

import pytest

from custom_components.esphome_offload.engine.protocol.body import MAGIC, Sealer
from custom_components.esphome_offload.engine.protocol.definitions import (
    BUNDLE_LIMIT,
    HEADER_LIMIT,
    ErrorCode,
    ProtocolError,
)
from custom_components.esphome_offload.engine.protocol.payloads import BodyHeader
from custom_components.esphome_offload.engine.protocol.seal import Channel, Purpose
from custom_components.esphome_offload.engine.protocol.transfer import receive, send

from .test_body import PARAMETERS

MIB = 1024 * 1024


def content(path: Path) -> bytes:
    return path.read_bytes()


def keep(path: Path, data: bytes) -> None:
    path.write_bytes(data)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    path = tmp_path / "plain"
    path.write_bytes(random.Random(1).randbytes(MIB + 17))
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "received"
    folder.mkdir()
    return folder / "bundle"


@pytest.fixture
def sealer(to_workshop: Channel, plain: Path) -> Sealer:
    return Sealer(to_workshop, Purpose.BUNDLE, plain, PARAMETERS, limit=BUNDLE_LIMIT)


async def of(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


def empty(target: Path) -> bool:
    return list(target.parent.iterdir()) == []


async def test_a_file_arrives_as_it_was_sent(
    sealer: Sealer, to_pi: Channel, plain: Path, target: Path
) -> None:
    header = await receive(to_pi, Purpose.BUNDLE, send(sealer), target, limit=BUNDLE_LIMIT)
    assert content(target) == content(plain)
    assert header.sha256 == sealer.sha256
    assert list(target.parent.iterdir()) == [target]


async def test_only_the_owner_can_read_what_arrived(
    sealer: Sealer, to_pi: Channel, target: Path
) -> None:
    await receive(to_pi, Purpose.BUNDLE, send(sealer), target, limit=BUNDLE_LIMIT)
    assert mode(target) == 0o600


async def test_the_length_is_known_before(sealer: Sealer) -> None:
    sent = 0
    async for piece in send(sealer):
        sent += len(piece)
    assert sent == sealer.length


async def test_the_header_can_be_refused_before_anything_is_written(
    sealer: Sealer, to_pi: Channel, target: Path
) -> None:
    taken = 0

    async def counted() -> AsyncIterator[bytes]:
        nonlocal taken
        async for piece in send(sealer):
            taken += 1
            yield piece

    def refuse(header: BodyHeader) -> None:
        raise ProtocolError(ErrorCode.ATTEMPT_CONFLICT, header.sha256)

    with pytest.raises(ProtocolError) as caught:
        await receive(to_pi, Purpose.BUNDLE, counted(), target, limit=BUNDLE_LIMIT, accept=refuse)
    assert caught.value.code is ErrorCode.ATTEMPT_CONFLICT
    assert taken == 1
    assert empty(target)


@pytest.mark.parametrize("end", [0, 5, 100, 1000, 600_000, -1])
async def test_of_a_body_that_breaks_off_nothing_is_left(
    sealer: Sealer, to_pi: Channel, target: Path, end: int
) -> None:
    body = b"".join(sealer.batches())[:end]
    with pytest.raises(ProtocolError) as caught:
        await receive(to_pi, Purpose.BUNDLE, of([body]), target, limit=BUNDLE_LIMIT)
    assert caught.value.code is ErrorCode.TAMPERED
    assert empty(target)


async def test_of_an_altered_body_nothing_is_left(
    sealer: Sealer, to_pi: Channel, target: Path
) -> None:
    body = bytearray(b"".join(sealer.batches()))
    body[-1] ^= 1
    with pytest.raises(ProtocolError):
        await receive(to_pi, Purpose.BUNDLE, of([bytes(body)]), target, limit=BUNDLE_LIMIT)
    assert empty(target)


async def test_what_was_there_before_stays_when_the_new_one_is_bad(
    sealer: Sealer, to_pi: Channel, target: Path
) -> None:
    keep(target, b"good")
    with pytest.raises(ProtocolError):
        await receive(
            to_pi, Purpose.BUNDLE, of([*sealer.batches(), b"x"]), target, limit=BUNDLE_LIMIT
        )
    assert content(target) == b"good"
    assert list(target.parent.iterdir()) == [target]


async def test_silence_ends_it(sealer: Sealer, to_pi: Channel, target: Path) -> None:
    async def silent() -> AsyncIterator[bytes]:
        for piece in list(sealer.batches())[:2]:
            yield piece
        await asyncio.Event().wait()

    with pytest.raises(ProtocolError) as caught:
        await receive(
            to_pi, Purpose.BUNDLE, silent(), target, limit=BUNDLE_LIMIT, stall_timeout=0.05
        )
    assert caught.value.code is ErrorCode.STALLED
    assert empty(target)


async def test_a_header_that_comes_byte_by_byte_ends_it(
    sealer: Sealer, to_pi: Channel, target: Path
) -> None:
    async def trickle() -> AsyncIterator[bytes]:
        yield MAGIC + HEADER_LIMIT.to_bytes(4, "big")
        while True:
            yield b"x"
            await asyncio.sleep(0.01)

    with pytest.raises(ProtocolError) as caught:
        await receive(
            to_pi, Purpose.BUNDLE, trickle(), target, limit=BUNDLE_LIMIT, stall_timeout=0.05
        )
    assert caught.value.code is ErrorCode.STALLED
    assert empty(target)


async def test_a_lost_connection_is_told_as_such(
    sealer: Sealer, to_pi: Channel, target: Path
) -> None:
    async def lost() -> AsyncIterator[bytes]:
        for piece in list(sealer.batches())[:2]:
            yield piece
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await receive(to_pi, Purpose.BUNDLE, lost(), target, limit=BUNDLE_LIMIT)
    assert empty(target)


async def test_a_timeout_of_the_source_is_not_taken_for_silence(
    sealer: Sealer, to_pi: Channel, target: Path
) -> None:
    async def impatient() -> AsyncIterator[bytes]:
        yield next(sealer.batches())
        raise TimeoutError

    with pytest.raises(TimeoutError):
        await receive(to_pi, Purpose.BUNDLE, impatient(), target, limit=BUNDLE_LIMIT)
    assert empty(target)


async def test_cancelled_in_the_middle_it_leaves_nothing(
    sealer: Sealer, to_pi: Channel, target: Path
) -> None:
    waiting = asyncio.Event()

    async def held() -> AsyncIterator[bytes]:
        for piece in list(sealer.batches())[:2]:
            yield piece
        waiting.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(receive(to_pi, Purpose.BUNDLE, held(), target, limit=BUNDLE_LIMIT))
    await waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert empty(target)


@pytest.mark.parametrize("cancels", [1, 2])
async def test_cancelled_at_the_very_end_it_leaves_no_part(
    sealer: Sealer, to_pi: Channel, target: Path, monkeypatch: pytest.MonkeyPatch, cancels: int
) -> None:
    loop = asyncio.get_running_loop()
    replace = Path.replace
    task: asyncio.Task[BodyHeader]

    def cancelled_meanwhile(path: Path, other: Path) -> Path:
        cancelled = asyncio.run_coroutine_threadsafe(cancel(), loop)
        cancelled.result(5)
        return replace(path, other)

    async def cancel() -> None:
        for _ in range(cancels):
            task.cancel()
            await asyncio.sleep(0)

    monkeypatch.setattr(Path, "replace", cancelled_meanwhile)
    task = asyncio.create_task(
        receive(to_pi, Purpose.BUNDLE, send(sealer), target, limit=BUNDLE_LIMIT)
    )
    with pytest.raises(asyncio.CancelledError):
        await task
    # It was right and in its place already; a part of it must not be left.
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
async def test_a_full_disk_is_told_as_such(
    sealer: Sealer, to_pi: Channel, target: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    real = os.fdopen
    sealed = list(sealer.batches())

    class Full:
        def __init__(self, descriptor: int) -> None:
            self._file = real(descriptor, "wb")

        def write(self, _data: bytes) -> int:
            raise OSError(number, os.strerror(number))

        def close(self) -> None:
            self._file.close()

    monkeypatch.setattr(os, "fdopen", lambda descriptor, _mode: Full(descriptor))
    with pytest.raises(ProtocolError) as caught:
        await receive(to_pi, Purpose.BUNDLE, of(sealed), target, limit=BUNDLE_LIMIT)
    assert caught.value.code is ErrorCode.NO_SPACE
    assert empty(target)


async def test_leaving_early_closes_the_file(sealer: Sealer) -> None:
    before = descriptors()
    sending = send(sealer)
    await anext(sending)
    await anext(sending)
    assert descriptors() == before + 1
    await sending.aclose()
    assert descriptors() == before


async def test_the_memory_used_does_not_grow_with_the_file(
    to_workshop: Channel, to_pi: Channel, tmp_path: Path, target: Path
) -> None:
    big = tmp_path / "big"
    with big.open("wb") as file:
        file.truncate(24 * MIB)
    sealer = Sealer(to_workshop, Purpose.BUNDLE, big, PARAMETERS, limit=BUNDLE_LIMIT)
    tracemalloc.start()
    try:
        await receive(to_pi, Purpose.BUNDLE, send(sealer), target, limit=BUNDLE_LIMIT)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert content(target) == bytes(24 * MIB)
    assert peak < 6 * MIB
