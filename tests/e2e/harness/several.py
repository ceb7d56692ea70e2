"""Four real Home Assistants: two with devices, two that lend themselves."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from .device import NEW_VERSION, Device
from .home import Home, until
from .instance import Instance
from .jobs import DOMAIN
from .processes import ProcessFailedError
from .workshop import BuildServices

PI_DEVICES = ("kitchen", "hall", "porch")


class Several:
    """Pi has three devices and both builders; shed has a "kitchen" too, and the workshop.

    Shed and attic can be found in the network.
    """

    def __init__(self, folder: Path) -> None:
        """Make fresh configuration folders; nothing is started yet."""
        self.pi = _home(folder, "pi", *PI_DEVICES, first_number=1)
        self.shed = _home(folder, "shed", "kitchen", first_number=9, discoverable=True)
        self.workshop = _builder(folder, "workshop")
        self.attic = _builder(folder, "attic", discoverable=True)
        self.builders = (self.workshop, self.attic)
        self.entries: dict[tuple[str, str], str] = {}

    async def open(self) -> None:
        """Start and pair all of them."""
        await asyncio.gather(
            *(self._open_home(home) for home in (self.pi, self.shed)),
            *(self._open_builder(builder) for builder in self.builders),
        )
        for home, name, builder in (
            (self.pi, "pi", self.workshop),
            (self.pi, "pi", self.attic),
            (self.shed, "shed", self.workshop),
        ):
            where = {"url": builder.instance.url, "verify_ssl": True}
            code = await builder.open_pairing()
            entry = await home.client.add_entry(DOMAIN, {**where, "code": code})
            if entry["state"] != "loaded":
                raise ProcessFailedError(f"{builder.name} did not load:\n{home.instance.log}")
            self.entries[name, builder.name] = entry["entry_id"]
        await self.connected()

    async def connected(self) -> None:
        """Wait until both homes are connected to their builders."""
        for (name, builder), entry_id in self.entries.items():
            home = self.pi if name == "pi" else self.shed
            await connected(home, entry_id, f"the connection from {name} to {builder}")

    async def close(self) -> None:
        """Stop all of it."""
        await asyncio.gather(
            *(each.close() for each in (self.pi, self.shed, *self.builders)),
        )

    async def _open_home(self, home: Home) -> None:
        for device in home.devices:
            await device.flash(NEW_VERSION)
            await device.switch_on()
        await home.boot()
        await home.adopt()
        await home.set_up()

    async def _open_builder(self, builder: BuildServices) -> None:
        await builder.boot()
        # It listens on this address alone, and Home Assistant does not know that.
        await builder.client.call("config/core/update", internal_url=builder.instance.url)
        await builder.set_up()
        await builder.lend(slots=1)


async def connected(home: Home, entry_id: str, what: str) -> None:
    """Wait until a home says that it is connected to a builder."""
    sensor = await home.entity(f"peer_{entry_id}_connected")

    async def so() -> bool:
        state = await home.client.state(sensor)
        return state is not None and state["state"] == "on"

    await until(so, what, 150)


def _home(
    folder: Path, name: str, *devices: str, first_number: int, discoverable: bool = False
) -> Home:
    instance = Instance(folder / name, name=name, discoverable=discoverable)
    instance.reset()
    return Home(
        instance,
        *(
            Device(device, folder / f"{name}-{device}", instance.esphome, number=number)
            for number, device in enumerate(devices, first_number)
        ),
    )


def _builder(folder: Path, name: str, *, discoverable: bool = False) -> BuildServices:
    builder = BuildServices(folder / name, name=name, discoverable=discoverable)
    builder.instance.reset()
    return builder


@asynccontextmanager
async def open_several(folder: Path) -> AsyncIterator[Several]:
    """Open all of them in ``folder``."""
    several = Several(folder)
    try:
        await several.open()
        yield several
    finally:
        await several.close()
