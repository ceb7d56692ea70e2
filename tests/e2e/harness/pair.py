"""Two real Home Assistants that are paired: "pi" has the device, "workshop" builds for it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from .client import Json
from .device import Device
from .home import Home, until
from .instance import Instance
from .jobs import DOMAIN
from .processes import ProcessFailedError
from .relay import Relay
from .workshop import BuildServices


class Pair:
    """Both instances; ``entry_id`` is the pi's entry for the workshop. Made by ``open_pair``.

    ``address`` is what is typed into a form that asks where the workshop is.
    """

    def __init__(self, folder: Path) -> None:
        """Make fresh configuration folders; nothing is started yet."""
        instance = Instance(folder / "pi", name="pi")
        instance.reset()
        device = Device("kitchen", folder / "kitchen", instance.esphome)
        self.pi = Home(instance, device)
        self.workshop = BuildServices(folder / "workshop")
        self.workshop.instance.reset()
        self.address: dict[str, Json] = {}
        self.entry_id = ""
        self.pin_sha256 = ""

    async def introduce(self, url: str) -> None:
        """Pair them through the config flow on the pi, with the code that the workshop shows."""
        self.address = {"url": url, "verify_ssl": True}
        code = await self.workshop.open_pairing()
        entry = await self.pi.client.add_entry(DOMAIN, {**self.address, "code": code})
        if entry["state"] != "loaded":
            raise ProcessFailedError(f"the peer did not load:\n{self.pi.instance.log[-2000:]}")
        self.entry_id = entry["entry_id"]
        self.pin_sha256 = (await self.workshop.info()).pin_sha256

    async def connected(self) -> None:
        """Wait until the pi says that it is connected to the workshop."""
        # Where nothing announces itself, trying again backs off to a minute.
        await self._until_connected("on", 150)

    async def disconnected(self) -> None:
        """Wait until the pi says that it has lost the workshop."""
        await self._until_connected("off", 60)

    async def _until_connected(self, wanted: str, seconds: float) -> None:
        sensor = await self.pi.entity(f"peer_{self.entry_id}_connected")

        async def so() -> bool:
            state = await self.pi.client.state(sensor)
            return state is not None and state["state"] == wanted

        await until(so, f"the connection from pi to workshop to be {wanted}", seconds)

    async def close(self) -> None:
        """Stop all of it."""
        try:
            await self.pi.close()
        finally:
            await self.workshop.close()


@asynccontextmanager
async def open_pair(folder: Path) -> AsyncIterator[tuple[Pair, Relay]]:
    """Open a fresh pair in ``folder``, all set up, with a relay in between."""
    pair = Pair(folder)
    relay = Relay(lambda: pair.workshop.instance.port)
    try:
        await pair.pi.device.flash()
        await pair.pi.device.switch_on()
        await pair.pi.boot()
        await pair.pi.adopt()
        await pair.pi.set_up()
        await pair.workshop.boot()
        await pair.workshop.set_up()
        await pair.workshop.lend()
        await relay.restore()
        await pair.introduce(relay.url)
        await pair.connected()
        yield pair, relay
    finally:
        await relay.cut()
        await pair.close()
