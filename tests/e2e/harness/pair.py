"""Two real Home Assistants that are paired: "pi" has the device, "workshop" builds for it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from .device import Device
from .home import Home, until
from .instance import Instance
from .jobs import DOMAIN
from .relay import Relay
from .workshop import Workshop


class Pair:
    """Both instances; ``url`` is where the pi reaches the workshop. Made by ``open_pair``."""

    def __init__(self, folder: Path) -> None:
        """Make fresh configuration folders; nothing is started yet."""
        instance = Instance(folder / "pi", name="pi")
        instance.reset()
        device = Device("kitchen", folder / "kitchen", instance.esphome)
        self.pi = Home(instance, device)
        self.workshop = Workshop(folder / "workshop")
        self.workshop.instance.reset()
        self.entry_id = ""
        self.pin_sha256 = ""

    async def introduce(self, url: str) -> None:
        """Pair them through the config flow on the pi, with the code that the workshop shows."""
        code = await self.workshop.open_pairing()
        entry = await self.pi.client.add_entry(
            DOMAIN, {"url": url, "verify_ssl": True, "code": code}
        )
        self.entry_id = entry["entry_id"]
        self.pin_sha256 = (await self.workshop.info())["pin_sha256"]

    async def connected(self) -> None:
        """Wait until the pi's entry for the workshop is loaded and has its connection."""

        async def linked() -> bool:
            return await self._state() == "loaded"

        await until(linked, "the connection from pi to workshop")

    async def _state(self) -> str | None:
        entries = await self.pi.client.call("config_entries/get", domain=DOMAIN)
        states = [entry["state"] for entry in entries if entry["entry_id"] == self.entry_id]
        return states[0] if states else None

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
