"""Ours: installs through a running Home Assistant, each with what it took."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
import time

from tests.e2e.harness.client import Client, Json
from tests.e2e.harness.device import NEW_VERSION, Device
from tests.e2e.harness.jobs import DOMAIN, follow
from tests.e2e.harness.waiting import until

_SETTLED = 180.0


@dataclass(frozen=True, slots=True)
class Installed:
    """Seconds from the call of the action to the end of the last flash, and what they went into.

    ``stages`` are those of the first device; ``verify_s`` comes after and counts for nothing: the
    bare command does not look whether the device comes back.
    """

    seconds: float
    verify_s: float
    stages: Mapping[str, float]


async def install(client: Client, entities: Sequence[str], **data: Json) -> Installed:
    """Install on all these devices at once; raises RuntimeError when one does not end well."""
    target = {"entity_id": list(entities)}
    wanted = {"version": NEW_VERSION, **data}
    called = time.time()
    answer = await client.service(f"{DOMAIN}.install", target, wanted, response=True)
    jobs = await asyncio.gather(*(follow(client, job["job_id"]) for job in answer["jobs"]))
    flashed = []
    for job in jobs:
        if job["status"] != "completed":
            raise RuntimeError(f"{job['failure_reason']}: {job['error']}")
        finished = datetime.fromisoformat(job["finished_at"]).timestamp()
        flashed.append(finished - job["stages"]["verifying"])
    stages = jobs[0]["stages"]
    return Installed(max(flashed) - called, stages["verifying"], stages)


async def forget(client: Client, entities: Sequence[str]) -> None:
    """Clean the devices, and the compiler caches with all tools: their next builds are cold ones."""
    target = {"entity_id": list(entities)}
    answer = await client.service(f"{DOMAIN}.clean", target, {"all": True}, response=True)
    for job in answer["jobs"]:
        ended = await follow(client, job["job_id"])
        if ended["status"] != "completed":
            raise RuntimeError(f"{ended['failure_reason']}: {ended['error']}")


async def settled(client: Client, devices: Sequence[Device]) -> None:
    """Wait until all devices are back in Home Assistant, so that runs do not meet."""

    async def back() -> bool:
        states = [await client.state(f"switch.{device.name}_lamp") for device in devices]
        return all(state is not None and state["state"] != "unavailable" for state in states)

    await until(back, "the devices in Home Assistant", _SETTLED)
