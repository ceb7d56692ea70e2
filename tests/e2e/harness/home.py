"""A home: a real Home Assistant with both esphome integrations, and a real device in it.

``Household`` is what it has in common with an instance that has no device.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
import time
from typing import override

from .client import Client
from .device import Device
from .instance import Instance
from .jobs import DOMAIN
from .processes import ProcessFailedError

# Noticing a new file takes up to half a minute by specification, a busy machine needs longer.
_PATIENCE = 90.0


class Household:
    """One instance and one client of its owner; ``entry_id`` is our entry "this instance"."""

    def __init__(self, instance: Instance) -> None:
        """Nothing is started yet."""
        self.instance = instance
        self.entry_id = ""
        self._client: Client | None = None

    @property
    def client(self) -> Client:
        """The session of the owner."""
        assert self._client is not None
        return self._client

    async def boot(self, **extra: str) -> None:
        """Start Home Assistant and log in; ``extra`` goes into its environment."""
        await self.instance.start(**extra)
        self._client = client = await self.instance.client()

        async def running() -> bool:
            return bool((await client.get("config"))["state"] == "RUNNING")

        # It answers requests before its integrations are set up.
        await until(running, "all integrations of Home Assistant")
        await until(self._client.running, "Home Assistant to be set up", 120)

    async def set_up_with(self, config_dir: str) -> None:
        """Add "this instance" through its config flow."""
        entry = await self.client.add_entry(DOMAIN, {"config_dir": config_dir})
        if entry["state"] != "loaded":
            raise ProcessFailedError(f"our integration did not load:\n{self.instance.log[-2000:]}")
        self.entry_id = entry["entry_id"]

    async def entity(self, unique_id: str) -> str:
        """Return the id of an entity of ours, once it is there and has a state."""

        async def look() -> str | None:
            for entity in await self.client.call("config/entity_registry/list"):
                if entity["platform"] == DOMAIN and entity["unique_id"] == unique_id:
                    entity_id: str = entity["entity_id"]
                    state = await self.client.state(entity_id)
                    if state is not None and state["state"] != "unavailable":
                        return entity_id
            return None

        return await until(look, f"an entity for {unique_id}")

    async def hang_up(self) -> None:
        """Close the session."""
        if self._client is not None:
            await self._client.close()
            self._client = None

    async def crash(self) -> None:
        """End Home Assistant by SIGKILL."""
        await self.hang_up()
        await self.instance.kill()

    async def close(self) -> None:
        """Stop all of it."""
        await self.hang_up()
        await self.instance.stop()


class Home(Household):
    """A household with a device, perhaps more of them. Made by ``open_home``."""

    def __init__(self, instance: Instance, device: Device, *others: Device) -> None:
        """Nothing is started yet."""
        super().__init__(instance)
        self.device = device
        self.devices = (device, *others)

    async def adopt(self) -> None:
        """Add the devices to Home Assistant's own esphome integration."""
        for device in self.devices:
            where = {"host": "127.0.0.1", "port": device.api_port}
            await self.client.add_entry("esphome", where)

    async def set_up(self) -> None:
        """Add our integration through its config flow."""
        await self.set_up_with(self.instance.esphome.name)

    @override
    async def close(self) -> None:
        """Stop all of it."""
        await super().close()
        for device in self.devices:
            await device.switch_off()

    async def reported_version(self) -> str | None:
        """Return the ESPHome version that Home Assistant's own esphome integration reports."""
        for device in await self.client.call("config/device_registry/list"):
            if ["mac", self.device.mac] in device["connections"] and device["sw_version"]:
                version: str = device["sw_version"].split(" ")[0]
                return version
        return None

    async def update_entity(self, configuration: str | None = None) -> str:
        """Return the entity id of our update entity, once it is there and has a state."""
        return await self.entity(configuration or self.device.configuration)


async def until[T](
    look: Callable[[], Awaitable[T | None]], what: str, seconds: float = _PATIENCE
) -> T:
    """Return what the coroutine function ``look`` returns once that is not None or False."""
    deadline = time.monotonic() + seconds
    while True:
        found = await look()
        if found is not None and found is not False:
            return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds:.0f} s for {what}")
        await asyncio.sleep(0.1)


@asynccontextmanager
async def open_home(folder: Path, device_name: str = "kitchen") -> AsyncIterator[Home]:
    """Open a fresh home in ``folder``: a device on its first version, all integrations set up."""
    instance = Instance(folder)
    instance.reset()
    device = Device(device_name, folder / device_name, instance.esphome)
    home = Home(instance, device)
    try:
        await device.flash()
        await device.switch_on()
        await home.boot()
        await home.adopt()
        await home.set_up()
        yield home
    finally:
        await home.close()
