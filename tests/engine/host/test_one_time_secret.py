"""Pairing by a secret instead of a code, on real websockets."""

import asyncio

import pytest

from custom_components.esphome_offload.engine.clock import SystemTime, Time
from custom_components.esphome_offload.engine.host.one_time_secret import (
    SECRET_LIFETIME,
    OneTimeSecret,
)
from custom_components.esphome_offload.engine.protocol.errors import ErrorCode, ProtocolError
from custom_components.esphome_offload.engine.protocol.hello import Purpose
from custom_components.esphome_offload.engine.protocol.identity import Identity
from custom_components.esphome_offload.engine.protocol.pairing import Paired, PairingError, pair

from .builder import BuilderMachine
from .guest_link import greeted, websocket


@pytest.fixture
def time() -> Time:
    return SystemTime()


@pytest.fixture
def secret(builder: BuilderMachine) -> OneTimeSecret:
    assert builder.server.served is not None
    return builder.server.served.secret


async def pairing(
    url: str, code: str, purpose: bytes = Purpose.PAIR_BY_SECRET, identity: Identity | None = None
) -> Paired:
    async with websocket(url) as socket:
        opening, hello = await greeted(socket, identity or Identity.generate())
        return await pair(opening, hello, code, purpose=purpose)


async def failure(url: str, code: str, purpose: bytes = Purpose.PAIR_BY_SECRET) -> ErrorCode:
    with pytest.raises(PairingError) as refused:
        await pairing(url, code, purpose)
    return refused.value.code


async def test_it_pairs_one_offloader(
    builder: BuilderMachine, url: str, secret: OneTimeSecret
) -> None:
    used: list[str] = []
    secret.used.subscribe(used.append)
    value, own = secret.renew(), Identity.generate()
    paired = await pairing(url, value, identity=own)
    assert paired.public == builder.identity.public
    assert used == [own.pin_sha256] == [each.pin_sha256 for each in builder.guests.all()]
    assert await failure(url, value) is ErrorCode.WINDOW_CLOSED
    assert len(builder.guests.all()) == 1


async def test_of_many_who_know_it_one_is_paired(
    builder: BuilderMachine, url: str, secret: OneTimeSecret
) -> None:
    value = secret.renew()
    tries = await asyncio.gather(*(pairing(url, value) for _ in range(8)), return_exceptions=True)
    assert sum(isinstance(each, Paired) for each in tries) == 1
    assert len(builder.guests.all()) == 1


async def test_wrong_secrets_leave_the_window_of_a_person_open(
    builder: BuilderMachine, url: str, secret: OneTimeSecret
) -> None:
    code, value = builder.window.open().code, secret.renew()
    for _ in range(5):
        assert await failure(url, "0" * 43) is ErrorCode.WRONG_CODE
    # The code of the one is nothing to the other.
    assert await failure(url, code) is ErrorCode.WRONG_CODE
    assert builder.window.tries_left == 3
    await pairing(url, code, Purpose.PAIR)
    await pairing(url, value)
    assert len(builder.guests.all()) == 2


async def test_wrong_codes_leave_the_secret_good(
    builder: BuilderMachine, url: str, secret: OneTimeSecret
) -> None:
    builder.window.open()
    value = secret.renew()
    for _ in range(3):
        assert await failure(url, value, Purpose.PAIR) is ErrorCode.WRONG_CODE
    assert builder.window.state is None
    await pairing(url, value)


async def test_where_there_is_no_secret_none_pairs(builder: BuilderMachine, url: str) -> None:
    """A builder that nobody has handed one over for."""
    assert await failure(url, "0" * 43) is ErrorCode.WINDOW_CLOSED
    assert builder.guests.all() == ()


def test_it_is_long_and_always_another() -> None:
    secret = OneTimeSecret()
    values = {secret.renew() for _ in range(20)}
    assert len(values) == 20
    assert all(len(each) == 43 for each in values)


def test_it_expires_and_can_be_revoked() -> None:
    now = 5.0
    secret = OneTimeSecret(lambda: now)
    assert secret.value is None
    secret.renew()
    now += SECRET_LIFETIME
    assert secret.value is None
    secret.renew()
    secret.revoke()
    assert secret.value is None


def test_one_that_was_replaced_meanwhile_pairs_nobody() -> None:
    secret = OneTimeSecret()
    secret.renew()
    exchange = secret.exchange()
    exchange.begin(None)
    secret.renew()
    for step in (exchange.answered, exchange.succeed):
        with pytest.raises(ProtocolError):
            step()
    exchange.abandon()
    assert secret.value is not None
