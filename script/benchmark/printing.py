"""Stalls of event loops while a build prints 20,000 lines and computes nothing."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from tests.e2e.harness.client import Client
from tests.e2e.harness.device import NEW_VERSION
from tests.e2e.harness.jobs import (
    DOMAIN,
    has_printed,
    reach,
    submit,
)
from tests.e2e.harness.offloader import Offloader

LINES = 20_000

# The synthetic build is a real one up to the point where ESPHome runs a component's code: it
# comes through the same launcher, pipe, parser, job and log as any other. There it waits for a
# file, so that ESPHome's own start is over, writes all lines as fast as the pipe takes them (the
# worst case; a compiler is slower) and then sleeps.
_COMPONENT = """\
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
_YAML = """\
esphome:
  name: printer
host:
external_components:
  - source: printing
printer:
"""
_CONFIGURATION = "printer.yaml"
_INIT = "printing/printer/__init__.py"


async def stalls(
    offloader: Offloader, watched: Sequence[Client], builds: Path, runs: int, **data: str
) -> tuple[list[float], list[float]]:
    """Return for each watched instance the longest stall in ms: while printing, and while idle.

    ``builds`` is where the build's copy of the configuration folder is found; ``data`` goes into
    the call of the action.
    """
    component = offloader.instance.esphome / _INIT
    component.parent.mkdir(parents=True)
    component.write_text(_COMPONENT.replace("LINES", str(LINES)))
    (offloader.instance.esphome / _CONFIGURATION).write_text(_YAML)
    entity = await offloader.update_entity(_CONFIGURATION)
    busy, idle = [], []
    for _ in range(runs):
        job = await submit(offloader.client, "compile", entity, version=NEW_VERSION, **data)
        await reach(offloader.client, job["job_id"], has_printed("ready to print"))
        await start_probes(watched)
        await asyncio.sleep(3)  # the length of the comparison, waits for nothing
        idle.append(await longest_stalls(watched))
        (copy,) = await asyncio.to_thread(lambda: list(builds.rglob(_INIT)))
        sign = copy.with_name("go")
        await start_probes(watched)
        sign.touch()
        await reach(offloader.client, job["job_id"], has_printed(f"[{LINES}/{LINES}]"))
        busy.append(await longest_stalls(watched))
        await offloader.client.service(f"{DOMAIN}.cancel", None, {"job_id": job["job_id"]})
        sign.unlink(missing_ok=True)
    return _medians(busy), _medians(idle)


async def start_probes(watched: Sequence[Client]) -> None:
    """Start to measure the stalls of instances."""
    for client in watched:
        await client.service("loop_probe.start")


async def longest_stalls(watched: Sequence[Client]) -> list[float]:
    """Return the longest stall of each instance since then in ms."""
    answers = [await client.service("loop_probe.read", response=True) for client in watched]
    return [answer["longest_ms"] for answer in answers]


def _medians(runs: Sequence[Sequence[float]]) -> list[float]:
    return [round(median(of_one), 1) for of_one in zip(*runs, strict=True)]
