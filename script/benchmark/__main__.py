"""Run the benchmark: ``script/bench``.

Each figure is the median of several runs. Nothing here fails on a slow machine: it prints what it
measured, and what was the goal.
"""

import argparse
import asyncio
from collections.abc import Iterator
import json
from pathlib import Path
from statistics import median
import sys
import tempfile

from script.benchmark import fleet, local, remote, standalone
from script.benchmark.bare import tools_without_ccache
from script.benchmark.compare import Kind
from script.benchmark.configurations import generate
from script.benchmark.printing import LINES
from script.benchmark.strangers import COUNT
from tests.e2e.harness.client import Json
from tests.e2e.harness.processes import environment, run
from tests.e2e.harness.workspace import REPOSITORY, claim

_LOCAL = {"cold": 1.02, "unchanged": 0.25, "rebuilt": 1.0}
_REMOTE = {
    "cold": 0.98,
    "unchanged": 0.25,
    "rebuilt": 0.38,
    "edited": 0.66,
    "four_cold": 0.86,
    "four_unchanged": 0.25,
    "four_rebuilt": 0.30,
}
_STANDALONE = 1.03
_FLEET_COLD = ("cpu_ratio", "cpu_ratio_ccache", "wall_ratio", "wall_ratio_ccache")
_FLEET = {
    "cpu_ratio": 0.35,
    "cpu_ratio_ccache": 1.05,
    "wall_ratio": 1.0,
    "wall_ratio_ccache": 1.0,
    "unchanged_ratio": 0.25,
    "edited_ratio": 0.60,
}
_SETUP_S = 1.0
_STATE_ROWS = 15
_STORE_BYTES = 20_000
_READY_S = 2.0
_IDLE_MB = 60.0
_CPU_S = {"cold": 0.25, "unchanged": 0.10, "rebuilt": 0.25, "edited": 0.25}
_PEAK_MB = 60.0
_TRANSFER_MB = 10.0
_THROUGHPUT = 0.5
_STALL_MS = 20.0
_SCAN_S = 30.0
_SCAN_MB = 150.0
_SCAN_FILE_MS = 10.0
_CONFIGURATIONS = 500


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


async def scan(folder: Path, runs: int) -> dict[str, Json]:
    """Return time and memory of the scan of 500 configurations."""
    with tempfile.TemporaryDirectory(dir=folder) as generated:
        configurations = Path(generated) / "esphome"
        generate(configurations, _CONFIGURATIONS)
        argv = [sys.executable, "-m", "script.benchmark.scan", str(configurations)]
        argv.append(str(REPOSITORY / ".cache" / "test-toolchains"))
        results = []
        for _ in range(runs):
            text = await run(argv, cwd=REPOSITORY, env=environment(), seconds=300)
            results.append(json.loads(text))
    return {
        "configurations": results[0]["configurations"],
        "seconds": round(median(result["seconds"] for result in results), 3),
        "mb": round(median(result["mb"] for result in results), 1),
        "file_ms": round(median(result["file_ms"] for result in results), 2),
        "stall_ms": round(median(result["stall_ms"] for result in results), 1),
        "again_s": round(median(result["again_s"] for result in results), 4),
    }


async def many_devices(folder: Path, runs: int) -> dict[str, Json]:
    """Return the set-up and the stalls of a Home Assistant with 500 devices and kept jobs."""
    results = []
    for _ in range(runs):
        with tempfile.TemporaryDirectory(dir=folder) as own:
            argv = [sys.executable, "-m", "script.benchmark.many", own, str(_CONFIGURATIONS)]
            text = await run(argv, cwd=REPOSITORY, env=environment(), seconds=300)
        results.append(json.loads(text.splitlines()[-1]))
    return {
        "setup_s": round(median(result["setup_s"] for result in results), 3),
        "entities": results[0]["entities"],
        "stalls_ms": {
            what: round(median(result["stalls_ms"][what] for result in results), 1)
            for what in results[0]["stalls_ms"]
        },
    }


async def measure(runs: int, parts: list[str]) -> dict[str, Json]:
    """Run the parts that are wanted."""
    result: dict[str, Json] = {}
    with claim("bench") as folder, tools_without_ccache(folder) as path:
        if "scan" in parts:
            _say(f"scanning {_CONFIGURATIONS} configurations")
            result["scan"] = await scan(folder, runs)
        if "local" in parts:
            _say("installing and printing with one Home Assistant, beside the bare command")
            result |= await local.measure(folder / "alone", path, runs)
        if "remote" in parts:
            _say("the same through a peer, and four devices at once")
            result["remote"] = figures = await remote.measure(folder / "pair", path, runs)
            result["offloader_cpu_s"] = {
                kind: figures[kind]["offloader_cpu_s"] for kind in (Kind.COLD, Kind.UNCHANGED)
            }
        if "builder" in parts:
            _say("installing through the standalone builder, beside a Home Assistant that lends")
            result["builder"] = await standalone.measure(folder / "both", path, runs)
        if "fleet" in parts:
            _say(f"{fleet.COUNT} devices of one kind on two builders, beside the bare commands")
            result |= await fleet.measure(folder / "fleet", path)
            _say(f"{_CONFIGURATIONS} devices in one Home Assistant")
            result["many"] = await many_devices(folder, runs)
    return result


def report(result: dict[str, Json]) -> str:
    """Return the result for people, each figure with what it should reach."""
    return "\n".join(_lines(result))


def _lines(result: dict[str, Json]) -> Iterator[str]:
    if "local" in result:
        for kind, target in _LOCAL.items():
            yield _compared(f"local install, {kind}", result["local"][kind], target)
        idle = f"{result['loop_stall_idle_ms']} ms while nothing happens"
        yield _line(f"longest stall, {LINES} lines", result["loop_stall_ms"], "ms", _STALL_MS, idle)
    if "remote" in result:
        yield from _remote_lines(result["remote"])
    if "builder" in result:
        yield from _builder_lines(result["builder"])
    if "fleet" in result:
        yield from _fleet_lines(result)
    if "scan" in result:
        found = result["scan"]
        again = f"{found['again_s']} s when nothing changed"
        yield _line(f"scan, {found['configurations']}", found["seconds"], "s", _SCAN_S, again)
        yield _line("scan, CPU for each file", found["file_ms"], "ms", _SCAN_FILE_MS)
        yield _line("scan, longest stall", found["stall_ms"], "ms", _STALL_MS)
        yield _line("scan, memory of ESPHome", found["mb"], "MiB", _SCAN_MB)


def _remote_lines(figures: dict[str, Json]) -> Iterator[str]:
    for kind, target in _REMOTE.items():
        yield _compared(f"remote install, {kind.replace('_', ', ')}", figures[kind], target)
        if "offloader_cpu_s" in figures[kind]:
            used = figures[kind]["offloader_cpu_s"]
            yield _line("    CPU of the offloader", used, "s", _CPU_S[kind])
        stages = figures[kind]["stages"].items()
        yield "    " + ", ".join(f"{stage} {seconds} s" for stage, seconds in stages)
    sent, received = figures["bytes_sent"], figures["bytes_received"]
    yield f"bytes of a cold remote install: {sent} sent to the builder, {received} received"
    for side, grown in figures["peak_mb"].items():
        yield _line(f"memory of an install, {side}", grown, "MiB", _PEAK_MB)
    yield from _stall_lines(f"{LINES} lines", figures)
    moved = figures["transfer"]
    seconds = f"{moved['seconds']} s, plain PUT {moved['plain_s']} s"
    yield _line(
        "bundle of 100 MiB, throughput",
        moved["throughput"],
        "",
        _THROUGHPUT,
        seconds,
        at_least=True,
    )
    for side, grown in moved["peak_mb"].items():
        yield _line(f"    memory, {side}", grown, "MiB", _TRANSFER_MB)
    yield from _stall_lines("bundle of 100 MiB", moved)
    among = figures["strangers"]
    others = (
        f"{among['no_page']} ms where there is no page,"
        f" {among['home_assistant']} ms at Home Assistant's own websocket"
    )
    yield _line(f"longest stall, {COUNT} strangers", among["link"], "ms", _STALL_MS, others)


def _builder_lines(figures: dict[str, Json]) -> Iterator[str]:
    for kind in standalone.KINDS:
        of_kind = figures[kind]
        both = f"standalone {of_kind['standalone_s']} s, Home Assistant"
        more = f"{both} {of_kind['home_assistant_s']} s"
        yield _line(f"standalone builder, {kind}", of_kind["ratio"], "", _STANDALONE, more)
    yield _line("standalone builder, start to ready", figures["ready_s"], "s", _READY_S)
    after = f"{figures['idle_after_builds_mb']} MiB after all builds"
    yield _line("standalone builder, memory", figures["idle_mb"], "MiB", _IDLE_MB, after)


def _fleet_lines(result: dict[str, Json]) -> Iterator[str]:
    figures = result["fleet"]
    cpu_s, wall_s = figures["cpu_s"], figures["wall_s"]
    for key, target in _FLEET.items():
        measured = wall_s if key.startswith("wall") else cpu_s
        bare = measured["bare_ccache" if key.endswith("ccache") else "bare"]
        more = f"bare {bare} s, ours {measured['ours']} s" if key in _FLEET_COLD else ""
        what = key.replace("_ratio", "").replace("_", ", ")
        yield _line(f"{fleet.COUNT} devices, {what}", figures[key], "", target, more)
    yield _line("rows of an update entity for an install", result["state_rows"], "", _STATE_ROWS)
    yield _line("bytes stored of a job", result["store_bytes"], "", _STORE_BYTES)
    many = result["many"]
    entities = f"{many['entities']} entities"
    yield _line(f"{_CONFIGURATIONS} devices, set-up", many["setup_s"], "s", _SETUP_S, entities)
    for what, stall in many["stalls_ms"].items():
        yield _line(f"    longest stall, {what}", stall, "ms", _STALL_MS)


def _stall_lines(what: str, figures: dict[str, Json]) -> Iterator[str]:
    for side, stall in figures["loop_stalls_ms"].items():
        idle = f"{figures['loop_stalls_idle_ms'][side]} ms while nothing happens"
        yield _line(f"longest stall, {what}, {side}", stall, "ms", _STALL_MS, idle)


def _compared(what: str, figures: dict[str, Json], target: float) -> str:
    more = (
        f"bare {figures['bare_s']} s, ours {figures['ours_s']} s"
        f" and {figures['verify_s']} s verifying"
    )
    return _line(what, figures["ratio"], "", target, more)


def _line(
    what: str, figure: float, unit: str, target: float, more: str = "", *, at_least: bool = False
) -> str:
    verdict = "reached" if (figure >= target if at_least else figure <= target) else "MISSED"
    bound = "at least" if at_least else "at most"
    return f"{what:<44}{figure:>9} {unit:<4} {bound:<8} {target:<5} {verdict}  {more}"


def main() -> int:
    """Read the arguments and run."""
    parts = ["scan", "local", "remote", "builder", "fleet"]
    parser = argparse.ArgumentParser(prog="script/bench", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--runs", type=int, default=3, help="runs of each (at least 3 by default)")
    parser.add_argument("--part", action="append", choices=parts, help="only this part (of all)")
    arguments = parser.parse_args()
    result = asyncio.run(measure(max(arguments.runs, 1), arguments.part or parts))
    print(json.dumps(result) if arguments.json else report(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
