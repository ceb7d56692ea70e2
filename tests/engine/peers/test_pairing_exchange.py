import asyncio
from collections.abc import Callable

import pytest

from custom_components.esphome_offload.engine.codec import Json
from custom_components.esphome_offload.engine.protocol import pairing
from custom_components.esphome_offload.engine.protocol.definitions import PAIRING_EXCHANGE_TIMEOUT
from custom_components.esphome_offload.engine.protocol.identity import Identity
from custom_components.esphome_offload.engine.protocol.negotiation import Offer
from custom_components.esphome_offload.engine.protocol.pairing import (
    PairingClient,
    PairingError,
    PairingFailure,
    PairingWindow,
    WindowEnd,
)
from custom_components.esphome_offload.engine.protocol.spake import Exchange

from .conftest import Clock
from .pairing_parties import (
    Builder,
    failure,
    other_than,
    stopped_before,
)


@pytest.fixture
def builder(workshop: Identity, offer: Offer, clock: Clock) -> Builder:
    return Builder(workshop, offer, clock)


@pytest.fixture
def client(pi: Identity, offer: Offer, builder: Builder) -> PairingClient:
    return PairingClient(pi, offer, "pi", builder.window.handle)


async def test_one_exchange_at_a_time(
    pi: Identity, mallory: Identity, offer: Offer, builder: Builder
) -> None:
    code = builder.window.open().code
    first = PairingClient(pi, offer, "pi", stopped_before("pair_confirm", builder.window.handle))
    with pytest.raises(ConnectionError):
        await first.pair(code)
    second = PairingClient(mallory, offer, "other", builder.window.handle)
    assert await failure(second.pair(code)) is PairingFailure.BUSY


async def test_two_at_the_very_same_time_are_one_and_a_busy(
    pi: Identity, mallory: Identity, offer: Offer, builder: Builder
) -> None:
    code = builder.window.open().code
    results = await asyncio.gather(
        PairingClient(pi, offer, "pi", builder.window.handle).pair(code),
        PairingClient(mallory, offer, "other", builder.window.handle).pair(code),
        return_exceptions=True,
    )
    assert len(builder.paired) == 1
    (lost,) = (each for each in results if isinstance(each, PairingError))
    assert lost.failure in {PairingFailure.BUSY, PairingFailure.WINDOW_CLOSED}


async def test_an_exchange_that_somebody_left_gives_way_and_costs_no_try(
    pi: Identity, offer: Offer, builder: Builder, clock: Clock
) -> None:
    code = builder.window.open().code
    left = PairingClient(pi, offer, "pi", stopped_before("pair_confirm", builder.window.handle))
    with pytest.raises(ConnectionError):
        await left.pair(code)
    clock.now += PAIRING_EXCHANGE_TIMEOUT
    assert builder.window.state is not None
    assert builder.window.state.tries_left == 3
    await PairingClient(pi, offer, "pi", builder.window.handle).pair(code)
    assert len(builder.paired) == 1


async def test_a_confirmation_that_comes_too_late_is_not_even_looked_at(
    pi: Identity, offer: Offer, builder: Builder, clock: Clock
) -> None:
    code = builder.window.open().code

    async def slow(raw: Json) -> Json:
        if raw["type"] == "pair_confirm":
            clock.now += PAIRING_EXCHANGE_TIMEOUT
        return await builder.window.handle(raw)

    for typed in (code, other_than(code)):
        attempt = PairingClient(pi, offer, "pi", slow).pair(typed)
        assert await failure(attempt) is PairingFailure.TIMED_OUT
    assert builder.window.state is not None
    assert builder.window.state.tries_left == 3
    assert builder.paired == []


async def test_a_window_reopened_in_the_middle_pairs_nobody_with_the_old_code(
    pi: Identity, offer: Offer, builder: Builder
) -> None:
    code = builder.window.open().code

    async def reopening(raw: Json) -> Json:
        if raw["type"] == "pair_confirm":
            builder.window.open()
        return await builder.window.handle(raw)

    attempt = PairingClient(pi, offer, "pi", reopening).pair(code)
    assert await failure(attempt) is PairingFailure.TIMED_OUT
    assert builder.paired == []


@pytest.mark.parametrize(
    ("meanwhile", "expected"),
    [
        (PairingWindow.close, PairingFailure.WINDOW_CLOSED),
        (PairingWindow.open, PairingFailure.TIMED_OUT),
    ],
)
async def test_a_window_that_changes_while_the_thread_works_gives_out_no_share(
    pi: Identity,
    offer: Offer,
    builder: Builder,
    monkeypatch: pytest.MonkeyPatch,
    meanwhile: Callable[[PairingWindow], object],
    expected: PairingFailure,
) -> None:
    loop = asyncio.get_running_loop()
    answers: list[Json] = []

    async def change() -> None:
        meanwhile(builder.window)

    def working(*arguments: object) -> Exchange:
        asyncio.run_coroutine_threadsafe(change(), loop).result(5)
        return answer_share(*arguments)

    async def post(raw: Json) -> Json:
        answers.append(await builder.window.handle(raw))
        return answers[-1]

    answer_share = pairing._answer_share
    monkeypatch.setattr(pairing, "_answer_share", working)
    code = builder.window.open().code
    assert await failure(PairingClient(pi, offer, "pi", post).pair(code)) is expected
    assert len(answers) == 1


async def test_exchanges_without_a_guess_are_limited_too(
    pi: Identity, offer: Offer, builder: Builder, clock: Clock
) -> None:
    code = builder.window.open().code
    prober = PairingClient(pi, offer, "pi", stopped_before("pair_confirm", builder.window.handle))
    for _ in range(10):
        with pytest.raises(ConnectionError):
            await prober.pair(code)
        clock.now += PAIRING_EXCHANGE_TIMEOUT
    assert await failure(prober.pair(code)) is PairingFailure.WINDOW_CLOSED
    assert builder.window.end is WindowEnd.TOO_MANY_EXCHANGES


async def test_the_same_identity_on_both_sides_is_said(
    workshop: Identity, offer: Offer, builder: Builder
) -> None:
    code = builder.window.open().code
    copy = PairingClient(workshop, offer, "copy", builder.window.handle)
    assert await failure(copy.pair(code)) is PairingFailure.SAME_IDENTITY
    assert builder.window.state is not None
    assert builder.window.state.tries_left == 3


@pytest.mark.parametrize(
    ("there", "expected"),
    [((9, 9), PairingFailure.TOO_NEW), ((1, 1), PairingFailure.TOO_OLD)],
)
async def test_a_builder_that_speaks_another_protocol_is_refused_with_the_side_to_update(
    pi: Identity, workshop: Identity, clock: Clock, there, expected: PairingFailure
) -> None:
    here = (1, 1) if there == (9, 9) else (9, 9)
    builder = Builder(workshop, Offer(*there, (), "x"), clock)
    code = builder.window.open().code
    client = PairingClient(pi, Offer(*here, (), "y"), "pi", builder.window.handle)
    assert await failure(client.pair(code)) is expected
    assert builder.window.state is not None
    assert builder.window.state.tries_left == 3


async def test_an_older_side_is_served_with_what_both_know(
    pi: Identity, workshop: Identity, clock: Clock
) -> None:
    builder = Builder(workshop, Offer(3, 1, ("a", "b"), "new"), clock)
    code = builder.window.open().code
    client = PairingClient(pi, Offer(2, 1, ("b", "c"), "old"), "pi", builder.window.handle)
    paired = await client.pair(code)
    assert paired.agreement.protocol == 2
    assert paired.agreement.capabilities == {"b"}
    assert builder.paired[0].agreement == paired.agreement


@pytest.mark.parametrize(
    "answer",
    [None, "hello", [], {}, {"type": "pair_answer"}, {"offer": 1}, {"message": "404: Not Found"}],
)
async def test_an_answer_that_is_none_is_malformed(
    pi: Identity, offer: Offer, answer: object
) -> None:
    async def post(_raw: Json) -> object:
        return answer

    attempt = PairingClient(pi, offer, "pi", post).pair("12345678")
    assert await failure(attempt) is PairingFailure.MALFORMED


@pytest.mark.parametrize("raw", [None, 5, {}, {"type": "pair_start"}, {"type": "pair_confirm"}])
async def test_a_request_that_is_none_is_malformed_and_costs_nothing(
    builder: Builder, raw: object
) -> None:
    builder.window.open()
    assert (await builder.window.handle(raw))["error"] == "malformed"
    assert builder.window.state is not None
    assert builder.window.state.tries_left == 3


async def test_an_unreachable_builder_is_told_as_it_is(pi: Identity, offer: Offer) -> None:
    async def post(_raw: Json) -> object:
        raise ConnectionRefusedError

    with pytest.raises(ConnectionRefusedError):
        await PairingClient(pi, offer, "pi", post).pair("12345678")


async def test_a_builder_that_never_answers_is_given_up(
    pi: Identity, offer: Offer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def post(_raw: Json) -> object:
        return await asyncio.Event().wait()

    monkeypatch.setattr(
        "custom_components.esphome_offload.engine.protocol.pairing.PAIRING_EXCHANGE_TIMEOUT", 0.05
    )
    attempt = PairingClient(pi, offer, "pi", post).pair("12345678")
    assert await failure(attempt) is PairingFailure.TIMED_OUT


async def test_a_label_that_is_too_long_is_cut_not_refused(
    pi: Identity, offer: Offer, builder: Builder
) -> None:
    code = builder.window.open().code
    await PairingClient(pi, offer, "p\ni" * 100, builder.window.handle).pair(code)
    assert len(builder.paired[0].label) == 128
