"""The websocket commands of guests, in the words of peers/messages.py."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
import logging
from typing import Any, Final

from homeassistant.components import websocket_api
from homeassistant.components.websocket_api import ActiveConnection
from homeassistant.core import HomeAssistant, callback
import probatio

from ..coordinator import DATA_COORDINATOR
from ..engine.codec import Json, encode
from ..engine.protocol.definitions import DETAIL_LIMIT, ProtocolError, clip
from ..engine.protocol.greetings import Hello, Prove
from ..engine.protocol.messages import (
    Acknowledge,
    Attach,
    BuildEvent,
    Cancel,
    Clean,
    LinkEvent,
    Submit,
    SubscribeStatus,
    Unpair,
    Wanted,
)
from ..engine.protocol.parsing import parse
from ..websocket_stream import ThrottledSubscription, flushed
from .lender import Lender

_LOGGER = logging.getLogger(__name__)

# Fields that we do not know may come from a newer peer; the others are checked by ``parse``.
_SCHEMA: Final = probatio.Schema(
    {probatio.Required("id"): int, probatio.Required("type"): str}, extra=probatio.ALLOW_EXTRA
)

# The state of the machine may change often while builds come and go. Output is batched already.
_STATUS_INTERVAL: Final = 0.25
_EVENT_INTERVAL: Final = 0.0


@callback
def async_setup_peer_commands(hass: HomeAssistant) -> None:
    """Register the commands; each is refused unless it comes from a guest that proved its key."""
    for kind, handler in (
        (Hello, _hello),
        (Prove, _prove),
        (Submit, _answering(_submit)),
        (Attach, _attach),
        (Cancel, _answering(_cancel)),
        (Wanted, _answering(_wanted)),
        (Acknowledge, _answering(_acknowledge)),
        (Clean, _answering(_clean)),
        (SubscribeStatus, _subscribe_status),
        (Unpair, _unpair),
    ):
        websocket_api.async_register_command(hass, kind.TYPE, handler, _SCHEMA)


@callback
def _hello(hass: HomeAssistant, connection: ActiveConnection, msg: dict[str, Any]) -> None:
    lender = _lender(hass)
    try:
        guest, handshake = lender.handshake(connection.user.id)
        answer = lender.connections.greet(connection, guest, handshake, msg, lender.seen)
    except ProtocolError as err:
        _refuse(connection, msg, err)
        lender.connections.reject(connection)
    else:
        connection.send_result(msg["id"], answer)


@callback
def _prove(hass: HomeAssistant, connection: ActiveConnection, msg: dict[str, Any]) -> None:
    lender = _lender(hass)
    try:
        pin_sha256, answer = lender.connections.prove(connection, msg)
    except ProtocolError as err:
        _refuse(connection, msg, err)
        lender.connections.reject(connection)
    else:
        lender.seen(pin_sha256)
        connection.send_result(msg["id"], answer)


type _Command = Callable[[Lender, ActiveConnection, Json], Awaitable[Json | None]]


def _answering(command: _Command) -> websocket_api.WebSocketCommandHandler:
    """Return the handler of a command with one answer."""

    @websocket_api.async_response
    async def handle(
        hass: HomeAssistant, connection: ActiveConnection, msg: dict[str, Any]
    ) -> None:
        try:
            answer = await command(_lender(hass), connection, msg)
        except ProtocolError as err:
            _refuse(connection, msg, err)
        else:
            connection.send_result(msg["id"], answer)

    return handle


async def _submit(lender: Lender, connection: ActiveConnection, msg: Json) -> None:
    caller = lender.connections.caller(connection)
    await lender.host.submit(caller, parse(Submit, msg))


async def _cancel(lender: Lender, connection: ActiveConnection, msg: Json) -> None:
    caller = lender.connections.caller(connection)
    await lender.host.cancel(caller, parse(Cancel, msg))


async def _wanted(lender: Lender, connection: ActiveConnection, msg: Json) -> Json:
    caller = lender.connections.caller(connection)
    return encode(await lender.host.wanted(caller, parse(Wanted, msg)))


async def _acknowledge(lender: Lender, connection: ActiveConnection, msg: Json) -> None:
    caller = lender.connections.caller(connection)
    await lender.host.acknowledge(caller, parse(Acknowledge, msg))


async def _clean(lender: Lender, connection: ActiveConnection, msg: Json) -> None:
    caller = lender.connections.caller(connection)
    await lender.host.clean(caller, parse(Clean, msg))


@callback
def _attach(hass: HomeAssistant, connection: ActiveConnection, msg: dict[str, Any]) -> None:
    lender = _lender(hass)
    try:
        caller = lender.connections.caller(connection)
        events = lender.host.attach(caller, parse(Attach, msg))
    except ProtocolError as err:
        _refuse(connection, msg, err)
        return
    connection.send_result(msg["id"])
    outlet = ThrottledSubscription(connection, msg["id"], _EVENT_INTERVAL)
    outlet.own(hass, _send_all(events, outlet))


@callback
def _subscribe_status(
    hass: HomeAssistant, connection: ActiveConnection, msg: dict[str, Any]
) -> None:
    lender = _lender(hass)
    try:
        ours = lender.connections.proven(connection)
        events = lender.host.status(lender.connections.caller(connection))
    except ProtocolError as err:
        _refuse(connection, msg, err)
        return
    ours.subscribed(msg["id"])
    connection.send_result(msg["id"])
    outlet = ThrottledSubscription(connection, msg["id"], _STATUS_INTERVAL)
    outlet.own(hass, _send_all(events, outlet))


@websocket_api.async_response
async def _unpair(hass: HomeAssistant, connection: ActiveConnection, msg: dict[str, Any]) -> None:
    lender = _lender(hass)
    try:
        ours = lender.connections.proven(connection)
        ours.check_unpair(parse(Unpair, msg))
    except ProtocolError as err:
        _refuse(connection, msg, err)
        return
    connection.send_result(msg["id"])
    await flushed(connection)
    await lender.async_unpair(ours.pin_sha256, tell=False)


async def _send_all[T: BuildEvent | LinkEvent](
    events: AsyncGenerator[T], outlet: ThrottledSubscription
) -> None:
    """Send events as fast as the guest reads them; what it is too slow for is left out there."""
    async with aclosing(events):
        try:
            async for event in events:
                outlet.send(encode(event))
                await outlet.ready()
        except ProtocolError as err:
            # The guest was removed, which it is told in another way.
            _LOGGER.debug("No more events for a guest: %s", err)


def _refuse(connection: ActiveConnection, msg: dict[str, Any], err: ProtocolError) -> None:
    connection.send_error(msg["id"], err.code, clip(err.detail, DETAIL_LIMIT))


def _lender(hass: HomeAssistant) -> Lender:
    return hass.data[DATA_COORDINATOR].lender
