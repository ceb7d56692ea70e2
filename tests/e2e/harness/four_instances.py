"""Four real Home Assistants: two offloaders and two builders."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from .builder import Builder
from .device import NEW_VERSION, Device
from .esphome_env import link_toolchain
from .instance import QUICK_RECONNECTS, Instance
from .offloader import Offloader
from .scripted import go_on

DEVICES = ("kitchen", "hall", "porch")


class FourInstances:
    """``first`` has three devices and both builders, ``second`` a "kitchen" too and ``alpha``.

    ``second`` and ``beta`` can be found in the network. Labels are those names.
    """

    def __init__(self, folder: Path) -> None:
        """Make fresh configuration folders."""
        self.first = _offloader(folder, "first", *DEVICES, first_number=1)
        self.second = _offloader(folder, "second", "kitchen", first_number=9, discoverable=True)
        self.alpha = _builder(folder, "alpha")
        self.beta = _builder(folder, "beta", discoverable=True)
        self.offloaders = (self.first, self.second)
        self.builders = (self.alpha, self.beta)
        for each in (*self.offloaders, *self.builders):
            link_toolchain(NEW_VERSION, each.instance.offload_cache)
        self.entries: dict[tuple[str, str], str] = {}
        """The offloaders' entries of their builders, by the names of both."""

    async def open(self) -> None:
        """Start and pair all of them."""
        await asyncio.gather(
            *(_open_offloader(offloader) for offloader in self.offloaders),
            *(builder.open(slots=1) for builder in self.builders),
        )
        for name, builder in (("first", self.alpha), ("first", self.beta), ("second", self.alpha)):
            offloader = self._offloader(name)
            entry_id = await offloader.pair(builder, builder.instance.url)
            self.entries[name, builder.name] = entry_id
        await self.connected()

    async def connected(self) -> None:
        """Wait until both offloaders are connected to their builders."""
        for (name, _builder), entry_id in self.entries.items():
            await self._offloader(name).until_connected(entry_id)

    def go_on(self, *signs: str) -> None:
        """Have builds at the builders that talk go on."""
        for builder in self.builders:
            for sign in signs:
                go_on(builder.cache, sign)

    async def close(self) -> None:
        """Stop all of them."""
        await asyncio.gather(*(each.close() for each in (*self.offloaders, *self.builders)))

    def _offloader(self, name: str) -> Offloader:
        return self.first if name == "first" else self.second


async def _open_offloader(offloader: Offloader) -> None:
    for device in offloader.devices:
        await device.flash(NEW_VERSION)
    await offloader.open()


def _offloader(
    folder: Path, name: str, *devices: str, first_number: int, discoverable: bool = False
) -> Offloader:
    instance = Instance(folder / name, name=name, discoverable=discoverable)
    instance.reset()
    instance.add_component(QUICK_RECONNECTS)
    return Offloader(
        instance,
        *(
            Device(
                device,
                folder / f"{name}-{device}",
                instance.esphome,
                number=number,
                is_scripted=True,
            )
            for number, device in enumerate(devices, first_number)
        ),
    )


def _builder(folder: Path, name: str, *, discoverable: bool = False) -> Builder:
    builder = Builder(folder / name, name=name, discoverable=discoverable)
    builder.instance.reset()
    return builder


@asynccontextmanager
async def open_four_instances(folder: Path) -> AsyncIterator[FourInstances]:
    """Open all of them in ``folder``."""
    instances = FourInstances(folder)
    try:
        await instances.open()
        yield instances
    finally:
        await instances.close()
