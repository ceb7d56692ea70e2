"""The actions, all for administrators."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from datetime import timedelta
from enum import StrEnum
from functools import partial
from itertools import islice
from typing import Any, cast

from homeassistant.core import (
    HomeAssistant,
    ServiceCall,
    ServiceResponse,
    SupportsResponse,
    callback,
)
from homeassistant.exceptions import ServiceValidationError
from homeassistant.helpers import config_validation as cv, service
from homeassistant.helpers.typing import VolDictType
from homeassistant.util import dt as dt_util
from homeassistant.util.json import JsonValueType
from homeassistant.util.network import is_host_valid, is_ip_address
import probatio

from .batch.outdated import Limits, OutdatedRun, Wanted
from .batch.report import LeftOut, report
from .batch.submission import async_submit_all, async_submit_possible, names
from .batch.targets import async_targets, has_target
from .const import DOMAIN
from .coordinator import DATA_COORDINATOR, OffloadCoordinator
from .engine.const import (
    REQUESTED_AUTO,
    REQUESTED_LOCAL,
    JobStatus,
    Operation,
)
from .engine.jobs.model import FirmwareJob
from .engine.target import TargetId
from .jobs.payload import RequestOptions
from .peering.entry import is_peer
from .texts.errors import validation_error
from .texts.reasons import raise_if_failed, raise_if_pending


class OffloadService(StrEnum):
    """The actions."""

    INSTALL = "install"
    COMPILE = "compile"
    UPLOAD = "upload"
    CLEAN = "clean"
    UPDATE_OUTDATED = "update_outdated"
    CANCEL = "cancel"
    GET_JOBS = "get_jobs"
    GET_LOG = "get_log"
    OPEN_PAIRING = "open_pairing"


class ServiceField(StrEnum):
    """The fields of the actions, besides the target."""

    VERSION = "version"
    SOURCE = "source"
    ALL = "all"
    CLEAN = "clean"
    REBUILD = "rebuild"
    ADDRESS = "address"
    WAIT = "wait"
    FAIL_IF_PENDING = "fail_if_pending"
    RAISE_ON_FAILURE = "raise_on_failure"
    JOB_ID = "job_id"
    STATUS = "status"
    LIMIT = "limit"
    FROM_LINE = "from_line"
    AT_ONCE = "at_once"
    BUILD_ONLY = "build_only"
    SKIP_OFFLINE = "skip_offline"
    START_WITHIN = "start_within"
    STOP_AFTER_FAILURES = "stop_after_failures"


_TARGET: VolDictType = {probatio.Remove("metadata"): dict, **cv.TARGET_SERVICE_FIELDS}
_VERSION: VolDictType = {probatio.Optional(ServiceField.VERSION): cv.string}
_SOURCE: VolDictType = {probatio.Optional(ServiceField.SOURCE, default=REQUESTED_AUTO): cv.string}
_BUILD: VolDictType = {
    **_VERSION,
    **_SOURCE,
    probatio.Optional(ServiceField.CLEAN, default=False): cv.boolean,
    probatio.Optional(ServiceField.REBUILD, default=False): cv.boolean,
}
_ADDRESS: VolDictType = {probatio.Optional(ServiceField.ADDRESS): cv.string}
_WAIT: VolDictType = {probatio.Optional(ServiceField.WAIT, default=False): cv.boolean}
_RAISE: VolDictType = {
    probatio.Optional(ServiceField.RAISE_ON_FAILURE, default=True): cv.boolean,
}
_WAIT_FOR_END: VolDictType = {**_WAIT, **_RAISE}
_FLASH_WAIT: VolDictType = {
    **_WAIT_FOR_END,
    probatio.Optional(ServiceField.FAIL_IF_PENDING): cv.boolean,
}
_JOB_ID: VolDictType = {probatio.Optional(ServiceField.JOB_ID): cv.string}

_SUBMIT_FIELDS: dict[Operation, VolDictType] = {
    Operation.INSTALL: {**_TARGET, **_BUILD, **_ADDRESS, **_FLASH_WAIT},
    Operation.COMPILE: {**_TARGET, **_BUILD, **_WAIT_FOR_END},
    Operation.UPLOAD: {**_TARGET, **_ADDRESS, **_FLASH_WAIT},
    Operation.CLEAN: {
        **_TARGET,
        probatio.Optional(ServiceField.ALL, default=False): cv.boolean,
        **_WAIT,
    },
}
_UPDATE_FIELDS: VolDictType = {
    **_TARGET,
    **_VERSION,
    **_SOURCE,
    **_RAISE,
    probatio.Optional(ServiceField.BUILD_ONLY, default=False): cv.boolean,
    probatio.Optional(ServiceField.SKIP_OFFLINE, default=False): cv.boolean,
    probatio.Optional(ServiceField.AT_ONCE, default=1): probatio.All(
        probatio.Coerce(int), probatio.Range(min=1, max=16)
    ),
    probatio.Optional(ServiceField.STOP_AFTER_FAILURES): cv.positive_int,
    probatio.Optional(ServiceField.START_WITHIN): cv.positive_time_period,
}
_CANCEL_FIELDS: VolDictType = {**_TARGET, **_JOB_ID}
_GET_JOBS_FIELDS: VolDictType = {
    **_TARGET,
    probatio.Optional(ServiceField.STATUS): probatio.All(
        probatio.EnsureList(), [probatio.Coerce(JobStatus)]
    ),
    probatio.Optional(ServiceField.LIMIT, default=50): probatio.All(
        probatio.Coerce(int), probatio.Range(min=1, max=500)
    ),
}
_GET_LOG_FIELDS: VolDictType = {
    **_TARGET,
    **_JOB_ID,
    probatio.Optional(ServiceField.FROM_LINE, default=0): probatio.All(
        probatio.Coerce(int), probatio.Range(min=0)
    ),
    probatio.Optional(ServiceField.LIMIT, default=1000): probatio.All(
        probatio.Coerce(int), probatio.Range(min=1, max=5000)
    ),
}


@callback
def async_setup_services(hass: HomeAssistant) -> None:
    """Register the actions, for as long as Home Assistant runs."""

    def register(
        name: OffloadService,
        handler: Callable[[ServiceCall], Coroutine[Any, Any, ServiceResponse]],
        fields: VolDictType,
        response: SupportsResponse = SupportsResponse.OPTIONAL,
    ) -> None:
        service.async_register_admin_service(
            hass, DOMAIN, name, handler, probatio.Schema(fields), response
        )

    for operation, fields in _SUBMIT_FIELDS.items():
        register(OffloadService(operation), partial(_async_submit, operation), fields)
    register(OffloadService.UPDATE_OUTDATED, _async_update_outdated, _UPDATE_FIELDS)
    register(OffloadService.CANCEL, _async_cancel, _CANCEL_FIELDS)
    register(OffloadService.GET_JOBS, _async_get_jobs, _GET_JOBS_FIELDS, SupportsResponse.ONLY)
    register(OffloadService.GET_LOG, _async_get_log, _GET_LOG_FIELDS, SupportsResponse.ONLY)
    register(OffloadService.OPEN_PAIRING, _async_open_pairing, {}, SupportsResponse.ONLY)


async def _async_submit(operation: Operation, call: ServiceCall) -> ServiceResponse:
    """Start a job for each target, or none if one of them cannot be started.

    With ``raise_on_failure`` off, the others are started, and the answer says why not that one.
    """
    coordinator, data = call.hass.data[DATA_COORDINATOR], call.data
    targets = _targets(call, coordinator)
    options = RequestOptions(
        version=data.get(ServiceField.VERSION),
        source=_source(call, coordinator),
        clean=data.get(ServiceField.CLEAN, False) or data.get(ServiceField.ALL, False),
        rebuild=data.get(ServiceField.REBUILD, False),
        address=_address(call, coordinator, targets),
        user_id=call.context.user_id,
    )
    if not data.get(ServiceField.RAISE_ON_FAILURE, True):
        jobs, left_out = await async_submit_possible(
            coordinator, targets, operation, call.context, options
        )
        # The caller looks at the ends of the jobs, so it waits for them.
        jobs = await asyncio.gather(*(coordinator.async_wait(job) for job in jobs))
        return _jobs_response(call, coordinator, jobs, left_out)
    jobs = await async_submit_all(coordinator, targets, operation, call.context, options)
    fail_if_pending: bool | None = data.get(ServiceField.FAIL_IF_PENDING)
    if data[ServiceField.WAIT] or fail_if_pending:
        jobs = await asyncio.gather(*(coordinator.async_wait(job) for job in jobs))
        raise_if_failed(call.hass, jobs)
        if coordinator.settings.pending_is_error if fail_if_pending is None else fail_if_pending:
            raise_if_pending(call.hass, jobs)
    return _jobs_response(call, coordinator, jobs)


async def _async_update_outdated(call: ServiceCall) -> ServiceResponse:
    """Update the devices that have an update, of the target or of all, and wait for the end."""
    coordinator = call.hass.data[DATA_COORDINATOR]
    data = call.data
    operation = Operation.COMPILE if data[ServiceField.BUILD_ONLY] else Operation.INSTALL
    wanted = Wanted(operation, data.get(ServiceField.VERSION), _source(call, coordinator))
    limits = Limits(
        at_once=data[ServiceField.AT_ONCE],
        # 0 is what a form has for no limit.
        failures=data.get(ServiceField.STOP_AFTER_FAILURES) or None,
        start_within=data.get(ServiceField.START_WITHIN),
        skip_offline=data[ServiceField.SKIP_OFFLINE],
    )
    run = OutdatedRun(coordinator, wanted, limits, call.context)
    await run.async_run(_targets_or_all(call, coordinator))
    if data[ServiceField.RAISE_ON_FAILURE]:
        raise_if_failed(call.hass, run.jobs)
    if not call.return_response:
        return None
    # As in _jobs_response.
    return cast("ServiceResponse", report(coordinator, run))


async def _async_cancel(call: ServiceCall) -> ServiceResponse:
    """Cancel one job, or the jobs of the targets that have not ended."""
    coordinator = call.hass.data[DATA_COORDINATOR]
    job_id: str | None = call.data.get(ServiceField.JOB_ID)
    if (job_id is not None) == has_target(call.data):
        raise validation_error("cancel_needs_one_way")
    if job_id is not None:
        return _jobs_response(call, coordinator, [await coordinator.async_cancel(job_id)])

    targets = _targets(call, coordinator)
    jobs = [job for target in targets if (job := coordinator.queue.active(target)) is not None]
    # A job may end in between; the others are cancelled nevertheless.
    results = await asyncio.gather(
        *(coordinator.async_cancel(job.job_id) for job in jobs), return_exceptions=True
    )
    cancelled = [result for result in results if isinstance(result, FirmwareJob)]
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, ServiceValidationError):
            raise result
    if not cancelled:
        raise validation_error("nothing_to_cancel", devices=names(coordinator, targets))
    return _jobs_response(call, coordinator, cancelled)


async def _async_get_jobs(call: ServiceCall) -> ServiceResponse:
    """Return jobs, newest first."""
    coordinator = call.hass.data[DATA_COORDINATOR]
    jobs: Iterable[FirmwareJob] = reversed(coordinator.queue.jobs())
    if has_target(call.data):
        wanted = set(_targets(call, coordinator))
        jobs = (job for job in jobs if job.request.target in wanted)
    if statuses := call.data.get(ServiceField.STATUS):
        jobs = (job for job in jobs if job.status in statuses)
    limit: int = call.data[ServiceField.LIMIT]
    return _jobs_response(call, coordinator, list(islice(jobs, limit)))


async def _async_get_log(call: ServiceCall) -> ServiceResponse:
    """Return a page of a job's output."""
    coordinator = call.hass.data[DATA_COORDINATOR]
    job = _job_to_read(call, coordinator)
    complete = job.terminal  # asked before the log, so that no last line is missed
    page = await coordinator.logs.read(
        job.job_id, call.data[ServiceField.FROM_LINE], call.data[ServiceField.LIMIT]
    )
    return {
        "job_id": job.job_id,
        "first_line": page.first_line,
        "lines": list(page.lines),
        "next_line": page.next_line,
        "complete": complete and page.next_line >= page.total,
    }


async def _async_open_pairing(call: ServiceCall) -> ServiceResponse:
    """Open the pairing window and return its code."""
    coordinator = call.hass.data[DATA_COORDINATOR]
    if coordinator.options is None:
        raise validation_error("not_set_up")
    window = coordinator.lender.open_window()
    expires_at = dt_util.utcnow() + timedelta(seconds=window.seconds_left)
    return {
        "code": window.code,
        "expires_at": expires_at.isoformat(),
        "seconds": window.seconds_left,
    }


def _targets_or_all(call: ServiceCall, coordinator: OffloadCoordinator) -> list[TargetId]:
    _refuse_without_folder(coordinator)
    return _targets(call, coordinator) if has_target(call.data) else list(coordinator.devices)


def _targets(call: ServiceCall, coordinator: OffloadCoordinator) -> list[TargetId]:
    _refuse_without_folder(coordinator)
    return async_targets(call.hass, call.data, coordinator.devices)


def _refuse_without_folder(coordinator: OffloadCoordinator) -> None:
    if coordinator.options is None:
        raise validation_error("not_set_up")
    if coordinator.options.config_dir is None:
        raise validation_error("no_config_folder")


def _address(
    call: ServiceCall, coordinator: OffloadCoordinator, targets: Sequence[TargetId]
) -> str | None:
    given: str | None = call.data.get(ServiceField.ADDRESS)
    if given is None:
        return None
    if len(targets) > 1:
        raise validation_error(
            "address_needs_one_target",
            count=str(len(targets)),
            devices=names(coordinator, targets),
        )
    # In lower case, because ESPHome takes the words SERIAL, OTA, MQTT and BOOTSEL for something
    # else. mDNS names of older devices have underscores.
    address = given.strip().lower()
    if not (is_ip_address(address) or is_host_valid(address.replace("_", "-"))):
        raise validation_error("invalid_address", address=given)
    return address


def _source(call: ServiceCall, coordinator: OffloadCoordinator) -> str:
    """Return "auto" or a builder's id, for one of these, a pin, a label or a config entry's id."""
    given: str = call.data.get(ServiceField.SOURCE, REQUESTED_AUTO).strip()
    if given.lower() in (REQUESTED_AUTO, REQUESTED_LOCAL):
        return given.lower()
    entry = call.hass.config_entries.async_get_entry(given)
    if entry is not None and entry.domain == DOMAIN:
        if not is_peer(entry):
            return REQUESTED_LOCAL
        peer = coordinator.peering.get(entry.entry_id)
        # Refused by the coordinator if it is not loaded, by the name that people know.
        return entry.title if peer is None else peer.builder.builder_id
    matching = [
        builder.builder_id
        for builder in coordinator.builders.builders
        if given in (builder.builder_id, builder.pin_sha256)
        or given.casefold() == builder.label.casefold()
    ]
    if len(matching) > 1:
        raise validation_error("ambiguous_source", source=given, pins=", ".join(matching))
    # What matches nothing is refused by the coordinator.
    return matching[0] if matching else given


def _job_to_read(call: ServiceCall, coordinator: OffloadCoordinator) -> FirmwareJob:
    job_id: str | None = call.data.get(ServiceField.JOB_ID)
    if (job_id is not None) == has_target(call.data):
        raise validation_error("log_needs_one_way")
    if job_id is not None:
        if (job := coordinator.queue.get(job_id)) is None:
            raise validation_error("unknown_job", job_id=job_id)
        return job
    targets = _targets(call, coordinator)
    if len(targets) > 1:
        raise validation_error("log_needs_one_way")
    target = targets[0]
    newest = coordinator.queue.active(target) or coordinator.queue.last(target)
    if newest is None:
        raise validation_error("no_job_yet", device=names(coordinator, targets))
    return newest


def _jobs_response(
    call: ServiceCall,
    coordinator: OffloadCoordinator,
    jobs: Iterable[FirmwareJob],
    left_out: Iterable[LeftOut] | None = None,
) -> ServiceResponse:
    if not call.return_response:
        return None
    # JobDetails and LeftOut are made of JSON values alone, which their types cannot say.
    response = {"jobs": [cast("JsonValueType", coordinator.job_details(job)) for job in jobs]}
    if left_out is not None:
        response["left_out"] = [cast("JsonValueType", each) for each in left_out]
    return cast("ServiceResponse", response)
