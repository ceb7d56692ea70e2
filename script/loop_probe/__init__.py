"""A component for the benchmark's Home Assistant: how long its event loop was held up."""

import asyncio

from homeassistant.core import HomeAssistant, ServiceCall, ServiceResponse, SupportsResponse
from homeassistant.helpers.typing import ConfigType

DOMAIN = "loop_probe"
_PERIOD = 0.001


async def async_setup(hass: HomeAssistant, config: ConfigType) -> bool:
    """Offer ``loop_probe.start``, and ``loop_probe.read``: the longest stall in ms since then.

    It only looks between the two: looking takes a few percent of a processor.
    """
    longest = 0.0
    sampling: asyncio.Task[None] | None = None

    async def sample() -> None:
        nonlocal longest
        while True:
            due = hass.loop.time() + _PERIOD
            await asyncio.sleep(_PERIOD)
            longest = max(longest, hass.loop.time() - due)

    async def start(call: ServiceCall) -> None:
        nonlocal longest, sampling
        longest = 0.0
        sampling = hass.async_create_background_task(sample(), DOMAIN)

    async def read(call: ServiceCall) -> ServiceResponse:
        assert sampling is not None
        sampling.cancel()
        return {"longest_ms": longest * 1000}

    hass.services.async_register(DOMAIN, "start", start)
    hass.services.async_register(DOMAIN, "read", read, supports_response=SupportsResponse.ONLY)
    return True
