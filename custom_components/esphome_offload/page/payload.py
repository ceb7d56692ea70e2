"""What the page shows besides jobs: devices, builders, guests, as JSON."""

from collections.abc import Mapping
from typing import TypedDict

from homeassistant.const import STATE_ON
from homeassistant.core import HomeAssistant

from ..const import DOMAIN, INSTANCE_UNIQUE_ID
from ..coordinator import OffloadCoordinator
from ..engine.build.model import Builder
from ..engine.host.attempt import GuestAttempt
from ..engine.target import TargetId
from ..inventory.core_esphome import esphome_app
from ..inventory.tracker import OffloadDevice
from ..peering.entry import Peer, is_peer, is_used
from ..registry import async_entity
from ..texts.reasons import reason_text


class PageDevice(TypedDict):
    """A device; ``id`` is the target of its jobs.

    ``pinned``: a person chose the very version. ``online`` and ``configuration_changed`` are null
    while unknown. ``update``: whether there is something to install, as its update entity says.
    ``rivals`` say why it is unclear which device it is; ``over_the_air``: whether it can be
    flashed so.
    """

    id: str
    configuration: str
    name: str
    node_name: str
    comment: str | None
    platform: str | None
    device_id: str | None
    online: bool | None
    deep_sleep: bool
    installed_version: str | None
    wanted_version: str | None
    pinned: bool
    configuration_changed: bool | None
    update: bool
    over_the_air: bool
    rivals: list[str]


class PageBuilder(TypedDict):
    """A builder; "local" is this instance. ``disk_mib`` is what is free.

    ``used``: whether jobs use it that do not ask for it; null for this instance.

    Of ``cache_files`` that were compiled since its start its compiler cache had ``cache_hits``.
    """

    id: str
    label: str
    program: str | None
    url: str | None
    connected: bool
    available: bool
    used: bool | None
    why_not: str | None
    slots: int
    busy: int
    queued: int
    versions: list[str]
    disk_mib: int | None
    cache_hits: int
    cache_files: int


class PageGuestBuild(TypedDict):
    """A build for a guest, with why it did not succeed."""

    attempt_id: str
    configuration: str
    device_name: str
    esphome_version: str
    state: str
    progress: int | None
    over: bool
    reason: str | None


class PageGuest(TypedDict):
    """A guest; times are ISO 8601, UTC."""

    pin_sha256: str
    label: str
    connected: bool
    last_seen: str | None
    builds_completed: int
    builds: list[PageGuestBuild]


class PageLending(TypedDict):
    """This instance as a builder for others.

    ``why_not`` says why builds cannot be accepted although they should be, or could not be.
    """

    accepts_builds: bool
    why_not: str | None
    disk_used: int
    code: str | None
    seconds_left: int | None
    guests: list[PageGuest]


class PageOverview(TypedDict):
    """All that is not one device's; ``esphome_url`` is where ESPHome's own page is.

    ``entry_id`` is the config entry of this instance.
    """

    set_up: bool
    entry_id: str | None
    folder: str | None
    esphome_url: str | None
    unreadable: dict[str, str]
    builders: list[PageBuilder]
    lending: PageLending


def page_devices(hass: HomeAssistant, coordinator: OffloadCoordinator) -> dict[str, PageDevice]:
    """Return all devices by target."""
    return {
        target: _device(hass, coordinator, target, device)
        for target, device in coordinator.devices.items()
    }


def page_overview(hass: HomeAssistant, coordinator: OffloadCoordinator) -> PageOverview:
    """Return the rest."""
    options = coordinator.options
    folder = None if options is None else options.config_dir
    entry = hass.config_entries.async_entry_for_domain_unique_id(DOMAIN, INSTANCE_UNIQUE_ID)
    return {
        "set_up": options is not None,
        "entry_id": None if entry is None else entry.entry_id,
        "folder": None if folder is None else str(folder),
        "esphome_url": None if (app := esphome_app(hass)) is None else f"/app/{app}",
        "unreadable": {
            name: reason_text(hass, reason)
            for name, reason in coordinator.inventory.problems.items()
        },
        "builders": _builders(hass, coordinator),
        "lending": _lending(hass, coordinator),
    }


def _device(
    hass: HomeAssistant, coordinator: OffloadCoordinator, target: TargetId, device: OffloadDevice
) -> PageDevice:
    configuration, core = device.configuration, device.core
    entity = async_entity(hass, target)
    state = None if entity is None else hass.states.get(entity.entity_id)
    installed, wanted = coordinator.installed_version(target), coordinator.versions.wanted(target)
    # An update entity knows no answer while nothing is known of the device.
    unknown = installed is None and wanted is not None
    return {
        "id": target,
        "configuration": configuration.file_name,
        "name": device.friendly_name,
        "node_name": device.name,
        "comment": configuration.comment,
        "platform": configuration.platform,
        "device_id": None if entity is None else entity.device_id,
        "online": None if core is None else core.online,
        "deep_sleep": configuration.deep_sleep,
        "installed_version": installed,
        "wanted_version": wanted,
        "pinned": coordinator.versions.is_pinned(target),
        "configuration_changed": coordinator.firmware.is_changed(target),
        "update": unknown or (state is not None and state.state == STATE_ON),
        "over_the_air": not configuration.access.without_ota,
        "rivals": list(device.rivals),
    }


def _builders(hass: HomeAssistant, coordinator: OffloadCoordinator) -> list[PageBuilder]:
    peers: Mapping[str | None, Peer] = {
        entry.unique_id: entry.runtime_data
        for entry in hass.config_entries.async_loaded_entries(DOMAIN)
        if is_peer(entry)
    }
    return [
        _builder(hass, builder, peers.get(builder.builder_id))
        for builder in coordinator.builders.builders
    ]


def _builder(hass: HomeAssistant, builder: Builder, peer: Peer | None) -> PageBuilder:
    status = builder.status()
    introduction = None if peer is None else peer.link.introduction
    return {
        "id": builder.builder_id,
        "label": builder.label,
        "program": None if introduction is None else introduction.program.value,
        "url": None if peer is None else peer.settings.url,
        "connected": status.reachable,
        "available": status.available,
        "used": None if peer is None else is_used(peer.entry),
        "why_not": None if status.why_not is None else reason_text(hass, status.why_not),
        "slots": status.slots,
        "busy": status.busy,
        "queued": status.queue_length,
        "versions": list(status.versions),
        "disk_mib": status.disk_mib,
        "cache_hits": status.ccache_hits,
        "cache_files": status.ccache_files,
    }


def _lending(hass: HomeAssistant, coordinator: OffloadCoordinator) -> PageLending:
    lender = coordinator.lender
    why_not = lender.why_not
    window = lender.pairing.state
    host = lender.host
    shown = () if host is None else host.shown()
    return {
        "accepts_builds": lender.accepts_builds,
        "why_not": None if why_not is None else reason_text(hass, why_not),
        "disk_used": 0 if host is None else host.disk_used,
        "code": None if window is None else window.code,
        "seconds_left": None if window is None else window.seconds_left,
        "guests": [
            {
                "pin_sha256": guest.pin_sha256,
                "label": guest.label,
                "connected": lender.server.sessions.connected(guest.pin_sha256),
                "last_seen": None if guest.last_seen is None else guest.last_seen.isoformat(),
                "builds_completed": guest.builds,
                "builds": [
                    guest_build(hass, attempt)
                    for attempt in shown
                    if attempt.key.pin_sha256 == guest.pin_sha256
                ],
            }
            for guest in lender.guests.all()
        ],
    }


def guest_build(hass: HomeAssistant, attempt: GuestAttempt) -> PageGuestBuild:
    """Return a build for a guest."""
    parameters, result = attempt.submission.parameters, attempt.result
    return {
        "attempt_id": attempt.key.attempt_id,
        "configuration": parameters.configuration,
        "device_name": parameters.device_name,
        "esphome_version": parameters.esphome_version,
        "state": attempt.state.value,
        "progress": None if result or attempt.percent is None else int(attempt.percent),
        "over": result is not None,
        "reason": None if not (result and result.reason) else reason_text(hass, result.reason),
    }
