"""Channel: JSON messages and pieces of bodies on one websocket, encrypted frame by frame."""

import asyncio
from asyncio.trsock import TransportSocket
from contextlib import suppress
from dataclasses import dataclass
import json
import socket as sockets
import struct
from typing import Final, Protocol

import aiohttp

from ..codec import Json
from ..tasks import uninterrupted
from .errors import ErrorCode, ProtocolError
from .limits import MESSAGE_LIMIT, STALL_TIMEOUT
from .noise import MESSAGE_BYTES, TAG_BYTES, Ciphers, NoiseError

FRAME_LIMIT: Final = MESSAGE_BYTES + 1
"""What aiohttp is given as the limit of a websocket message: one of exactly that size is refused.

What comes before the handshake is far shorter.
"""

# Every frame begins with its kind.
_MESSAGE_END: Final = b"\x00"
_MESSAGE_PART: Final = b"\x01"
_PIECE: Final = b"\x02"
# Body and number of the piece.
_PIECE_HEAD: Final = struct.Struct(">II")
_PART_BYTES: Final = MESSAGE_BYTES - TAG_BYTES - 1
PIECE_BYTES: Final = _PART_BYTES - _PIECE_HEAD.size
"""The most that one piece of a body holds."""


CLOSE_TIMEOUT: Final = 5.0
"""Seconds until a connection whose other end takes nothing any more is cut."""


class ChannelClosed(Exception):  # noqa: N818 - most channels end without an error
    """A lost connection; ``str(error)`` says why, for the log."""


class Socket(Protocol):
    """The methods that are used of aiohttp's websockets, which are alike at both ends."""

    async def send_bytes(self, data: bytes) -> None:
        """Send a binary message."""

    async def send_str(self, data: str) -> None:
        """Send a text message."""

    async def receive(self) -> aiohttp.WSMessage:
        """Return the next message."""

    async def close(self, *, code: int = 1000, message: bytes = b"") -> bool:
        """Close the websocket."""

    def get_extra_info(self, name: str, default: object = None) -> object:
        """Return what the transport knows."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of a body. ``number`` counts the pieces of its body from 0."""

    body_id: int
    number: int
    data: memoryview


class Channel:
    """One end of a channel. A single task receives; any number may send.

    A message waits for one piece of a body at most, since each frame takes its turn by itself.
    """

    def __init__(self, socket: Socket, ciphers: Ciphers) -> None:
        self._socket = socket
        self._ciphers = ciphers
        self._frame_turn = asyncio.Lock()
        self._message_turn = asyncio.Lock()
        self._parts = bytearray()

    @property
    def busy(self) -> bool:
        """Whether a frame waits for the other end to take what was sent before."""
        return self._frame_turn.locked()

    async def send(self, message: Json) -> None:
        """Send a JSON message; raises ChannelClosed, and ProtocolError TOO_LARGE."""
        content = json.dumps(
            message, ensure_ascii=False, separators=(",", ":"), allow_nan=False
        ).encode(errors="replace")
        if len(content) > MESSAGE_LIMIT:
            raise ProtocolError(ErrorCode.TOO_LARGE, "a message that is too long to be sent")
        async with self._message_turn:
            if len(content) <= _PART_BYTES:
                await self._send_frame(_MESSAGE_END + content)
                return
            # Cancelled between two parts, the rest would be missing before the next message.
            await uninterrupted(self._send_parts(content))

    async def _send_parts(self, content: bytes) -> None:
        for start in range(0, len(content), _PART_BYTES):
            part = content[start : start + _PART_BYTES]
            last = start + _PART_BYTES >= len(content)
            await self._send_frame((_MESSAGE_END if last else _MESSAGE_PART) + part)

    async def send_piece(self, piece: Piece) -> None:
        """Send a piece of a body; raises ChannelClosed."""
        head = _PIECE + _PIECE_HEAD.pack(piece.body_id, piece.number)
        await self._send_frame(b"".join((head, piece.data)))

    async def receive(self) -> Json | Piece:
        """Return what comes next.

        Raises ChannelClosed when nothing more comes, also because a frame was altered, dropped,
        repeated or reordered on its way, and ProtocolError for what the other end must not send.
        """
        while True:
            frame = await self._receive_frame()
            kind, content = frame[:1], memoryview(frame)[1:]
            if kind == _PIECE and len(content) >= _PIECE_HEAD.size:
                body_id, number = _PIECE_HEAD.unpack_from(content)
                return Piece(body_id, number, content[_PIECE_HEAD.size :])
            if kind not in (_MESSAGE_END, _MESSAGE_PART):
                raise ProtocolError(ErrorCode.MALFORMED, "a frame of no known kind")
            # Thousands of short ones would be received before anything else had its turn.
            if kind == _MESSAGE_PART and len(content) != _PART_BYTES:
                raise ProtocolError(ErrorCode.MALFORMED, "a part of a message that is too short")
            self._parts += content
            if len(self._parts) > MESSAGE_LIMIT:
                raise ProtocolError(ErrorCode.TOO_LARGE, "a message that is too long")
            if kind == _MESSAGE_END:
                text, self._parts = bytes(self._parts), bytearray()
                return _decode(text)

    async def close(self) -> None:
        """Close the websocket; whoever receives gets ChannelClosed."""
        await close(self._socket)

    async def _send_frame(self, plain: bytes) -> None:
        async with self._frame_turn:
            try:
                async with asyncio.timeout(STALL_TIMEOUT):
                    # No await between the two: the order of the counters is the order on the wire.
                    await self._socket.send_bytes(self._ciphers.encrypt(plain))
            except TimeoutError as err:
                raise ChannelClosed("the other end takes nothing any more") from err
            except (aiohttp.ClientError, OSError, RuntimeError, NoiseError) as err:
                raise ChannelClosed(f"the connection broke: {err}") from err

    async def _receive_frame(self) -> bytes:
        try:
            message = await self._socket.receive()
        except (aiohttp.ClientError, OSError, RuntimeError) as err:
            raise ChannelClosed(f"the connection broke: {err}") from err
        if message.type is not aiohttp.WSMsgType.BINARY:
            raise ChannelClosed(closing_reason(message))
        try:
            frame = self._ciphers.decrypt(message.data)
        except NoiseError as err:
            raise ChannelClosed("a frame was altered on its way") from err
        if not frame:
            raise ProtocolError(ErrorCode.MALFORMED, "an empty frame")
        return frame


async def close(socket: Socket) -> None:
    """Close a websocket, also one whose other end takes nothing any more."""
    transport = socket.get_extra_info("socket")
    try:
        # aiohttp waits without a limit until the other end has taken what was sent before.
        async with asyncio.timeout(CLOSE_TIMEOUT):
            await socket.close()
    except TimeoutError:
        if isinstance(transport, TransportSocket):
            with suppress(OSError):
                transport.shutdown(sockets.SHUT_RDWR)


def closing_reason(message: aiohttp.WSMessage) -> str:
    """Return why a websocket gave ``message`` instead of data, for the log."""
    if message.type is aiohttp.WSMsgType.ERROR:
        return f"the connection broke: {message.data!r}"
    if message.type is aiohttp.WSMsgType.TEXT:
        return "the other end sent a text on an encrypted connection"
    return "the other end closed the connection"


def _decode(text: bytes) -> Json:
    try:
        message = json.loads(text)
    # Text that is nested too deeply ends in RecursionError.
    except (ValueError, RecursionError) as err:
        raise ProtocolError(ErrorCode.MALFORMED, "a message that is no JSON") from err
    if not isinstance(message, dict):
        raise ProtocolError(ErrorCode.MALFORMED, "a message that is no object")
    return message
