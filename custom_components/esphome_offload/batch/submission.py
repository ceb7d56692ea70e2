"""A job for each of several devices: all or none, or for as many as possible."""

import asyncio
from collections.abc import Iterable, Sequence

from homeassistant.core import Context
from homeassistant.exceptions import ServiceValidationError

from ..coordinator import OffloadCoordinator
from ..engine.const import Operation
from ..engine.jobs.model import FirmwareJob, JobRequest
from ..engine.target import TargetId
from ..engine.tasks import uninterrupted
from ..jobs.payload import RequestOptions
from ..texts.errors import validation_error
from ..texts.reasons import exception_text
from .report import LeftOut, left_out


async def async_submit_all(
    coordinator: OffloadCoordinator,
    targets: Sequence[TargetId],
    operation: Operation,
    context: Context,
    options: RequestOptions,
) -> list[FirmwareJob]:
    """Start a job for each target; raises ServiceValidationError, with none started.

    Others get their turn between any two. Once the first is started, all are: also when this is
    cancelled. Returns when they are on disk.
    """
    requests: list[JobRequest] = []
    for target in targets:
        requests.append(await coordinator.async_prepare(target, operation, **options))
        await asyncio.sleep(0)
    _refuse_removed(coordinator, targets)
    _refuse_running(coordinator, targets)
    return await uninterrupted(_submit_all(coordinator, requests, context))


async def _submit_all(
    coordinator: OffloadCoordinator, requests: Sequence[JobRequest], context: Context
) -> list[FirmwareJob]:
    jobs: list[FirmwareJob] = []
    for request in requests:
        try:
            jobs.append(coordinator.submit(request, context))
        except ServiceValidationError:
            # Something has changed since all could be started.
            await _withdraw(coordinator, jobs, context)
            raise
        await asyncio.sleep(0)
    await coordinator.queue.flush()
    return jobs


async def _withdraw(
    coordinator: OffloadCoordinator, jobs: Iterable[FirmwareJob], context: Context
) -> None:
    """Cancel jobs, without those that were there already and only joined."""
    own = [job.job_id for job in jobs if job.request.batch == context.id]
    await asyncio.gather(*map(coordinator.async_cancel, own), return_exceptions=True)


async def async_submit_possible(
    coordinator: OffloadCoordinator,
    targets: Sequence[TargetId],
    operation: Operation,
    context: Context,
    options: RequestOptions,
) -> tuple[list[FirmwareJob], list[LeftOut]]:
    """Start a job for each target that can have one; returns also why the others cannot.

    Once the first is started, all are: also when this is cancelled. Returns when they are on disk.
    """
    requests: list[JobRequest] = []
    refused: list[LeftOut] = []

    def refuse(target: TargetId, error: ServiceValidationError) -> None:
        refused.append(left_out(coordinator, target, exception_text(coordinator.hass, error)))

    async def submit_possible() -> list[FirmwareJob]:
        jobs: list[FirmwareJob] = []
        for request in requests:
            target = request.target
            try:
                _refuse_removed(coordinator, [target])
                _refuse_running(coordinator, [target])
                jobs.append(coordinator.submit(request, context))
            except ServiceValidationError as err:
                refuse(target, err)
            await asyncio.sleep(0)
        await coordinator.queue.flush()
        return jobs

    for target in targets:
        try:
            requests.append(await coordinator.async_prepare(target, operation, **options))
        except ServiceValidationError as err:
            refuse(target, err)
        await asyncio.sleep(0)
    return await uninterrupted(submit_possible()), refused


def names(coordinator: OffloadCoordinator, targets: Iterable[TargetId]) -> str:
    """Return the names of devices; of a removed one the target."""
    devices = coordinator.devices
    return ", ".join(devices[target].name if target in devices else target for target in targets)


def _refuse_removed(coordinator: OffloadCoordinator, targets: Iterable[TargetId]) -> None:
    """Refuse targets that were removed while versions were looked up."""
    for target in targets:
        if target not in coordinator.devices:
            raise validation_error("unknown_configuration", configuration=target)


def _refuse_running(coordinator: OffloadCoordinator, targets: Iterable[TargetId]) -> None:
    running = [target for target in targets if coordinator.queue.is_running(target)]
    if running:
        raise validation_error("jobs_running", devices=names(coordinator, running))
