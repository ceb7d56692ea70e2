"""Many installs without any fault: the memory of each instance stays as it is."""

from random import Random
from statistics import median

from tests.e2e.harness.jobs import submit

from .checks import Checks
from .faults import FAULTS, INSTANCES
from .fleet import Fleet, SoakDevice
from .work import Work, install_everywhere, until_ended

_EVERY = 10
"""Rounds between two looks at the memory."""
_BUILT = 5
"""Of so many rounds one is built by the builders; the others install what is kept."""
_MOST_GROWTH = 10 * 2**20
"""Bytes between the second fifth of the looks and the last: caches are full by then."""
_JOB = 240.0


async def many_installs(fleet: Fleet, checks: Checks, count: int) -> list[str]:
    """Install so often, on all devices at once; return what does not hold afterwards."""
    entities = {
        each: await fleet.offloader.update_entity(each.configuration) for each in fleet.devices
    }
    found: list[str] = []
    for number in range(count // len(entities)):
        if number % _BUILT == 0:
            works = await install_everywhere(fleet, Random(number), _JOB)
        else:
            works = [await _again(fleet, device, entity) for device, entity in entities.items()]
        await until_ended(fleet, works, _JOB)
        if number % _EVERY == 0:
            await fleet.settle()
            found += await checks.violations(FAULTS[0], works)
            memory = {name: f"{fleet.probes[name].memory[-1] / 2**20:.0f}" for name in INSTANCES}
            print(f"{len(works) * (number + 1):5} installs, MiB: {memory}", flush=True)
    return found + [each for name in INSTANCES for each in _growth(fleet, name)]


async def _again(fleet: Fleet, device: SoakDevice, entity: str) -> Work:
    job = await submit(fleet.client, "install", entity)
    return Work(job["job_id"], device, "install", "auto", None, cancel=False)


def _growth(fleet: Fleet, name: str) -> list[str]:
    looks = fleet.probes[name].memory
    fifth = max(1, len(looks) // 5)
    before, after = median(looks[fifth : 2 * fifth] or looks), median(looks[-fifth:])
    if after - before <= _MOST_GROWTH:
        return []
    return [f"{name} has grown from {before / 2**20:.0f} to {after / 2**20:.0f} MiB"]
