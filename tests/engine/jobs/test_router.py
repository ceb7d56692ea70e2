"""Choosing a builder: a pure function."""

from collections.abc import Mapping
from dataclasses import replace

from custom_components.esphome_offload.engine.build.model import BuilderStatus
from custom_components.esphome_offload.engine.const import Source
from custom_components.esphome_offload.engine.jobs.router import (
    Bind,
    Candidate,
    Fail,
    Snapshot,
    Wait,
    choose,
    usable_for,
)
from custom_components.esphome_offload.engine.reason import Reason, ReasonKey

from .fakes import because

READY = BuilderStatus(available=True)
LOCAL = Candidate("local", "Here", Source.LOCAL, READY)
ATTIC = Candidate("aa", "Attic", Source.REMOTE, READY)
CELLAR = Candidate("cc", "Cellar", Source.REMOTE, READY)
IDLE = Reason(ReasonKey.CHOSEN_IDLE)


def away(candidate: Candidate, why: str = "paused") -> Candidate:
    return replace(candidate, status=BuilderStatus(available=False, why_not=because(why)))


def slots_busy(load: str) -> Reason:
    return Reason(ReasonKey.SLOTS_BUSY, {"load": load, "slots": "1"})


def waits_for(causes: Mapping[str, Reason]) -> Reason:
    return Reason(ReasonKey.WAITS_FOR_BUILDER, causes=causes)


def fails(causes: Mapping[str, Reason]) -> Fail:
    return Fail(Reason(ReasonKey.NO_BUILDER_TAKES, causes=causes))


def busy(candidate: Candidate, count: int = 1, queue: int = 0) -> Candidate:
    status = replace(candidate.status, busy=count, queue_length=queue)
    return replace(candidate, status=status)


def warm(candidate: Candidate) -> Candidate:
    return replace(candidate, status=replace(candidate.status, warm=frozenset({"lamp.yaml"})))


def snapshot(*candidates: Candidate, source: str = "auto", **rest: object) -> Snapshot:
    base = Snapshot("lamp.yaml", source, candidates)
    return replace(base, **rest)  # type: ignore[arg-type]


def test_the_only_builder_is_this_machine() -> None:
    assert choose(snapshot(LOCAL)) == Bind("local", IDLE, {})


def test_a_builder_that_is_switched_off_gets_no_job() -> None:
    off = replace(ATTIC, unused=True)
    why = {"Attic": Reason(ReasonKey.NOT_BY_CHOICE)}
    choice = choose(snapshot(LOCAL, off, CELLAR))
    assert isinstance(choice, Bind)
    assert (choice.builder_id, choice.why_not["Attic"]) == ("cc", why["Attic"])
    assert choose(snapshot(LOCAL, off)) == Bind("local", IDLE, why)
    assert choose(snapshot(LOCAL, off, fall_back_to_local=False)) == fails(why)


def test_this_machine_takes_no_more_than_its_slots() -> None:
    choice = choose(snapshot(busy(LOCAL)))
    assert choice == Wait(Reason(ReasonKey.WAITS_FOR_SLOT, {"labels": "Here"}), for_slot=("local",))


def test_a_job_that_the_builder_does_not_know_of_yet_takes_its_slot_too() -> None:
    assert isinstance(choose(snapshot(replace(LOCAL, ours=1))), Wait)


def test_a_warm_tree_goes_before_an_idle_builder() -> None:
    two = replace(CELLAR, status=replace(READY, slots=2))
    choice = choose(snapshot(ATTIC, warm(busy(two))))
    assert choice == Bind(
        "cc",
        Reason(ReasonKey.CHOSEN_WARM),
        {"Attic": Reason(ReasonKey.NOT_PREFERRED, {"label": "Cellar"})},
    )


def test_an_idle_builder_goes_before_the_shortest_queue() -> None:
    choice = choose(snapshot(busy(ATTIC), CELLAR))
    assert choice == Bind("cc", IDLE, {"Attic": slots_busy("1")})


def test_a_warm_tree_behind_a_queue_is_not_worth_waiting_for() -> None:
    choice = choose(snapshot(warm(busy(ATTIC)), CELLAR))
    assert isinstance(choice, Bind)
    assert choice.builder_id == "cc"


def test_where_all_are_busy_for_others_the_shortest_queue_takes_it() -> None:
    choice = choose(snapshot(busy(ATTIC, queue=3), busy(CELLAR, queue=1)))
    assert choice == Bind("cc", Reason(ReasonKey.CHOSEN_SHORTEST_QUEUE), {"Attic": slots_busy("4")})


def test_a_peer_that_builds_for_us_gets_no_second_job_beyond_its_slots() -> None:
    assert isinstance(choose(snapshot(replace(ATTIC, ours=1))), Wait)


def test_a_half_busy_builder_says_so() -> None:
    choice = choose(snapshot(busy(replace(LOCAL, status=replace(READY, slots=2)))))
    assert choice == Bind("local", Reason(ReasonKey.CHOSEN_FREE_SLOT), {})


def test_peers_spare_this_machine() -> None:
    choice = choose(snapshot(LOCAL, ATTIC))
    assert choice == Bind("aa", IDLE, {"Here": Reason(ReasonKey.NOT_WHILE_PEERS_CAN)})


def test_a_busy_peer_spares_this_machine_too() -> None:
    choice = choose(snapshot(LOCAL, replace(ATTIC, ours=1)))
    assert isinstance(choice, Wait)


def test_this_machine_builds_when_no_peer_can_and_waiting_is_over() -> None:
    waiting = snapshot(LOCAL, away(ATTIC), wait_for_builder=300.0, waited=100.0)
    assert choose(waiting) == Wait(waits_for({"Attic": because("paused")}), 200.0)
    assert choose(replace(waiting, waited=300.0)) == Bind(
        "local", IDLE, {"Attic": because("paused")}
    )


def test_waiting_without_limit_looks_again_only_at_a_change() -> None:
    choice = choose(snapshot(LOCAL, away(ATTIC), wait_for_builder=None))
    assert choice == Wait(waits_for({"Attic": because("paused")}), None)


def test_without_falling_back_the_job_fails_with_everybodys_reason() -> None:
    choice = choose(snapshot(LOCAL, away(ATTIC), away(CELLAR, "full"), fall_back_to_local=False))
    assert choice == fails({"Attic": because("paused"), "Cellar": because("full")})


def test_a_peer_that_failed_is_not_waited_for() -> None:
    failed = replace(ATTIC, failed=because("disk full"))
    choice = choose(snapshot(LOCAL, failed, wait_for_builder=300.0))
    assert choice == Bind("local", IDLE, {"Attic": because("disk full")})


def test_a_peer_whose_trouble_passes_is_waited_for_and_looked_at_in_time() -> None:
    failed = replace(ATTIC, failed=because("paused"), again_in=10.0)
    waiting = snapshot(LOCAL, failed, wait_for_builder=300.0)
    assert choose(waiting) == Wait(waits_for({"Attic": because("paused")}), 10.0)
    assert choose(replace(waiting, waited=295.0)) == Wait(
        waits_for({"Attic": because("paused")}), 5.0
    )
    assert choose(replace(waiting, wait_for_builder=0.0)) == Bind(
        "local", IDLE, {"Attic": because("paused")}
    )


def test_a_job_fails_when_every_builder_failed() -> None:
    failed = replace(LOCAL, failed=because("disk full"))
    assert choose(snapshot(failed, wait_for_builder=None)) == fails({"Here": because("disk full")})


def test_this_machine_is_honoured_when_asked_for() -> None:
    choice = choose(snapshot(LOCAL, ATTIC, source="local"))
    assert choice == Bind(
        "local", Reason(ReasonKey.CHOSEN_AS_ASKED), {"Attic": Reason(ReasonKey.NOT_ASKED_FOR)}
    )


def test_this_machine_asked_for_but_not_able_fails_at_once() -> None:
    choice = choose(
        snapshot(away(LOCAL, "musl"), away(ATTIC), source="local", wait_for_builder=None)
    )
    assert choice == fails({"Here": because("musl")})


def test_a_peer_is_honoured_when_asked_for() -> None:
    choice = choose(snapshot(LOCAL, ATTIC, warm(CELLAR), source="aa"))
    assert isinstance(choice, Bind)
    assert (choice.builder_id, choice.reason) == ("aa", Reason(ReasonKey.CHOSEN_AS_ASKED))


def test_a_peer_asked_for_but_away_is_waited_for_and_then_fails() -> None:
    waiting = snapshot(LOCAL, away(ATTIC), source="aa", wait_for_builder=60.0)
    assert choose(waiting) == Wait(waits_for({"Attic": because("paused")}), 60.0)
    assert choose(replace(waiting, waited=60.0)) == fails({"Attic": because("paused")})


def test_a_request_for_an_unknown_builder_fails_and_names_it() -> None:
    assert choose(snapshot(LOCAL, source="zz")) == fails({"zz": Reason(ReasonKey.NO_SUCH_BUILDER)})


def test_no_builder_at_all_is_waited_for_as_long_as_the_options_say() -> None:
    assert choose(snapshot(wait_for_builder=None)) == Wait(waits_for({}), None)
    assert choose(snapshot()) == Fail(Reason(ReasonKey.NO_BUILDER))


def test_a_builder_that_gives_no_reason_still_has_one() -> None:
    mute = replace(LOCAL, status=BuilderStatus(available=False))
    assert choose(snapshot(mute)) == fails({"Here": Reason(ReasonKey.NOT_AVAILABLE)})


def test_after_a_start_this_machine_does_not_take_what_a_peer_would() -> None:
    for early in (
        snapshot(LOCAL, peers_expected=12.0),
        snapshot(LOCAL, away(ATTIC, "connecting"), peers_expected=12.0),
        snapshot(LOCAL, away(ATTIC), peers_expected=12.0, source="aa"),
        snapshot(LOCAL, peers_expected=12.0, source="aa"),
        snapshot(LOCAL, away(ATTIC), peers_expected=12.0, fall_back_to_local=False),
    ):
        assert choose(early) == Wait(Reason(ReasonKey.WAITS_FOR_CONNECTIONS), 12.0)


def test_a_job_that_needs_no_peer_waits_for_none() -> None:
    assert isinstance(choose(snapshot(LOCAL, peers_expected=12.0, source="local")), Bind)


def test_a_peer_that_is_there_is_not_kept_waiting_for_the_others() -> None:
    choice = choose(snapshot(LOCAL, away(ATTIC), CELLAR, peers_expected=12.0))
    assert isinstance(choice, Bind)
    assert choice.builder_id == "cc"


# By what was measured


def expected(candidate: Candidate, takes: float, starts_in: float = 0.0) -> Candidate:
    return replace(candidate, takes=takes, starts_in=starts_in)


def test_the_builder_that_is_expected_to_be_done_first_is_chosen() -> None:
    choice = choose(snapshot(expected(ATTIC, 300), expected(warm(CELLAR), 310)))
    assert choice == Bind(
        "aa",
        Reason(ReasonKey.CHOSEN_FIRST, {"time": "5 min", "label": "Cellar", "other": "5 min"}),
        {"Cellar": Reason(ReasonKey.NOT_FIRST, {"time": "5 min"})},
    )


def test_short_times_are_told_in_seconds() -> None:
    choice = choose(snapshot(expected(ATTIC, 0.2), expected(CELLAR, 99.6)))
    assert isinstance(choice, Bind)
    assert str(choice.reason) == ("It is expected to be done first: in about 1 s, Cellar in 2 min")


def test_a_slow_builder_does_not_take_what_a_fast_one_finishes_earlier_after_its_build() -> None:
    fast = expected(replace(ATTIC, ours=1), takes=60, starts_in=60)
    slow = expected(CELLAR, takes=240)
    assert choose(snapshot(fast, slow)) == Wait(
        Reason(ReasonKey.WAITS_FOR_SLOT, {"labels": "Attic, Cellar"}),
        look_again=10.0,
        for_slot=("aa", "cc"),
        better="aa",
    )


def test_for_a_few_seconds_no_builder_is_left_idle() -> None:
    fast = expected(replace(ATTIC, ours=1), takes=60, starts_in=60)
    choice = choose(snapshot(fast, expected(CELLAR, takes=130)))
    assert isinstance(choice, Bind)
    assert choice.builder_id == "cc"


def test_a_builder_that_was_asked_for_needs_not_be_the_first() -> None:
    choice = choose(snapshot(expected(ATTIC, 300), expected(CELLAR, 30), source="aa"))
    assert isinstance(choice, Bind)
    assert choice.reason == Reason(ReasonKey.CHOSEN_AS_ASKED)


def test_where_there_is_no_other_the_reason_is_as_before() -> None:
    choice = choose(snapshot(LOCAL, expected(ATTIC, 300)))
    assert choice == Bind("aa", IDLE, {"Here": Reason(ReasonKey.NOT_WHILE_PEERS_CAN)})


def test_who_would_be_given_a_job_is_known_without_a_free_slot() -> None:
    assert usable_for(snapshot(LOCAL, replace(ATTIC, ours=1), away(CELLAR))) == ("aa",)
    assert usable_for(snapshot(LOCAL)) == ("local",)
    assert usable_for(snapshot(LOCAL, away(ATTIC), peers_expected=12.0)) == ()
