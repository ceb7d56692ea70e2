"""Twelve devices of one kind on two builders, beside the bare commands one after another."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
import os
from pathlib import Path
import resource
import sqlite3
import time
from typing import override

from script.benchmark import ours
from script.benchmark.bare import Bare
from script.benchmark.compare import Kind, edit
from script.benchmark.process import cpu
from tests.e2e.harness.builder import Builder
from tests.e2e.harness.client import Json
from tests.e2e.harness.device import NEW_VERSION, Device
from tests.e2e.harness.esphome_env import link_toolchain
from tests.e2e.harness.instance import Instance
from tests.e2e.harness.jobs import DOMAIN
from tests.e2e.harness.offloader import Offloader
from tests.e2e.harness.siblings import NUMBERED, write_numbered
from tests.e2e.harness.waiting import until

COUNT = 12
_BUILDERS = ("attic", "cellar")
_JOURNAL = Path(".storage") / f"{DOMAIN}.jobs.jsonl"


class _Room(Device):
    """A device whose configuration differs from the others' in its name and ports.

    Its MAC address comes from the environment: compiled in, it would be in a file that all
    sources include, which real devices' addresses are not.
    """

    components = NUMBERED

    def __init__(self, number: int, folder: Path, config_dir: Path) -> None:
        write_numbered(config_dir)
        super().__init__(f"room{number}", folder / f"room{number}", config_dir)
        self.mac = f"02:00:00:00:77:{number:02x}"
        self.variables = {"DEVICE_NUMBER": str(number)}

    @property
    @override
    def _compiled_mac(self) -> str:
        return "02:00:00:00:77:00"


@dataclass(slots=True)
class _Spent:
    """Seconds by the clock, and of all processors."""

    wall: float = 0.0
    cpu: float = 0.0


class _Fleet:
    """An offloader with all devices, paired with two builders of one slot each."""

    def __init__(self, folder: Path) -> None:
        instance = Instance(folder / "offloader", name="offloader")
        instance.reset()
        instance.configure("recorder:", "  commit_interval: 1")
        rooms = [_Room(number, folder, instance.esphome) for number in range(1, COUNT + 1)]
        self.offloader = Offloader(instance, *rooms)
        self.builders = [Builder(folder / name, name=name) for name in _BUILDERS]
        self.entities: list[str] = []
        for builder in self.builders:
            builder.instance.reset()
        for each in (instance, *(builder.instance for builder in self.builders)):
            link_toolchain(NEW_VERSION, each.offload_cache)

    async def open(self, path: str) -> None:
        """Start everything and pair it; nothing was built yet."""
        for device in self.offloader.devices:
            await device.flash()
        await self.offloader.open(PATH=path)
        for builder in self.builders:
            await builder.open(PATH=path)
            await self.offloader.pair(builder, builder.instance.url)
        self.entities = [
            await self.offloader.update_entity(device.configuration)
            for device in self.offloader.devices
        ]
        await ours.settled(self.offloader.client, self.offloader.devices)

    async def close(self) -> None:
        """Stop everything."""
        await self.offloader.close()
        for builder in self.builders:
            await builder.close()

    def cpu(self) -> float:
        """Return the CPU seconds of all three Home Assistants so far."""
        pids = (self.offloader.instance.pid, *(each.pid for each in self.builders))
        return sum(map(cpu, pids))

    async def install(self) -> _Spent:
        """Update all devices at once; return what it took until the last one was flashed."""
        before = self.cpu()
        installed = await ours.install(self.offloader.client, self.entities)
        spent = _Spent(installed.seconds, self.cpu() - before)
        await ours.settled(self.offloader.client, self.offloader.devices)
        return spent

    def journal_bytes(self) -> int:
        """Return how much of jobs was written so far."""
        journal = self.offloader.instance.config / _JOURNAL
        return journal.stat().st_size if journal.exists() else 0

    async def state_rows(self) -> int:
        """Return how many states of the first device's update entity are in the database."""
        counted = -1
        since = time.monotonic()

        async def steady() -> bool:
            nonlocal counted, since
            now = _rows(self.offloader.instance.config, self.entities[0])
            if now != counted:
                counted, since = now, time.monotonic()
            # The recorder commits once a second.
            return time.monotonic() - since > 3.0

        await until(steady, "the recorder", 60.0)
        return counted


def _rows(config: Path, entity_id: str) -> int:
    query = (
        "SELECT count(*) FROM states JOIN states_meta USING (metadata_id)"
        " WHERE states_meta.entity_id = ?"
    )
    with closing(sqlite3.connect(config / "home-assistant_v2.db")) as database:
        (count,) = database.execute(query, (entity_id,)).fetchone()
    return int(count)


@contextmanager
def _children() -> Iterator[_Spent]:
    """Yield what afterwards holds what processes have spent that ended meanwhile."""
    spent = _Spent()
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    yield spent
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent.wall = time.monotonic() - began
    spent.cpu = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime


async def _bare(bare: Bare, devices: Sequence[Device]) -> _Spent:
    with _children() as spent:
        await bare.install(devices)
    return spent


async def measure(folder: Path, path: str) -> dict[str, Json]:
    """Return what the keys ``fleet``, ``state_rows`` and ``store_bytes`` of the result hold."""
    fleet = _Fleet(folder)
    try:
        await fleet.open(path)
        return await _measure(fleet, folder, path)
    finally:
        await fleet.close()


async def _measure(fleet: _Fleet, folder: Path, path: str) -> dict[str, Json]:
    devices = fleet.offloader.devices
    toolchains = fleet.builders[0].instance.offload_cache / "toolchains"
    plain = Bare(toolchains, NEW_VERSION, folder / "plain", path)
    ccache = toolchains / NEW_VERSION / "bin"
    cached = Bare(toolchains, NEW_VERSION, folder / "cached", f"{ccache}{os.pathsep}{path}")
    rows, stored = await fleet.state_rows(), fleet.journal_bytes()
    state_rows = store_bytes = 0
    here: dict[Kind, _Spent] = {}
    there: dict[Kind, _Spent] = {}
    for kind in Kind:
        if kind is Kind.EDITED:
            for device in devices:
                edit(device, 1)
        there[kind] = await _bare(plain, devices)
        await ours.settled(fleet.offloader.client, devices)
        here[kind] = await fleet.install()
        if kind is Kind.COLD:
            state_rows = await fleet.state_rows() - rows
            store_bytes = (fleet.journal_bytes() - stored) // COUNT
    with_ccache = await _bare(cached, devices)
    return {
        "fleet": _figures(here, there, with_ccache),
        "state_rows": state_rows,
        "store_bytes": store_bytes,
    }


def _figures(
    here: Mapping[Kind, _Spent], there: Mapping[Kind, _Spent], with_ccache: _Spent
) -> dict[str, Json]:
    cold, bare = here[Kind.COLD], there[Kind.COLD]
    return {
        "cpu_ratio": round(cold.cpu / bare.cpu, 3),
        "wall_ratio": round(cold.wall / bare.wall, 3),
        "cpu_ratio_ccache": round(cold.cpu / with_ccache.cpu, 3),
        "wall_ratio_ccache": round(cold.wall / with_ccache.wall, 3),
        "unchanged_ratio": round(here[Kind.UNCHANGED].wall / there[Kind.UNCHANGED].wall, 3),
        "edited_ratio": round(here[Kind.EDITED].wall / there[Kind.EDITED].wall, 3),
        "cpu_s": {
            "ours": round(cold.cpu, 1),
            "bare": round(bare.cpu, 1),
            "bare_ccache": round(with_ccache.cpu, 1),
        },
        "wall_s": {
            "ours": round(cold.wall, 1),
            "bare": round(bare.wall, 1),
            "bare_ccache": round(with_ccache.wall, 1),
        },
    }
