"""A real Home Assistant that only lends its machine."""

from collections.abc import Mapping
from pathlib import Path
from typing import override

from .any_builder import AnyBuilder
from .client import RequestFailedError
from .home_assistant import HomeAssistant
from .instance import Instance
from .jobs import DOMAIN
from .waiting import until


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
        await self.client.change_options(
            self.entry_id, "lending", accept_builds=True, parallel_builds=slots
        )
        switch = await self.entity("instance_accept_builds")

        async def accepts() -> bool:
            state = await self.client.state(switch)
            return state is not None and state["state"] == "on"

        await until(accepts, "the builder to accept builds")

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
        try:
            await self.client.call("config/device_registry/remove", device_id=guest)
        except RequestFailedError:
            # It may have ended the pairing itself just now.
            if guest in await self.guests():
                raise

    async def accept_builds(self, *, accept: bool = True) -> None:
        """Turn the switch of that name."""
        switch = await self.entity("instance_accept_builds")
        await self.client.service(
            "switch.turn_on" if accept else "switch.turn_off", {"entity_id": switch}
        )
