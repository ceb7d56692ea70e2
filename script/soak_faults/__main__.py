"""Run the soak: ``script/soak``. Prints the seed, counts and the first violation."""

import argparse
import asyncio
from collections import Counter
from collections.abc import Iterator
import os
import random
import sys
import time

from tests.e2e.harness.client import RequestFailedError
from tests.e2e.harness.processes import ProcessFailedError
from tests.e2e.harness.workspace import claim

from .checks import Checks
from .faults import FAULTS, Fault
from .fleet import Fleet, open_fleet
from .memory import many_installs
from .work import Work, begin, cancel, install_everywhere, moment, until_ended

_JOB = 240.0
"""Seconds; a builder that is lost is waited for two minutes."""


def chosen(seed: int) -> Iterator[tuple[int, Fault]]:
    """Give the faults of a seed for ever: all of them in some order, again and again."""
    number = 0
    while True:
        order = random.Random(f"{seed} {number}").sample(FAULTS, len(FAULTS))
        for fault in order:
            yield number, fault
            number += 1


async def one(fleet: Fleet, checks: Checks, seed: int, number: int, fault: Fault) -> list[str]:
    """Do some work with a fault in it; return what does not hold afterwards."""
    rng = random.Random(f"{seed} {number} {fault.name}")
    works: list[Work] = []
    try:
        works = await begin(fleet, rng)
        print(f"{number:5} {fault.name}: {'; '.join(map(str, works))}", flush=True)
        await moment(fleet, rng, works)
        before = rng.random() < 0.5
        if before:
            await cancel(fleet, works)
        await fault.act(fleet, rng)
        if not before:
            await cancel(fleet, works)
        await until_ended(fleet, works, _JOB)
        await fleet.settle()
        found = await checks.violations(fault, works)
        if fault.works_again and not found:
            works = await install_everywhere(fleet, rng, _JOB)
            await until_ended(fleet, works, _JOB)
            await fleet.settle()
            found = await checks.violations(fault, works)
    except (TimeoutError, RequestFailedError, ConnectionError, ProcessFailedError) as err:
        waiting = [str(work) for work in works if work.firmware_at_end is None]
        found = [f"it does not settle: {err!r} {waiting}"]
        await fleet.heal()
    return found


async def with_faults(
    fleet: Fleet, checks: Checks, wanted: argparse.Namespace, counts: Counter[str]
) -> list[str]:
    """Run the faults that are wanted, and count them; return the names of those not clean."""
    bad: list[str] = []
    for number, fault in chosen(wanted.seed):
        if number < wanted.first:
            continue
        if number >= wanted.first + wanted.faults or (bad and not wanted.go_on):
            break
        if fault.needs_root and os.geteuid() != 0:
            print(f"{number:5} {fault.name}: left out, it needs root")
            continue
        started = time.monotonic()
        violations = await one(fleet, checks, wanted.seed, number, fault)
        counts[fault.name] += 1
        print(f"      {time.monotonic() - started:.1f} s", flush=True)
        for each in violations:
            print(f"VIOLATION after fault {number} of seed {wanted.seed} ({fault.name}): {each}")
        bad += [fault.name] * bool(violations)
    return bad


async def soak(fleet: Fleet, wanted: argparse.Namespace) -> bool:
    """Run what is wanted; return whether all was clean. Counts are printed also if interrupted."""
    checks = Checks(fleet)
    await checks.violations(FAULTS[0], [])
    began = time.monotonic()
    counts: Counter[str] = Counter()
    bad: list[str] = []
    try:
        bad = await with_faults(fleet, checks, wanted, counts)
        if wanted.installs and (wanted.go_on or not bad):
            for each in await many_installs(fleet, checks, wanted.installs):
                bad.append("installs")
                print(f"VIOLATION after {wanted.installs} installs: {each}")
    finally:
        took = time.monotonic() - began
        print(
            f"seed {wanted.seed}: {counts.total()} faults, {checks.installs} installs checked, {took:.0f} s"
        )
        for name, probe in fleet.probes.items():
            figures = [round(each / 2**20) for each in probe.memory]
            print(f"memory of {name} in MiB, each time it was idle: {figures}")
    print(f"not clean: {', '.join(bad) or 'none'}")
    return not bad


async def main() -> bool:
    """Parse the command line and run; return whether all was clean."""
    parser = argparse.ArgumentParser(prog="script/soak")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--faults", type=int, default=20)
    parser.add_argument("--installs", type=int, default=0, help="so many after the faults")
    parser.add_argument("--first", type=int, default=0, help="the number of the first fault")
    parser.add_argument("--go-on", action="store_true", help="do not stop at the first violation")
    parser.add_argument(
        "--again", action="store_true", help="use the instances of the last run, not fresh ones"
    )
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    with claim("soak") as folder:
        async with open_fleet(folder, again=arguments.again) as fleet:
            return await soak(fleet, arguments)


if __name__ == "__main__":
    sys.exit(not asyncio.run(main()))
