"""What the page's buttons do, as websocket commands for administrators."""

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

from homeassistant.components import websocket_api
from homeassistant.core import HomeAssistant
import probatio

from ..const import DOMAIN
from ..coordinator import DATA_COORDINATOR, OffloadCoordinator

type Act = Callable[
    [OffloadCoordinator, dict[str, Any]], Coroutine[Any, Any, dict[str, Any] | None]
]


def action(
    name: str, fields: dict[str | probatio.Marker, Any]
) -> Callable[[Act], websocket_api.const.WebSocketCommandHandler]:
    """Return a decorator for what a button does; its errors are sent translated."""

    def decorate(act: Act) -> websocket_api.const.WebSocketCommandHandler:
        @websocket_api.websocket_command({probatio.Required("type"): f"{DOMAIN}/{name}", **fields})
        @websocket_api.require_admin
        @websocket_api.async_response
        @wraps(act)
        async def handle(
            hass: HomeAssistant, connection: websocket_api.ActiveConnection, msg: dict[str, Any]
        ) -> None:
            result = await act(hass.data[DATA_COORDINATOR], msg | {"user_id": connection.user.id})
            connection.send_result(msg["id"], result)

        return handle

    return decorate
