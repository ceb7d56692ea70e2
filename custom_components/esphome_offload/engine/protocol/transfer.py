"""Sealed bodies between HTTP and disk, off the event loop."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Callable
import errno
import os
from pathlib import Path
import tempfile
from typing import BinaryIO, Final

from ..threads import in_thread
from .body import Opener, Sealer
from .definitions import STALL_TIMEOUT, ErrorCode, ProtocolError
from .payloads import BodyHeader
from .seal import Channel, Purpose

# To hand work to a thread costs more than to decrypt a small piece.
_GATHER: Final = 256 * 1024
_NO_SPACE: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


async def send(sealer: Sealer) -> AsyncGenerator[bytes]:
    """Give the sealed body for an HTTP body; ``sealer.length`` is its Content-Length.

    Raises what ``Sealer.batches`` raises. Close it when it is left early.
    """
    batches = sealer.batches()
    try:
        while (batch := await in_thread(lambda _: next(batches, None))) is not None:
            yield batch
    finally:
        await in_thread(lambda _: batches.close())


def _accept_all(_header: BodyHeader) -> None:
    """Demand nothing of the parameters."""


async def receive(
    channel: Channel,
    purpose: Purpose,
    pieces: AsyncIterable[bytes],
    target: Path,
    *,
    limit: int,
    accept: Callable[[BodyHeader], None] = _accept_all,
    stall_timeout: float = STALL_TIMEOUT,
) -> BodyHeader:
    """Write the plain body to ``target`` (mode 0600), which appears only when all of it is right.

    ``accept`` is called on the loop with the authenticated header before any of the body is
    taken, and refuses by raising. ``limit`` is in bytes of plain body, ``stall_timeout`` in
    seconds without any data. Raises ProtocolError (TAMPERED, MALFORMED, TOO_LARGE, STALLED,
    NO_SPACE), OSError, and what ``accept`` and ``pieces`` raise; the partial file is then gone.
    """
    opener = Opener(channel, purpose, limit)
    source = _Pieces(pieces, stall_timeout)
    header = await _read_header(opener, source, stall_timeout)
    accept(header)
    partial = _Partial(target)
    try:
        await in_thread(lambda _: partial.write(opener, b""))
        while not source.over:
            data = await source.gather()
            await in_thread(lambda _: partial.write(opener, data))  # noqa: B023 - awaited here
        opener.finish()
        await in_thread(lambda _: partial.commit())
    except BaseException as err:
        await in_thread(lambda _: partial.discard())
        if isinstance(err, OSError) and err.errno in _NO_SPACE:
            raise ProtocolError(ErrorCode.NO_SPACE, "the disk is full") from err
        raise
    return header


async def _read_header(opener: Opener, source: _Pieces, timeout: float) -> BodyHeader:
    """Return the header. Until it is there nobody knows whose body this is: it has to be quick."""
    limit = asyncio.timeout(timeout)
    try:
        async with limit:
            while (header := opener.read_header(await source.next_piece())) is None:
                if source.over:
                    raise ProtocolError(ErrorCode.TAMPERED, "the end is missing")
            return header
    except TimeoutError as err:
        if not limit.expired():
            raise
        raise ProtocolError(ErrorCode.STALLED, "the header did not come") from err


class _Pieces:
    """What comes from the network, with a limit on silence."""

    def __init__(self, pieces: AsyncIterable[bytes], stall_timeout: float) -> None:
        self._pieces = aiter(pieces)
        self._stall_timeout = stall_timeout
        self.over = False

    async def next_piece(self) -> bytes:
        """Return what comes next; nothing at the end, then ``over`` is set."""
        limit = asyncio.timeout(self._stall_timeout)
        try:
            async with limit:
                return await anext(self._pieces)
        except StopAsyncIteration:
            self.over = True
            return b""
        except TimeoutError as err:
            # The source may have time-outs of its own.
            if not limit.expired():
                raise
            raise ProtocolError(ErrorCode.STALLED, "no data for too long") from err

    async def gather(self) -> bytes:
        """Return enough to be worth a thread, or what is left."""
        data = bytearray()
        while not self.over and len(data) < _GATHER:
            data += await self.next_piece()
        return bytes(data)


class _Partial:
    """The file beside the target while it is written. Every method blocks."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._path: Path | None = None
        self._file: BinaryIO | None = None

    def write(self, opener: Opener, data: bytes) -> None:
        """Decrypt and append; the first call makes the file."""
        if self._file is None:
            descriptor, name = tempfile.mkstemp(
                dir=self._target.parent, prefix=f".{self._target.name}.", suffix=".part"
            )
            self._path = Path(name)
            self._file = os.fdopen(descriptor, "wb")
        for plain in opener.feed(data):
            self._file.write(plain)

    def commit(self) -> None:
        """Put the file in its place."""
        if self._file is not None and self._path is not None:
            self._file.close()
            self._path.replace(self._target)
            self._path = None

    def discard(self) -> None:
        """Remove the file, unless it is in its place."""
        try:
            if self._file is not None:
                self._file.close()
        finally:
            if self._path is not None:
                self._path.unlink(missing_ok=True)
