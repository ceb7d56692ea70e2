"""Remote installs: through a peer on the same machine, so that only what we add is compared.

Between the two is a relay that counts the bytes; what it costs is in our times.
"""

from collections.abc import Iterator
from contextlib import contextmanager
import os
from pathlib import Path
import shutil

from script.benchmark import ours
from script.benchmark.bare import Bare
from script.benchmark.compare import Kind, compare
from script.benchmark.printing import stalls
from script.benchmark.process import Growth, cpu
from tests.e2e.harness.client import Json
from tests.e2e.harness.device import NEW_VERSION, Device
from tests.e2e.harness.jobs import follow, submit
from tests.e2e.harness.pair import Pair
from tests.e2e.harness.relay import Relay
from tests.e2e.harness.workspace import REPOSITORY

_DEVICES = ("kitchen", "porch", "cellar", "attic")
_SLOTS = 2
_LARGE = 100 * 2**20
_LARGE_YAML = """\
esphome:
  name: large
host:
external_components:
  - source: large
large:
"""
_LARGE_COMPONENT = "import esphome.config_validation as cv\n\nCONFIG_SCHEMA = cv.Schema({})\n"


async def measure(folder: Path, path: str, runs: int) -> dict[str, Json]:
    """Return what the key ``remote`` of the result holds."""
    pair = Pair(folder)
    pi, workshop = pair.pi, pair.workshop
    for household in (pi, workshop):
        household.instance.add_component(REPOSITORY / "script" / "loop_probe")
    relay = Relay(lambda: workshop.instance.port)
    devices = [pi.device] + [
        Device(name, folder / name, pi.instance.esphome, number=number)
        for number, name in enumerate(_DEVICES[1:], 2)
    ]
    try:
        for device in devices:
            await device.flash()
            await device.switch_on()
        for household in (pi, workshop):
            await household.boot(PATH=path)
        for device in devices:
            where = {"host": "127.0.0.1", "port": device.api_port}
            await pi.client.add_entry("esphome", where)
        await pi.set_up()
        await workshop.set_up()
        await workshop.lend(slots=_SLOTS)
        await relay.restore()
        await pair.introduce(relay.url)
        await pair.connected()
        toolchains = workshop.instance.offload_cache / "toolchains"
        bare = Bare(toolchains, NEW_VERSION, folder, path)
        return await _measure(pair, relay, devices, bare, runs)
    finally:
        for device in devices[1:]:
            await device.switch_off()
        await pair.close()
        await relay.cut()


async def _measure(
    pair: Pair, relay: Relay, devices: list[Device], bare: Bare, runs: int
) -> dict[str, Json]:
    pi, workshop = pair.pi, pair.workshop
    client = pi.client
    entities = {device: await pi.update_entity(device.configuration) for device in devices}
    # These make the toolchains, and have seen each device once.
    for entity in entities.values():
        await ours.install(client, [entity], source="workshop")
    await ours.settled(client, devices)

    one = {devices[0]: entities[devices[0]]}
    result = await compare(
        client,
        bare,
        one,
        tuple(Kind),
        runs,
        offloader_cpu=lambda: cpu(pi.instance.pid),
        source="workshop",
    )
    together = await compare(
        client, bare, entities, (Kind.COLD, Kind.UNCHANGED), runs, source="workshop"
    )
    result |= {f"four_{kind}": figures for kind, figures in together.items()}

    await ours.forget(client, list(one.values()))
    sent, received = relay.sent, relay.received
    with _growth(pair) as peak_mb:
        await ours.install(client, list(one.values()), source="workshop")
    result |= {"bytes_sent": relay.sent - sent, "bytes_received": relay.received - received}
    await ours.settled(client, devices)
    with _growth(pair) as peak_mb_large:
        result["large_s"] = await _large(pair)
    result["peak_mb"] = {
        side: max(peak_mb[side], peak_mb_large[side]) for side in ("offloader", "builder")
    }
    result["peak_mb_runs"] = {"install": peak_mb, "bundle_of_100_mib": peak_mb_large}
    busy, idle = await stalls(
        pi, [client, workshop.client], Path(workshop.builds), runs, source="workshop"
    )
    return result | {
        "loop_stall_ms": max(busy),
        "loop_stalls_ms": dict(zip(("offloader", "builder"), busy, strict=True)),
        "loop_stalls_idle_ms": dict(zip(("offloader", "builder"), idle, strict=True)),
    }


@contextmanager
def _growth(pair: Pair) -> Iterator[dict[str, float]]:
    """Yield what holds afterwards by how many MiB each instance grew at most."""
    pids = {"offloader": pair.pi.instance.pid, "builder": pair.workshop.instance.pid}
    growing = {side: Growth.start(pid) for side, pid in pids.items()}
    grown: dict[str, float] = {}
    yield grown
    grown.update({side: growth.mb() for side, growth in growing.items()})


async def _large(pair: Pair) -> float:
    """Compile a configuration whose bundle is 100 MiB; return the seconds that took."""
    component = pair.pi.instance.esphome / "large" / "large"
    component.mkdir(parents=True)
    (component / "__init__.py").write_text(_LARGE_COMPONENT)
    with (component / "data.bin").open("wb") as file:
        for _ in range(_LARGE // 2**20):
            file.write(os.urandom(2**20))  # nothing that could be packed
    (pair.pi.instance.esphome / "large.yaml").write_text(_LARGE_YAML)
    entity = await pair.pi.update_entity("large.yaml")
    job = await submit(pair.pi.client, "compile", entity, version=NEW_VERSION, source="workshop")
    job = await follow(pair.pi.client, job["job_id"])
    if job["status"] != "completed":
        raise RuntimeError(f"{job['failure_reason']}: {job['error']}")
    shutil.rmtree(component.parent)
    (pair.pi.instance.esphome / "large.yaml").unlink()
    seconds: float = sum(job["stages"].values())
    return round(seconds, 3)
