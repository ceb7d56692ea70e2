"""A real Home Assistant with a device, and the builder that it is paired with."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

from custom_components.esphome_offload.engine.protocol.identity import Identity

from .builder import Builder
from .client import Json
from .device import Device
from .instance import Instance
from .jobs import DOMAIN
from .offloader import Offloader
from .processes import ProcessFailedError
from .relay import Relay
from .waiting import until
from .workspace import REPOSITORY


class AnyBuilder(Protocol):
    """A Home Assistant that lends its machine, or a standalone builder."""

    @property
    def identity(self) -> Identity:
        """Its key pair."""

    async def open_pairing(self) -> str:
        """Open the pairing window and return the code."""

    async def close(self) -> None:
        """Stop it."""


class PairOf[B: AnyBuilder]:
    """Both instances; ``entry_id`` is the offloader's entry for the builder.

    ``address`` is what is typed into a form that asks where the builder is.
    """

    def __init__(self, folder: Path, builder: B, *, devices: Sequence[str] = ("kitchen",)) -> None:
        """Make a fresh offloader in ``folder``; ``devices`` are the names of its devices."""
        instance = Instance(folder / "offloader", name="offloader")
        instance.reset()
        self.offloader = Offloader(
            instance,
            *(
                Device(name, folder / name, instance.esphome, number=number)
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
        code = await self.builder.open_pairing()
        entry = await self.offloader.client.add_entry(DOMAIN, {**self.address, "code": code})
        if entry["state"] != "loaded":
            log = self.offloader.instance.log[-2000:]
            raise ProcessFailedError(f"the peer did not load:\n{log}")
        self.entry_id = entry["entry_id"]
        self.pin_sha256 = self.builder.identity.pin_sha256

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
        # Where mDNS does not reach, trying again backs off to a minute.
        await self._until_connected("on")

    async def disconnected(self) -> None:
        """Wait until the offloader reports that it has lost the builder."""
        await self._until_connected("off")

    async def reconnect(self) -> None:
        """Have the offloader connect now; by itself it waits longer each time."""
        await self.offloader.client.reload(self.entry_id)
        await self.connected()

    async def _until_connected(self, wanted: str) -> None:
        sensor = await self.offloader.entity(f"peer_{self.entry_id}_connected")

        async def reported() -> bool:
            state = await self.offloader.client.state(sensor)
            return state is not None and state["state"] == wanted

        await until(reported, f"the connection from offloader to builder to be {wanted}")

    async def close(self) -> None:
        """Stop both."""
        try:
            await self.offloader.close()
        finally:
            await self.builder.close()


class Pair(PairOf[Builder]):
    """A pair whose builder is a Home Assistant too."""

    def __init__(self, folder: Path, *, devices: Sequence[str] = ("kitchen",)) -> None:
        builder = Builder(folder / "builder")
        builder.instance.reset()
        super().__init__(folder, builder, devices=devices)


@asynccontextmanager
async def open_pair(folder: Path) -> AsyncIterator[tuple[Pair, Relay]]:
    """Open a fresh pair in ``folder``, all set up, with a relay in between."""
    pair = Pair(folder)
    relay = Relay(lambda: pair.builder.instance.port)
    pair.builder.instance.add_component(REPOSITORY / "script" / "loop_probe")
    pair.builder.instance.add_component(Path(__file__).with_name("lying_builder"))
    try:
        await pair.offloader.device.flash()
        await pair.offloader.open()
        await pair.builder.open()
        await relay.restore()
        await pair.introduce(relay.url)
        await pair.connected()
        yield pair, relay
    finally:
        await relay.cut()
        await pair.close()
