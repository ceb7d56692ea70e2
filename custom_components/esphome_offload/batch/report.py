"""The answer to a call for several devices, and the text in it."""

from collections.abc import Iterable, Iterator
from typing import TypedDict

from ..coordinator import OffloadCoordinator
from ..engine.jobs.model import FirmwareJob
from ..engine.target import TargetId, configuration_of
from ..engine.text import without_markup
from ..jobs.payload import JobDetails
from ..registry import async_entity
from ..texts.reasons import common_text, outcome_text
from .outdated import OutdatedRun


class LeftOut(TypedDict):
    """A device without a job, and why."""

    configuration: str
    device_id: str | None
    device_name: str
    entity_id: str | None
    reason: str


class Report(TypedDict):
    """How a call ended. ``succeeded``: every job completed, and no device was left out.

    ``waiting`` counts those whose firmware is built and waits for them. ``summary`` has a line for
    each outcome.
    """

    succeeded: bool
    completed: int
    failed: int
    waiting: int
    summary: str
    jobs: list[JobDetails]
    left_out: list[LeftOut]


def report(coordinator: OffloadCoordinator, run: OutdatedRun) -> Report:
    """Return the answer."""
    return {
        "succeeded": len(run.completed) == len(run.jobs) and not run.left_out,
        "completed": len(run.completed),
        "failed": len(run.failed),
        "waiting": len(run.waiting),
        "summary": "\n".join(_lines(coordinator, run)),
        "jobs": [coordinator.job_details(job) for job in run.jobs],
        "left_out": [
            left_out(coordinator, target, reason) for target, reason in run.left_out.items()
        ],
    }


def _lines(coordinator: OffloadCoordinator, run: OutdatedRun) -> Iterator[str]:
    hass = coordinator.hass

    def line(key: str, targets: Iterable[TargetId], reason: str = "") -> str:
        names = ", ".join(_name(coordinator, target) for target in targets)
        return "- " + common_text(
            hass, key, devices=without_markup(names), reason=without_markup(reason)
        )

    if not run.jobs and not run.left_out:
        yield common_text(hass, "summary_nothing")
    if run.completed:
        flashed = run.completed[0].request.operation.flashes
        yield line("summary_installed" if flashed else "summary_built", _targets(run.completed))
    for job in run.failed:
        yield line("summary_failed", _targets([job]), outcome_text(hass, job))
    if run.waiting:
        yield line("summary_waiting", _targets(run.waiting))
    for reason in dict.fromkeys(run.left_out.values()):
        yield line("summary_left_out", (k for k, v in run.left_out.items() if v == reason), reason)


def _targets(jobs: Iterable[FirmwareJob]) -> Iterator[TargetId]:
    return (job.request.target for job in jobs)


def left_out(coordinator: OffloadCoordinator, target: TargetId, reason: str) -> LeftOut:
    """Return a device without a job as it stands in an answer."""
    entity = async_entity(coordinator.hass, target)
    return {
        "configuration": configuration_of(target),
        "device_id": None if entity is None else entity.device_id,
        "device_name": _name(coordinator, target),
        "entity_id": None if entity is None else entity.entity_id,
        "reason": reason,
    }


def _name(coordinator: OffloadCoordinator, target: TargetId) -> str:
    device = coordinator.devices.get(target)
    return target if device is None else device.friendly_name
