"""What must hold after each fault."""

import asyncio
from collections.abc import Iterator
from itertools import chain
import time

from tests.e2e.harness.client import Json
from tests.e2e.harness.jobs import Job, all_jobs

from .faults import INSTANCES, NO_OTHER, Fault
from .fleet import Fleet
from .probe import leftovers, pause, sockets
from .work import Work, ends

_PATIENCE = 20.0
"""Seconds; connections are kept for the next request for 15."""


class Checks:
    """The checks, which know what each process held when it was idle for the first time."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._idle: dict[str, tuple[int, Json]] = {}
        self._files: set[str] = set()
        """Those that were left before, each of which is one violation."""
        self.installs = 0

    async def violations(self, fault: Fault, works: list[Work]) -> list[str]:
        """Return what does not hold, now that everything has settled."""
        jobs = {job["job_id"]: job for job in await all_jobs(self._fleet.client)}
        found = [each for work in works for each in self._of_job(fault, work, jobs)]
        left = await asyncio.gather(*map(self._left, INSTANCES))
        for name in INSTANCES:
            pid = self._fleet.pid(name)
            probe = self._fleet.probes[name]
            probe.note_memory(pid)
            found += [f"{name} says: {each}" for each in probe.new_problems(pid, fault.said)]
        return [*found, *chain.from_iterable(left)]

    def _of_job(self, fault: Fault, work: Work, jobs: dict[str, Job]) -> Iterator[str]:
        happened = ends(self._fleet).get(work.job_id, [])
        job = jobs.get(work.job_id)
        if job is None:
            yield f"{work}: no such job any more"
            return
        if len(happened) != 1:
            yield f"{work}: terminal events {happened}"
        if job["status"] not in happened:
            yield f"{work}: is {job['status']}, its event was {happened}"
        why = f"{job['status']} {job['failure_reason']}: {job['error']} ({job['attempts']})"
        if job["status"] == "cancelled" and not work.cancel:
            yield f"{work}: {why}"
        if job["status"] == "failed" and job["failure_reason"] not in _may_fail(fault, work):
            yield f"{work}: {why}"
        if job["status"] == "completed" and work.version is not None:
            yield f"{work}: {why}"
        if job["status"] == "completed" and work.action == "install":
            self.installs += 1
            if not job["verified"]:
                yield f"{work}: is not verified"
        now = work.device.firmware_sha256()
        if job["status"] == "cancelled" and now != work.firmware_at_end:
            yield f"{work}: was flashed after it was cancelled"

    async def _left(self, name: str) -> list[str]:
        """Return what stays in an instance that was not there when it was idle the first time."""
        deadline = time.monotonic() + _PATIENCE
        # What runs in the background for a moment is none that stays.
        while (found := await self._left_now(name)) and time.monotonic() < deadline:
            await pause(0.3)
        self._files |= set(leftovers(self._fleet.caches[name]))
        return found

    async def _left_now(self, name: str) -> list[str]:
        pid = self._fleet.pid(name)
        report = await self._fleet.probes[name].ask(pid)
        report["sockets"] = sockets(pid)
        files = set(leftovers(self._fleet.caches[name])) - self._files
        found = [f"{name} has left {each}" for each in sorted(files)]
        known, first = self._idle.get(name, (0, None))
        if known != pid:
            self._idle[name] = (pid, report)
            return found
        found += [
            f"{name} has {count} {what} of {each}, had {first[what].get(each, 0)}"
            for what in ("tasks", "subscriptions", "sockets")
            for each, count in report[what].items()
            if count > first[what].get(each, 0)
        ]
        return found


def _may_fail(fault: Fault, work: Work) -> frozenset[str]:
    if work.must_complete:
        return frozenset()
    reasons = fault.ends
    if work.version is not None:
        reasons |= {"version_unavailable", *NO_OTHER}
    if work.source in ("attic", "cellar"):
        reasons |= NO_OTHER
    return reasons
