"""A real Home Assistant with a device, and the builder that it is paired with."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from .any_builder import AnyBuilder
from .builder import Builder
from .client import Json
from .device import NEW_VERSION, Device
from .esphome_env import link_toolchain
from .instance import QUICK_RECONNECTS, Instance
from .jobs import DOMAIN
from .offloader import Offloader
from .relay import Relay


class Pair[B: AnyBuilder]:
    """Both instances; ``entry_id`` is the offloader's entry for the builder.

    ``address`` is what is typed into a form that asks where the builder is.
    """

    def __init__(
        self,
        folder: Path,
        builder: B,
        *,
        home: str = "offloader",
        devices: Sequence[str] = ("kitchen",),
        is_scripted: bool = False,
    ) -> None:
        """Make a fresh offloader in ``folder`` with these devices; they are as ``is_scripted``.

        ``home`` is its name.
        """
        instance = Instance(folder / "offloader", name=home)
        instance.reset()
        self.offloader = Offloader(
            instance,
            *(
                Device(
                    name, folder / name, instance.esphome, number=number, is_scripted=is_scripted
                )
                for number, name in enumerate(devices, 1)
            ),
        )
        self.builder = builder
        self.address: dict[str, Json] = {}
        self.entry_id = ""
        self.pin_sha256 = ""

    async def introduce(self, url: str) -> None:
        """Pair them through the offloader's config flow, with the code that the builder shows."""
        self.address = {"url": url, "verify_ssl": True}
        self.entry_id = await self.offloader.pair(self.builder, url)
        self.pin_sha256 = self.builder.identity.pin_sha256

    async def find_again(self) -> bool:
        """Return whether they are paired, also when it was not done with ``introduce``."""
        for entry in await self.offloader.client.get("config/config_entries/entry"):
            if entry["domain"] == DOMAIN and entry["title"] == self.builder.name:
                self.entry_id = entry["entry_id"]
                return True
        return False

    async def move(self, url: str) -> None:
        """Change the address of the builder, as the offloader's owner does."""
        path = "config/config_entries/flow"
        flow = await self.offloader.client.post(
            path, {"handler": DOMAIN, "entry_id": self.entry_id}
        )
        self.address = {"url": url, "verify_ssl": True}
        await self.offloader.client.finish_flow(flow["flow_id"], self.address)
        await self.connected()

    async def connected(self) -> None:
        """Wait until the offloader reports that it is connected to the builder."""
        await self.offloader.until_connected(self.entry_id)

    async def disconnected(self) -> None:
        """Wait until the offloader reports that it has lost the builder."""
        await self.offloader.until_connected(self.entry_id, "off")

    async def reconnect(self) -> None:
        """Have the offloader connect now; by itself it waits longer each time."""
        await self.offloader.client.reload(self.entry_id)
        await self.connected()

    async def close(self) -> None:
        """Stop both."""
        try:
            await self.offloader.close()
        finally:
            await self.builder.close()


def lending_builder(folder: Path) -> Builder:
    """Make a fresh Home Assistant in ``folder`` that will lend its machine."""
    builder = Builder(folder)
    builder.instance.reset()
    return builder


@asynccontextmanager
async def open_pair[B: AnyBuilder](
    folder: Path, builder: B
) -> AsyncIterator[tuple[Pair[B], Relay]]:
    """Open a fresh offloader in ``folder`` and its builder, all set up, with a relay in between."""
    pair = Pair(folder, builder, is_scripted=True)
    pair.offloader.instance.add_component(QUICK_RECONNECTS)
    for cache in (pair.offloader.instance.offload_cache, builder.cache):
        link_toolchain(NEW_VERSION, cache)
    relay = Relay(lambda: builder.port)
    try:
        await pair.offloader.device.flash()
        await pair.offloader.open()
        await builder.open()
        await relay.restore()
        await pair.introduce(relay.url)
        await pair.connected()
        yield pair, relay
    finally:
        await relay.cut()
        await pair.close()
