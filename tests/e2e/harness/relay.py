"""A stretch of network between two instances that can be cut."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Literal

from . import ports

_HOST = "127.0.0.1"
_CHUNK = 64 * 1024


class Relay:
    """A TCP relay on loopback to the port that ``target`` returns at that moment.

    Another ``target`` is for connections to come.
    """

    def __init__(self, target: Callable[[], int]) -> None:
        """Nothing is listened on before ``restore``."""
        (self.port,) = ports.pick()
        self.target = target
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._connections: set[asyncio.Task[None]] = set()
        self.sent = 0
        """Bytes that went to the target."""
        self.received = 0
        """Bytes that came back from it."""
        self.swallow: bytes | None = None
        """What has this text in it gets lost, and so does all that follows in its connection."""
        self.swallowed = asyncio.Event()
        """Set when something got lost."""

    @property
    def url(self) -> str:
        """The base URL of the instance behind it."""
        return f"http://{_HOST}:{self.port}"

    @property
    def connections(self) -> int:
        """How many connections go through it now."""
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
        """Carry one direction to its end, and say the end on."""
        while data := await source.read(_CHUNK):
            if self.swallow is not None and self.swallow in data:
                self.swallowed.set()
                while await source.read(_CHUNK):
                    pass
                return
            setattr(self, counter, getattr(self, counter) + len(data))
            sink.write(data)
            await sink.drain()
        sink.write_eof()
