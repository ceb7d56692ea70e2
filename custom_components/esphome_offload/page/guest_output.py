"""Websocket command of the page: the output of a build for a guest."""

import asyncio
from typing import Any

from homeassistant.components import websocket_api
from homeassistant.core import HomeAssistant, callback
import probatio

from ..const import DOMAIN
from ..coordinator import DATA_COORDINATOR
from ..engine.host.attempt import AttemptKey, GuestAttempt
from ..engine.job_log import JobLogs
from ..texts.errors import validation_error
from .action import send_refusal
from .payload import guest_build
from .websocket_stream import OUTPUT_INTERVAL, ThrottledSubscription


@websocket_api.websocket_command(
    {
        probatio.Required("type"): f"{DOMAIN}/guest_build/follow",
        probatio.Required("pin_sha256"): str,
        probatio.Required("attempt_id"): str,
        probatio.Optional("from_line", default=0): probatio.All(int, probatio.Range(min=0)),
    }
)
@websocket_api.require_admin
@callback
def follow_guest_build(
    hass: HomeAssistant, connection: websocket_api.ActiveConnection, msg: dict[str, Any]
) -> None:
    """Send a build for a guest and its output from a line on, until it has ended."""
    host = hass.data[DATA_COORDINATOR].lender.host
    key = AttemptKey(msg["pin_sha256"], msg["attempt_id"])
    shown = () if host is None else host.shown()
    attempt = next((each for each in shown if each.key == key), None)
    if host is None or attempt is None:
        send_refusal(hass, connection, msg["id"], validation_error("unknown_guest_build"))
        return
    subscription = ThrottledSubscription(connection, msg["id"], OUTPUT_INTERVAL)
    connection.send_result(msg["id"])
    subscription.own(hass, _follow(hass, host.logs, attempt, msg["from_line"], subscription))


async def _follow(
    hass: HomeAssistant,
    logs: JobLogs,
    attempt: GuestAttempt,
    next_line: int,
    subscription: ThrottledSubscription,
) -> None:
    changed = asyncio.Event()
    log_id = attempt.key.log_id
    unsubscribes = (attempt.watch(changed.set), logs.subscribe(log_id, changed.set))
    try:
        await subscription.send_output(
            logs,
            log_id,
            next_line,
            woken=changed,
            ended=lambda: attempt.result is not None,
            about=lambda: {"build": guest_build(hass, attempt)},
        )
    finally:
        for unsubscribe in unsubscribes:
            unsubscribe()
