"""The work that the faults disturb: installs, compiles, versions that cannot be had, cancels."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import override

from tests.e2e.harness.client import Json, RequestFailedError
from tests.e2e.harness.jobs import DOMAIN, UnexpectedEndError, all_jobs, reach, submit
from tests.e2e.harness.waiting import until

from .fleet import Fleet, SoakDevice
from .probe import pause

_NOT_THERE = "2099.1.0"
_MOMENT = 10.0
_STAGES = ("preparing", "compiling", "fetching", "uploading", "verifying")


@dataclass
class Work:
    """A job, and what was asked for. ``cancelled_at`` is the firmware that was there when it ended."""

    job_id: str
    device: SoakDevice
    action: str
    source: str
    version: str | None
    cancel: bool
    must_complete: bool = False
    firmware_at_end: str | None = None

    @override
    def __str__(self) -> str:
        """Return it in words."""
        what = [self.action, self.device.name, f"at {self.source}"]
        what += ["of a version that is not there"] * (self.version is not None)
        what += ["and cancel it"] * self.cancel
        return " ".join(what)


async def begin(fleet: Fleet, rng: Random) -> list[Work]:
    """Ask for something for one or both devices."""
    count = rng.choice((1, 1, 2))
    return [await _ask(fleet, rng, device) for device in rng.sample(fleet.devices, count)]


async def _ask(fleet: Fleet, rng: Random, device: SoakDevice) -> Work:
    """Ask for something; once more, of the usual version, when what cannot be had is refused."""
    if rng.random() < 0.5:
        device.edit(rng.randrange(1_000_000))
    action = rng.choice(("install", "install", "compile"))
    source = rng.choice(("auto", "auto", "attic", "cellar", "local"))
    version = _NOT_THERE if rng.random() < 0.05 else None
    data: dict[str, Json] = {"source": source}
    if version is not None:
        data["version"] = version
    entity = await fleet.offloader.update_entity(device.configuration)
    is_cancelled = rng.random() < 0.25
    try:
        job = await submit(fleet.client, action, entity, **data)
    except RequestFailedError:
        if version is None:
            raise
        version = None
        del data["version"]
        job = await submit(fleet.client, action, entity, **data)
    return Work(job["job_id"], device, action, source, version, is_cancelled)


async def install_everywhere(fleet: Fleet, rng: Random, seconds: float) -> list[Work]:
    """Have something new built by each builder and installed, once there is no other job."""

    async def free() -> bool:
        return all(job["finished_at"] for job in await all_jobs(fleet.client))

    await until(free, "the end of all jobs", seconds)
    works = []
    sources = rng.sample(sorted(fleet.builders), len(fleet.builders))
    for device, source in zip(fleet.devices, sources, strict=True):
        device.edit(rng.randrange(1_000_000))
        entity = await fleet.offloader.update_entity(device.configuration)
        job = await submit(fleet.client, "install", entity, source=source)
        works.append(Work(job["job_id"], device, "install", source, None, False, True))
    return works


async def moment(fleet: Fleet, rng: Random, works: list[Work]) -> None:
    """Wait for a moment in the life of the first job, or until it has ended."""
    stage, delay = rng.choice((None, *_STAGES)), rng.uniform(0.0, 0.8)
    if works and stage is not None:
        # Not each job has each stage: a kept firmware is not compiled.
        reached = _STAGES[_STAGES.index(stage) :]
        with suppress(TimeoutError, UnexpectedEndError):
            await reach(
                fleet.client,
                works[0].job_id,
                lambda event: event["job"]["stage"] in reached,
                seconds=_MOMENT,
            )
    await pause(delay)


async def cancel(fleet: Fleet, works: list[Work]) -> None:
    """Cancel what is to be cancelled, unless it has ended."""
    for work in works:
        if work.cancel and work.job_id not in ends(fleet):
            # It may end at this moment.
            with suppress(RequestFailedError, ConnectionError):
                await fleet.client.service(f"{DOMAIN}.cancel", None, {"job_id": work.job_id})


def ends(fleet: Fleet) -> dict[str, list[str]]:
    """Return how jobs have ended, by their terminal events."""
    found: dict[str, list[str]] = {}
    if fleet.ends.exists():
        for line in fleet.ends.read_text().splitlines():
            job_id, _, status = line.partition(" ")
            found.setdefault(job_id, []).append(status)
    return found


async def until_ended(fleet: Fleet, works: list[Work], seconds: float) -> None:
    """Wait for the end of all, and note the firmware of each device at that moment."""
    async with asyncio.timeout(seconds):
        while missing := [work for work in works if work.firmware_at_end is None]:
            ended = ends(fleet)
            for work in missing:
                if work.job_id in ended:
                    work.firmware_at_end = work.device.firmware_sha256()
            await asyncio.sleep(0.05)
