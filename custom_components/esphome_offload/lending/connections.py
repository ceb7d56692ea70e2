"""GuestConnections: the websocket connections of guests, and what each has proven."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

from homeassistant.components.websocket_api import ActiveConnection
from homeassistant.core import HomeAssistant, callback

from ..const import DOMAIN
from ..engine.codec import Json, encode
from ..engine.host.admission import Caller
from ..engine.host.guests import Guest
from ..engine.protocol.definitions import HANDSHAKE_TIMEOUT, ErrorCode, ProtocolError
from ..engine.protocol.handshake import BuilderHandshake
from ..engine.protocol.messages import Unpair, UnpairedEvent
from ..websocket_stream import close, flushed

_CLEANUP: Final = f"{DOMAIN}.guest"


class GuestConnection:
    """One connection that began with a hello."""

    def __init__(
        self, connection: ActiveConnection, guest: Guest, handshake: BuilderHandshake
    ) -> None:
        """Nothing is proven yet."""
        self.connection = connection
        self.pin_sha256 = guest.pin_sha256
        self.handshake = handshake
        self.cancel_deadline: Callable[[], None] = lambda: None
        self._status_id: int | None = None

    @property
    def proven(self) -> bool:
        """Whether the guest has proven its key for this connection."""
        try:
            return self.handshake.session is not None
        except ProtocolError:
            return False

    def subscribed(self, msg_id: int) -> None:
        """Remember where the guest wants to hear how this machine is."""
        self._status_id = msg_id

    def check_unpair(self, command: Unpair) -> None:
        """Raise ProtocolError NOT_PROVEN unless the guest itself wants to be removed."""
        if not self.handshake.session.is_unpair_proof(command.proof):
            raise ProtocolError(ErrorCode.NOT_PROVEN, "the guest did not say so")

    def tell_unpaired(self) -> None:
        """Say that this guest is removed, with a proof that nobody in between can make."""
        if self._status_id is not None and self.proven:
            event = UnpairedEvent(self.handshake.session.unpair_proof)
            self.connection.send_event(self._status_id, encode(event))


class GuestConnections:
    """All of them; each goes when it is closed."""

    def __init__(self, hass: HomeAssistant) -> None:
        """Begin without any."""
        self._hass = hass
        self._all: dict[ActiveConnection, GuestConnection] = {}

    @callback
    def greet(
        self,
        connection: ActiveConnection,
        guest: Guest,
        handshake: BuilderHandshake,
        raw: Json,
        on_close: Callable[[str], None],
    ) -> Json:
        """Answer a first hello; raises ProtocolError.

        ``on_close`` is called with the pin when the connection ends.
        """
        if (known := self._all.get(connection)) is not None:
            return known.handshake.hello(raw)
        ours = GuestConnection(connection, guest, handshake)
        self._all[connection] = ours
        connection.subscriptions[_CLEANUP] = partial(self._closed, ours, on_close)
        timer = self._hass.loop.call_later(HANDSHAKE_TIMEOUT, close, connection)
        ours.cancel_deadline = timer.cancel
        return handshake.hello(raw)

    @callback
    def prove(self, connection: ActiveConnection, raw: Json) -> tuple[str, Json]:
        """Check the proof; return the pin that is proven and our own proof.

        Raises ProtocolError.
        """
        ours = self._get(connection)
        answer = ours.handshake.prove(raw)
        ours.cancel_deadline()
        return ours.pin_sha256, answer

    def proven(self, connection: ActiveConnection) -> GuestConnection:
        """Return a connection whose key is proven; raises ProtocolError NOT_PROVEN."""
        ours = self._get(connection)
        if not ours.proven:
            raise _not_proven()
        return ours

    def caller(self, connection: ActiveConnection) -> Caller:
        """Say who asks, and what was proven."""
        ours = self._all.get(connection)
        return Caller(
            connection.user.id, ours.pin_sha256 if ours is not None and ours.proven else None
        )

    def connected(self, pin_sha256: str) -> bool:
        """Whether a guest is connected."""
        return any(each.pin_sha256 == pin_sha256 and each.proven for each in self._all.values())

    async def async_say_goodbye(self, pin_sha256: str | None = None) -> None:
        """Tell a guest that it is unpaired (no pin: tell nobody); return when all was sent."""
        leaving = [each for each in self._all.values() if pin_sha256 in (None, each.pin_sha256)]
        if pin_sha256 is not None:
            for each in leaving:
                each.tell_unpaired()
        await asyncio.gather(*(flushed(each.connection) for each in leaving))

    async def async_close_all(self) -> None:
        """End all connections, when they were sent what waits to be sent."""
        await self.async_say_goodbye()
        for each in tuple(self._all.values()):
            close(each.connection)

    @callback
    def reject(self, connection: ActiveConnection) -> None:
        """End a connection that took a wrong step, once its answer was sent."""

        async def end() -> None:
            await flushed(connection)
            close(connection)

        self._hass.async_create_background_task(end(), f"{DOMAIN} reject a connection")

    def _get(self, connection: ActiveConnection) -> GuestConnection:
        if (ours := self._all.get(connection)) is None:
            raise _not_proven()
        return ours

    @callback
    def _closed(self, ours: GuestConnection, on_close: Callable[[str], None]) -> None:
        ours.cancel_deadline()
        was_proven = ours.proven
        self._all.pop(ours.connection, None)
        if was_proven:
            on_close(ours.pin_sha256)


def _not_proven() -> ProtocolError:
    return ProtocolError(ErrorCode.NOT_PROVEN, "this connection is not proven")
