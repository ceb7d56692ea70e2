"""The state of the integration on the system information page."""

from typing import Any

from homeassistant.components import system_health
from homeassistant.core import HomeAssistant, callback

from .coordinator import DATA_COORDINATOR
from .engine.client.link import PeerLink
from .engine.reason import Reason, ReasonKey
from .reasons import reason_text


@callback
def async_register(hass: HomeAssistant, register: system_health.SystemHealthRegistration) -> None:
    """Register the information."""
    register.async_register_info(_info)


async def _info(hass: HomeAssistant) -> dict[str, Any]:
    coordinator = hass.data[DATA_COORDINATOR]
    jobs = [job for job in coordinator.queue.jobs() if not job.terminal]
    local = coordinator.build_services.builder.status()
    return {
        "devices": len(coordinator.devices),
        "jobs_running": sum(not job.waiting for job in jobs),
        "jobs_waiting": sum(job.waiting for job in jobs),
        "latest_version": coordinator.latest_version or "unknown",
        "toolchains": ", ".join(coordinator.build_services.toolchains.installed()) or "none",
        "local_builder": "available" if local.available else local.why_not,
        "peers": ", ".join(
            f"{peer.settings.label}: {_link_text(hass, peer.link)}"
            for peer in coordinator.peering.peers
        )
        or "none",
    }


def _link_text(hass: HomeAssistant, link: PeerLink) -> str:
    if link.connected:
        return "connected"
    return reason_text(hass, link.why or Reason(ReasonKey.PEER_NOT_CONNECTED))
