"""The first scan of a folder of configurations, with ESPHome asked, in a process of its own.

``python -m script.benchmark.scan FOLDER CACHE``; the cache is one with a toolchain, or where to
make it. Prints one JSON object: seconds of the first scan, milliseconds of CPU for each file beyond
ESPHome's start, MiB that ESPHome took at most, milliseconds that the event loop stood at most, and
seconds of a second scan with nothing changed.
"""

import asyncio
import json
from pathlib import Path
import resource
import sys
import threading
import time
from typing import override

from custom_components.esphome_offload.engine.build.cache.layout import CacheLayout
from custom_components.esphome_offload.engine.build.process.processes import Processes
from custom_components.esphome_offload.engine.build.toolchain.toolchains import Toolchains
from custom_components.esphome_offload.engine.build.toolchain.uv import Uv
from custom_components.esphome_offload.engine.devices.inspector import EsphomeInspector
from custom_components.esphome_offload.engine.devices.scanner import Scanner

_VERSION = "2026.10.0"
_TICK = 0.001


_LOOK = 0.02


class _Loop:
    """The longest time that the event loop stood."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def watch(self) -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(_TICK)
            self.longest = max(self.longest, time.perf_counter() - before - _TICK)


class _Memory(threading.Thread):
    """The most memory that ESPHome's processes had together, in KiB; what they share counts once."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most = 0
        self.ended = threading.Event()

    @override
    def run(self) -> None:
        while not self.ended.wait(_LOOK):
            self.most = max(self.most, sum(map(_own_memory, Path("/proc").glob("[0-9]*"))))


def _own_memory(process: Path) -> int:
    try:
        if b"inspection.program" not in (process / "cmdline").read_bytes().split(b"\0-c\0")[-1]:
            return 0
        lines = (process / "smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def _children() -> resource.struct_rusage:
    return resource.getrusage(resource.RUSAGE_CHILDREN)


def _cpu() -> float:
    return _children().ru_utime + _children().ru_stime


async def main(folder: Path, layout: CacheLayout) -> None:
    """Scan a folder."""
    layout.make()
    processes = Processes()
    toolchains = Toolchains(
        layout, processes, Uv(layout, (sys.executable, "-m", "uv"), Path(sys.executable))
    )
    await toolchains.ensure(_VERSION, lambda _lines: None)
    inspector = EsphomeInspector(layout, processes, toolchains)
    before = _cpu()
    await inspector.ask(folder, ["no such file.yaml"])
    start = _cpu() - before
    loop = _Loop()
    watching = asyncio.create_task(loop.watch())
    scanner = Scanner(folder, inspector)
    before, began = _cpu(), time.perf_counter()
    result = await scanner.scan()
    seconds = time.perf_counter() - began
    cpu = _cpu() - before - start
    began = time.perf_counter()
    await scanner.scan()
    again = time.perf_counter() - began
    watching.cancel()
    # For itself: looking at all processes takes longer than asking about all files.
    memory = _Memory()
    memory.start()
    await Scanner(folder, inspector).scan()
    memory.ended.set()
    await processes.aclose()
    assert not result.problems, result.problems
    assert not result.unsure
    found = len(result.configurations)
    figures = {
        "configurations": found,
        "seconds": seconds,
        "file_ms": cpu * 1000 / found,
        "mb": memory.most / 1024,
        "stall_ms": loop.longest * 1000,
        "again_s": again,
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), CacheLayout(Path(sys.argv[2]).absolute())))
