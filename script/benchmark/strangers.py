"""1,200 strangers who connect at once to the link.

Beside it, as many at Home Assistant's own websocket, and as many who ask for a page that there is
not: less than that, the web server itself does not cost.
"""

import asyncio
from statistics import median

from custom_components.esphome_offload.engine.protocol.hello import URL_LINK
from script.benchmark.printing import longest_stalls, start_probes
from tests.e2e.harness.builder import Builder
from tests.e2e.harness.client import Json
from tests.e2e.harness.strangers import strangers

COUNT = 1200
_PATHS = {"link": URL_LINK, "home_assistant": "/api/websocket", "no_page": "/no_such_page"}


async def measure(builder: Builder, runs: int) -> dict[str, Json]:
    """Return the longest stall of the builder in ms, by the place that is asked; medians."""
    stalls: dict[str, list[float]] = {place: [] for place in _PATHS}
    for _ in range(runs):
        for place, path in _PATHS.items():
            await start_probes([builder.client])
            async with strangers(builder, COUNT, path) as arriving:
                await arriving
                stalls[place] += await longest_stalls([builder.client])
            await asyncio.sleep(1)  # for the ends of their connections
    return {place: round(median(of_one), 1) for place, of_one in stalls.items()}
