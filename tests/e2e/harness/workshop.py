"""A workshop: a real Home Assistant that only lends its machine."""

from pathlib import Path

import aiohttp

from custom_components.esphome_offload.engine.client.dial import (
    Caller,
    DialError,
    DialFailure,
    dial,
)
from custom_components.esphome_offload.engine.protocol.hello import Hello, Introduction
from custom_components.esphome_offload.engine.protocol.identity import Identity
from custom_components.esphome_offload.engine.protocol.negotiation import own_offer

from .client import Json
from .home import Household, until
from .instance import Instance
from .jobs import DOMAIN
from .processes import mentioning


class BuildServices(Household):
    """A builder without an ESPHome folder and without devices of its own."""

    def __init__(self, folder: Path, *, name: str = "workshop", discoverable: bool = False) -> None:
        """Use ``folder``; its instance is called ``name``."""
        super().__init__(Instance(folder, name=name, discoverable=discoverable))
        self.name = name

    @property
    def builds(self) -> str:
        """The folder of all that builds for guests write; found about each of their processes."""
        return str(self.instance.offload_cache / "guests")

    def at_work(self) -> dict[int, str]:
        """Return the processes of builds for guests, also those that tried to get away."""
        return mentioning(self.builds)

    def compilers(self) -> set[int]:
        """Return the ids of the processes of builds, without what a build let loose on purpose."""
        return {pid for pid, command in self.at_work().items() if "escapee" not in command}

    async def set_up(self) -> None:
        """Add our integration through its config flow, without a folder."""
        await self.set_up_with("")

    async def lend(self, *, slots: int = 2) -> None:
        """Switch lending on in the options and return when it is."""
        await self.client.change_options(self.entry_id, "lending", lend=True, parallel_builds=slots)
        await until(self.info, f"{self.name} to lend itself")

    async def open_pairing(self) -> str:
        """Open the pairing window and return the code."""
        answer = await self.client.service(f"{DOMAIN}.open_pairing", response=True)
        code: str = answer["code"]
        return code

    async def info(self) -> Hello | None:
        """Return the first message of its link, None while it is not lent."""
        offer = Introduction(own_offer("0.1.0"), "visitor")
        async with aiohttp.ClientSession() as http:
            try:
                async with dial(
                    http, self.instance.url, Caller(Identity.generate(), offer)
                ) as answered:
                    return answered.hello
            except DialError as error:
                if error.failure is DialFailure.NOT_LENDING:
                    return None
                raise

    async def guests(self) -> list[Json]:
        """Return the devices that stand for its guests."""
        return [
            device
            for device in await self.client.call("config/device_registry/list")
            if any(which[:1] == [DOMAIN] and "guest" in which[1] for which in device["identifiers"])
        ]

    async def remove_guest(self, device_id: str) -> None:
        """Remove a guest as its owner does: by deleting its device."""
        await self.client.call("config/device_registry/remove", device_id=device_id)

    async def pause(self, *, paused: bool = True) -> None:
        """Turn the switch that pauses lending."""
        switch = await self.entity("lending")
        await self.client.service(
            "switch.turn_off" if paused else "switch.turn_on", {"entity_id": switch}
        )
