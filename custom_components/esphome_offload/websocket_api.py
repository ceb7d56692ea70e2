"""Websocket commands for administrators: follow one job, list and follow all."""

import asyncio
from contextlib import suppress
from typing import Any

from homeassistant.components import websocket_api
from homeassistant.core import HomeAssistant, callback
from homeassistant.util import dt as dt_util
import probatio

from .const import DOMAIN
from .coordinator import DATA_COORDINATOR, OffloadCoordinator
from .engine.jobs.model import FirmwareJob
from .jobs.payload import Expectation, expectation
from .page.action import send_refusal
from .page.websocket_stream import OUTPUT_INTERVAL, ThrottledSubscription
from .texts.errors import validation_error

_LIST_INTERVAL = 0.5
_EXPECTED_INTERVAL = 5.0
"""With each job that starts or ends, all that wait behind it move up."""


@callback
def async_setup_websocket_api(hass: HomeAssistant) -> None:
    """Register the commands."""
    websocket_api.async_register_command(hass, follow_job)
    websocket_api.async_register_command(hass, list_jobs)
    websocket_api.async_register_command(hass, subscribe_jobs)


@websocket_api.websocket_command(
    {
        probatio.Required("type"): f"{DOMAIN}/job/follow",
        probatio.Required("job_id"): str,
        probatio.Optional("from_line", default=0): probatio.All(int, probatio.Range(min=0)),
    }
)
@websocket_api.require_admin
@callback
def follow_job(
    hass: HomeAssistant, connection: websocket_api.ActiveConnection, msg: dict[str, Any]
) -> None:
    """Send a job and its output from a line on, then the changes, until it has ended."""
    coordinator = hass.data[DATA_COORDINATOR]
    if (job := coordinator.queue.get(msg["job_id"])) is None:
        unknown = validation_error("unknown_job", job_id=msg["job_id"])
        send_refusal(hass, connection, msg["id"], unknown, websocket_api.ERR_NOT_FOUND)
        return
    subscription = ThrottledSubscription(connection, msg["id"], OUTPUT_INTERVAL)
    connection.send_result(msg["id"])
    subscription.own(hass, _follow(coordinator, job, msg["from_line"], subscription))


@websocket_api.websocket_command(
    {
        probatio.Required("type"): f"{DOMAIN}/jobs/list",
        probatio.Optional("limit", default=100): probatio.All(int, probatio.Range(1, 1000)),
    }
)
@websocket_api.require_admin
@callback
def list_jobs(
    hass: HomeAssistant, connection: websocket_api.ActiveConnection, msg: dict[str, Any]
) -> None:
    """Send the active jobs and the newest that have ended, newest first."""
    connection.send_result(msg["id"], {"jobs": _newest(hass.data[DATA_COORDINATOR], msg["limit"])})


@websocket_api.websocket_command(
    {
        probatio.Required("type"): f"{DOMAIN}/jobs/subscribe",
        probatio.Optional("limit", default=100): probatio.All(int, probatio.Range(1, 1000)),
    }
)
@websocket_api.require_admin
@callback
def subscribe_jobs(
    hass: HomeAssistant, connection: websocket_api.ActiveConnection, msg: dict[str, Any]
) -> None:
    """Send what ``list_jobs`` does, then each job that changes."""
    subscription = ThrottledSubscription(connection, msg["id"], _LIST_INTERVAL)
    connection.send_result(msg["id"])
    subscription.own(hass, _follow_all(hass.data[DATA_COORDINATOR], msg["limit"], subscription))


async def _follow(
    coordinator: OffloadCoordinator,
    job: FirmwareJob,
    next_line: int,
    subscription: ThrottledSubscription,
) -> None:
    changed = asyncio.Event()
    unsubscribes = (
        coordinator.queue.subscribe(job.job_id, lambda _event, _job: changed.set()),
        coordinator.logs.subscribe(job.job_id, changed.set),
        # What somebody looks at comes first.
        coordinator.queue.watch(job.job_id),
    )
    try:
        await subscription.send_output(
            coordinator.logs,
            job.job_id,
            next_line,
            woken=changed,
            ended=lambda: job.terminal,
            about=lambda: {"job": coordinator.job_details(job)},
        )
    finally:
        for unsubscribe in unsubscribes:
            unsubscribe()


async def _follow_all(
    coordinator: OffloadCoordinator, limit: int, subscription: ThrottledSubscription
) -> None:
    changed = asyncio.Event()
    jobs: dict[str, FirmwareJob] = {}

    def collect(_event: object, job: FirmwareJob) -> None:
        jobs[job.job_id] = job
        changed.set()

    unsubscribe = coordinator.queue.subscribe(None, collect)
    loop = asyncio.get_running_loop()
    expected: dict[str, Expectation] = {}
    look_at: float | None = None
    looked_at = loop.time()
    try:
        subscription.send({"jobs": _newest(coordinator, limit), "snapshot": True})
        while True:
            await subscription.ready()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(look_at):
                    await changed.wait()
            changed.clear()
            event: dict[str, Any] = {"snapshot": False}
            event["jobs"] = [coordinator.job_details(job) for job in jobs.values()]
            look_at = look_at or looked_at + _EXPECTED_INTERVAL
            if loop.time() >= look_at:
                look_at, looked_at = None, loop.time()
                before, expected = expected, _expectations(coordinator)
                event["expected"] = {
                    job_id: expectation
                    for job_id, expectation in expected.items()
                    if expectation != before.get(job_id)
                }
            jobs.clear()
            if event["jobs"] or event.get("expected"):
                subscription.send(event)
    finally:
        unsubscribe()


def _expectations(coordinator: OffloadCoordinator) -> dict[str, Expectation]:
    now = dt_util.utcnow()
    return {
        job.job_id: expectation(coordinator.queue.forecast(job), now)
        for job in coordinator.queue.jobs()
        if not job.terminal
    }


def _newest(coordinator: OffloadCoordinator, limit: int) -> list[dict[str, Any]]:
    """Return all jobs that are active and the newest that have ended, newest first."""
    newest_first = reversed(coordinator.queue.jobs())
    left = limit
    shown: list[dict[str, Any]] = []
    for job in newest_first:
        if job.terminal:
            if not left:
                continue
            left -= 1
        shown.append(dict(coordinator.job_details(job)))
    return shown
