"""A TCP relay between two instances, which can be cut."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Literal

from . import ports

_HOST = "127.0.0.1"
_CHUNK = 64 * 1024
# More than status, events and the output of a small build; less than any firmware.
_MESSAGES = 256 * 1024


type Change = Callable[[bytes], Awaitable[bytes]]
"""Returns what is carried on in place of some bytes, and when."""


class Relay:
    """A TCP relay on loopback to the port that ``target`` returns at that moment.

    A new ``target`` is used for new connections.
    """

    def __init__(self, target: Callable[[], int]) -> None:
        """Pick the port; ``restore`` starts to listen on it."""
        (self.port,) = ports.pick()
        self.target = target
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._connections: set[asyncio.Task[None]] = set()
        self.sent = 0
        """Bytes that went to the target."""
        self.received = 0
        """Bytes that came back from it."""
        self.stalled = asyncio.Event()
        """Set when something was withheld because of ``stall_downloads``."""
        self._receive_at_most: int | None = None
        self.change: Change | None = None
        """What is done to everything on its way; None does nothing."""

    @property
    def url(self) -> str:
        """The base URL of the instance behind it."""
        return f"http://{_HOST}:{self.port}"

    @property
    def connections(self) -> int:
        """The number of connections through it now."""
        return len(self._connections)

    async def restore(self) -> None:
        """Let connections through."""
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, _HOST, self.port)

    async def cut(self) -> None:
        """Break all connections and refuse new ones until ``restore``."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in self._open:
            writer.transport.abort()
        if self._connections:
            await asyncio.wait(self._connections)

    def stall_downloads(self) -> None:
        """Withhold what comes back once it is more than messages: a firmware never arrives."""
        self.stalled.clear()
        self._receive_at_most = self.received + _MESSAGES

    async def resume_downloads(self) -> None:
        """Undo ``stall_downloads``; connections that miss something are broken."""
        self._receive_at_most = None
        if self.stalled.is_set():
            await self.cut()
            await self.restore()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        self._open.add(writer)
        try:
            with suppress(OSError):
                there_reader, there = await asyncio.open_connection(_HOST, self.target())
                self._open.add(there)
                try:
                    await asyncio.gather(
                        self._carry(reader, there, "sent"),
                        self._carry(there_reader, writer, "received"),
                    )
                finally:
                    self._open.discard(there)
                    there.transport.abort()
        finally:
            self._open.discard(writer)
            writer.transport.abort()
            self._connections.discard(task)

    async def _carry(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        counter: Literal["sent", "received"],
    ) -> None:
        """Carry one direction to its end, and pass the end on."""
        while data := await source.read(_CHUNK):
            limit = self._receive_at_most if counter == "received" else None
            if limit is not None and self.received + len(data) > limit:
                self.stalled.set()
                continue
            setattr(self, counter, getattr(self, counter) + len(data))
            if self.change is not None:
                data = await self.change(data)
            sink.write(data)
            await sink.drain()
        sink.write_eof()
