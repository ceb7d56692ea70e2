"""Home Assistant was stopped while another machine built; that went on."""

import pytest

from custom_components.esphome_offload.builders.model import BuildError, BuilderStatus, BuildSink
from custom_components.esphome_offload.const import FailureReason, JobStatus, Source, Stage
from custom_components.esphome_offload.jobs.model import FirmwareJob, JobEvent
from custom_components.esphome_offload.jobs.replay import Replay
from custom_components.esphome_offload.jobs.router import GRACE

from .fakes import Block, ScriptedBuilder, settle
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
    logged = ["== preparing on workshop", "a", "== compiling on workshop", "b", "== queued"]
    replay = Replay(logged, "workshop")
    assert list(replay.news(["a"])) == []
    assert list(replay.news(["b", "c"])) == ["c"]
    assert list(replay.news(["a", "b"])) == ["a", "b"]


def test_a_replay_heeds_only_the_last_attempt_at_the_builder() -> None:
    logged = ["== preparing on workshop", "a", "== preparing on workshop", "x"]
    assert list(Replay(logged, "workshop").news(["a", "x"])) == ["a", "x"]


def test_lines_of_the_builder_that_look_like_ours_are_no_difference() -> None:
    logged = ["== preparing on workshop", "== Making the toolchain", "a", "== preparing again"]
    assert list(Replay(logged, "workshop").news(["== Making the toolchain", "a", "b"])) == ["b"]
