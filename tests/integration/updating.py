"""The update entity of a lamp: what it shows, and installations by it."""

from homeassistant.core import HomeAssistant, State

from custom_components.esphome_offload.coordinator import OffloadCoordinator
from custom_components.esphome_offload.inventory.announced_firmware import AnnouncedFirmware

ENTITY = "update.desk_lamp_esphome"


def state(hass: HomeAssistant) -> State:
    found = hass.states.get(ENTITY)
    assert found is not None
    return found


def runs(coordinator: OffloadCoordinator, name: str, version: str) -> None:
    """Let a device announce its version."""
    coordinator.firmware._announced(AnnouncedFirmware(name, version))


async def install(hass: HomeAssistant, **data: str) -> None:
    await hass.services.async_call(
        "update", "install", {"entity_id": ENTITY, **data}, blocking=True
    )
