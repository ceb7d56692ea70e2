"""Diagnostics, without secrets and addresses."""

from dataclasses import asdict
from typing import Any, Final

from homeassistant.components.diagnostics import REDACTED, async_redact_data
from homeassistant.config_entries import ConfigEntryState
from homeassistant.core import HomeAssistant

from .coordinator import DATA_COORDINATOR, AnyConfigEntry
from .engine.build.model import Builder
from .engine.build.slots import Slots
from .engine.codec import encode
from .engine.const import MIB
from .engine.host.guests import Guest
from .engine.host.lending import Lending
from .inventory.tracker import OffloadDevice
from .lending.lender import Lender
from .peering.entry import Peer, is_peer

_JOBS = 50

# Texts for people may quote the configuration with its passwords, or name an address.
_TO_REDACT: Final = {"address", "config_dir", "detail", "error", "user_id", "waiting_for"}


async def async_get_config_entry_diagnostics(
    hass: HomeAssistant, entry: AnyConfigEntry
) -> dict[str, Any]:
    """Return the state of a peer, or of everything behind "this instance"."""
    if is_peer(entry):
        # One that is disabled, or could not be set up, has no runtime data.
        return _peer(entry.runtime_data) if entry.state is ConfigEntryState.LOADED else {}
    coordinator = hass.data[DATA_COORDINATOR]
    options = coordinator.options
    diagnostics: dict[str, Any] = {
        "options": None if options is None else asdict(options),
        "latest_version": coordinator.versions.latest,
        "toolchains": list(coordinator.build_services.toolchains.installed()),
        "builders": [_builder(builder) for builder in coordinator.builders.builders],
        "devices": [
            {
                **_device(device),
                "wanted_version": coordinator.versions.wanted(target),
                "settings": encode(coordinator.device_settings.get(target)),
            }
            for target, device in coordinator.devices.items()
        ],
        "unreadable": sorted(coordinator.inventory.problems),
        "lending": _lending(coordinator.lender, coordinator.build_services.builder.slots),
        "jobs": [dict(coordinator.job_details(job)) for job in coordinator.queue.jobs()[-_JOBS:]],
    }
    redacted: dict[str, Any] = async_redact_data(diagnostics, _TO_REDACT)
    return redacted


def _builder(builder: Builder) -> dict[str, Any]:
    status = builder.status()
    return {
        "source": builder.source.value,
        "available": status.available,
        "why_not": None if status.why_not is None else str(status.why_not),
        "slots": status.slots,
        "busy": status.busy,
        "queue_length": status.queue_length,
        "versions": list(status.versions),
        "warm": len(status.warm),
        "memory_mib": status.memory_mib,
        "disk_mib": status.disk_mib,
        "ccache": status.ccache,
        "ccache_hits": status.ccache_hits,
        "ccache_files": status.ccache_files,
    }


def _lending(lender: Lender, slots: Slots) -> dict[str, Any]:
    """Return the state of lending; of a pairing window only whether it is open."""
    host = None if lender.lending is Lending.OFF else lender.host
    end = lender.pairing.end
    why_not = lender.why_cannot_build
    return {
        "state": lender.lending.value,
        "accepts_builds": lender.accepts_builds,
        "why_not": None if why_not is None else str(why_not),
        "containment": asdict(lender.containment),
        "slots": slots.count,
        "busy": slots.busy,
        "queue_length": slots.waiting,
        "builds": 0 if host is None else len(host.active()),
        "disk_mib": None if host is None else host.disk_used // MIB,
        "window_open": lender.pairing.state is not None,
        "window_end": None if end is None else end.value,
        "guests": [_guest(lender, guest) for guest in lender.guests.all()],
    }


def _guest(lender: Lender, guest: Guest) -> dict[str, Any]:
    return {
        "pin": guest.pin_sha256[:16],
        "connected": lender.server.sessions.connected(guest.pin_sha256),
        "paired_at": guest.paired_at.isoformat(),
        "last_seen": None if guest.last_seen is None else guest.last_seen.isoformat(),
        "builds": guest.builds,
    }


def _peer(peer: Peer) -> dict[str, Any]:
    """Return the state of a peer."""
    link = peer.link
    agreement = link.agreement
    return {
        "scheme": peer.settings.url.partition(":")[0],
        "host": REDACTED,
        "verify_ssl": peer.settings.verify_ssl,
        "pin_sha256": peer.settings.public.pin_sha256,
        "state": link.state.value,
        "why": None if link.why is None else str(link.why),
        "code": None if link.code is None else link.code.value,
        "protocol": None if agreement is None else agreement.protocol,
        "capabilities": [] if agreement is None else sorted(agreement.capabilities),
        "builder": _builder(peer.builder),
    }


def _device(device: OffloadDevice) -> dict[str, Any]:
    configuration, core = device.configuration, device.core
    access = configuration.access
    return {
        "configuration": configuration.file_name,
        "platform": configuration.platform,
        "deep_sleep": configuration.deep_sleep,
        "adds_mac_suffix": configuration.adds_mac_suffix,
        "min_version": configuration.min_version,
        "files": len(configuration.files),
        "ota": None if access.ota is None else [each.platform for each in access.ota],
        "address_given": access.address_given,
        "api": access.api,
        "good_after": access.good_after,
        "unclear": bool(device.rivals),
        "known_to_esphome": core is not None,
        "online": None if core is None else core.online,
        "esphome_version": None if core is None else core.esphome_version,
        "build_time": None if core is None else core.build_time,
    }
