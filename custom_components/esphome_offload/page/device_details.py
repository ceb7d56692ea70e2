"""Websocket commands of the page about one device: why it is as it is, and what was built for it."""

from contextlib import suppress
from datetime import datetime
from itertools import chain
from typing import Any, Final, TypedDict

import probatio

from ..coordinator import OffloadCoordinator
from ..engine.build.model import BuildError, Firmware
from ..engine.const import Image
from ..engine.jobs.router import Bind
from ..engine.reason import ReasonKey
from ..engine.target import TargetId, configuration_of
from ..inventory.versions import newest_first
from ..texts.errors import validation_error
from ..texts.reasons import reason_text
from .action import action
from .firmware_view import firmware_url

_BUILD_TIME: Final = "%Y-%m-%d %H:%M:%S %z"
"""As ESPHome writes it; versions that write none leave it empty."""


class KeptFirmware(TypedDict):
    """What was built last for a device; ``images`` are the files that can be downloaded.

    Some of them may be kept by the builder only, and are fetched when they are asked for.
    """

    sha256: str
    esphome_version: str
    built_at: str | None
    images: list[str]


class DeviceDetails(TypedDict):
    """Where a device would be built now, and what was built.

    ``builder`` is null when there is none now; ``reason`` says why, or why this one. ``versions``
    are those of ESPHome that are known, newest first.
    """

    builder: str | None
    reason: str
    why_not: dict[str, str]
    versions: list[str]
    firmware: KeptFirmware | None


@action("device/details", {probatio.Required("device"): str})
async def device_details(coordinator: OffloadCoordinator, msg: dict[str, Any]) -> dict[str, Any]:
    """Send what the dialogs of a device show."""
    hass, configuration = coordinator.hass, configuration_of(TargetId(msg["device"]))
    firmware = await coordinator.build_services.firmware.latest(configuration)
    outlook = coordinator.queue.outlook(configuration)
    builder, why_not = None, dict[str, str]()
    if isinstance(outlook, Bind):
        chosen = coordinator.builders.get(outlook.builder_id)
        builder = outlook.builder_id if chosen is None else chosen.label
        why_not = {label: reason_text(hass, why) for label, why in outlook.why_not.items()}
    installed = (each.status().versions for each in coordinator.builders.builders)
    details: DeviceDetails = {
        "builder": builder,
        "reason": reason_text(hass, outlook.reason),
        "why_not": why_not,
        "versions": newest_first(chain(coordinator.versions.known, *installed)),
        "firmware": None if firmware is None else _kept(firmware),
    }
    return dict(details)


@action(
    "firmware/prepare",
    {
        probatio.Required("device"): str,
        probatio.Required("sha256"): str,
        probatio.Required("image"): probatio.Coerce(Image),
    },
)
async def prepare_firmware(coordinator: OffloadCoordinator, msg: dict[str, Any]) -> dict[str, Any]:
    """Send where a file of a firmware can be downloaded; what its builder keeps is fetched first."""
    configuration, image = configuration_of(TargetId(msg["device"])), msg["image"]
    try:
        firmware = await coordinator.build_services.firmware.load(configuration, msg["sha256"])
        if firmware is not None and image not in firmware.files and firmware.elsewhere is not None:
            builder = coordinator.builders.get(firmware.elsewhere.builder_id)
            if builder is not None:
                firmware = await builder.fetch_image(firmware, image)
    except BuildError as err:
        if err.reason.key == ReasonKey.IMAGE_GONE:
            await _build_again(coordinator, configuration)
        raise validation_error(err.reason.key, **err.reason.parameters) from err
    if firmware is None or image not in firmware.files:
        await _build_again(coordinator, configuration)
        raise validation_error("image_gone", configuration=configuration)
    return {"url": firmware_url(firmware, image)}


async def _build_again(coordinator: OffloadCoordinator, configuration: str) -> None:
    """Have a build make the files of a firmware that are gone, also if nothing has changed."""
    with suppress(OSError):
        await coordinator.build_services.origins.forget(configuration)


def _kept(firmware: Firmware) -> KeptFirmware:
    info = firmware.build_info
    files = {*firmware.files, *(firmware.elsewhere.images if firmware.elsewhere else ())}
    try:
        built_at = datetime.strptime(info.build_time, _BUILD_TIME).isoformat()
    except ValueError:
        built_at = None
    return {
        "sha256": firmware.sha256,
        "esphome_version": info.esphome_version,
        "built_at": built_at,
        "images": [image.value for image in Image if image in files],
    }
