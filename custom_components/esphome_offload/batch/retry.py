"""A job once more, as a person asks for it on the page or in a repair."""

from ..coordinator import OffloadCoordinator
from ..engine.jobs.model import FirmwareJob
from ..jobs.payload import RequestOptions


async def async_retry(
    coordinator: OffloadCoordinator,
    job: FirmwareJob,
    *,
    source: str | None = None,
    user_id: str | None = None,
) -> FirmwareJob:
    """Queue a job again with all that was asked for, by another builder if one is given.

    Raises ServiceValidationError, translated, saying what to do.
    """
    request = job.request
    options = RequestOptions(
        source=request.requested_source if source is None else source,
        clean=request.clean,
        rebuild=request.rebuild,
        address=request.address,
        user_id=user_id,
    )
    if request.operation.builds:
        options["version"] = request.esphome_version
    return await coordinator.async_submit(request.target, request.operation, **options)
