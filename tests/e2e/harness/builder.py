"""A real Home Assistant that only lends its machine."""

from pathlib import Path

from .client import Json
from .home_assistant import HomeAssistant
from .instance import Instance
from .jobs import DOMAIN
from .processes import mentioning


class Builder(HomeAssistant):
    """A builder without an ESPHome folder and without devices of its own."""

    def __init__(self, folder: Path, *, name: str = "builder", discoverable: bool = False) -> None:
        """Use ``folder``; ``name`` is the name of its home, and so its label."""
        super().__init__(Instance(folder, name=name, discoverable=discoverable))
        self.name = name

    async def open(self, *, slots: int = 2, **extra: str) -> None:
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
    def builds(self) -> str:
        """The folder of all that guests' builds write; each of their processes mentions it."""
        return str(self.instance.offload_cache / "guests")

    def build_processes(self) -> dict[int, str]:
        """Return the processes of guests' builds, also those that tried to escape."""
        return mentioning(self.builds)

    def compilers(self) -> set[int]:
        """Return the ids of the processes of builds, without those that escape on purpose."""
        return {pid for pid, command in self.build_processes().items() if "escapee" not in command}

    async def lend(self, *, slots: int = 2) -> None:
        """Switch lending on in the options and return when it is on."""
        await self.client.change_options(self.entry_id, "lending", lend=True, parallel_builds=slots)
        # The switch that pauses it exists only meanwhile.
        await self.entity("lending")

    async def open_pairing(self) -> str:
        """Open the pairing window and return the code."""
        answer = await self.client.service(f"{DOMAIN}.open_pairing", response=True)
        code: str = answer["code"]
        return code

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
