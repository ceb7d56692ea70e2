"""The hello of ESPHome's native API: the name of a device, which it tells before any password."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from homeassistant.helpers import device_registry as dr

_TIMEOUT: Final = 3.0
"""Seconds; a device in the house answers within one, or not at all."""
_MOST: Final = 512
"""Bytes of an answer; a name has at most 31, and a description of the firmware is beside it."""
# Of an encrypted connection the answer is not encrypted yet: a byte, then name and MAC address,
# each ended by a zero.
_ENCRYPTED: Final = 1
_ENCRYPTED_HELLO: Final = b"\x01\x00\x00"
# An empty HelloRequest, which is message 1; the answer is message 2, with the name in field 4.
_PLAIN: Final = 0
_PLAIN_HELLO: Final = b"\x00\x00\x01"
_PLAIN_ANSWER: Final = 2
_NAME: Final = 4
_TEXT: Final = 2
"""The kind of a field of protobuf that has a length; a number has kind 0."""


@dataclass(frozen=True, slots=True)
class DeviceIdentity:
    """What a device says of itself; ``mac`` is lower case with colons."""

    node_name: str
    mac: str | None = None


async def ask_identity(address: str, port: int) -> DeviceIdentity | None:
    """Return what the device there says; None when there is none with ESPHome's API."""
    try:
        return _encrypted(await _answer(address, port, _ENCRYPTED_HELLO))
    except ValueError, EOFError, ConnectionResetError:
        pass  # this device has no encryption
    except OSError, TimeoutError:
        return None
    with suppress(OSError, TimeoutError, ValueError, EOFError):
        return _plain(await _answer(address, port, _PLAIN_HELLO))
    return None


async def _answer(address: str, port: int, hello: bytes) -> bytes:
    """Return the answer to a hello with its first byte, without the header after that."""
    async with asyncio.timeout(_TIMEOUT):
        reader, writer = await asyncio.open_connection(address, port, limit=_MOST)
        try:
            writer.write(hello)
            kind = (await reader.readexactly(1))[0]
            if kind != hello[0]:
                raise ValueError("another kind of connection")
            if kind == _ENCRYPTED:
                size = int.from_bytes(await reader.readexactly(2))
            else:
                size = await _number(reader)
                if await _number(reader) != _PLAIN_ANSWER:
                    raise ValueError("no answer to a hello")
            if size > _MOST:
                raise ValueError("too long")
            return await reader.readexactly(size)
        finally:
            writer.close()


async def _number(reader: asyncio.StreamReader) -> int:
    """Read a number as protobuf writes it."""
    number = shift = 0
    while True:
        byte = (await reader.readexactly(1))[0]
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80 or shift > 28:
            return number


def _encrypted(answer: bytes) -> DeviceIdentity:
    name, mac, _ = answer[1:].split(b"\0", 2)
    return _identity(name, mac)


def _plain(answer: bytes) -> DeviceIdentity:
    """Read the name; all fields are numbers or texts, short ones but for the description."""
    at = 0
    while at < len(answer):
        field, kind = answer[at] >> 3, answer[at] & 7
        size, at = _varint(answer, at + 1)
        if kind == _TEXT:
            text, at = answer[at : at + size], at + size
            if field == _NAME:
                return _identity(text, b"")
    raise ValueError("no name")


def _varint(answer: bytes, at: int) -> tuple[int, int]:
    """Return the number that is there, and where it ends."""
    number = shift = 0
    for end in range(at, len(answer)):
        number |= (answer[end] & 0x7F) << shift
        shift += 7
        if answer[end] < 0x80:
            return number, end + 1
    raise ValueError("cut off")


def _identity(name: bytes, mac: bytes) -> DeviceIdentity:
    if not name:
        raise ValueError("no name")
    return DeviceIdentity(name.decode("ascii"), dr.format_mac(mac.decode("ascii")) if mac else None)
