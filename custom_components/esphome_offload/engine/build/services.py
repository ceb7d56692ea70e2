"""The build services of one instance: all that compiles and flashes on this machine."""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
import sys
import time

from ..const import GIB
from ..tasks import BackgroundTasks
from ..threads import in_thread
from .bundle import Bundles
from .cache.eviction import TREES_BUDGET, make_room
from .cache.fetched import fetched_sources
from .cache.layout import CacheLayout
from .cache.orphans import prune_orphans
from .compiler_cache import CompilerCache, CompilerCaches
from .config_hash import ConfigHashes
from .firmware import FirmwareStore
from .flasher import FirmwareFlasher
from .local import LocalBuilder
from .model import Builder
from .origins import Origins
from .process.containment import GuestContainment
from .process.machine_containment import Degree, containment_here
from .process.processes import Processes
from .process.user_processes import kill_all_of
from .process.warm import WarmPythons
from .toolchain.toolchains import Toolchains
from .toolchain.uv import Uv
from .toolchain.versions import Versions

_STOP_TIMEOUT = 10.0
"""Seconds for a thread to notice that it is no longer wanted; a slow disk may hold it."""


@dataclass(frozen=True, slots=True)
class GuestBuildServices:
    """The build services of one guest; all that they write is below ``layout``."""

    layout: CacheLayout
    builder: Builder
    firmware: FirmwareStore


class BuildServices:
    """The builder, the flasher and what they share; all that they write is below ``layout``.

    ``builder.slots`` are shared by our own builds and those of guests; ``containment`` says how
    far the latter are kept apart. Every process is one of ``processes``.
    """

    def __init__(
        self, layout: CacheLayout, private: tuple[Path, ...], around: Path | None = None
    ) -> None:
        """Put the parts together; blocks.

        ``private``: folders that builds of guests cannot see, except for their own in ``layout``.
        ``around``: the folder whose files our own configurations may use on other machines.
        """
        self.layout = layout
        self._private = private
        self.processes = Processes(layout.lease, WarmPythons())
        self._background = BackgroundTasks()
        uv = Uv(layout, (sys.executable, "-m", "uv"), Path(sys.executable))
        self.toolchains = Toolchains(layout, self.processes, uv)
        self.versions = Versions(self.processes, uv, self.toolchains.installed)
        self.firmware = FirmwareStore(layout)
        self.origins = Origins(layout, self.firmware)
        self.compiler_caches = CompilerCaches()
        self.builder = LocalBuilder(
            layout,
            self.processes,
            self.toolchains,
            self.firmware,
            compiler_cache=CompilerCache(self.compiler_caches, layout, guest=False),
        )
        self.bundles = Bundles(layout, self.processes, self.toolchains, around=around)
        self.flasher = FirmwareFlasher(layout, self.processes, self.toolchains)
        self.config_hashes = ConfigHashes(layout, self.processes, self.toolchains, around)
        self.containment = containment_here(layout.root, private)

    async def start(self) -> None:
        """Wait for the end of what a killed Home Assistant left running, then read the cache."""
        try:
            await self.processes.wait_for_leftovers()
        finally:
            await asyncio.to_thread(self.layout.make)
            await asyncio.to_thread(self.layout.empty_tmp)
            await asyncio.to_thread(self.layout.share)
            self._background.start(in_thread(self.layout.empty_trash), "empty the trash")
            await self.toolchains.load()
            await self.builder.refresh()

    def apply(self, label: str, slots: int, compiler_cache_gib: int) -> None:
        """Set what this machine is called, how much builds at once, and how large caches may get."""
        self.builder.label = label
        self.builder.slots.set_count(slots)
        self.compiler_caches.limit = compiler_cache_gib * GIB

    async def make_guest(self, layout: CacheLayout) -> GuestBuildServices:
        """Make what builds for a guest, with the toolchains and slots of this machine."""
        firmware = FirmwareStore(layout)
        await asyncio.to_thread(layout.make)
        containment = await self._contain(layout)
        builder = LocalBuilder(
            layout,
            self.processes,
            self.toolchains,
            firmware,
            slots=self.builder.slots,
            containment=containment,
            compiler_cache=CompilerCache(self.compiler_caches, layout, guest=True),
            # A guest's connection counts as lost when a command takes too long.
            background=self._background,
        )
        await builder.refresh()
        return GuestBuildServices(layout, builder, firmware)

    async def _contain(self, layout: CacheLayout) -> GuestContainment | None:
        """Return how builds of a guest are contained, none of which runs yet."""
        here = self.containment
        if here.degree is Degree.UNCONTAINED:
            return None
        containment = GuestContainment(
            layout, self._private, by_landlock=here.abi > 0, by_users=here.guest_users
        )
        if (user := await asyncio.to_thread(lambda: containment.user)) is not None:
            # Of an earlier run, or of a former guest that had this user, whatever ended its guards.
            await kill_all_of(user, self.processes)
            await asyncio.to_thread(containment.clean_up)
        return containment

    async def make_room(self, known: Collection[str] | None) -> None:
        """Remove what is beyond the budgets, and what belongs to no ``known`` configuration.

        None: it is not known which configurations there are.
        """
        if known is not None:
            in_use = self.firmware.in_use()
            await in_thread(
                lambda stop: prune_orphans(self.layout, known, time.time(), stop, in_use)
            )
        await self.toolchains.make_room()
        fetched = await asyncio.to_thread(fetched_sources, self.layout)
        await make_room((self.builder, self.bundles, self.firmware, *fetched), TREES_BUDGET)
        await self.builder.refresh()

    async def aclose(self) -> None:
        """End all processes, and what runs in the background."""
        await asyncio.gather(self.processes.aclose(), self._background.cancel(_STOP_TIMEOUT))
