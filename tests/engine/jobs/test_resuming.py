"""Another machine was left alone with a build: at a restart, or when its entry was reloaded."""

import pytest

from custom_components.esphome_offload.engine.build.model import (
    BuildDetached,
    BuildError,
    BuilderStatus,
    BuildRequest,
    BuildSink,
)
from custom_components.esphome_offload.engine.const import (
    FailureReason,
    JobStatus,
    Source,
    Stage,
)
from custom_components.esphome_offload.engine.jobs.model import FirmwareJob, JobEvent
from custom_components.esphome_offload.engine.jobs.replay import Replay
from custom_components.esphome_offload.engine.jobs.router import GRACE

from .fakes import (
    Act,
    Block,
    ScriptedBuilder,
    settle,
)
from .house import House

AWAY = BuilderStatus(available=False, why_not="not connected", reachable=False)


@pytest.fixture
def peer(house: House) -> ScriptedBuilder:
    return house.add_peer("a" * 64, "workshop")


async def _stopped(house: House, peer: ScriptedBuilder) -> FirmwareJob:
    """Stop while the peer builds; a new queue stands ready."""
    peer.script = [Block()]
    job = await house.run()
    assert job.routing.source is Source.REMOTE
    await house.stop_and_make_anew()
    return job


async def _started(house: House, job: FirmwareJob) -> FirmwareJob:
    await house.queue.start()
    await settle()
    again = house.queue.get(job.job_id)
    assert again is not None
    return again


async def test_the_same_attempt_is_taken_up_at_the_same_builder(
    house: House, peer: ScriptedBuilder
) -> None:
    job = await _stopped(house, peer)
    again = await _started(house, job)
    assert again.status is JobStatus.COMPLETED
    first, second = peer.requests
    assert (first.resume, second.resume) == (False, True)
    assert second.attempt_id == first.attempt_id
    assert [attempt.failure for attempt in again.attempts] == [None]
    assert again.routing.source_label == "workshop"
    assert again.routing.reason == job.routing.reason
    assert house.events_of(job).count(JobEvent.STARTED) == 1


async def test_builders_are_told_that_we_leave_before_their_builds_are_cancelled(
    house: House, peer: ScriptedBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = Block()
    peer.script = [block]
    await house.run()
    cancelled_before: list[bool] = []
    monkeypatch.setattr(peer, "leave", lambda: cancelled_before.append(block.cancelled))
    await house.queue.stop()
    assert cancelled_before == [False]
    assert block.cancelled


async def test_its_attempt_is_wanted_from_the_start_and_no_more_when_it_has_ended(
    house: House, peer: ScriptedBuilder
) -> None:
    job = await _stopped(house, peer)
    house.queue.hold()
    again = await _started(house, job)
    (attempt,) = again.attempts
    assert house.queue.wanted_attempts(peer.builder_id) == (attempt.attempt_id,)
    assert house.queue.wanted_attempts("local") == ()
    house.queue.release()
    await settle()
    assert house.queue.wanted_attempts(peer.builder_id) == ()


async def test_a_builder_that_is_paused_is_gone_back_to_all_the_same(
    house: House, peer: ScriptedBuilder
) -> None:
    job = await _stopped(house, peer)
    peer.become(BuilderStatus(available=False, why_not="paused by its owner"))
    assert (await _started(house, job)).status is JobStatus.COMPLETED


async def test_a_builder_gets_a_while_to_be_there_again(
    house: House, peer: ScriptedBuilder
) -> None:
    job = await _stopped(house, peer)
    peer.become(AWAY)
    again = await _started(house, job)
    assert (again.status, again.waiting_for) == (
        JobStatus.QUEUED,
        "workshop, which has the build already",
    )
    await house.time.go(GRACE - 1)
    peer.become(BuilderStatus(available=True))
    await settle()
    assert again.status is JobStatus.COMPLETED
    assert len(again.attempts) == 1


async def test_without_it_the_job_is_built_elsewhere(house: House, peer: ScriptedBuilder) -> None:
    job = await _stopped(house, peer)
    peer.become(AWAY)
    again = await _started(house, job)
    await house.time.go(GRACE)
    assert again.status is JobStatus.COMPLETED
    assert [(each.label, each.failure) for each in again.attempts] == [
        ("workshop", FailureReason.BUILDER_UNAVAILABLE),
        ("This machine", None),
    ]
    assert again.routing.source is Source.LOCAL


async def test_what_is_built_of_an_old_configuration_is_not_waited_for(
    house: House, peer: ScriptedBuilder
) -> None:
    job = await _stopped(house, peer)
    house.configurations.fingerprints["lamp.yaml"] = "edited while stopped"
    again = await _started(house, job)
    assert again.status is JobStatus.COMPLETED
    assert [each.failure for each in again.attempts] == [FailureReason.SUPERSEDED, None]
    assert not peer.requests[-1].resume


async def test_a_build_that_is_lost_is_begun_anew_at_the_same_builder(
    house: House, peer: ScriptedBuilder
) -> None:
    async def lost(_request: object, _sink: object) -> None:
        raise BuildError(FailureReason.BUILD_LOST, "it was restarted")

    job = await _stopped(house, peer)
    peer.script = [lost]
    again = await _started(house, job)
    assert again.status is JobStatus.COMPLETED
    assert [each.failure for each in again.attempts] == [FailureReason.BUILD_LOST, None]
    assert [each.resume for each in peer.requests] == [False, True, False]
    assert len({each.attempt_id for each in peer.requests}) == 2


async def test_a_builder_that_loses_it_over_and_over_is_left(
    house: House, peer: ScriptedBuilder
) -> None:
    async def lost(_request: object, _sink: object) -> None:
        raise BuildError(FailureReason.BUILD_LOST, "it was restarted")

    peer.script = [lost] * 5
    job = await house.run()
    assert job.status is JobStatus.COMPLETED
    assert [each.label for each in job.attempts] == ["workshop"] * 3 + ["This machine"]


async def test_cancelled_before_it_is_taken_up_it_is_wanted_no_more(
    house: House, peer: ScriptedBuilder
) -> None:
    job = await _stopped(house, peer)
    house.queue.hold()
    again = await _started(house, job)
    await house.queue.cancel(job.job_id)
    assert again.status is JobStatus.CANCELLED
    assert again.attempts[0].failure is FailureReason.CANCELLED
    assert house.queue.wanted_attempts(peer.builder_id) == ()


async def test_no_line_is_logged_twice_when_all_come_again(
    house: House, peer: ScriptedBuilder
) -> None:
    job = await _stopped(house, peer)

    async def say_all(_request: object, sink: BuildSink) -> None:
        sink.lines(["INFO Compiling a", "INFO Compiling b"])

    peer.script = [say_all]
    await _started(house, job)
    lines = (await house.logs.read(job.job_id)).lines
    assert [line for line in lines if line.startswith("INFO")] == [
        "INFO Compiling",  # logged before, and said again by the scripted builder
        "INFO Compiling a",
        "INFO Compiling b",
    ]


class Reload:
    """An act during which the connection to the builder is closed; it is made anew ``then``."""

    def __init__(self, house: House, peer: ScriptedBuilder, *said: str) -> None:
        self._house = house
        self._peer = peer
        self._said = said
        # Registered again, because only that tells how to unregister.
        self._unregister = house.builders.register(peer)

    async def __call__(self, _request: BuildRequest, sink: BuildSink) -> None:
        sink.lines(self._said)
        self._unregister()
        raise BuildDetached("the connection was closed")

    def come_back(self, *script: Act) -> ScriptedBuilder:
        again = self._house.add_peer(self._peer.builder_id, self._peer.label)
        again.script = list(script)
        return again


async def test_a_builder_whose_connection_is_made_anew_goes_on_with_the_attempt(
    house: House, peer: ScriptedBuilder
) -> None:
    reload = Reload(house, peer)
    peer.script = [reload]
    job = await house.run()
    assert (job.stage, job.waiting_for) == (
        Stage.WAITING_BUILDER,
        "workshop, which has the build already",
    )
    assert house.queue.wanted_attempts(peer.builder_id) == (job.attempts[0].attempt_id,)
    again = reload.come_back()
    await settle()
    assert job.status is JobStatus.COMPLETED
    assert [each.failure for each in job.attempts] == [None]
    (request,) = again.requests
    assert (request.resume, request.attempt_id) == (True, peer.requests[0].attempt_id)
    assert not house.builder.requests
    assert house.events_of(job).count(JobEvent.STARTED) == 1


async def test_a_builder_that_does_not_come_back_is_replaced(
    house: House, peer: ScriptedBuilder
) -> None:
    peer.script = [Reload(house, peer)]
    job = await house.run()
    await house.time.go(GRACE)
    assert job.status is JobStatus.COMPLETED
    assert [(each.label, each.failure) for each in job.attempts] == [
        ("workshop", FailureReason.BUILDER_UNAVAILABLE),
        ("This machine", None),
    ]


async def test_cancelled_while_the_connection_is_made_anew_it_is_wanted_no_more(
    house: House, peer: ScriptedBuilder
) -> None:
    reload = Reload(house, peer)
    peer.script = [reload]
    job = await house.run()
    await house.queue.cancel(job.job_id)
    assert house.queue.wanted_attempts(peer.builder_id) == ()
    again = reload.come_back()
    await settle()
    assert job.status is JobStatus.CANCELLED
    assert not again.requests


async def test_no_line_is_logged_twice_when_the_connection_is_made_anew_twice(
    house: House, peer: ScriptedBuilder
) -> None:
    first = Reload(house, peer, "a", "b")
    peer.script = [first]
    job = await house.run()
    again = first.come_back()
    second = Reload(house, again, "a", "b", "c")
    again.script = [second]
    await settle()

    async def say_all(_request: BuildRequest, sink: BuildSink) -> None:
        sink.lines(["a", "b", "c", "d"])

    second.come_back(say_all)
    await settle()
    assert job.status is JobStatus.COMPLETED
    lines = (await house.logs.read(job.job_id)).lines
    assert [line for line in lines if line in {"a", "b", "c", "d"}] == ["a", "b", "c", "d"]


async def test_a_place_in_the_line_of_the_builder_is_shown(
    house: House, peer: ScriptedBuilder
) -> None:
    block = Block()

    async def line_up(_request: object, sink: BuildSink) -> None:
        sink.place(2)
        await block(_request, sink)
        sink.stage(Stage.COMPILING)

    peer.script = [line_up]
    job = await house.run()
    assert (job.stage, job.waiting_for) == (
        Stage.WAITING_BUILDER,
        "a free build slot (workshop, 2 before it)",
    )
    block.release.set()
    await settle()
    assert job.status is JobStatus.COMPLETED


def test_a_replay_leaves_out_what_is_known_and_nothing_after_the_first_difference() -> None:
    logged = ["== Building on workshop: idle", "a", "== compiling on workshop", "b", "== queued"]
    replay = Replay(logged, "workshop")
    assert list(replay.news(["a"])) == []
    assert list(replay.news(["b", "c"])) == ["c"]
    assert list(replay.news(["a", "b"])) == ["a", "b"]


def test_a_replay_heeds_only_the_last_attempt_at_the_builder() -> None:
    logged = ["== Building on workshop: idle", "a", "== Building on workshop: idle", "x"]
    assert list(Replay(logged, "workshop").news(["a", "x"])) == ["a", "x"]


def test_lines_of_the_builder_that_look_like_ours_are_no_difference() -> None:
    begin, preparing = "== Building on workshop: idle", "== preparing on workshop"
    logged = [begin, preparing, "== Making the toolchain", "a", preparing]
    assert list(Replay(logged, "workshop").news(["== Making the toolchain", "a", "b"])) == ["b"]
