from collections.abc import Callable
import json

import pytest

from custom_components.esphome_offload.engine.codec import Json
from custom_components.esphome_offload.engine.protocol.definitions import (
    CLOCK_TOLERANCE,
    TICKET_BODY_LIMIT,
    ErrorCode,
    ProtocolError,
)
from custom_components.esphome_offload.engine.protocol.identity import Identity, PublicKey
from custom_components.esphome_offload.engine.protocol.seal import Channel
from custom_components.esphome_offload.engine.protocol.tickets import (
    ClockSkewError,
    TicketApplication,
    TicketDesk,
)

from .conftest import Clock


class Door:
    """A builder's desk with one guest, and the tokens that it gave away."""

    def __init__(self, workshop: Identity, guest: PublicKey, clock: Clock) -> None:
        self.guests = {guest.pin_sha256: guest}
        self.issued: list[str] = []
        self.clock = clock
        self.desk = TicketDesk(workshop, self.guests.get, clock=clock)

    async def issue(self, pin_sha256: str) -> str:
        self.issued.append(pin_sha256)
        return f"token-{len(self.issued)}"

    async def __call__(self, raw: object) -> Json:
        return await self.desk.handle(raw, self.issue)


@pytest.fixture
def door(workshop: Identity, pi: Identity, clock: Clock) -> Door:
    return Door(workshop, pi.public, clock)


@pytest.fixture
def apply(to_workshop: Channel, clock: Clock) -> Callable[[], TicketApplication]:
    return lambda: TicketApplication(to_workshop, clock=clock)


def refused(application: TicketApplication, answer: object) -> ErrorCode:
    with pytest.raises(ProtocolError) as caught:
        application.open(answer)
    return caught.value.code


async def test_a_guest_gets_a_token_that_lives_a_minute(door: Door, pi: Identity, apply) -> None:
    application = apply()
    ticket = application.open(await door(application.message))
    assert ticket.access_token == "token-1"
    assert ticket.expires_in == 60
    assert door.issued == [pi.pin_sha256]


async def test_neither_the_token_nor_the_request_can_be_read_on_the_way(
    door: Door, apply, workshop: Identity
) -> None:
    application = apply()
    answer = await door(application.message)
    assert "token-1" not in json.dumps(answer)
    assert set(application.message) == {"type", "pin_sha256", "sealed"}
    assert len(json.dumps(application.message)) < TICKET_BODY_LIMIT


async def test_a_token_is_not_in_the_repr(door: Door, apply) -> None:
    application = apply()
    assert "token-1" not in repr(application.open(await door(application.message)))


async def test_a_stranger_gets_nothing(
    door: Door, mallory: Identity, workshop: Identity, clock: Clock
) -> None:
    application = TicketApplication(Channel(mallory, workshop.public), clock=clock)
    assert refused(application, await door(application.message)) is ErrorCode.UNKNOWN_GUEST
    assert door.issued == []


async def test_a_removed_guest_gets_nothing(door: Door, apply) -> None:
    application = apply()
    application.open(await door(application.message))
    door.guests.clear()
    again = apply()
    assert refused(again, await door(again.message)) is ErrorCode.UNKNOWN_GUEST
    assert len(door.issued) == 1


async def test_the_pin_of_a_guest_without_its_key_gives_nothing(
    door: Door, pi: Identity, mallory: Identity, workshop: Identity, clock: Clock
) -> None:
    application = TicketApplication(Channel(mallory, workshop.public), clock=clock)
    forged = application.message | {"pin_sha256": pi.pin_sha256}
    assert (await door(forged))["error"] == "tampered"
    assert door.issued == []


async def test_a_replayed_request_gives_no_second_token(door: Door, apply) -> None:
    application = apply()
    await door(application.message)
    assert refused(application, await door(application.message)) is ErrorCode.REPLAYED
    assert len(door.issued) == 1


@pytest.mark.parametrize("ahead", [-CLOCK_TOLERANCE, 0, CLOCK_TOLERANCE])
async def test_a_request_is_never_good_twice_however_late_it_comes_again(
    door: Door, to_workshop: Channel, clock: Clock, ahead: float
) -> None:
    there = Clock(clock.now + ahead)
    application = TicketApplication(to_workshop, clock=there)
    await door(application.message)
    for _ in range(2 * CLOCK_TOLERANCE // 30 + 5):
        clock.now += 30
        # Other requests make the desk tidy up.
        there.now = clock.now
        await door(TicketApplication(to_workshop, clock=there).message)
        issued = len(door.issued)
        await door(application.message)
        assert len(door.issued) == issued


@pytest.mark.parametrize("ahead", [-100, 100])
async def test_requests_that_overtake_each_other_are_both_good(
    door: Door, to_workshop: Channel, clock: Clock, ahead: float
) -> None:
    there = Clock(clock.now + ahead)
    first = TicketApplication(to_workshop, clock=there)
    there.now += 1
    second = TicketApplication(to_workshop, clock=there)
    assert second.open(await door(second.message)).access_token == "token-1"
    assert first.open(await door(first.message)).access_token == "token-2"


async def test_a_clock_set_back_does_not_make_an_old_request_good_again(
    door: Door, apply, clock: Clock
) -> None:
    old = apply()
    await door(old.message)
    clock.now += 2 * CLOCK_TOLERANCE
    newer = apply()
    await door(newer.message)
    clock.now -= 2 * CLOCK_TOLERANCE
    assert refused(old, await door(old.message)) is ErrorCode.REPLAYED
    assert len(door.issued) == 2


async def test_a_builder_whose_clock_was_far_ahead_lets_its_guests_in_again(
    door: Door, apply, clock: Clock
) -> None:
    clock.now += 1_000_000
    await door(apply().message)
    clock.now += 1000
    await door(apply().message)
    clock.now -= 1_000_000
    application = apply()
    assert application.open(await door(application.message)).access_token == "token-3"


@pytest.mark.parametrize("ahead", [CLOCK_TOLERANCE, -CLOCK_TOLERANCE])
async def test_clocks_may_be_five_minutes_apart(
    door: Door, to_workshop: Channel, clock: Clock, ahead: float
) -> None:
    application = TicketApplication(to_workshop, clock=Clock(clock.now + ahead))
    assert application.open(await door(application.message)).access_token == "token-1"


@pytest.mark.parametrize("ahead", [CLOCK_TOLERANCE + 1, -CLOCK_TOLERANCE - 1, 86_400])
async def test_clocks_further_apart_are_said_with_the_difference(
    door: Door, to_workshop: Channel, clock: Clock, ahead: float
) -> None:
    application = TicketApplication(to_workshop, clock=Clock(clock.now + ahead))
    with pytest.raises(ClockSkewError) as caught:
        application.open(await door(application.message))
    assert caught.value.code is ErrorCode.CLOCK_SKEW
    assert caught.value.seconds == ahead
    assert door.issued == []


async def test_many_requests_are_remembered_in_bounded_memory_and_none_is_good_twice(
    door: Door, apply, clock: Clock, pi: Identity
) -> None:
    applications = []
    for _ in range(300):
        clock.now += 0.01
        applications.append(apply())
        await door(applications[-1].message)
    assert len(door.issued) == 300
    for application in applications:
        await door(application.message)
    assert len(door.issued) == 300
    assert len(door.desk._seen[pi.pin_sha256].times) <= 128


async def test_the_requests_of_one_guest_do_not_touch_those_of_another(
    door: Door, apply, mallory: Identity, workshop: Identity, clock: Clock
) -> None:
    door.guests[mallory.pin_sha256] = mallory.public
    mine = apply()
    for _ in range(200):
        clock.now += 0.01
        await door(TicketApplication(Channel(mallory, workshop.public), clock=clock).message)
    assert mine.open(await door(mine.message)).access_token == "token-201"


async def test_the_builder_may_refuse_a_known_guest_with_a_reason(door: Door, apply) -> None:
    async def not_now(_pin: str) -> str:
        raise ProtocolError(ErrorCode.NOT_LENDING, "paused")

    application = apply()
    answer = await door.desk.handle(application.message, not_now)
    assert "not_lending" not in json.dumps(answer)
    with pytest.raises(ProtocolError, match="paused") as caught:
        application.open(answer)
    assert caught.value.code is ErrorCode.NOT_LENDING


async def test_an_answer_fits_its_own_request_only(door: Door, apply) -> None:
    first, second = apply(), apply()
    answer = await door(first.message)
    await door(second.message)
    assert refused(second, answer) is ErrorCode.REPLAYED
    assert first.open(answer).access_token == "token-1"


async def test_a_request_that_comes_back_is_no_answer(apply) -> None:
    application = apply()
    echo = {"type": "ticket_answer", "sealed": application.message["sealed"]}
    assert refused(application, echo) is ErrorCode.TAMPERED


async def test_an_answer_by_somebody_else_is_noticed(
    apply, pi: Identity, mallory: Identity, clock: Clock, workshop: Identity
) -> None:
    application = apply()
    false = Door(mallory, pi.public, clock)
    assert (await false(application.message))["error"] == "tampered"
    to_mallory = TicketApplication(Channel(pi, mallory.public), clock=clock)
    assert refused(application, await false(to_mallory.message)) is ErrorCode.TAMPERED


async def test_every_altered_byte_of_a_request_is_noticed(door: Door, apply) -> None:
    application = apply()
    sealed = str(application.message["sealed"])
    for position in range(len(sealed) - 4):
        letter = "A" if sealed[position] != "A" else "B"
        altered = sealed[:position] + letter + sealed[position + 1 :]
        answer = await door(application.message | {"sealed": altered})
        assert answer["error"] == "tampered"
    assert door.issued == []


@pytest.mark.parametrize("raw", [None, [], {}, {"pin_sha256": "x", "sealed": "y"}])
async def test_what_is_no_request_is_malformed(door: Door, raw: object) -> None:
    assert (await door(raw))["error"] == "malformed"


@pytest.mark.parametrize("raw", [None, [], {}, {"type": "ticket_answer"}, "<html>"])
async def test_what_is_no_answer_is_malformed(apply, raw: object) -> None:
    assert refused(apply(), raw) is ErrorCode.MALFORMED


async def test_a_guest_that_was_forgotten_and_paired_again_is_let_in(door: Door, apply) -> None:
    await door(apply().message)
    door.desk.forget(next(iter(door.guests)))
    application = apply()
    assert application.open(await door(application.message)).access_token == "token-2"
