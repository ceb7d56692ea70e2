"""A component for tests and the benchmark: how long Home Assistant's event loop was held up."""

import asyncio
import gc
import time
from typing import Self

from homeassistant.core import HomeAssistant, ServiceCall, ServiceResponse, SupportsResponse
from homeassistant.helpers.typing import ConfigType

DOMAIN = "loop_probe"
_PERIOD = 0.001
_RUN = "_run"  # private, and the only place that all callbacks come by


class LongestCallback:
    """Measures while it is entered; that takes a few percent of a processor.

    ``seconds`` is what the longest callback of an event loop computed, without collections of
    garbage.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._collecting = 0.0
        self._collected = 0.0
        self._run = getattr(asyncio.Handle, _RUN)

    def __enter__(self) -> Self:
        def timed(handle: asyncio.Handle) -> None:
            collected, started = self._collected, time.thread_time()
            self._run(handle)
            took = time.thread_time() - started - (self._collected - collected)
            self.seconds = max(self.seconds, took)

        gc.callbacks.append(self._note_collection)
        setattr(asyncio.Handle, _RUN, timed)
        return self

    def __exit__(self, *_exception: object) -> None:
        setattr(asyncio.Handle, _RUN, self._run)
        gc.callbacks.remove(self._note_collection)

    def _note_collection(self, phase: str, _info: dict[str, int]) -> None:
        if phase == "start":
            self._collecting = time.thread_time()
        else:
            self._collected += time.thread_time() - self._collecting


class _Probe:
    """Measures while it is started; ``longest`` is in seconds by the clock."""

    def __init__(self) -> None:
        self.longest = 0.0
        self.callback = LongestCallback()

    async def sample(self) -> None:
        """Measure until this is cancelled."""
        loop = asyncio.get_running_loop()
        with self.callback:
            while True:
                due = loop.time() + _PERIOD
                await asyncio.sleep(_PERIOD)
                self.longest = max(self.longest, loop.time() - due)


async def async_setup(hass: HomeAssistant, config: ConfigType) -> bool:
    """Offer ``loop_probe.start``, and ``loop_probe.read``: the longest stalls in ms since then.

    ``longest_ms`` is by the clock, between two rounds of the loop. It grows when other processes
    want the processor, when a round has much to do, and with collections of Home Assistant's
    garbage. ``longest_callback_ms`` is what the longest callback computed, without those.
    """
    probe = _Probe()
    sampling: asyncio.Task[None] | None = None

    async def start(call: ServiceCall) -> None:
        nonlocal probe, sampling
        probe = _Probe()
        sampling = hass.async_create_background_task(probe.sample(), DOMAIN)

    async def read(call: ServiceCall) -> ServiceResponse:
        assert sampling is not None
        sampling.cancel()
        await asyncio.wait([sampling])
        return {
            "longest_ms": probe.longest * 1000,
            "longest_callback_ms": probe.callback.seconds * 1000,
        }

    hass.services.async_register(DOMAIN, "start", start)
    hass.services.async_register(DOMAIN, "read", read, supports_response=SupportsResponse.ONLY)
    return True
