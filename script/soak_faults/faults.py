"""The faults. Each does something to the instances while jobs run, and undoes it."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
import os
from pathlib import Path
from random import Random
import signal

from tests.e2e.harness.client import Json
from tests.e2e.harness.faults import frozen, small_disk
from tests.e2e.harness.jobs import all_jobs, submit
from tests.e2e.harness.processes import at_work
from tests.e2e.harness.waiting import until

from .fleet import Fleet
from .probe import pause

type Act = Callable[[Fleet, Random], Awaitable[None]]

BUILDERS = ("attic", "cellar")
INSTANCES = ("offloader", *BUILDERS)
HOUR = 3600.0
# What a job may end with where the machine that it was asked to be built on cannot do it.
NO_OTHER = frozenset({"no_builder", "builder_unavailable", "build_lost", "builder_environment"})


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault. ``ends`` are reasons with which jobs may fail, ``said`` what logs may say of it.

    Where a job may be built anywhere, it does not fail because of one builder. ``works_again``: it
    is one after which something is installed from each builder, to see that it has left no trace.
    """

    name: str
    act: Act
    ends: frozenset[str] = frozenset()
    said: tuple[str, ...] = ()
    works_again: bool = False
    needs_root: bool = False


def _seconds(rng: Random, least: float, most: float) -> float:
    """Choose how long something lasts: mostly not for long."""
    return least + (most - least) * rng.random() ** 3


def kill(name: str) -> Act:
    async def act(fleet: Fleet, _rng: Random) -> None:
        await fleet.crash(name)
        await fleet.boot(name)

    return act


def restart(name: str) -> Act:
    async def act(fleet: Fleet, _rng: Random) -> None:
        await fleet.stop(name)
        await fleet.boot(name)

    return act


def freeze(name: str) -> Act:
    async def act(fleet: Fleet, rng: Random) -> None:
        with frozen(fleet.pid(name)):
            await pause(_seconds(rng, 0.2, 5.0))

    return act


async def kill_a_tool(fleet: Fleet, rng: Random) -> None:
    """Kill one of the processes that work for jobs, whatever it does."""
    found = {pid for cache in fleet.caches.values() for pid in at_work(str(cache))}
    found -= {fleet.pid(name) for name in INSTANCES}
    if found:
        with suppress(ProcessLookupError):
            os.kill(rng.choice(sorted(found)), signal.SIGKILL)


def cut(name: str) -> Act:
    async def act(fleet: Fleet, rng: Random) -> None:
        await fleet.relays[name].cut()
        await pause(_seconds(rng, 0.0, 4.0))
        await fleet.relays[name].restore()

    return act


def slow(name: str) -> Act:
    async def act(fleet: Fleet, rng: Random) -> None:
        async def crawl(data: bytes) -> bytes:
            await pause(0.02 + len(data) / 200_000)
            return data

        fleet.relays[name].change = crawl
        await pause(_seconds(rng, 1.0, 5.0))
        fleet.relays[name].change = None

    return act


def alter(name: str, how: str) -> Act:
    """Do something to the next bytes on their way, in whichever direction they go."""

    async def act(fleet: Fleet, rng: Random) -> None:
        relay, done = fleet.relays[name], asyncio.Event()

        async def change(data: bytes) -> bytes:
            relay.change = None
            done.set()
            if how == "duplicate":
                return data + data
            place = rng.randrange(len(data))
            return data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :]

        relay.change = change
        with suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                await done.wait()
        if not done.is_set():
            # Nothing to say at the moment; a new connection begins with a handshake.
            await fleet.client.reload(fleet.entries[name])
            with suppress(TimeoutError):
                async with asyncio.timeout(3.0):
                    await done.wait()
        relay.change = None

    return act


def full_disk(place: str) -> Act:
    async def act(fleet: Fleet, rng: Random) -> None:
        cache = fleet.attic.cache
        if place != "inbox":
            cache = fleet.attic.workspace(fleet.offloader.identity)
        await _nothing_to_hide(cache / place)
        with small_disk(cache / place, rng.choice(("size=64k", "nr_inodes=2"))):
            await pause(_seconds(rng, 1.0, 5.0))
            await _not_used(cache / place)

    return act


async def _nothing_to_hide(folder: Path) -> None:
    """Wait until nothing lies in a folder that would be removed while another is in its place."""

    async def empty() -> bool:
        return not _bundles_in(folder)

    with suppress(TimeoutError):
        await until(empty, "the end of the bundles that are used", 10.0)


def _bundles_in(folder: Path) -> list[Path]:
    return list(folder.rglob("*.tar.gz"))


async def _not_used(folder: Path) -> None:
    async def free() -> bool:
        return not at_work(str(folder))

    with suppress(TimeoutError):
        await until(free, "the end of what uses the small disk", 30.0)


def jump(name: str, direction: int) -> Act:
    """Set a clock by an hour, or by more than builders forgive, and have ids made meanwhile."""

    async def act(fleet: Fleet, rng: Random) -> None:
        pid = fleet.pid(name)
        await fleet.probes[name].ask(pid, ahead=direction * rng.choice((1, 49)) * HOUR)
        await _compile_one(fleet)
        await pause(_seconds(rng, 0.5, 4.0))
        await fleet.probes[name].ask(pid)

    return act


async def _compile_one(fleet: Fleet) -> None:
    """Have a device that has no job compiled, if there is one."""
    busy = {job["configuration"] for job in await all_jobs(fleet.client) if not job["finished_at"]}
    for device in fleet.devices:
        if device.configuration not in busy:
            entity = await fleet.offloader.update_entity(device.configuration)
            await submit(fleet.client, "compile", entity)
            return


async def change_file(fleet: Fleet, rng: Random) -> None:
    rng.choice(fleet.devices).edit(rng.randrange(1000, 1_000_000))


async def remove_file(fleet: Fleet, rng: Random) -> None:
    device = rng.choice(fleet.devices)
    text = device.yaml.read_text()
    device.yaml.unlink()
    await pause(_seconds(rng, 0.0, 6.0))
    device.yaml.write_text(text)


def reload(which: str) -> Act:
    async def act(fleet: Fleet, _rng: Random) -> None:
        match which:
            case "offloader":
                await fleet.client.reload(fleet.offloader.entry_id)
            case "attic":
                await fleet.attic.client.reload(fleet.attic.entry_id)
            case "esphome":
                entries = await fleet.client.get("config/config_entries/entry?domain=esphome")
                for entry in entries:
                    await fleet.client.reload(entry["entry_id"])
            case _:
                await fleet.client.reload(fleet.entries[which.removeprefix("peer ")])

    return act


def unpair_there(name: str) -> Act:
    async def act(fleet: Fleet, _rng: Random) -> None:
        builder = fleet.builders[name]
        for guest in await builder.guests():
            await builder.remove_guest(guest)

        async def asked() -> Json | None:
            for flow in await fleet.client.flows():
                if flow["context"].get("source") == "reauth":
                    return flow
            return None

        flow = await until(asked, "being asked to pair again", 90.0)
        code = await builder.open_pairing()
        where = {"url": fleet.relays[name].url, "verify_ssl": True, "code": code}
        await fleet.client.finish_flow(flow["flow_id"], where)
        fleet.copy_compiled(name)

    return act


def unpair_here(name: str) -> Act:
    async def act(fleet: Fleet, _rng: Random) -> None:
        await fleet.client.remove_entry(fleet.entries.pop(name))
        await fleet.pair(name)

    return act


async def nothing(_fleet: Fleet, _rng: Random) -> None:
    """Only the work, and what is cancelled of it."""


_LOST_LINK = (r"esphome_offload\.peering", r"esphome_offload\.engine\.client\.link")
_NO_TOOL = (r"engine\.devices\.inspector", r"engine\.build\.(process|toolchain)")
_NO_ROOM = (r"engine\.host\.(build_host|firmware_file)", r"engine\.client\.firmware_download")
_LOST_DEVICE = (
    r"homeassistant\.components\.esphome",
    r"aioesphomeapi",
    r"\[aioesphomeapi",
    r"engine\.jobs\.transition_log",  # firmware that waits for it
)

FAULTS: tuple[Fault, ...] = (
    Fault("nothing", nothing),
    *(Fault(f"kill {each}", kill(each), said=_LOST_LINK) for each in INSTANCES),
    *(Fault(f"restart {each}", restart(each), said=_LOST_LINK) for each in INSTANCES),
    *(Fault(f"freeze {each}", freeze(each), said=_LOST_LINK) for each in INSTANCES),
    *(Fault(f"kill {each}", kill(each), said=_LOST_DEVICE) for each in ("kitchen", "hall")),
    *(Fault(f"freeze {each}", freeze(each), said=_LOST_DEVICE) for each in ("kitchen", "hall")),
    Fault("kill a tool", kill_a_tool, frozenset({"upload_failed"}) | NO_OTHER, _NO_TOOL),
    *(Fault(f"cut {each}", cut(each), said=_LOST_LINK) for each in BUILDERS),
    *(Fault(f"slow {each}", slow(each), said=_LOST_LINK) for each in BUILDERS),
    *(
        Fault(f"{how} {each}", alter(each, how), said=_LOST_LINK)
        for each in BUILDERS
        for how in ("duplicate", "alter")
    ),
    *(Fault(f"full disk: {each}", full_disk(each), NO_OTHER, _NO_ROOM, needs_root=True)
      for each in ("inbox", "staging", "trees")),
    *(Fault(f"clock of {each} {way}", jump(each, direction), works_again=True)
      for each in INSTANCES for way, direction in (("ahead", 1), ("back", -1))),
    Fault("change a file", change_file),
    Fault("remove a file", remove_file, frozenset({"config_invalid"}), _NO_TOOL),
    *(Fault(f"reload {each}", reload(each), said=_LOST_LINK)
      for each in ("offloader", "attic", "peer attic", "peer cellar")),
    Fault("reload esphome", reload("esphome"), said=_LOST_DEVICE),
    *(Fault(f"unpair at {each}", unpair_there(each), NO_OTHER, _LOST_LINK) for each in BUILDERS),
    *(Fault(f"remove {each}", unpair_here(each), NO_OTHER, _LOST_LINK) for each in BUILDERS),
)  # fmt: skip
