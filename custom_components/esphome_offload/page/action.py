"""What the page's buttons do, as websocket commands for administrators."""

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any

from homeassistant.components import websocket_api
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError
import probatio

from ..const import DOMAIN
from ..coordinator import DATA_COORDINATOR, OffloadCoordinator
from ..texts.reasons import exception_text

type Act = Callable[
    [OffloadCoordinator, dict[str, Any]], Coroutine[Any, Any, dict[str, Any] | None]
]


def send_refusal(
    hass: HomeAssistant,
    connection: websocket_api.ActiveConnection,
    msg_id: int,
    err: HomeAssistantError,
    code: str = websocket_api.ERR_HOME_ASSISTANT_ERROR,
) -> None:
    """Send an error in Home Assistant's language; what is left to the API is English, and logged."""
    connection.send_error(
        msg_id,
        code,
        exception_text(hass, err),
        translation_key=err.translation_key,
        translation_domain=err.translation_domain,
        translation_placeholders=err.translation_placeholders,
    )


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
            msg |= {"user_id": connection.user.id}
            try:
                result = await act(hass.data[DATA_COORDINATOR], msg)
            except HomeAssistantError as err:
                send_refusal(hass, connection, msg["id"], err)
            else:
                connection.send_result(msg["id"], result)

        return handle

    return decorate
