"""Ours beside bare: both take turns, so that whatever else the machine does meets both."""

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
import re
from statistics import median
import uuid

from script.benchmark import ours
from script.benchmark.bare import Bare
from tests.e2e.harness.client import Client, Json
from tests.e2e.harness.device import Device


class Kind(StrEnum):
    """How much there is to do for an install."""

    COLD = "cold"
    """Everything: nothing was built before."""
    UNCHANGED = "unchanged"
    """Nothing: the kept firmware is flashed."""
    REBUILT = "rebuilt"
    """Nothing either, and yet it is built: a comment is another one."""
    EDITED = "edited"
    """One line of the configuration is another one than in the build before."""


async def compare(
    client: Client,
    bare: Bare,
    entities: Mapping[Device, str],
    kinds: Sequence[Kind],
    runs: int,
    *,
    offloader_cpu: Callable[[], float] | None = None,
    **data: Json,
) -> dict[str, Json]:
    """Return for each kind the seconds of bare and ours, medians and all, and their ratio.

    Bare does the devices one after another, ours all at once. ``offloader_cpu`` returns the CPU
    seconds that the offloader has used so far.
    """
    devices, ids = list(entities), list(entities.values())
    result = {}
    for kind in kinds:
        bare_runs: list[float] = []
        ours_runs: list[ours.Installed] = []
        used: list[float] = []
        for run in range(runs):
            match kind:
                case Kind.COLD:
                    bare.forget()
                    await ours.forget(client, ids)
                case Kind.REBUILT:
                    for device in devices:
                        comment(device)
                case Kind.EDITED:
                    for device in devices:
                        edit(device, run)
            bare_runs.append(await bare.install(devices))
            await ours.settled(client, devices)
            used_before = offloader_cpu() if offloader_cpu else 0.0
            ours_runs.append(await ours.install(client, ids, **data))
            if offloader_cpu:
                used.append(offloader_cpu() - used_before)
            await ours.settled(client, devices)
        result[str(kind)] = _figures(bare_runs, ours_runs)
        if used:
            result[str(kind)]["offloader_cpu_s"] = round(median(used), 3)
    return result


def comment(device: Device) -> None:
    """Change a comment, which no build differs by."""
    lines = device.yaml.read_text(encoding="utf-8").splitlines(keepends=True)
    text = "".join(line for line in lines if not line.startswith("#"))
    device.yaml.write_text(f"# {uuid.uuid4().hex}\n{text}", encoding="utf-8")


def edit(device: Device, number: int) -> None:
    """Change one line. Not that of a secret: the bare command would not see it."""
    text = device.yaml.read_text(encoding="utf-8")
    edited = re.sub(r"return \{.*\};", f'return {{"edit {number}"}};', text)
    assert edited != text
    device.yaml.write_text(edited, encoding="utf-8")


def _figures(bare: Sequence[float], installed: Sequence[ours.Installed]) -> dict[str, Json]:
    bare_s, ours_s = median(bare), median(run.seconds for run in installed)
    # The stages of the run in the middle, so that they add up to what one install took.
    middle = sorted(installed, key=lambda run: run.seconds)[(len(installed) - 1) // 2]
    return {
        "bare_s": round(bare_s, 3),
        "ours_s": round(ours_s, 3),
        "ratio": round(ours_s / bare_s, 3),
        "verify_s": round(median(run.verify_s for run in installed), 3),
        "stages": {stage: round(seconds, 3) for stage, seconds in middle.stages.items()},
        "bare_runs": [round(seconds, 3) for seconds in bare],
        "ours_runs": [round(run.seconds, 3) for run in installed],
    }
