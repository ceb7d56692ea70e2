"""A TCP proxy that can be cut, mended and held."""

import asyncio


class Proxy:
    """The TCP connections to a port, through a proxy that can be cut and mended."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.connected = asyncio.Event()
        self._flowing = asyncio.Event()
        self._flowing.set()
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def mend(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Break all connections and refuse new ones."""
        assert self._server is not None
        self._server.close()
        for writer in tuple(self._writers):
            writer.transport.abort()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def hold(self) -> None:
        """Keep all connections, and let nothing through any more."""
        self._flowing.clear()

    def release(self) -> None:
        """Let everything through again."""
        self._flowing.set()

    async def blink(self) -> None:
        """Break all connections, and take new ones at once."""
        await self.cut()
        await self.mend()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connected.set()
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        pair = (writer,)
        try:
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._to)
            pair = (writer, there_writer)
            self._writers.update(pair)
            await asyncio.gather(self._copy(reader, there_writer), self._copy(there_reader, writer))
        except OSError, asyncio.CancelledError:
            pass
        finally:
            self._tasks.discard(task)
            for each in pair:
                self._writers.discard(each)
                each.transport.abort()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            await self._flowing.wait()
            writer.write(data)
            await writer.drain()
        writer.close()
