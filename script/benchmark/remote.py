"""Remote installs: through a peer on the same machine, so that only our own cost is compared."""

from pathlib import Path

from script.benchmark import ours, strangers, transfer
from script.benchmark.bare import Bare
from script.benchmark.compare import Kind, compare
from script.benchmark.printing import stalls
from script.benchmark.process import SIDES, cpu, growth
from tests.e2e.harness.builder import Builder
from tests.e2e.harness.client import Json
from tests.e2e.harness.device import NEW_VERSION
from tests.e2e.harness.pair import Pair, lending_builder
from tests.e2e.harness.relay import Relay
from tests.e2e.harness.workspace import REPOSITORY

_DEVICES = ("kitchen", "porch", "cellar", "attic")
_SLOTS = 2


async def measure(folder: Path, path: str, runs: int) -> dict[str, Json]:
    """Return what the key ``remote`` of the result holds."""
    pair = Pair(folder, lending_builder(folder / "builder"), devices=_DEVICES)
    for each in (pair.offloader, pair.builder):
        each.instance.add_component(REPOSITORY / "script" / "loop_probe")
    relay = Relay(lambda: pair.builder.instance.port)
    try:
        for device in pair.offloader.devices:
            await device.flash()
        await pair.offloader.open(PATH=path)
        await pair.builder.open(slots=_SLOTS, PATH=path)
        await pair.introduce(pair.builder.instance.url)
        await pair.connected()
        toolchains = pair.builder.instance.offload_cache / "toolchains"
        bare = Bare(toolchains, NEW_VERSION, folder, path)
        return await _measure(pair, relay, bare, runs)
    finally:
        await pair.close()
        await relay.cut()


async def _measure(pair: Pair[Builder], relay: Relay, bare: Bare, runs: int) -> dict[str, Json]:
    offloader, builder = pair.offloader, pair.builder
    client, devices = offloader.client, offloader.devices
    entities = {device: await offloader.update_entity(device.configuration) for device in devices}
    # These make the toolchains, and each device is known after them.
    for entity in entities.values():
        await ours.install(client, [entity], source=builder.name)
    await ours.settled(client, devices)

    one = {devices[0]: entities[devices[0]]}
    result = await compare(
        client,
        bare,
        one,
        tuple(Kind),
        runs,
        offloader_cpu=lambda: cpu(offloader.instance.pid),
        source=builder.name,
    )
    together = await compare(
        client,
        bare,
        entities,
        (Kind.COLD, Kind.UNCHANGED, Kind.REBUILT),
        runs,
        source=builder.name,
    )
    result |= {f"four_{kind}": figures for kind, figures in together.items()}
    result["transfer"] = await transfer.measure(pair, runs)
    busy, idle = await stalls(
        offloader, [client, builder.client], Path(builder.builds), runs, source=builder.name
    )
    result |= {
        "loop_stalls_ms": dict(zip(SIDES, busy, strict=True)),
        "loop_stalls_idle_ms": dict(zip(SIDES, idle, strict=True)),
    }
    result["strangers"] = await strangers.measure(builder, runs)

    # What goes over the network: last, since the relay takes time of its own.
    await relay.restore()
    await pair.move(relay.url)
    await ours.forget(client, list(one.values()))
    sent, received = relay.sent, relay.received
    with growth(pair) as peak_mb:
        await ours.install(client, list(one.values()), source=builder.name)
    await ours.settled(client, devices)
    return result | {
        "bytes_sent": relay.sent - sent,
        "bytes_received": relay.received - received,
        "peak_mb": peak_mb,
    }
