"""A paired builder of a queue: a real host at a port, and the real PeerBuilder here."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import override

import aiohttp

from ...jobs.fakes import Act, Block
from ...jobs.queue_harness import QueueHarness
from ..proxy import Proxy
from ..remote import Offloader, RemoteBuilder


class Peer(Offloader):
    """A peer that is registered with the queue while its entry is loaded."""

    _unregister: Callable[[], None]

    def __init__(
        self, harness: QueueHarness, folder: Path, label: str, http: aiohttp.ClientSession
    ) -> None:
        self.harness = harness
        super().__init__(folder, RemoteBuilder(folder), Proxy(0), http, label)

    @override
    def still_wanted(self) -> Iterable[str]:
        return self.harness.queue.wanted_attempts(self.builder.builder_id)

    async def open(self, slots: int = 1) -> None:
        """Lend, pair and connect."""
        self.remote.slots.set_count(slots)
        await self.remote.start()
        self.proxy = Proxy(self.remote.port)
        await self.proxy.mend()
        await self.pair()
        await self.load()

    async def load(self) -> None:
        """Load its entry."""
        self.make()
        self._unregister = self.harness.builders.register(self.builder)
        await self.connect()

    async def unload(self) -> None:
        """Unload its entry, as Peering does."""
        self._unregister()
        await self.link.stop()

    async def close(self) -> None:
        await self.unload()
        await self.proxy.cut()
        await self.remote.close()

    def hold(self, count: int) -> list[Block]:
        """Have its next builds go on until they are released."""
        blocks = [Block() for _ in range(count)]
        script: list[Act] = [*blocks]
        self.remote.script = script
        return blocks

    @property
    def built(self) -> list[str]:
        """The configurations that were started there."""
        return [each.configuration for each in self.remote.builds]
