"""Remote installs through the standalone builder, beside the same through a Home Assistant."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median
import time

import psutil

from script.benchmark import ours
from script.benchmark.compare import Kind, comment, edit
from tests.e2e.harness.any_builder import AnyBuilder
from tests.e2e.harness.client import Json
from tests.e2e.harness.pair import Pair, lending_builder
from tests.e2e.harness.standalone import StandaloneBuilder

KINDS = (Kind.COLD, Kind.REBUILT, Kind.EDITED)
"""Those that need a builder."""


async def measure(folder: Path, path: str, runs: int) -> dict[str, Json]:
    """Return what the key ``builder`` of the result holds.

    One offloader is paired with both builders, which take turns.
    """
    standalone = StandaloneBuilder(folder / "standalone")
    lending = lending_builder(folder / "builder")
    pair = Pair[AnyBuilder](folder, lending)
    try:
        await pair.offloader.device.flash()
        await pair.offloader.open(PATH=path)
        await lending.open(PATH=path)
        await pair.introduce(lending.url)
        # A machine that cannot contain builds would refuse; this builds its own device only.
        await standalone.open("--uncontained", PATH=path)
        ready_s = [await _restart(standalone) for _ in range(runs)]
        pair.builder = standalone
        await pair.introduce(standalone.url)
        await pair.connected()
        idle_mb = _memory_mb(standalone)
        result = await _compare(pair, [lending.name, standalone.name], runs)
        return result | {
            "ready_s": round(median(ready_s), 3),
            "idle_mb": idle_mb,
            "idle_after_builds_mb": _memory_mb(standalone),
        }
    finally:
        try:
            await pair.close()
        finally:
            await lending.close()


async def _restart(builder: StandaloneBuilder) -> float:
    """Return the seconds from a start to the line that says that it is ready."""
    await builder.terminate()
    began = time.monotonic()
    await builder.boot()
    return time.monotonic() - began


def _memory_mb(builder: StandaloneBuilder) -> float:
    """Return the MiB of memory that it uses now, with all that it has started."""
    process = psutil.Process(builder.pid)
    all_of_it = [process, *process.children(recursive=True)]
    return round(sum(each.memory_info().rss for each in all_of_it) / 2**20, 1)


async def _compare(pair: Pair[AnyBuilder], names: Sequence[str], runs: int) -> dict[str, Json]:
    client, device = pair.offloader.client, pair.offloader.device
    entity = await pair.offloader.update_entity()
    # These make the toolchains.
    for name in names:
        await ours.install(client, [entity], source=name)
        await ours.settled(client, [device])
    result: dict[str, Json] = {}
    for kind in KINDS:
        seconds: dict[str, list[float]] = {name: [] for name in names}
        for run in range(runs):
            match kind:
                case Kind.COLD:
                    await ours.forget(client, [entity])
                case Kind.REBUILT:
                    comment(device)
                case Kind.EDITED:
                    edit(device, run)
            # Each is as often the first as the second.
            for name in names if run % 2 else reversed(names):
                installed = await ours.install(client, [entity], source=name)
                seconds[name].append(installed.seconds)
                await ours.settled(client, [device])
        lending_s, standalone_s = (median(seconds[name]) for name in names)
        result[str(kind)] = {
            "home_assistant_s": round(lending_s, 3),
            "standalone_s": round(standalone_s, 3),
            "ratio": round(standalone_s / lending_s, 3),
        }
    return result
