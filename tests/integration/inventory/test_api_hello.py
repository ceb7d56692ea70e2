"""A device is asked for its name; the answers are those of real devices, byte by byte."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine

import pytest

from custom_components.esphome_offload.inventory import api_hello
from custom_components.esphome_offload.inventory.api_hello import DeviceIdentity, ask_identity

pytestmark = pytest.mark.usefixtures("socket_enabled")

# Of ESPHome 2026.10; what a device without encryption says to an encrypted hello.
BAD_INDICATOR = b"\x00Bad indicator byte"
PLAIN = b'\x00\x1a\x02\x08\x01\x10\x12\x1a\x0b2026.10.0b1"\x07kitchen'
ENCRYPTED = b"\x01\x00\x1d\x01kitchen-ddeeff\x00aabbccddeeff\x00"

type Serve = Callable[[dict[bytes, bytes]], Coroutine[None, None, int]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """Return a function that starts a device with these answers by hello, and returns its port."""
    servers: list[asyncio.Server] = []

    async def serve(answers: dict[bytes, bytes]) -> int:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            answer = answers.get(await reader.read(3))
            if answer is not None:
                writer.write(answer)
                await writer.drain()
            writer.close()

        server = await asyncio.start_server(connected, "127.0.0.1", 0)
        servers.append(server)
        port: int = server.sockets[0].getsockname()[1]
        return port

    yield serve
    for server in servers:
        server.close()
        await server.wait_closed()


async def test_a_device_without_encryption(serve: Serve) -> None:
    port = await serve({b"\x01\x00\x00": BAD_INDICATOR, b"\x00\x00\x01": PLAIN})
    assert await ask_identity("127.0.0.1", port) == DeviceIdentity("kitchen")


async def test_a_device_with_encryption(serve: Serve) -> None:
    port = await serve({b"\x01\x00\x00": ENCRYPTED})
    expected = DeviceIdentity("kitchen-ddeeff", "aa:bb:cc:dd:ee:ff")
    assert await ask_identity("127.0.0.1", port) == expected


@pytest.mark.parametrize(
    "answer",
    [
        # Cut off, of another message, without a name, too long, no protobuf, no text.
        PLAIN[:-3],
        b"\x00\x02\x05\x08\x01",
        b"\x00\x04\x02\x08\x01\x10\x12",
        b"\x00\xff\x7f\x02",
        b"\x00\x01\x02\xff",
        b"\x00\x02\x02\x22\x80",
        b"\x00\x03\x02\x22\x01\xff",
        b"\x00\x02\x02\x22\x00",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
    ],
)
async def test_what_is_no_such_device(serve: Serve, answer: bytes) -> None:
    port = await serve({b"\x01\x00\x00": b"", b"\x00\x00\x01": answer})
    assert await ask_identity("127.0.0.1", port) is None


@pytest.mark.parametrize(
    "answer", [b"\x01\x00\x04\x01lam", b"\x01\x00\x02\x01\x00", b"\x01\xff\xff"]
)
async def test_a_damaged_answer_of_a_device_with_encryption(serve: Serve, answer: bytes) -> None:
    assert await ask_identity("127.0.0.1", await serve({b"\x01\x00\x00": answer})) is None


async def test_nobody_listens() -> None:
    assert await ask_identity("127.0.0.1", 1) is None


async def test_a_device_that_never_answers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(api_hello, "_TIMEOUT", 0.01)
    silent = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    assert await ask_identity("127.0.0.1", silent.sockets[0].getsockname()[1]) is None
    silent.close()
