"""Local installs: what we add to the bare command when this machine builds itself."""

from pathlib import Path

from script.benchmark import ours
from script.benchmark.bare import Bare
from script.benchmark.compare import Kind, compare
from script.benchmark.printing import stalls
from tests.e2e.harness.client import Json
from tests.e2e.harness.device import NEW_VERSION, Device
from tests.e2e.harness.home import Home
from tests.e2e.harness.instance import Instance
from tests.e2e.harness.workspace import REPOSITORY


async def measure(folder: Path, path: str, runs: int) -> dict[str, Json]:
    """Return ``local``, ``loop_stall_ms`` and ``loop_stall_idle_ms``."""
    instance = Instance(folder)
    instance.reset()
    instance.add_component(REPOSITORY / "script" / "loop_probe")
    device = Device("kitchen", folder / "kitchen", instance.esphome)
    home = Home(instance, device)
    try:
        await device.flash()
        await device.switch_on()
        await home.boot(PATH=path)
        await home.adopt()
        await home.set_up()
        entity = await home.update_entity()
        # This makes the toolchain that both sides use.
        await ours.install(home.client, [entity])
        bare = Bare(instance.offload_cache / "toolchains", NEW_VERSION, folder, path)
        compared = await compare(
            home.client, bare, {device: entity}, (Kind.COLD, Kind.UNCHANGED), runs
        )
        (stall,), (idle,) = await stalls(home, [home.client], instance.esphome, runs)
    finally:
        await home.close()
    return {"local": compared, "loop_stall_ms": stall, "loop_stall_idle_ms": idle}
