"""A client of the page's subscription."""

from collections.abc import Awaitable, Callable
from typing import Any

from pytest_homeassistant_custom_component.typing import MockHAClientWebSocket

SUBSCRIBE = "esphome_offload/page/subscribe"

type Ask = Callable[..., Awaitable[dict[str, Any]]]


class Page:
    """What a browser that follows the page has."""

    def __init__(self, client: MockHAClientWebSocket) -> None:
        self.client = client
        self.devices: dict[str, Any] = {}
        self.overview: dict[str, Any] = {}

    async def event(self) -> dict[str, Any]:
        message = await self.client.receive_json()
        assert message["type"] == "event", message
        event: dict[str, Any] = message["event"]
        if event["snapshot"]:
            self.devices.clear()
        for name in event["removed"]:
            del self.devices[name]
        self.devices |= event["devices"]
        self.overview = event.get("overview", self.overview)
        return event

    async def until(self, fulfilled: Callable[[Page], bool]) -> None:
        while not fulfilled(self):
            await self.event()
