"""A component that writes the ends of jobs into a file, which survives what is done to its process."""

from functools import partial
from pathlib import Path

from homeassistant.core import Event, HomeAssistant, callback
from homeassistant.helpers.typing import ConfigType

DOMAIN = "soak_probe"
ENDS = ("completed", "failed", "cancelled")


async def async_setup(hass: HomeAssistant, config: ConfigType) -> bool:
    """Write a line per end: the job and how it ended."""
    path = Path(hass.config.path("job_ends"))
    file = await hass.async_add_executor_job(partial(path.open, "a", buffering=1))

    @callback
    def note(event: Event) -> None:
        file.write(f"{event.data['job_id']} {event.data['status']}\n")

    for end in ENDS:
        hass.bus.async_listen(f"esphome_offload_job_{end}", note)
    return True
