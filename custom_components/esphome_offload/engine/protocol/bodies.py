"""Bodies: files that cross a channel in numbered pieces, from disk to disk.

The sender may be a window ahead of what the receiver has written, so that a slow disk or line
never fills anybody's memory, and the channel is free for messages between two pieces.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
import errno
import hashlib
import os
from pathlib import Path
import tempfile
from typing import BinaryIO, Final

from ..threads import in_thread
from .channel import PIECE_BYTES, Channel, Piece
from .errors import ErrorCode, ProtocolError
from .limits import STALL_TIMEOUT

WINDOW: Final = 4 * 1024 * 1024
"""Bytes that may be on their way: enough for a fast line with some milliseconds of delay."""
_PIECES: Final = 2 * WINDOW // PIECE_BYTES
"""Pieces that may wait: each costs some memory of its own, however short it is."""
# To hand work to a thread costs more than to copy a small piece.
_BATCH: Final = 16 * PIECE_BYTES
_NO_SPACE: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True, slots=True)
class IncomingFile:
    """The target of a body, and its expected content. ``size`` is in bytes, ``sha256`` in hex."""

    target: Path
    size: int
    sha256: str


class IncomingBody:
    """A body that this end receives; ``accept`` is called by whoever receives from the channel."""

    def __init__(self, acknowledge: Callable[[int], Awaitable[None]]) -> None:
        """``acknowledge`` tells the other end how many bytes are on disk in all."""
        self._acknowledge = acknowledge
        self._pieces: deque[memoryview] = deque()
        self._buffered = 0
        self._number = 0
        self._changed = asyncio.Event()
        self._error: Exception | None = None

    def accept(self, piece: Piece) -> None:
        """Accept the next piece; raises ProtocolError when it is not the next, or too early."""
        if piece.number != self._number or not piece.data:
            raise ProtocolError(ErrorCode.MALFORMED, "a piece that is not the next one")
        if self._buffered + len(piece.data) > WINDOW or len(self._pieces) >= _PIECES:
            raise ProtocolError(ErrorCode.MALFORMED, "more pieces than were asked for")
        self._number += 1
        self._buffered += len(piece.data)
        self._pieces.append(piece.data)
        self._changed.set()

    def fail(self, error: Exception) -> None:
        """End ``write`` with ``error``: nothing more comes."""
        if self._error is None:
            self._error = error
        self._changed.set()

    async def write(self, file: IncomingFile) -> None:
        """Write the whole body; the target (mode 0600) appears only when all of it is right.

        Raises ProtocolError (TAMPERED: another digest; STALLED, NO_SPACE, MALFORMED), OSError, and
        what ``fail`` was given; nothing is left of the file then.
        """
        partial = _PartialFile(file.target)
        written = 0
        try:
            await in_thread(lambda _: partial.open())
            while written < file.size:
                batch = await self._next_batch()
                written += sum(map(len, batch))
                _check_size(written, file.size)
                await in_thread(lambda _: partial.write(batch))  # noqa: B023 - awaited here
                await self._acknowledge(written)
            await in_thread(lambda _: partial.commit(file.sha256))
        except BaseException as err:
            await in_thread(lambda _: partial.discard())
            if isinstance(err, OSError) and err.errno in _NO_SPACE:
                raise ProtocolError(ErrorCode.NO_SPACE, "the disk is full") from err
            raise

    async def _next_batch(self) -> list[memoryview]:
        while not self._pieces:
            if self._error is not None:
                raise self._error
            await _next_change(self._changed, "no data for too long")
        batch: list[memoryview] = []
        length = 0
        while self._pieces and length < _BATCH:
            batch.append(self._pieces.popleft())
            length += len(batch[-1])
        self._buffered -= length
        return batch


class OutgoingBody:
    """A body that this end sends."""

    def __init__(self, body_id: int, send: Callable[[Piece], Awaitable[None]]) -> None:
        """``send`` puts a piece on the channel."""
        self._body_id = body_id
        self._send = send
        self._acknowledged = 0
        self._changed = asyncio.Event()

    def acknowledge(self, written: int) -> None:
        """Note how many bytes the other end has on disk in all."""
        self._acknowledged = max(self._acknowledged, written)
        self._changed.set()

    async def read(self, path: Path, size: int) -> None:
        """Send a file of ``size`` bytes; returns when the last piece is sent.

        Raises ProtocolError STALLED, and MALFORMED for a file of another size, OSError, and what
        sending raises. Cancel it when the other end wants no more.
        """
        sent = number = 0
        file = await in_thread(lambda _: path.open("rb"))
        try:
            while data := await in_thread(lambda _: file.read(_BATCH)):
                for start in range(0, len(data), PIECE_BYTES):
                    piece = memoryview(data)[start : start + PIECE_BYTES]
                    await self._until_window(sent + len(piece))
                    await self._send(Piece(self._body_id, number, piece))
                    sent += len(piece)
                    number += 1
                    # Sending suspends only when the line is slower than the disk.
                    await asyncio.sleep(0)
        finally:
            await in_thread(lambda _: file.close())
        if sent != size:
            raise ProtocolError(ErrorCode.MALFORMED, "a file that changed while it was sent")

    async def _until_window(self, sent: int) -> None:
        while sent - self._acknowledged > WINDOW:
            await _next_change(self._changed, "nothing was taken for too long")


async def _next_change(changed: asyncio.Event, why: str) -> None:
    """Wait until ``changed`` is set again; raises ProtocolError STALLED when that takes too long."""
    changed.clear()
    try:
        async with asyncio.timeout(STALL_TIMEOUT):
            await changed.wait()
    except TimeoutError as err:
        raise ProtocolError(ErrorCode.STALLED, why) from err


def _check_size(written: int, size: int) -> None:
    if written > size:
        raise ProtocolError(ErrorCode.MALFORMED, "more than was announced")


class Bodies:
    """The bodies that cross one channel now, by the id of their command."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._incoming: dict[int, IncomingBody] = {}
        self._outgoing: dict[int, OutgoingBody] = {}

    @contextmanager
    def incoming(self, command_id: int) -> Iterator[IncomingBody]:
        """Receive the body of a command for as long as the context lasts."""

        async def acknowledge(written: int) -> None:
            await self._channel.send({"id": command_id, "type": "body_ack", "bytes": written})

        self._incoming[command_id] = IncomingBody(acknowledge)
        try:
            yield self._incoming[command_id]
        finally:
            del self._incoming[command_id]

    @contextmanager
    def outgoing(self, command_id: int) -> Iterator[OutgoingBody]:
        """Send the body of a command for as long as the context lasts."""
        self._outgoing[command_id] = OutgoingBody(command_id, self._channel.send_piece)
        try:
            yield self._outgoing[command_id]
        finally:
            del self._outgoing[command_id]

    def accept(self, piece: Piece) -> None:
        """Hand on a piece; raises ProtocolError like ``IncomingBody.accept``."""
        # Pieces of a body that is not wanted any more may still be on their way.
        if (body := self._incoming.get(piece.body_id)) is not None:
            body.accept(piece)

    def acknowledge(self, command_id: int, written: object) -> None:
        """Hand on an acknowledgement."""
        body = self._outgoing.get(command_id)
        if body is not None and isinstance(written, int):
            body.acknowledge(written)

    def fail(self, error: Exception) -> None:
        """End all bodies that are received."""
        for body in self._incoming.values():
            body.fail(error)


class _PartialFile:
    """The file beside the target while it is written. Every method blocks."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._path: Path | None = None
        self._file: BinaryIO | None = None
        self._digest = hashlib.sha256()

    def open(self) -> None:
        """Make the file, readable by this user alone."""
        descriptor, name = tempfile.mkstemp(
            dir=self._target.parent, prefix=f".{self._target.name}.", suffix=".part"
        )
        self._path = Path(name)
        self._file = os.fdopen(descriptor, "wb")

    def write(self, pieces: list[memoryview]) -> None:
        """Append."""
        assert self._file is not None  # noqa: S101 - opened before
        for piece in pieces:
            self._digest.update(piece)
            self._file.write(piece)

    def commit(self, sha256: str) -> None:
        """Put the file in its place; raises ProtocolError TAMPERED for another digest."""
        if self._digest.hexdigest() != sha256:
            raise ProtocolError(ErrorCode.TAMPERED, "a body with another digest")
        if self._file is not None and self._path is not None:
            self._file.close()
            self._path = self._path.replace(self._target)

    def discard(self) -> None:
        """Remove the file, also from its place: what is cancelled there counts as not received."""
        try:
            if self._file is not None:
                self._file.close()
        finally:
            if self._path is not None:
                self._path.unlink(missing_ok=True)
