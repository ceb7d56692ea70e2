"""A component for the benchmark's Home Assistant: how long its event loop was held up."""

import asyncio

from homeassistant.core import HomeAssistant, ServiceCall, ServiceResponse, SupportsResponse
from homeassistant.helpers.typing import ConfigType

DOMAIN = "loop_probe"
_PERIOD = 0.001


async def async_setup(hass: HomeAssistant, config: ConfigType) -> bool:
    """Offer ``loop_probe.read``: the longest stall in ms since it was read last."""
    longest = 0.0

    async def sample() -> None:
        nonlocal longest
        while True:
            due = hass.loop.time() + _PERIOD
            await asyncio.sleep(_PERIOD)
            longest = max(longest, hass.loop.time() - due)

    async def read(call: ServiceCall) -> ServiceResponse:
        nonlocal longest
        stall, longest = longest, 0.0
        return {"longest_ms": stall * 1000}

    hass.async_create_background_task(sample(), DOMAIN)
    hass.services.async_register(DOMAIN, "read", read, supports_response=SupportsResponse.ONLY)
    return True
