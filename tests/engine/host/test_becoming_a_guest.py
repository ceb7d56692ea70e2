"""How an offloader becomes a guest of a builder."""

import asyncio
from pathlib import Path

import pytest

from custom_components.esphome_offload.engine.clock import SystemTime, Time
from custom_components.esphome_offload.engine.host.pairing_window import WindowEnd
from custom_components.esphome_offload.engine.protocol.errors import ErrorCode
from custom_components.esphome_offload.engine.protocol.identity import Identity
from custom_components.esphome_offload.engine.protocol.messages import (
    Wanted,
)
from custom_components.esphome_offload.engine.protocol.pairing import (
    PairingError,
)

from .builder import BuilderMachine, GuestCalls
from .guest_link import OFFER, greeted, guest_link, opened, websocket
from .server_calls import answer_to, pair_with, refusal


@pytest.fixture
def time() -> Time:
    return SystemTime()


async def test_an_offloader_with_the_code_becomes_a_guest(
    builder: BuilderMachine, url: str, tmp_path: Path
) -> None:
    identity = Identity.generate()
    paired = await pair_with(url, builder.window.open().code, identity)
    assert (paired.public, paired.label) == (builder.identity.public, "builder")
    assert builder.server.newest_guest == "offloader"
    assert builder.window.tried_from == "127.0.0.1"
    async with guest_link(url, GuestCalls(builder, identity)) as link:
        assert await link.session.call(Wanted(())) == {"attempts": []}


async def test_strangers_neither_use_up_tries_nor_keep_others_from_pairing(
    builder: BuilderMachine, url: str
) -> None:
    code = builder.window.open().code
    for first in (b"P", b"P" + bytes(32), b"P" + bytes(31), b"P" + bytes(33), b"P" + b"\xff" * 32):
        answer = await answer_to(url, first)
        assert "malformed" in answer.data
    await asyncio.gather(*(answer_to(url, b"P" + bytes(32)) for _ in range(50)))
    assert builder.window.tries_left == 3
    await pair_with(url, code)


async def test_a_wrong_code_costs_a_try_and_three_close_the_window(
    builder: BuilderMachine, url: str
) -> None:
    code = builder.window.open().code
    wrong = f"{(int(code) + 1) % 10**8:08d}"
    left = []
    for _ in range(3):
        with pytest.raises(PairingError) as refused:
            await pair_with(url, wrong)
        left.append(refused.value.tries_left)
    assert left == [2, 1, 0]
    assert builder.window.end is WindowEnd.WRONG_CODES
    with pytest.raises(PairingError) as refused:
        await pair_with(url, code)
    assert refused.value.code is ErrorCode.WINDOW_CLOSED
    assert builder.guests.all() == ()


async def test_offer_and_label_are_in_the_hello(builder: BuilderMachine, url: str) -> None:
    async with websocket(url) as socket:
        _, hello = await greeted(socket, Identity.generate())
    assert (hello.offer, hello.label, hello.pairing) == (OFFER, "builder", False)
    assert hello.pin_sha256 == builder.identity.pin_sha256
    builder.window.open()
    async with websocket(url) as socket:
        _, hello = await greeted(socket, Identity.generate())
    assert hello.pairing


async def test_whoever_is_expected_needs_no_code_and_is_a_guest_once_connected(
    builder: BuilderMachine, url: str
) -> None:
    identity = Identity.generate()
    assert await refusal(url, identity, builder) is ErrorCode.UNKNOWN_GUEST
    builder.guests.expect([identity.pin_sha256])
    async with guest_link(url, GuestCalls(builder, identity), "attic") as link:
        await link.session.call(Wanted(()))
        assert [guest.label for guest in builder.guests.all()] == ["attic"]
        assert await link.submit()


async def test_whoever_is_expected_and_removed_is_expected_no_more(
    builder: BuilderMachine, url: str
) -> None:
    identity = Identity.generate()
    builder.guests.expect([identity.pin_sha256])
    async with guest_link(url, GuestCalls(builder, identity)) as link:
        await link.session.call(Wanted(()))
    await builder.server.unpair(identity.pin_sha256)
    assert await refusal(url, identity, builder) is ErrorCode.UNKNOWN_GUEST


async def test_a_recorded_handshake_makes_nobody_a_guest(builder: BuilderMachine, url: str) -> None:
    """The first message alone proves nothing: it can be an old one."""
    identity = Identity.generate()
    builder.guests.expect([identity.pin_sha256])
    async with websocket(url) as socket:
        await opened(socket, identity, builder.identity.public)
    assert builder.guests.all() == ()
