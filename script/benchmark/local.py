"""Local installs: the cost over the bare command when this machine builds itself."""

from pathlib import Path

from script.benchmark import ours
from script.benchmark.bare import Bare
from script.benchmark.compare import Kind, compare
from script.benchmark.printing import stalls
from tests.e2e.harness.client import Json
from tests.e2e.harness.device import NEW_VERSION, Device
from tests.e2e.harness.instance import Instance
from tests.e2e.harness.offloader import Offloader
from tests.e2e.harness.workspace import REPOSITORY


async def measure(folder: Path, path: str, runs: int) -> dict[str, Json]:
    """Return ``local``, ``loop_stall_ms`` and ``loop_stall_idle_ms``."""
    instance = Instance(folder)
    instance.reset()
    instance.add_component(REPOSITORY / "script" / "loop_probe")
    device = Device("kitchen", folder / "kitchen", instance.esphome)
    offloader = Offloader(instance, device)
    try:
        await device.flash()
        await offloader.open(PATH=path)
        entity = await offloader.update_entity()
        # This makes the toolchain that both sides use.
        await ours.install(offloader.client, [entity])
        bare = Bare(instance.offload_cache / "toolchains", NEW_VERSION, folder, path)
        compared = await compare(
            offloader.client,
            bare,
            {device: entity},
            (Kind.COLD, Kind.UNCHANGED, Kind.REBUILT),
            runs,
        )
        (stall,), (idle,) = await stalls(offloader, [offloader.client], instance.esphome, runs)
    finally:
        await offloader.close()
    return {"local": compared, "loop_stall_ms": stall, "loop_stall_idle_ms": idle}
