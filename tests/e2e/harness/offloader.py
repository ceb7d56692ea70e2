"""A real Home Assistant with both esphome integrations and real devices."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import override

from .any_builder import AnyBuilder
from .device import NEW_VERSION, Device
from .esphome_env import link_toolchain
from .home_assistant import HomeAssistant
from .instance import QUICK_LOOKS, QUICK_RECONNECTS, Instance
from .jobs import DOMAIN
from .processes import ProcessFailedError
from .waiting import PATIENCE, until


class Offloader(HomeAssistant):
    """A Home Assistant with at least one device."""

    def __init__(self, instance: Instance, *devices: Device) -> None:
        super().__init__(instance)
        self.device, *_ = self.devices = devices

    async def open(self, **extra: str) -> None:
        """Boot with all devices on and both integrations set up; ``extra`` is as for ``boot``."""
        for device in self.devices:
            await device.switch_on()
        await self.boot(**extra)
        await self.add_devices()
        await self.set_up()

    async def add_devices(self) -> None:
        """Add the devices to Home Assistant's own esphome integration."""
        for device in self.devices:
            await self.add_device(device)

    async def add_device(self, device: Device) -> None:
        """Add a device to Home Assistant's own esphome integration."""
        where = {"host": "127.0.0.1", "port": device.api_port}
        await self.client.add_entry("esphome", where)

    async def set_up(self) -> None:
        """Add our integration through its config flow."""
        await self.set_up_with(self.instance.esphome.name)

    async def pair(self, builder: AnyBuilder, url: str) -> str:
        """Pair with a builder by the code that it shows; return the id of its entry."""
        where = {"url": url, "verify_ssl": True, "code": await builder.open_pairing()}
        entry = await self.client.add_entry(DOMAIN, where)
        if entry["state"] != "loaded":
            log = self.instance.log[-2000:]
            raise ProcessFailedError(f"{builder.name} did not load:\n{log}")
        entry_id: str = entry["entry_id"]
        return entry_id

    async def until_connected(
        self, entry_id: str, wanted: str = "on", seconds: float = PATIENCE
    ) -> None:
        """Wait until it reports that it is connected to the builder of an entry, or is not."""
        # Where mDNS does not reach, trying again backs off to a minute.
        sensor = await self.entity(f"peer_{entry_id}_connected")

        async def reported() -> bool:
            state = await self.client.state(sensor)
            return state is not None and state["state"] == wanted

        await until(reported, f"{sensor} to be {wanted}", seconds)

    @override
    async def close(self) -> None:
        """Stop Home Assistant and switch the devices off."""
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

    async def device_connected(self) -> None:
        """Wait until the esphome integration is connected to the first device."""

        async def online() -> bool:
            state = await self.client.state(f"switch.{self.device.name}_lamp")
            return state is not None and state["state"] != "unavailable"

        # Reconnecting backs off to a minute where mDNS does not reach.
        await until(online, "the device in Home Assistant")

    async def device_says(self, greeting: str) -> None:
        """Wait until the first device itself reports a greeting."""

        async def reported() -> bool:
            state = await self.client.state(f"sensor.{self.device.name}_greeting")
            return state is not None and state["state"] == greeting

        await until(reported, f"the greeting {greeting!r}")

    async def update_entity(self, configuration: str | None = None) -> str:
        """Return the entity id of our update entity, once it is there and has a state."""
        return await self.entity(configuration or self.device.configuration)


@asynccontextmanager
async def open_offloader(folder: Path) -> AsyncIterator[Offloader]:
    """Open a fresh offloader in ``folder``, with a device on its first version."""
    instance = Instance(folder)
    instance.reset()
    link_toolchain(NEW_VERSION, instance.offload_cache)
    instance.add_component(QUICK_LOOKS)
    instance.add_component(QUICK_RECONNECTS)
    device = Device("kitchen", folder / "kitchen", instance.esphome, is_scripted=True)
    offloader = Offloader(instance, device)
    try:
        await device.flash()
        await offloader.open()
        yield offloader
    finally:
        await offloader.close()
