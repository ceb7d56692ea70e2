"""What helps to find a fault, without secrets and addresses."""

from dataclasses import asdict
from typing import Any, Final

from homeassistant.components.diagnostics import async_redact_data
from homeassistant.core import HomeAssistant

from .builders.model import Builder
from .coordinator import OffloadConfigEntry
from .device_tracker import OffloadDevice
from .peering import Peer
from .peers.address import host

_JOBS = 50

# What a person reads may quote the configuration with its passwords, or name an address.
_TO_REDACT: Final = {"address", "config_dir", "detail", "error", "user_id", "waiting_for"}


async def async_get_config_entry_diagnostics(
    hass: HomeAssistant, entry: OffloadConfigEntry
) -> dict[str, Any]:
    """Return the state of a peer, or of everything behind "this instance"."""
    coordinator = entry.runtime_data
    if (peer := coordinator.peering.get(entry.entry_id)) is not None:
        return _peer(peer)
    options = coordinator.options
    diagnostics: dict[str, Any] = {
        "options": None if options is None else asdict(options),
        "latest_version": coordinator.latest_version,
        "toolchains": list(coordinator.workshop.toolchains()),
        "builders": [_builder(builder) for builder in coordinator.builders.builders],
        "devices": [_device(device) for device in coordinator.devices.values()],
        "unreadable": sorted(coordinator.unreadable),
        "jobs": [dict(coordinator.job_details(job)) for job in coordinator.queue.jobs()[-_JOBS:]],
    }
    redacted: dict[str, Any] = async_redact_data(diagnostics, _TO_REDACT)
    return redacted


def _builder(builder: Builder) -> dict[str, Any]:
    status = builder.status()
    return {
        "source": builder.source.value,
        "available": status.available,
        "why_not": status.why_not,
        "slots": status.slots,
        "busy": status.busy,
        "queue_length": status.queue_length,
        "versions": list(status.versions),
        "warm": len(status.warm),
        "memory_mib": status.memory_mib,
        "disk_mib": status.disk_mib,
        "ccache": status.ccache,
    }


def _peer(peer: Peer) -> dict[str, Any]:
    """Return what is known of a peer; of its address no more than the host."""
    link = peer.link
    session = link.session
    return {
        "scheme": peer.settings.url.partition(":")[0],
        "host": host(peer.settings.url),
        "verify_ssl": peer.settings.verify_ssl,
        "pin_sha256": peer.settings.public.pin_sha256,
        "state": link.state.value,
        "why": link.why,
        "code": None if link.code is None else link.code.value,
        "protocol": None if session is None else session.agreement.protocol,
        "capabilities": [] if session is None else sorted(session.agreement.capabilities),
        "builder": _builder(peer.builder),
    }


def _device(device: OffloadDevice) -> dict[str, Any]:
    configuration, core = device.configuration, device.core
    return {
        "configuration": configuration.file_name,
        "platform": configuration.platform,
        "deep_sleep": configuration.deep_sleep,
        "files": len(configuration.files),
        "known_to_esphome": core is not None,
        "online": None if core is None else core.online,
        "esphome_version": None if core is None else core.esphome_version,
        "build_time": None if core is None else core.build_time,
    }
