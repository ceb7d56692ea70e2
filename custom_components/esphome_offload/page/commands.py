"""Websocket commands of the page, for administrators: what it shows, and what its buttons do."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from homeassistant.components import websocket_api
from homeassistant.core import HomeAssistant, callback
import probatio

from ..batch.retry import async_retry
from ..const import DOMAIN
from ..coordinator import DATA_COORDINATOR, OffloadCoordinator
from ..engine.const import REQUESTED_AUTO, Operation
from ..engine.target import TargetId
from ..peering.entry import async_use
from ..texts.errors import validation_error
from .action import action
from .device_details import device_details, prepare_firmware
from .firmware_view import async_register_firmware_view
from .guest_output import follow_guest_build
from .payload import PageDevice, page_devices, page_overview
from .websocket_stream import ThrottledSubscription

_INTERVAL: Final = 0.5
_PROGRESS_INTERVAL: Final = 2.0
"""Seconds; the progress of builds for guests is not announced."""


@callback
def async_setup_page_commands(hass: HomeAssistant) -> None:
    """Register the commands, and the view from which firmware is downloaded."""
    async_register_firmware_view(hass)
    websocket_api.async_register_command(hass, subscribe_page)
    websocket_api.async_register_command(hass, follow_guest_build)
    for command in (
        submit_job,
        retry_job,
        cancel_job,
        device_details,
        prepare_firmware,
        open_pairing,
        close_pairing,
        accept_builds,
        use_builder,
        stop_build,
    ):
        websocket_api.async_register_command(hass, command)


@websocket_api.websocket_command({probatio.Required("type"): f"{DOMAIN}/page/subscribe"})
@websocket_api.require_admin
@callback
def subscribe_page(
    hass: HomeAssistant, connection: websocket_api.ActiveConnection, msg: dict[str, Any]
) -> None:
    """Send devices, builders and guests, then what changes of them."""
    subscription = ThrottledSubscription(connection, msg["id"], _INTERVAL)
    connection.send_result(msg["id"])
    subscription.own(hass, _follow(hass, hass.data[DATA_COORDINATOR], subscription))


async def _follow(
    hass: HomeAssistant, coordinator: OffloadCoordinator, subscription: ThrottledSubscription
) -> None:
    changed = asyncio.Event()
    unsubscribes = (
        coordinator.async_add_listener(changed.set),
        coordinator.builders.subscribe(changed.set),
        coordinator.lender.changed.subscribe(changed.set),
    )
    sent: Mapping[str, PageDevice] = {}
    overview: object = None
    first = True
    try:
        while True:
            changed.clear()
            devices, now = page_devices(hass, coordinator), page_overview(hass, coordinator)
            event: dict[str, Any] = {
                "snapshot": first,
                "devices": {
                    name: device for name, device in devices.items() if sent.get(name) != device
                },
                "removed": [name for name in sent if name not in devices],
            }
            if now != overview:
                event["overview"] = now
            if event["devices"] or event["removed"] or "overview" in event:
                subscription.send(event)
            sent, overview, first = devices, now, False
            await subscription.ready()
            host = coordinator.lender.host
            building = host is not None and bool(host.active())
            with suppress(TimeoutError):
                async with asyncio.timeout(_PROGRESS_INTERVAL if building else None):
                    await changed.wait()
    finally:
        for unsubscribe in unsubscribes:
            unsubscribe()


@action(
    "job/submit",
    {
        probatio.Required("device"): str,
        probatio.Required("operation"): probatio.Coerce(Operation),
        probatio.Optional("version"): str,
        probatio.Optional("source", default=REQUESTED_AUTO): str,
        probatio.Optional("clean", default=False): bool,
        probatio.Optional("rebuild", default=False): bool,
        probatio.Optional("batch"): probatio.All(str, probatio.Length(max=64)),
    },
)
async def submit_job(coordinator: OffloadCoordinator, msg: dict[str, Any]) -> dict[str, Any]:
    """Queue a job and send it."""
    job = await coordinator.async_submit(
        TargetId(msg["device"]),
        msg["operation"],
        version=msg.get("version"),
        source=msg["source"],
        clean=msg["clean"],
        rebuild=msg["rebuild"],
        user_id=msg["user_id"],
        batch=msg.get("batch"),
    )
    return {"job": coordinator.job_details(job)}


@action("job/retry", {probatio.Required("job_id"): str, probatio.Optional("source"): str})
async def retry_job(coordinator: OffloadCoordinator, msg: dict[str, Any]) -> dict[str, Any]:
    """Queue a job again, by another builder if one is given, and send the new one."""
    if (job := coordinator.queue.get(msg["job_id"])) is None:
        raise validation_error("unknown_job", job_id=msg["job_id"])
    again = await async_retry(coordinator, job, source=msg.get("source"), user_id=msg["user_id"])
    return {"job": coordinator.job_details(again)}


@action("job/cancel", {probatio.Required("job_id"): str})
async def cancel_job(coordinator: OffloadCoordinator, msg: dict[str, Any]) -> dict[str, Any]:
    """Cancel a job and send it when all its work has ended."""
    return {"job": coordinator.job_details(await coordinator.async_cancel(msg["job_id"]))}


@action("pairing/open", {})
async def open_pairing(coordinator: OffloadCoordinator, _msg: dict[str, Any]) -> None:
    """Open the pairing window; the page's subscription has its code."""
    coordinator.lender.open_window()


@action("pairing/close", {})
async def close_pairing(coordinator: OffloadCoordinator, _msg: dict[str, Any]) -> None:
    """Close the pairing window."""
    coordinator.lender.pairing.close()


@action("accept_builds", {probatio.Required("accept"): bool})
async def accept_builds(coordinator: OffloadCoordinator, msg: dict[str, Any]) -> None:
    """Switch accepting builds of guests on or off."""
    coordinator.lender.accept_builds(accept=msg["accept"])


@action("builder/use", {probatio.Required("builder"): str, probatio.Required("use"): bool})
async def use_builder(coordinator: OffloadCoordinator, msg: dict[str, Any]) -> None:
    """Use a paired builder or not for jobs that do not ask for it."""
    for peer in coordinator.peering.peers:
        if peer.builder.builder_id == msg["builder"]:
            async_use(coordinator.hass, peer.entry, use=msg["use"])


@action(
    "guest_build/stop",
    {probatio.Required("pin_sha256"): str, probatio.Required("attempt_id"): str},
)
async def stop_build(coordinator: OffloadCoordinator, msg: dict[str, Any]) -> None:
    """Stop a build for a guest; one that has ended already is left as it is."""
    if (host := coordinator.lender.host) is not None:
        await host.stop_build(msg["pin_sha256"], msg["attempt_id"])
