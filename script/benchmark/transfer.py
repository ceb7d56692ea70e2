"""A bundle of 100 MiB on its way to the builder, beside a plain PUT of the same bytes.

The transfer counts from disk to disk: from the moment when the builder's file appears until it is
whole and checked. The plain one is aiohttp's client here and its server in a process of its own.
"""

import asyncio
from contextlib import suppress
import os
from pathlib import Path
import shutil
from statistics import median
import sys
import time

import aiohttp

from script.benchmark.printing import longest_stalls, start_probes
from script.benchmark.process import SIDES, growth
from tests.e2e.harness import ports
from tests.e2e.harness.builder import Builder
from tests.e2e.harness.client import Json
from tests.e2e.harness.device import NEW_VERSION
from tests.e2e.harness.jobs import LONGEST_JOB, Job, follow, submit
from tests.e2e.harness.pair import Pair
from tests.e2e.harness.processes import Child, environment
from tests.e2e.harness.waiting import PATIENCE
from tests.e2e.harness.workspace import REPOSITORY

_SIZE = 100 * 2**20
_LARGE = 2**20
_YAML = """\
esphome:
  name: large
host:
external_components:
  - source: large
large:
"""
_COMPONENT = "import esphome.config_validation as cv\n\nCONFIG_SCHEMA = cv.Schema({})\n"
_PERIOD = 0.002


async def measure(pair: Pair[Builder], runs: int) -> dict[str, Json]:
    """Return seconds, throughput beside plain PUT, growth and stalls; medians, worst of stalls."""
    folder = pair.offloader.instance.folder
    component = pair.offloader.instance.esphome / "large" / "large"
    component.mkdir(parents=True)
    (component / "__init__.py").write_text(_COMPONENT)
    yaml = pair.offloader.instance.esphome / "large.yaml"
    yaml.write_text(_YAML)
    ours, plain, idle, stalls, grown = [], [], [], [], []
    try:
        entity = await pair.offloader.update_entity(yaml.name)
        # Once without the data, so that only what the size costs is measured.
        await _compile(pair, entity)
        for _ in range(runs):
            data = component / "data.bin"
            with data.open("wb") as file:
                for _ in range(_SIZE // 2**20):
                    file.write(os.urandom(2**20))  # nothing that could be packed
            clients = [pair.offloader.client, pair.builder.client]
            await start_probes(clients)
            await asyncio.sleep(1)  # the length of the comparison, waits for nothing
            idle.append(await longest_stalls(clients))
            with growth(pair) as peak_mb:
                watching = asyncio.create_task(_watch(pair))
                await _compile(pair, entity)
                seconds, longest = await watching
            ours.append(seconds)
            stalls.append(longest)
            grown.append(peak_mb)
            plain.append(await _put(data, folder))
    finally:
        shutil.rmtree(component.parent)
        yaml.unlink()
    return {
        "seconds": round(median(ours), 3),
        "plain_s": round(median(plain), 3),
        "throughput": round(median(plain) / median(ours), 3),
        "seconds_runs": [round(each, 3) for each in ours],
        "plain_runs": [round(each, 3) for each in plain],
        "peak_mb": {side: max(each[side] for each in grown) for side in SIDES},
        "loop_stalls_ms": _worst(stalls),
        "loop_stalls_idle_ms": _worst(idle),
    }


def _worst(runs: list[list[float]]) -> dict[str, float]:
    return {
        side: round(max(of_one), 1)
        for side, of_one in zip(SIDES, zip(*runs, strict=True), strict=True)
    }


async def _compile(pair: Pair[Builder], entity: str) -> Job:
    client = pair.offloader.client
    job = await submit(client, "compile", entity, version=NEW_VERSION, source=pair.builder.name)
    job = await follow(client, job["job_id"])
    if job["status"] != "completed":
        raise RuntimeError(f"{job['failure_reason']}: {job['error']}")
    return job


async def _watch(pair: Pair[Builder]) -> tuple[float, list[float]]:
    """Return the seconds of the transfer, and the longest stall of each side meanwhile."""
    clients = [pair.offloader.client, pair.builder.client]
    partial, size = await asyncio.to_thread(
        _begin, pair.builder.instance.offload_cache / "inbox", time.monotonic() + LONGEST_JOB
    )
    started = time.monotonic()
    await start_probes(clients)
    ended = await asyncio.to_thread(_end, partial, started + LONGEST_JOB)
    # What was there when it was first looked at counts as well.
    return (ended - started) * _SIZE / (_SIZE - size), await longest_stalls(clients)


def _begin(inbox: Path, deadline: float) -> tuple[Path, int]:
    before = _large_files(inbox).keys()
    while time.monotonic() < deadline:
        for path, size in _large_files(inbox).items():
            if path not in before:
                return path, size
        time.sleep(_PERIOD)
    raise TimeoutError("no bundle came")


def _end(partial: Path, deadline: float) -> float:
    while partial.exists():
        if time.monotonic() > deadline:
            raise TimeoutError("the bundle did not come to its end")
        time.sleep(_PERIOD)
    return time.monotonic()


def _large_files(folder: Path) -> dict[Path, int]:
    sizes: dict[Path, int] = {}
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            sizes[path] = path.stat().st_size
    return {path: size for path, size in sizes.items() if size >= _LARGE}


async def _put(data: Path, folder: Path) -> float:
    """Return the seconds that a plain PUT of a file takes, from disk to disk."""
    (port,) = ports.pick()
    server = await Child.start(
        "plain server",
        [sys.executable, "-m", "script.benchmark.plain_server", str(port), str(folder / "put")],
        log=folder / "plain-server.log",
        cwd=REPOSITORY,
        env=environment(),
    )
    try:
        await server.until(lambda: ports.is_taken_by(port, server.pid), "listening", PATIENCE)
        async with aiohttp.ClientSession() as session:
            started = time.monotonic()
            with data.open("rb") as file:
                async with session.put(f"http://127.0.0.1:{port}/", data=file) as answer:
                    size = int(await answer.text())
            seconds = time.monotonic() - started
    finally:
        await server.kill()
    assert size == _SIZE
    return seconds
