"""The commands of one guest, on its connections."""

from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager

from ..protocol.calls import Call
from ..protocol.errors import ErrorCode, ProtocolError
from ..protocol.messages import (
    COMMANDS,
    Acknowledge,
    Attach,
    BuildEvent,
    Cancel,
    Clean,
    Fetch,
    FetchImage,
    LinkEvent,
    SendBundle,
    Submit,
    SubscribeStatus,
    Unpair,
    UnpairedEvent,
    Wanted,
)
from ..protocol.parsing import parse_one_of
from .build_host import BuildHost
from .firmware_file import FirmwareFile


class GuestCommands:
    """Serves the commands that one guest sends on one connection."""

    def __init__(self, host: BuildHost, pin_sha256: str, unpair: Callable[[], None]) -> None:
        """``unpair`` removes the guest soon."""
        self._host = host
        self._pin = pin_sha256
        self._unpair = unpair
        self._status: Call | None = None
        self._streams: set[str] = set()

    async def serve(self, call: Call) -> object | None:
        """Serve a command; a ``Handler`` of sessions."""
        command = parse_one_of(COMMANDS, call.message)
        if isinstance(command, Wanted):
            return await self._host.wanted(self._pin, command)
        await self._serve(call, command)
        return None

    async def _serve(self, call: Call, command: object) -> None:
        match command:
            case Submit():
                await self._host.submit(self._pin, command)
            case SendBundle():
                await self._host.receive(self._pin, command, call.receive_file)
            case Fetch() | FetchImage():
                await _send_file(call, await self._host.firmware(self._pin, command))
            case Attach():
                with self._stream(command.attempt_id):
                    await _send_all(call, self._host.attach(self._pin, command))
            case Cancel():
                await self._host.cancel(self._pin, command)
            case Acknowledge():
                await self._host.acknowledge(self._pin, command)
            case Clean():
                await self._host.clean(self._pin, command)
            case SubscribeStatus():
                with self._stream(SubscribeStatus.TYPE):
                    self._status = call
                    await _send_all(call, self._host.status(self._pin))
            case Unpair():
                await call.answer()
                self._unpair()
            case _:
                raise ProtocolError(ErrorCode.MALFORMED, "no such command")

    @contextmanager
    def _stream(self, name: str) -> Iterator[None]:
        """Send each thing once on a connection: all that is subscribed costs a round of the loop."""
        if name in self._streams:
            raise ProtocolError(ErrorCode.BUSY, "it is being sent already")
        self._streams.add(name)
        try:
            yield
        finally:
            self._streams.discard(name)

    async def send_unpaired(self) -> None:
        """Send the guest that it is removed; raises ChannelClosed."""
        if self._status is not None and self._status.answered:
            await self._status.event(UnpairedEvent())


async def _send_file(call: Call, file: FirmwareFile) -> None:
    try:
        await call.send_file(file.header, file.path, file.header.size)
    except OSError as err:
        raise ProtocolError(ErrorCode.FIRMWARE_NOT_READY, "it cannot be read") from err


async def _send_all[T: BuildEvent | LinkEvent](call: Call, events: AsyncGenerator[T]) -> None:
    """Send events as fast as the guest reads them; what it is too slow for is left out."""
    async with aclosing(events):
        # What is refused is refused before the first event.
        first = await anext(events, None)
        await call.answer()
        if first is not None:
            await call.event(first)
            async for event in events:
                await call.event(event)
