"""The benchmark: what we cost, beside the bare ``esphome`` command on the same machine.

Run it as ``script/bench``. Each figure is the median of several runs; ours and bare take turns,
so that whatever else the machine does meets both. Nothing here fails for a slow machine: it says
what it measured.
"""

import argparse
import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
import json
import os
from pathlib import Path
import shutil
from statistics import median
import sys
import tempfile
import time

from script.bench_configurations import generate
from tests.e2e.harness.client import Client, Json
from tests.e2e.harness.device import NEW_VERSION, Device
from tests.e2e.harness.esphome_env import EsphomeEnvironment
from tests.e2e.harness.home import Home, until
from tests.e2e.harness.instance import Instance
from tests.e2e.harness.jobs import follow, has_printed, reach, submit
from tests.e2e.harness.processes import environment, run
from tests.e2e.harness.workspace import REPOSITORY, claim

_TARGETS = {"cold": 1.02, "unchanged": 1.0, "stall_ms": 50.0, "scan_s": 3.0, "scan_mb": 50.0}
_CONFIGURATIONS = 500
_LINES = 20_000
_SETTLED = 120.0

# The synthetic build is a real one up to the point where ESPHome runs a component's code: it
# comes through the same launcher, pipe, parser, job and log as any other. There it waits for a
# sign, so that ESPHome's own start costs nothing any more, writes all lines as fast as the pipe
# takes them (the worst case; a compiler is slower) and then sleeps. The lines are made before.
_PRINTER = """\
import os
from pathlib import Path
import time

import esphome.config_validation as cv

CONFIG_SCHEMA = cv.Schema({})
HERE = Path(__file__).parent


async def to_code(config):
    text = "".join(
        f"[{n}/LINES] CXX obj/src/esphome/components/sensor/number_{n}.cpp.o\\n"
        for n in range(1, LINES + 1)
    ).encode()
    print("ready to print", flush=True)
    while not (HERE / "go").exists():
        time.sleep(0.05)
    while text:
        text = text[os.write(1, text):]
    time.sleep(600)
"""
_PRINTING_YAML = """\
esphome:
  name: printer
host:
external_components:
  - source: printing
printer:
"""


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@contextmanager
def _tools_without_ccache(folder: Path) -> Iterator[str]:
    """Yield a PATH with everything that this one has, but for ccache.

    A compiler cache would make the second "cold" build warm; and it cannot be switched off by
    a variable, as builds do not inherit Home Assistant's.
    """
    tools = folder / "tools"
    shutil.rmtree(tools, ignore_errors=True)
    tools.mkdir()
    for place in os.environ["PATH"].split(os.pathsep):
        # Folders of compiler wrappers, and of shims that look up PATH themselves.
        if "ccache" in place or "shims" in place or not Path(place).is_dir():
            continue
        for tool in Path(place).iterdir():
            if "ccache" not in tool.name and not (tools / tool.name).is_symlink():
                (tools / tool.name).symlink_to(tool)
    yield str(tools)
    shutil.rmtree(tools)


class Bench:
    """All measurements, in one home."""

    def __init__(self, home: Home, folder: Path, path: str, runs: int) -> None:
        """Measure each thing ``runs`` times."""
        self._home = home
        self._device = home.device
        self._client: Client = home.client
        self._runs = runs
        python = home.instance.offload_cache / "toolchains" / NEW_VERSION / "bin" / "python"
        self._bare = EsphomeEnvironment(python, folder / "bare-home")
        self._data = folder / "bare"
        self._env = self._bare.variables(self._data, PATH=path)
        self._entity = ""

    async def warm_up(self) -> None:
        """Install once: this makes the toolchain that both sides use."""
        self._entity = await self._home.update_entity()
        await self._ours()
        await self._home_is_settled()

    async def local(self) -> dict[str, Json]:
        """Compare a cold and an unchanged install with the bare commands."""
        result = {}
        for kind, prepare in (("cold", self._forget_trees), ("unchanged", _nothing)):
            ours: list[tuple[float, float]] = []
            bare: list[float] = []
            for _ in range(self._runs):
                await prepare()
                bare.append(await self._esphome())
                await self._home_is_settled()
                ours.append(await self._ours())
                await self._home_is_settled()
            ours_s, bare_s = median(flashed for flashed, _ in ours), median(bare)
            result[kind] = {
                "bare_s": round(bare_s, 3),
                "ours_s": round(ours_s, 3),
                "ratio": round(ours_s / bare_s, 3),
                "verify_s": round(median(verified for _, verified in ours), 3),
                "bare_runs": [round(seconds, 3) for seconds in bare],
                "ours_runs": [round(seconds, 3) for seconds, _ in ours],
            }
        return result

    async def _ours(self) -> tuple[float, float]:
        """Return seconds from the call of the action to the end of the flash, and of verifying."""
        called = time.time()
        job = await submit(self._client, "install", self._entity, version=NEW_VERSION)
        job = await follow(self._client, job["job_id"])
        if job["status"] != "completed":
            raise RuntimeError(f"{job['failure_reason']}: {job['error']}")
        verifying: float = job["stages"]["verifying"]
        finished = datetime.fromisoformat(job["finished_at"]).timestamp()
        return finished - verifying - called, verifying

    async def _esphome(self) -> float:
        """Return seconds of ``esphome compile`` and ``esphome upload``."""
        yaml = self._device.yaml
        began = time.monotonic()
        await self._bare.esphome("compile", yaml, cwd=yaml.parent, env=self._env)
        upload = ("upload", yaml, "--device", "127.0.0.1")
        await self._bare.esphome(*upload, cwd=yaml.parent, env=self._env)
        return time.monotonic() - began

    async def _forget_trees(self) -> None:
        shutil.rmtree(self._data, ignore_errors=True)
        job = await submit(self._client, "clean", self._entity)
        await follow(self._client, job["job_id"])

    async def _home_is_settled(self) -> None:
        """Wait until the device is back in Home Assistant, so that runs do not meet."""

        async def back() -> bool:
            state = await self._client.state("switch.kitchen_lamp")
            return state is not None and state["state"] != "unavailable"

        await until(back, "the device in Home Assistant", _SETTLED)

    async def stall(self) -> tuple[float, float]:
        """Return the longest stall while 20,000 lines are printed, and while nothing happens."""
        folder = self._device.yaml.parent
        component = folder / "printing" / "printer" / "__init__.py"
        component.parent.mkdir(parents=True)
        component.write_text(_PRINTER.replace("LINES", str(_LINES)))
        (folder / "printer.yaml").write_text(_PRINTING_YAML)
        entity = await self._home.update_entity("printer.yaml")
        sign = component.with_name("go")
        stalls, idle = [], []
        for _ in range(self._runs):
            job_id = (await submit(self._client, "compile", entity, version=NEW_VERSION))["job_id"]
            await reach(self._client, job_id, has_printed("ready to print"))
            await self._longest_stall()
            await asyncio.sleep(3)  # the length of the comparison, waits for nothing
            idle.append(await self._longest_stall())
            sign.touch()
            await reach(self._client, job_id, has_printed(f"[{_LINES}/{_LINES}]"))
            stalls.append(await self._longest_stall())
            sign.unlink()
            await self._client.service("esphome_offload.cancel", None, {"job_id": job_id})
        return median(stalls), median(idle)

    async def _longest_stall(self) -> float:
        answer = await self._client.service("loop_probe.read", response=True)
        longest: float = answer["longest_ms"]
        return longest


async def _nothing() -> None:
    pass


async def scan(folder: Path, runs: int) -> dict[str, Json]:
    """Return time and memory of the scan of 500 configurations."""
    with tempfile.TemporaryDirectory(dir=folder) as generated:
        configurations = Path(generated) / "esphome"
        generate(configurations, _CONFIGURATIONS)
        argv = [sys.executable, "-m", "script.bench_scan", str(configurations)]
        results = []
        for _ in range(runs):
            text = await run(argv, cwd=REPOSITORY, env=environment(), seconds=300)
            results.append(json.loads(text))
    return {
        "configurations": results[0]["configurations"],
        "seconds": round(median(result["seconds"] for result in results), 3),
        "mb": round(median(result["mb"] for result in results), 1),
        "again_s": round(median(result["again_s"] for result in results), 4),
    }


async def measure(runs: int) -> dict[str, Json]:
    """Run everything."""
    with claim("bench") as folder, _tools_without_ccache(folder) as path:
        _say(f"scanning {_CONFIGURATIONS} configurations")
        scanned = await scan(folder, runs)
        instance = Instance(folder)
        instance.reset()
        instance.add_component(REPOSITORY / "script" / "loop_probe")
        device = Device("kitchen", folder / "kitchen", instance.esphome)
        home = Home(instance, device)
        try:
            _say("starting a device and Home Assistant")
            await device.flash()
            await device.switch_on()
            await home.boot(PATH=path)
            await home.adopt()
            await home.set_up()
            bench = Bench(home, folder, path, runs)
            await bench.warm_up()
            _say(f"installing, {runs} times cold and {runs} times unchanged, bare and ours")
            local = await bench.local()
            _say(f"printing {_LINES} lines")
            stall_ms, idle_ms = await bench.stall()
        finally:
            await home.close()
    return {
        "local": local,
        "loop_stall_ms": round(stall_ms, 1),
        "loop_stall_idle_ms": round(idle_ms, 1),
        "scan": scanned,
    }


def report(result: dict[str, Json]) -> str:
    """Return the result for people, each figure with what it should reach."""

    def line(what: str, figure: float, unit: str, target: float, more: str = "") -> str:
        verdict = "reached" if figure <= target else "MISSED"
        return f"{what:<34}{figure:>9} {unit:<4} at most {target:<5} {verdict}  {more}"

    lines = []
    for kind, figures in result["local"].items():
        more = (
            f"bare {figures['bare_s']} s, ours {figures['ours_s']} s"
            f" and {figures['verify_s']} s verifying"
        )
        ratio, target = figures["ratio"], _TARGETS[kind]
        lines.append(line(f"local install, {kind}, to bare", ratio, "", target, more))
    idle = f"{result['loop_stall_idle_ms']} ms while nothing happens"
    stall = result["loop_stall_ms"]
    lines.append(line(f"longest stall, {_LINES} lines", stall, "ms", _TARGETS["stall_ms"], idle))
    found = result["scan"]
    again = f"{found['again_s']} s when nothing changed"
    lines.append(
        line(f"scan, {found['configurations']}", found["seconds"], "s", _TARGETS["scan_s"], again)
    )
    lines.append(line("scan, memory at most", found["mb"], "MiB", _TARGETS["scan_mb"]))
    return "\n".join(lines)


def main() -> int:
    """Read the arguments and run."""
    parser = argparse.ArgumentParser(prog="script/bench", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--runs", type=int, default=3, help="runs of each (at least 3 by default)")
    arguments = parser.parse_args()
    result = asyncio.run(measure(max(arguments.runs, 1)))
    print(json.dumps(result) if arguments.json else report(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
