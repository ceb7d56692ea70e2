"""The instances: an offloader with two devices, a Home Assistant that lends, a standalone builder."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
import json
from pathlib import Path

from custom_components.esphome_offload.engine.build.cache.layout import CacheLayout
from tests.e2e.harness import ports
from tests.e2e.harness.any_builder import AnyBuilder
from tests.e2e.harness.builder import Builder
from tests.e2e.harness.client import Client
from tests.e2e.harness.device import NEW_VERSION, Device
from tests.e2e.harness.esphome_env import copy_compiled, link_toolchain
from tests.e2e.harness.instance import QUICK_LOOKS, QUICK_RECONNECTS, Instance
from tests.e2e.harness.jobs import cancel_all
from tests.e2e.harness.offloader import Offloader
from tests.e2e.harness.processes import at_work
from tests.e2e.harness.relay import Relay
from tests.e2e.harness.standalone import StandaloneBuilder
from tests.e2e.harness.waiting import until

from .probe import Probe

SOAK_PROBE = Path(__file__).with_name("soak_probe")
_EDIT = """\
globals:
  - id: edit
    type: int
    initial_value: "{number}"
"""


class SoakDevice(Device):
    """A device whose configuration is edited without touching that of others."""

    def edit(self, number: int) -> None:
        """Change something that is compiled."""
        self.components = _EDIT.format(number=number)
        self.configure()


class Fleet:
    """All instances, paired. Each has a probe, by its name."""

    def __init__(self, folder: Path, *, again: bool) -> None:
        """Make fresh configuration folders in ``folder``, or use those of the run before ``again``."""
        self._known = folder / "fleet.json"
        self._again = again and self._known.exists()
        instance = Instance(folder / "offloader", name="offloader")
        if not self._again:
            self._known.unlink(missing_ok=True)
            instance.reset()
            for component in (QUICK_RECONNECTS, QUICK_LOOKS, SOAK_PROBE):
                instance.add_component(component)
        self.devices = tuple(
            SoakDevice(name, folder / name, instance.esphome, number=number)
            for number, name in enumerate(("kitchen", "hall"), 1)
        )
        self.offloader = Offloader(instance, *self.devices)
        self.attic = Builder(folder / "attic", name="attic")
        self.cellar = StandaloneBuilder(folder / "cellar", name="cellar")
        self.builders: dict[str, AnyBuilder] = {"attic": self.attic, "cellar": self.cellar}
        self.relays = {name: _relay(each) for name, each in self.builders.items()}
        self.entries: dict[str, str] = {}
        """The offloader's entries of its builders, by their names."""
        self.probes = {
            "offloader": Probe(
                "offloader", folder / "hook-offloader", instance.folder / "home-assistant.log"
            ),
            "attic": Probe(
                "attic", folder / "hook-attic", self.attic.instance.folder / "home-assistant.log"
            ),
            "cellar": Probe("cellar", folder / "hook-cellar", self.cellar.folder / "builder.log"),
        }
        if not self._again:
            self.attic.instance.reset()
            self.cellar.reset()
            for cache in self.caches.values():
                link_toolchain(NEW_VERSION, cache)

    @property
    def caches(self) -> dict[str, Path]:
        """The caches of the instances."""
        return {
            "offloader": self.offloader.instance.offload_cache,
            "attic": self.attic.cache,
            "cellar": self.cellar.cache,
        }

    @property
    def ends(self) -> Path:
        """The file of the ends of all jobs."""
        return self.offloader.instance.config / "job_ends"

    @property
    def client(self) -> Client:
        """The session of the offloader's owner."""
        return self.offloader.client

    def pid(self, name: str) -> int:
        """Return the id of the process of an instance or a device."""
        if name == "offloader":
            return self.offloader.instance.pid
        if name in self.builders:
            return self.builders[name].pid
        return self.device(name).pid

    def device(self, name: str) -> SoakDevice:
        """Return a device."""
        return next(each for each in self.devices if each.name == name)

    async def open(self) -> None:
        """Start and pair all of them."""
        if self._again:
            await self._boot_again()
        else:
            await self._open_fresh()
        await self.settle()

    def _save(self) -> None:
        known = {
            "this": [self.offloader.entry_id, self.attic.entry_id],
            "entries": self.entries,
            "ports": {name: relay.port for name, relay in self.relays.items()},
        }
        self._known.write_text(json.dumps(known))

    async def _open_fresh(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._open_home())
            group.create_task(self.attic.open(slots=1, **self.probes["attic"].environment))
            group.create_task(self.cellar.open(**self.probes["cellar"].environment))
        for name in self.builders:
            await self.relays[name].restore()
            await self.pair(name)

    async def _open_home(self) -> None:
        for device in self.devices:
            device.edit(0)
            await device.flash(NEW_VERSION)
        copy_compiled(CacheLayout(self.caches["offloader"]))
        await self.offloader.open(**self.probes["offloader"].environment)

    async def _boot_again(self) -> None:
        known = json.loads(self._known.read_text())
        self.offloader.entry_id, self.attic.entry_id = known["this"]
        self.entries = known["entries"]
        for name, port in known["ports"].items():
            (self.relays[name].port,) = ports.pick(preferred=[port])
            await self.relays[name].restore()
        for device in self.devices:
            await device.switch_on()
        await self.boot("attic")
        await self.cellar.environment.make()
        await self.cellar.start(**self.probes["cellar"].environment)
        await self.boot("offloader")
        await cancel_all(self.client)

    async def heal(self) -> None:
        """Have everything run and connect again, and nothing left to do."""
        for name, relay in self.relays.items():
            relay.change = None
            await relay.restore()
            if not self.builders[name].running:
                await self.boot(name)
        for device in self.devices:
            device.configure()
            if not device.running:
                await device.switch_on()
        if not self.offloader.instance.running:
            await self.boot("offloader")
        await cancel_all(self.client)
        await self.settle()

    async def pair(self, name: str) -> None:
        """Pair the offloader with a builder that it does not know."""
        self.entries[name] = await self.offloader.pair(self.builders[name], self.relays[name].url)
        if self.entries.keys() == self.builders.keys():
            self._save()
        self.copy_compiled(name)

    def copy_compiled(self, name: str) -> None:
        """Give what a builder compiles for the offloader a compiler cache that is warm."""
        guest = self.offloader.identity.pin_sha256
        copy_compiled(CacheLayout(self.builders[name].cache).guest(guest), guest=True)

    async def boot(self, name: str) -> None:
        """Start an instance or a device that does not run."""
        match name:
            case "offloader":
                await self.offloader.boot(**self.probes[name].environment)
            case "attic":
                await self.attic.boot(**self.probes[name].environment)
            case "cellar":
                await self.cellar.boot()
            case _:
                await self.device(name).switch_on()

    async def stop(self, name: str) -> None:
        """Stop an instance, or switch a device off."""
        if name == "offloader":
            await self.offloader.hang_up()
            await self.offloader.instance.stop()
        elif name in self.builders:
            await self.builders[name].close()
        else:
            await self.device(name).switch_off()

    async def crash(self, name: str) -> None:
        """End an instance or a device by SIGKILL."""
        if name == "offloader":
            await self.offloader.crash()
        elif name in self.builders:
            await self.builders[name].crash()
        else:
            await self.device(name).switch_off()

    async def settle(self) -> None:
        """Wait until everything is connected and nothing is at work."""
        for entry_id in self.entries.values():
            await self.offloader.until_connected(entry_id, seconds=120.0)
        for device in self.devices:
            lamp = f"switch.{device.name}_lamp"
            what = f"{device.name} in Home Assistant"
            await until(partial(self._is, lamp, "on", "off"), what, 90.0)
        await until(self._idle, "the end of all processes", 60.0)

    async def _is(self, entity_id: str, *wanted: str) -> bool:
        state = await self.client.state(entity_id)
        return state is not None and state["state"] in wanted

    async def _idle(self) -> bool:
        return not any(at_work(str(cache)).keys() - self._own for cache in self.caches.values())

    @property
    def _own(self) -> set[int]:
        return {self.pid(name) for name in ("offloader", *self.builders)}

    async def close(self) -> None:
        """Stop all of them."""
        if self._known.exists():
            self._save()
        for relay in self.relays.values():
            await relay.cut()
        for part in (self.offloader, self.attic, self.cellar):
            await part.close()


def _relay(builder: AnyBuilder) -> Relay:
    return Relay(lambda: builder.port)


@asynccontextmanager
async def open_fleet(folder: Path, *, again: bool) -> AsyncIterator[Fleet]:
    """Open all of them in ``folder``, ``again`` as the run before left them."""
    fleet = Fleet(folder, again=again)
    try:
        await fleet.open()
        yield fleet
    finally:
        await fleet.close()
