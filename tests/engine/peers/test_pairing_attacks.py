"""What somebody on the wire can do to a pairing: refuse it, and guess once."""

import base64
from collections.abc import Awaitable, Callable

import pytest

from custom_components.esphome_offload.engine.codec import Json, encode, encode_json
from custom_components.esphome_offload.engine.protocol.definitions import Role
from custom_components.esphome_offload.engine.protocol.greetings import (
    PairAnswer,
    PairDone,
    PairStart,
)
from custom_components.esphome_offload.engine.protocol.identity import Identity, PublicKey
from custom_components.esphome_offload.engine.protocol.negotiation import Offer
from custom_components.esphome_offload.engine.protocol.pairing import (
    Paired,
    PairingClient,
    PairingError,
    PairingFailure,
    PairingWindow,
)
from custom_components.esphome_offload.engine.protocol.parsing import parse
from custom_components.esphome_offload.engine.protocol.spake import Exchange, Party

from .conftest import Clock

type Post = Callable[[Json], Awaitable[Json]]


@pytest.fixture
def paired() -> list[Paired]:
    return []


@pytest.fixture
def window(workshop: Identity, offer: Offer, clock: Clock, paired: list[Paired]) -> PairingWindow:
    return PairingWindow(workshop, offer, lambda: "workshop", on_paired=paired.append, clock=clock)


def client(identity: Identity, offer: Offer, post: Post) -> PairingClient:
    return PairingClient(identity, offer, "pi", post)


async def failure(pairing: Awaitable[Paired]) -> PairingFailure:
    with pytest.raises(PairingError) as caught:
        await pairing
    return caught.value.failure


class FalseBuilder:
    """A man in the middle towards the offloader, who guesses a code."""

    def __init__(self, identity: Identity, offer: Offer, guess: str) -> None:
        self.identity = identity
        self.guess = guess
        self.party = Party(offer, identity.public, "workshop")
        self.exchange: Exchange | None = None
        self.guess_was_right: bool | None = None

    async def __call__(self, raw: Json) -> Json:
        if raw["type"] == PairStart.TYPE:
            start = parse(PairStart, raw)
            self.exchange = Exchange(Role.BUILDER, self.guess, self.identity, self.party)
            self.exchange.finish(
                Party(start.offer, PublicKey(start.public_key), start.label), start.share
            )
            return encode(
                PairAnswer(
                    "0" * 32, self.party.offer, self.identity.public.raw, "workshop",
                    self.exchange.share,
                )
            )  # fmt: skip
        assert self.exchange is not None
        confirmation = base64.b64decode(str(raw["confirmation"]))
        self.guess_was_right = self.exchange.confirmed_by(confirmation)
        return encode(PairDone(self.exchange.confirmation))


async def test_a_false_builder_with_a_wrong_guess_pairs_with_nobody(
    pi: Identity, mallory: Identity, offer: Offer
) -> None:
    false = FalseBuilder(mallory, offer, "11111111")
    assert await failure(client(pi, offer, false).pair("22222222")) is PairingFailure.WRONG_CODE
    assert false.guess_was_right is False


async def test_a_false_builder_has_one_guess_and_it_counts_when_it_is_right(
    pi: Identity, mallory: Identity, offer: Offer
) -> None:
    """The bound that eight digits buy: one in 100,000,000 for each time that somebody types."""
    false = FalseBuilder(mallory, offer, "22222222")
    assert (await client(pi, offer, false).pair("22222222")).public == mallory.public


async def test_a_false_builder_cannot_try_other_codes_on_what_it_heard(
    pi: Identity, mallory: Identity, offer: Offer
) -> None:
    """Its share fixes its one guess: another code afterwards fits as badly as any."""
    false = FalseBuilder(mallory, offer, "11111111")
    heard: list[Json] = []

    async def listening(raw: Json) -> Json:
        heard.append(raw)
        return await false(raw)

    await failure(client(pi, offer, listening).pair("22222222"))
    start = parse(PairStart, heard[0])
    confirmation = base64.b64decode(str(heard[1]["confirmation"]))
    assert false.exchange is not None
    secret_scalar = false.exchange._spake.xy_scalar
    offloader = Party(start.offer, PublicKey(start.public_key), start.label)
    for code in ("22222222", "33333333"):
        again = Exchange(Role.BUILDER, code, mallory, false.party)
        again._spake.xy_scalar = secret_scalar
        again._spake.outbound_message = false.exchange.share
        again.share = false.exchange.share
        again.finish(offloader, start.share)
        assert not again.confirmed_by(confirmation)


async def test_a_false_offloader_has_three_guesses(
    mallory: Identity, offer: Offer, window: PairingWindow, paired: list[Paired]
) -> None:
    code = window.open().code
    guesses = [f"{(int(code) + n) % 10**8:08d}" for n in (1, 2, 3, 0)]
    failures = [await failure(client(mallory, offer, window.handle).pair(each)) for each in guesses]
    assert failures == [PairingFailure.WRONG_CODE] * 3 + [PairingFailure.WINDOW_CLOSED]
    assert paired == []


async def test_a_man_in_the_middle_who_swaps_the_keys_is_noticed_by_both(
    pi: Identity, mallory: Identity, offer: Offer, window: PairingWindow, paired: list[Paired]
) -> None:
    code = window.open().code

    async def swapping(raw: Json) -> Json:
        key = base64.b64encode(mallory.public.raw).decode()
        if "public_key" in raw:
            raw |= {"public_key": key}
        answer = await window.handle(raw)
        return answer | {"public_key": key} if "public_key" in answer else answer

    assert await failure(client(pi, offer, swapping).pair(code)) is PairingFailure.WRONG_CODE
    assert paired == []


@pytest.mark.parametrize("sent_by", ["pair_start", "pair_answer"])
@pytest.mark.parametrize(
    "change",
    [
        {"label": "bank"},
        {"offer": {"protocol": 1, "oldest_protocol": 1, "capabilities": [], "version": "0.1.0"}},
        {"offer": {"protocol": 2, "oldest_protocol": 1, "capabilities": [], "version": "0.1.0"}},
    ],
    ids=["label", "capabilities", "protocol"],
)
async def test_whatever_is_altered_on_the_way_is_noticed(
    pi: Identity, offer: Offer, window: PairingWindow, sent_by: str, change: Json
) -> None:
    code = window.open().code

    async def altering(raw: Json) -> Json:
        answer = await window.handle(raw | change if raw["type"] == sent_by else raw)
        return answer | change if answer["type"] == sent_by else answer

    assert await failure(client(pi, offer, altering).pair(code)) is PairingFailure.WRONG_CODE
    # Nobody became a guest: a try was lost, and the window is still open.
    assert window.state is not None
    assert window.state.tries_left == 2


async def test_an_altered_last_answer_is_noticed(
    pi: Identity, offer: Offer, window: PairingWindow
) -> None:
    code = window.open().code

    async def altering(raw: Json) -> Json:
        answer = await window.handle(raw)
        if answer["type"] == PairDone.TYPE:
            answer["confirmation"] = raw["confirmation"]
        return answer

    # What the offloader sent itself proves nothing to it.
    assert await failure(client(pi, offer, altering).pair(code)) is PairingFailure.WRONG_CODE


async def test_messages_that_come_back_as_they_went_pair_nobody(pi: Identity, offer: Offer) -> None:
    async def echo(raw: Json) -> Json:
        if raw["type"] == PairStart.TYPE:
            return raw | {"type": PairAnswer.TYPE, "exchange": "0" * 32}
        return raw | {"type": PairDone.TYPE}

    pairing = client(pi, offer, echo).pair("12345678")
    assert await failure(pairing) is PairingFailure.SAME_IDENTITY


async def test_a_share_that_comes_back_with_another_key_pairs_nobody(
    pi: Identity, mallory: Identity, offer: Offer
) -> None:
    async def echo(raw: Json) -> Json:
        key = base64.b64encode(mallory.public.raw).decode()
        return raw | {"type": PairAnswer.TYPE, "exchange": "0" * 32, "public_key": key}

    pairing = client(pi, offer, echo).pair("12345678")
    assert await failure(pairing) is PairingFailure.MALFORMED


async def test_a_recorded_pairing_cannot_be_played_again(
    pi: Identity, mallory: Identity, offer: Offer, window: PairingWindow, paired: list[Paired]
) -> None:
    recorded: list[Json] = []

    async def recording(raw: Json) -> Json:
        recorded.append(raw)
        return await window.handle(raw)

    await client(pi, offer, recording).pair(window.open().code)
    window.open()
    answer = await window.handle(recorded[0])
    assert answer["type"] == PairAnswer.TYPE
    refusal = await window.handle(recorded[1])
    assert refusal["error"] == "timed_out"
    refusal = await window.handle(recorded[1] | {"exchange": answer["exchange"]})
    assert refusal["error"] == "wrong_code"
    assert len(paired) == 1


async def test_one_guess_cannot_be_made_twice_in_one_exchange(
    mallory: Identity, offer: Offer, window: PairingWindow
) -> None:
    window.open()
    start = PairStart(
        offer, mallory.public.raw, "x",
        Exchange(Role.OFFLOADER, "1", mallory, Party(offer, mallory.public, "x")).share,
    )  # fmt: skip
    answer = await window.handle(encode(start))
    guess: Json = {
        "type": "pair_confirm",
        "exchange": answer["exchange"],
        "confirmation": base64.b64encode(bytes(32)).decode(),
    }
    assert (await window.handle(guess))["error"] == "wrong_code"
    assert (await window.handle(guess))["error"] == "timed_out"
    assert window.state is not None
    assert window.state.tries_left == 2


@pytest.mark.parametrize(
    "share",
    [
        bytes(32),
        (1).to_bytes(32, "little"),
        (2**255 - 20).to_bytes(32, "little"),
        b"\xff" * 32,
        (2).to_bytes(32, "little"),
        bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"),
        bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"),
    ],
    ids=["order 4", "zero", "order 2", "too large", "not on the curve", "order 8", "order 8 too"],
)
async def test_a_share_outside_the_group_is_malformed(
    mallory: Identity, offer: Offer, window: PairingWindow, share: bytes
) -> None:
    """A point of small order would make the key known without the code."""
    window.open()
    start = PairStart(offer, mallory.public.raw, "x", share)
    assert (await window.handle(encode(start)))["error"] == "malformed"
    assert window.state is not None
    assert window.state.tries_left == 3


async def test_a_public_key_that_its_bringer_does_not_own_is_refused(
    pi: Identity, mallory: Identity, offer: Offer, window: PairingWindow, paired: list[Paired]
) -> None:
    """Who knows the code can pair with an own key only."""
    code = window.open().code
    thief = Identity(mallory.private, pi.public)
    assert await failure(client(thief, offer, window.handle).pair(code)) is (
        PairingFailure.WRONG_CODE
    )
    assert paired == []


async def test_the_code_never_crosses_the_wire(
    pi: Identity, offer: Offer, window: PairingWindow
) -> None:
    code = window.open().code
    crossed: list[str] = []

    async def listening(raw: Json) -> Json:
        answer = await window.handle(raw)
        crossed.extend((repr(raw), repr(answer)))
        return answer

    await client(pi, offer, listening).pair(code)
    assert len(crossed) == 4
    assert not any(code in each for each in crossed)


def test_the_confirmations_of_the_two_roles_differ(
    pi: Identity, workshop: Identity, offer: Offer
) -> None:
    parties = Party(offer, pi.public, "pi"), Party(offer, workshop.public, "workshop")
    offloader = Exchange(Role.OFFLOADER, "12345678", pi, parties[0])
    builder = Exchange(Role.BUILDER, "12345678", workshop, parties[1])
    builder.finish(parties[0], offloader.share)
    offloader.finish(parties[1], builder.share)
    assert offloader.confirmation != builder.confirmation
    assert offloader.confirmed_by(builder.confirmation)
    assert builder.confirmed_by(offloader.confirmation)
    assert not offloader.confirmed_by(offloader.confirmation)


def test_two_offloaders_cannot_pair(pi: Identity, workshop: Identity, offer: Offer) -> None:
    """Swapped roles: the same code, but nobody is the builder."""
    parties = Party(offer, pi.public, "pi"), Party(offer, workshop.public, "workshop")
    one = Exchange(Role.OFFLOADER, "12345678", pi, parties[0])
    other = Exchange(Role.OFFLOADER, "12345678", workshop, parties[1])
    one.finish(parties[1], other.share)
    other.finish(parties[0], one.share)
    assert not one.confirmed_by(other.confirmation)
    assert not other.confirmed_by(one.confirmation)


def test_a_message_of_pairing_is_small(pi: Identity, offer: Offer) -> None:
    start = PairStart(offer, pi.public.raw, "x" * 128, bytes(32))
    assert len(encode_json(start)) < 8 * 1024
