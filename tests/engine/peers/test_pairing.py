from collections import Counter

import pytest

from custom_components.esphome_offload.engine.codec import Json
from custom_components.esphome_offload.engine.protocol.definitions import PAIRING_WINDOW
from custom_components.esphome_offload.engine.protocol.identity import Identity
from custom_components.esphome_offload.engine.protocol.negotiation import Offer
from custom_components.esphome_offload.engine.protocol.pairing import (
    PairingClient,
    PairingError,
    PairingFailure,
    WindowEnd,
    normalize_code,
)

from .conftest import Clock
from .pairing_parties import Builder, failure, other_than


@pytest.fixture
def builder(workshop: Identity, offer: Offer, clock: Clock) -> Builder:
    return Builder(workshop, offer, clock)


@pytest.fixture
def client(pi: Identity, offer: Offer, builder: Builder) -> PairingClient:
    return PairingClient(pi, offer, "pi", builder.window.handle)


async def test_the_right_code_pairs_both_with_each_other(
    client: PairingClient, builder: Builder, pi: Identity, workshop: Identity
) -> None:
    code = builder.window.open().code
    there = await client.pair(code)
    assert (there.public, there.label, there.version) == (workshop.public, "workshop", "0.1.0")
    (here,) = builder.paired
    assert (here.public, here.label, here.version) == (pi.public, "pi", "0.1.0")
    assert here.agreement == there.agreement


async def test_a_window_is_used_once(client: PairingClient, builder: Builder) -> None:
    code = builder.window.open().code
    await client.pair(code)
    assert builder.window.end is WindowEnd.PAIRED
    assert await failure(client.pair(code)) is PairingFailure.WINDOW_CLOSED
    assert len(builder.paired) == 1


async def test_a_code_can_be_typed_as_it_is_read_out(
    client: PairingClient, builder: Builder
) -> None:
    code = builder.window.open().code
    await client.pair(f" {code[:4]} - {code[4:]}\n")
    assert len(builder.paired) == 1


@pytest.mark.parametrize("typed", ["", "1234567", "123456789", "1234567a", "١٢٣٤٥٦٧٨"])
async def test_what_cannot_be_a_code_costs_no_try(
    client: PairingClient, builder: Builder, typed: str
) -> None:
    builder.window.open()
    assert await failure(client.pair(typed)) is PairingFailure.WRONG_CODE
    assert builder.window.state is not None
    assert builder.window.state.tries_left == 3


def test_leading_zeros_are_part_of_a_code() -> None:
    assert normalize_code("0000 0012") == "00000012"


def test_codes_are_all_of_eight_digits_and_differ(builder: Builder) -> None:
    codes = [builder.window.open().code for _ in range(300)]
    assert all(len(code) == 8 and code.isdecimal() for code in codes)
    assert Counter(codes).most_common(1)[0][1] < 3
    assert len({code[0] for code in codes}) == 10


async def test_a_wrong_code_can_be_tried_again(client: PairingClient, builder: Builder) -> None:
    code = builder.window.open().code
    with pytest.raises(PairingError) as caught:
        await client.pair(other_than(code))
    assert caught.value.failure is PairingFailure.WRONG_CODE
    assert caught.value.tries_left == 2
    await client.pair(code)
    assert len(builder.paired) == 1


async def test_three_wrong_codes_close_the_window_and_tell_the_owner(
    client: PairingClient, builder: Builder
) -> None:
    code = builder.window.open().code
    for left in (2, 1, 0):
        changes = builder.changes
        with pytest.raises(PairingError) as caught:
            await client.pair(other_than(code))
        assert caught.value.tries_left == left
        assert builder.changes == changes + 1
    assert builder.window.state is None
    assert builder.window.end is WindowEnd.WRONG_CODES
    assert await failure(client.pair(code)) is PairingFailure.WINDOW_CLOSED
    assert builder.paired == []


async def test_a_new_window_has_a_new_code_and_all_tries(
    client: PairingClient, builder: Builder
) -> None:
    first = builder.window.open().code
    await failure(client.pair(other_than(first)))
    second = builder.window.open()
    assert second.tries_left == 3
    if second.code != first:
        assert await failure(client.pair(first)) is PairingFailure.WRONG_CODE
    await client.pair(second.code)
    assert len(builder.paired) == 1


async def test_before_the_first_window_nobody_can_pair(
    client: PairingClient, builder: Builder
) -> None:
    assert builder.window.state is None
    assert builder.window.end is None
    assert await failure(client.pair("12345678")) is PairingFailure.WINDOW_CLOSED


async def test_a_window_that_the_owner_closed_is_closed(
    client: PairingClient, builder: Builder
) -> None:
    code = builder.window.open().code
    builder.window.close()
    assert builder.window.end is WindowEnd.CLOSED
    assert await failure(client.pair(code)) is PairingFailure.WINDOW_CLOSED


async def test_a_window_expires(client: PairingClient, builder: Builder, clock: Clock) -> None:
    code = builder.window.open().code
    clock.now += PAIRING_WINDOW - 0.5
    assert builder.window.state is not None
    assert builder.window.state.seconds_left == 1
    clock.now += 0.5
    assert builder.window.state is None
    assert builder.window.end is WindowEnd.EXPIRED
    assert await failure(client.pair(code)) is PairingFailure.WINDOW_EXPIRED


async def test_a_window_that_expires_in_the_middle_pairs_nobody(
    pi: Identity, offer: Offer, builder: Builder, clock: Clock
) -> None:
    code = builder.window.open().code

    async def slow(raw: Json) -> Json:
        if raw["type"] == "pair_confirm":
            clock.now += PAIRING_WINDOW
        return await builder.window.handle(raw)

    assert await failure(PairingClient(pi, offer, "pi", slow).pair(code)) is (
        PairingFailure.WINDOW_EXPIRED
    )
    assert builder.paired == []


async def test_the_owner_sees_code_time_and_tries(
    client: PairingClient, builder: Builder, clock: Clock
) -> None:
    opened = builder.window.open()
    assert (opened.seconds_left, opened.tries_left) == (300, 3)
    clock.now += 60
    await failure(client.pair(other_than(opened.code)))
    state = builder.window.state
    assert state is not None
    assert (state.code, state.seconds_left, state.tries_left) == (opened.code, 240, 2)
    assert opened.code not in repr(state)
