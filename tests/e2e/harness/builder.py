"""A real Home Assistant that only lends its machine."""

from collections.abc import Mapping
from pathlib import Path
from typing import override

from .any_builder import AnyBuilder
from .home_assistant import HomeAssistant
from .instance import Instance
from .jobs import DOMAIN


class Builder(HomeAssistant, AnyBuilder):
    """A builder without an ESPHome folder and without devices of its own."""

    def __init__(self, folder: Path, *, name: str = "builder", discoverable: bool = False) -> None:
        """Use ``folder``; ``name`` is the name of its home, and so its label."""
        super().__init__(Instance(folder, name=name, discoverable=discoverable))
        self.name = name

    @override
    async def open(self, *, slots: int = 1, **extra: str) -> None:
        """Boot, set up and lend; ``extra`` is as for ``boot``."""
        await self.boot(**extra)
        # It listens on this address alone, which Home Assistant cannot find out.
        await self.client.call("config/core/update", internal_url=self.instance.url)
        await self.set_up()
        await self.lend(slots=slots)

    async def set_up(self) -> None:
        """Add our integration through its config flow, without a folder."""
        await self.set_up_with("")

    @property
    @override
    def url(self) -> str:
        return self.instance.url

    @property
    @override
    def port(self) -> int:
        return self.instance.port

    @property
    @override
    def pid(self) -> int:
        return self.instance.pid

    @property
    @override
    def running(self) -> bool:
        return self.instance.running

    @property
    @override
    def cache(self) -> Path:
        return self.instance.offload_cache

    async def lend(self, *, slots: int = 1) -> None:
        """Switch lending on in the options and return when it is on."""
        await self.client.change_options(self.entry_id, "lending", lend=True, parallel_builds=slots)
        # The switch that pauses it exists only meanwhile.
        await self.entity("lending")

    @override
    async def open_pairing(self) -> str:
        answer = await self.client.service(f"{DOMAIN}.open_pairing", response=True)
        code: str = answer["code"]
        return code

    @override
    async def guests(self) -> Mapping[str, str]:
        # Each is a device.
        return {
            device["id"]: device["name"]
            for device in await self.client.call("config/device_registry/list")
            if any(which[:1] == [DOMAIN] and "guest" in which[1] for which in device["identifiers"])
        }

    @override
    async def remove_guest(self, guest: str) -> None:
        await self.client.call("config/device_registry/remove", device_id=guest)

    async def pause(self, *, paused: bool = True) -> None:
        """Turn the switch that pauses lending."""
        switch = await self.entity("lending")
        await self.client.service(
            "switch.turn_off" if paused else "switch.turn_on", {"entity_id": switch}
        )
