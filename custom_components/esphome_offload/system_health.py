"""The state of the integration on the system information page."""

from typing import Any

from homeassistant.components import system_health
from homeassistant.core import HomeAssistant, callback

from .coordinator import DATA_COORDINATOR
from .engine.build.model import BuilderStatus
from .texts.reasons import common_text, reason_text


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
        "latest_version": coordinator.versions.latest or common_text(hass, "unknown"),
        "toolchains": ", ".join(coordinator.build_services.toolchains.installed())
        or common_text(hass, "none"),
        "local_builder": _availability(hass, local),
        "peers": ", ".join(
            f"{peer.settings.label}: {_availability(hass, peer.builder.status())}"
            for peer in coordinator.peering.peers
        )
        or common_text(hass, "none"),
    }


def _availability(hass: HomeAssistant, status: BuilderStatus) -> str:
    if status.why_not is None:
        return common_text(hass, "available")
    return reason_text(hass, status.why_not)
