"""A paired builder of a queue: a real host at a port, and the real PeerBuilder here."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import override

import aiohttp

from custom_components.esphome_offload.engine.host.guests import Guest

from ...jobs.fakes import Act, Block
from ...jobs.house import House
from ..link.pi import Pi
from ..stand import Lent, Stand, Wire


class Peer(Pi):
    """A peer that is registered in the house while its entry is loaded."""

    _unregister: Callable[[], None]

    def __init__(self, house: House, folder: Path, label: str, http: aiohttp.ClientSession) -> None:
        self.house = house
        self.lender = Lent(folder)
        stand = Stand(self.lender)
        super().__init__(folder, stand, Wire(0), http, label)

    @override
    def still_wanted(self) -> Iterable[str]:
        return self.house.queue.wanted_attempts(self.builder.builder_id)

    async def open(self, slots: int = 1) -> None:
        """Lend, pair and connect."""
        self.lender.slots.set_count(slots)
        await self.stand.start()
        self.wire = Wire(self.stand.port)
        await self.wire.mend()
        guest = Guest(self.identity.public, "pi", "user of pi", self.lender.time.now())
        await self.lender.guests.add(guest)
        await self.load()

    async def load(self) -> None:
        """Load its entry."""
        self.make()
        self._unregister = self.house.builders.register(self.builder)
        await self.connect()

    async def unload(self) -> None:
        """Unload its entry, as Peering does."""
        self._unregister()
        await self.link.stop()

    async def close(self) -> None:
        await self.unload()
        await self.wire.cut()
        await self.stand.stop()

    def hold(self, count: int) -> list[Block]:
        """Have its next builds go on until they are released."""
        blocks = [Block() for _ in range(count)]
        script: list[Act] = [*blocks]
        self.lender.script = script
        return blocks

    @property
    def built(self) -> list[str]:
        """The configurations that were begun there."""
        return [each.configuration for each in self.lender.builds]
