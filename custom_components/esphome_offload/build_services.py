"""Workshop: all that compiles and flashes, put together for one instance."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Coroutine
from dataclasses import dataclass
from pathlib import Path
import sys
import time
from typing import Protocol

from .engine.build.cache.eviction import TREES_BUDGET, make_room as make_room_on
from .engine.build.cache.layout import CacheLayout
from .engine.build.cache.orphans import prune_orphans
from .engine.build.firmware import FirmwareStore
from .engine.build.flasher import FirmwareFlasher
from .engine.build.local import LocalBuilder
from .engine.build.model import Builder
from .engine.build.process.containment import (
    ContainmentHere,
    Degree,
    GuestContainment,
    containment_here,
)
from .engine.build.process.processes import Processes, end_leftovers
from .engine.build.slots import Slots
from .engine.build.toolchain.toolchains import Toolchains
from .engine.build.toolchain.uv import Uv
from .engine.build.toolchain.versions import Versions
from .engine.client.bundle import Bundles
from .engine.client.link import PeerLink
from .engine.client.peer_builder import PeerBuilder
from .engine.host.ports import GuestBuildServices, MakeGuestBuildServices
from .engine.jobs.ports import FirmwareKeeper, Flasher
from .engine.threads import in_thread
from .peering.peers import MakePeer


class VersionSource(Protocol):
    """Knows which ESPHome versions there are."""

    async def newest(self, *, prerelease: bool) -> str:
        """Return the newest version; raises VersionError."""

    async def check(self, version: str) -> None:
        """Raise VersionError unless the version exists and runs on this Python."""


@dataclass(frozen=True, slots=True)
class BuildServices:
    """What the coordinator hands to the queue, and what it sets and closes itself.

    ``toolchains`` lists the installed ESPHome versions, ``begin`` ends what a killed Home
    Assistant left running and looks at what is in the cache, ``make_room`` removes what is beyond
    the budgets, and what was kept of configurations other than those it is given (None: it is not
    known which there are), ``aclose`` ends what still runs. ``slots`` are shared by
    our own builds and those of guests, ``containment`` says how far the latter are kept apart,
    ``make_guest`` makes what builds for one guest.
    """

    builder: Builder
    flasher: Flasher
    firmware: FirmwareKeeper
    versions: VersionSource
    toolchains: Callable[[], tuple[str, ...]]
    layout: CacheLayout
    slots: Slots
    containment: ContainmentHere
    make_guest: MakeGuestBuildServices
    make_peer: MakePeer
    set_slots: Callable[[int], None]
    begin: Callable[[], Awaitable[None]]
    make_room: Callable[[Collection[str] | None], Coroutine[None, None, None]]
    aclose: Callable[[], Awaitable[None]]


def make_build_services(layout: CacheLayout, private: tuple[Path, ...]) -> BuildServices:
    """Put the real ones together; all that they write is in ``layout``. Blocks.

    ``private``: folders that builds of guests must not see, but for what is theirs in ``layout``.
    """
    python = Path(sys.executable)
    processes = Processes()
    uv = Uv(layout, (sys.executable, "-m", "uv"), python)
    toolchains = Toolchains(layout, processes, uv)
    firmware = FirmwareStore(layout)
    builder = LocalBuilder(layout, processes, toolchains, firmware)
    bundles = Bundles(layout, processes, toolchains)
    containment = containment_here()

    async def make_guest(own: CacheLayout) -> GuestBuildServices:
        kept = FirmwareStore(own)
        guest_builder = LocalBuilder(
            own,
            processes,
            toolchains,
            kept,
            slots=builder.slots,
            containment=(
                None if containment.degree is Degree.UNCONTAINED else GuestContainment(own, private)
            ),
        )
        await guest_builder.refresh()
        return GuestBuildServices(own, guest_builder, kept)

    def make_peer(link: PeerLink) -> Builder:
        return PeerBuilder(link, bundles, firmware, layout)

    async def begin() -> None:
        try:
            await end_leftovers(layout.root)
        finally:
            await asyncio.to_thread(layout.make)
            await asyncio.to_thread(layout.empty_tmp)
            await toolchains.load()
            await builder.refresh()

    async def make_room(known: Collection[str] | None) -> None:
        if known is not None:
            await in_thread(lambda stop: prune_orphans(layout, known, time.time(), stop))
        await toolchains.make_room()
        await make_room_on((builder, bundles), TREES_BUDGET)
        await builder.refresh()

    return BuildServices(
        builder=builder,
        flasher=FirmwareFlasher(layout, processes, toolchains, bundles.validated),
        firmware=firmware,
        versions=Versions(processes, uv, toolchains.installed),
        toolchains=toolchains.installed,
        layout=layout,
        slots=builder.slots,
        containment=containment,
        make_guest=make_guest,
        make_peer=make_peer,
        set_slots=builder.slots.set_count,
        begin=begin,
        make_room=make_room,
        aclose=processes.aclose,
    )
