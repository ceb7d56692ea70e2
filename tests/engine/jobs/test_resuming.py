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
from custom_components.esphome_offload.engine.jobs.attempt_sink import ReplayFilter
from custom_components.esphome_offload.engine.jobs.model import FirmwareJob, JobEvent
from custom_components.esphome_offload.engine.jobs.router import GRACE
from custom_components.esphome_offload.engine.reason import Reason, ReasonKey

from .fakes import (
    Act,
    Block,
    ScriptedBuilder,
    because,
    settle,
)
from .queue_harness import QueueHarness

AWAY = BuilderStatus(available=False, why_not=because("not connected"), reachable=False)


@pytest.fixture
def peer(harness: QueueHarness) -> ScriptedBuilder:
    return harness.add_peer("a" * 64, "workshop")


async def _stopped(harness: QueueHarness, peer: ScriptedBuilder) -> FirmwareJob:
    """Stop while the peer builds; a new queue stands ready."""
    peer.script = [Block()]
    job = await harness.run()
    assert job.routing.source is Source.REMOTE
    await harness.stop_and_remake()
    return job


async def _started(harness: QueueHarness, job: FirmwareJob) -> FirmwareJob:
    await harness.queue.start()
    await settle()
    again = harness.queue.get(job.job_id)
    assert again is not None
    return again


async def test_the_same_attempt_is_resumed_at_the_same_builder(
    harness: QueueHarness, peer: ScriptedBuilder
) -> None:
    job = await _stopped(harness, peer)
    again = await _started(harness, job)
    assert again.status is JobStatus.COMPLETED
    first, second = peer.requests
    assert (first.resume, second.resume) == (False, True)
    assert second.attempt_id == first.attempt_id
    assert [attempt.failure_reason for attempt in again.attempts] == [None]
    assert again.routing.source_label == "workshop"
    assert again.routing.reason == job.routing.reason
    assert harness.events_of(job).count(JobEvent.STARTED) == 1


async def test_builders_are_told_of_the_shutdown_before_their_builds_are_cancelled(
    harness: QueueHarness, peer: ScriptedBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    block = Block()
    peer.script = [block]
    await harness.run()
    cancelled_before: list[bool] = []
    monkeypatch.setattr(peer, "leave", lambda: cancelled_before.append(block.cancelled))
    await harness.queue.stop()
    assert cancelled_before == [False]
    assert block.cancelled


async def test_an_attempt_is_wanted_from_the_start_until_its_job_has_ended(
    harness: QueueHarness, peer: ScriptedBuilder
) -> None:
    job = await _stopped(harness, peer)
    harness.queue.hold()
    again = await _started(harness, job)
    (attempt,) = again.attempts
    assert harness.queue.wanted_attempts(peer.builder_id) == (attempt.attempt_id,)
    assert harness.queue.wanted_attempts("local") == ()
    harness.queue.release()
    await settle()
    assert harness.queue.wanted_attempts(peer.builder_id) == ()


async def test_an_attempt_is_resumed_at_a_paused_builder(
    harness: QueueHarness, peer: ScriptedBuilder
) -> None:
    job = await _stopped(harness, peer)
    peer.become(BuilderStatus(available=False, why_not=because("paused by its owner")))
    assert (await _started(harness, job)).status is JobStatus.COMPLETED


async def test_a_builder_gets_time_to_reconnect(
    harness: QueueHarness, peer: ScriptedBuilder
) -> None:
    job = await _stopped(harness, peer)
    peer.become(AWAY)
    again = await _started(harness, job)
    assert (again.status, again.waiting_for) == (
        JobStatus.QUEUED,
        Reason(ReasonKey.WAITS_FOR_ITS_BUILDER, {"label": "workshop"}),
    )
    await harness.time.go(GRACE - 1)
    peer.become(BuilderStatus(available=True))
    await settle()
    assert again.status is JobStatus.COMPLETED
    assert len(again.attempts) == 1


async def test_a_job_is_built_elsewhere_when_its_builder_does_not_reconnect(
    harness: QueueHarness, peer: ScriptedBuilder
) -> None:
    job = await _stopped(harness, peer)
    peer.become(AWAY)
    again = await _started(harness, job)
    await harness.time.go(GRACE)
    assert again.status is JobStatus.COMPLETED
    assert [(each.label, each.failure_reason) for each in again.attempts] == [
        ("workshop", FailureReason.BUILDER_UNAVAILABLE),
        ("This machine", None),
    ]
    assert again.routing.source is Source.LOCAL


async def test_an_attempt_of_a_changed_configuration_is_not_resumed(
    harness: QueueHarness, peer: ScriptedBuilder
) -> None:
    job = await _stopped(harness, peer)
    harness.configurations.fingerprints["lamp.yaml"] = "edited while stopped"
    again = await _started(harness, job)
    assert again.status is JobStatus.COMPLETED
    assert [each.failure_reason for each in again.attempts] == [FailureReason.SUPERSEDED, None]
    assert not peer.requests[-1].resume


async def test_a_lost_build_is_started_again_at_the_same_builder(
    harness: QueueHarness, peer: ScriptedBuilder
) -> None:
    async def lost(_request: object, _sink: object) -> None:
        raise BuildError(FailureReason.BUILD_LOST, because("it was restarted"))

    job = await _stopped(harness, peer)
    peer.script = [lost]
    again = await _started(harness, job)
    assert again.status is JobStatus.COMPLETED
    assert [each.failure_reason for each in again.attempts] == [FailureReason.BUILD_LOST, None]
    assert [each.resume for each in peer.requests] == [False, True, False]
    assert len({each.attempt_id for each in peer.requests}) == 2


async def test_a_builder_that_loses_builds_repeatedly_is_left(
    harness: QueueHarness, peer: ScriptedBuilder
) -> None:
    async def lost(_request: object, _sink: object) -> None:
        raise BuildError(FailureReason.BUILD_LOST, because("it was restarted"))

    peer.script = [lost] * 5
    job = await harness.run()
    assert job.status is JobStatus.COMPLETED
    assert [each.label for each in job.attempts] == ["workshop"] * 3 + ["This machine"]


async def test_an_attempt_is_not_wanted_after_its_job_was_cancelled_before_it_was_resumed(
    harness: QueueHarness, peer: ScriptedBuilder
) -> None:
    job = await _stopped(harness, peer)
    harness.queue.hold()
    again = await _started(harness, job)
    await harness.queue.cancel(job.job_id)
    assert again.status is JobStatus.CANCELLED
    assert again.attempts[0].failure_reason is FailureReason.CANCELLED
    assert harness.queue.wanted_attempts(peer.builder_id) == ()


async def test_no_line_is_logged_twice_when_all_output_is_repeated(
    harness: QueueHarness, peer: ScriptedBuilder
) -> None:
    job = await _stopped(harness, peer)

    async def say_all(_request: object, sink: BuildSink) -> None:
        sink.lines(["INFO Compiling a", "INFO Compiling b"])

    peer.script = [say_all]
    await _started(harness, job)
    lines = (await harness.logs.read(job.job_id)).lines
    assert [line for line in lines if line.startswith("INFO")] == [
        "INFO Compiling",  # logged before, and said again by the scripted builder
        "INFO Compiling a",
        "INFO Compiling b",
    ]


class Reload:
    """An act during which the connection to the builder is closed; it is made anew ``then``."""

    def __init__(self, harness: QueueHarness, peer: ScriptedBuilder, *said: str) -> None:
        self._harness = harness
        self._peer = peer
        self._said = said
        # Registered again, because only that tells how to unregister.
        self._unregister = harness.builders.register(peer)

    async def __call__(self, _request: BuildRequest, sink: BuildSink) -> None:
        sink.lines(self._said)
        self._unregister()
        raise BuildDetached("the connection was closed")

    def come_back(self, *script: Act) -> ScriptedBuilder:
        again = self._harness.add_peer(self._peer.builder_id, self._peer.label)
        again.script = list(script)
        return again


async def test_an_attempt_is_resumed_after_a_new_connection_to_its_builder(
    harness: QueueHarness, peer: ScriptedBuilder
) -> None:
    reload = Reload(harness, peer)
    peer.script = [reload]
    job = await harness.run()
    assert (job.stage, job.waiting_for) == (
        Stage.WAITING_BUILDER,
        Reason(ReasonKey.WAITS_FOR_ITS_BUILDER, {"label": "workshop"}),
    )
    assert harness.queue.wanted_attempts(peer.builder_id) == (job.attempts[0].attempt_id,)
    again = reload.come_back()
    await settle()
    assert job.status is JobStatus.COMPLETED
    assert [each.failure_reason for each in job.attempts] == [None]
    (request,) = again.requests
    assert (request.resume, request.attempt_id) == (True, peer.requests[0].attempt_id)
    assert not harness.builder.requests
    assert harness.events_of(job).count(JobEvent.STARTED) == 1


async def test_a_builder_that_does_not_come_back_is_replaced(
    harness: QueueHarness, peer: ScriptedBuilder
) -> None:
    peer.script = [Reload(harness, peer)]
    job = await harness.run()
    await harness.time.go(GRACE)
    assert job.status is JobStatus.COMPLETED
    assert [(each.label, each.failure_reason) for each in job.attempts] == [
        ("workshop", FailureReason.BUILDER_UNAVAILABLE),
        ("This machine", None),
    ]


async def test_an_attempt_is_not_wanted_after_its_job_was_cancelled_during_a_reconnect(
    harness: QueueHarness, peer: ScriptedBuilder
) -> None:
    reload = Reload(harness, peer)
    peer.script = [reload]
    job = await harness.run()
    await harness.queue.cancel(job.job_id)
    assert harness.queue.wanted_attempts(peer.builder_id) == ()
    again = reload.come_back()
    await settle()
    assert job.status is JobStatus.CANCELLED
    assert not again.requests


async def test_no_line_is_logged_twice_after_two_reconnects(
    harness: QueueHarness, peer: ScriptedBuilder
) -> None:
    first = Reload(harness, peer, "a", "b")
    peer.script = [first]
    job = await harness.run()
    again = first.come_back()
    second = Reload(harness, again, "a", "b", "c")
    again.script = [second]
    await settle()

    async def say_all(_request: BuildRequest, sink: BuildSink) -> None:
        sink.lines(["a", "b", "c", "d"])

    second.come_back(say_all)
    await settle()
    assert job.status is JobStatus.COMPLETED
    lines = (await harness.logs.read(job.job_id)).lines
    assert [line for line in lines if line in {"a", "b", "c", "d"}] == ["a", "b", "c", "d"]


async def test_the_position_in_the_queue_of_the_builder_is_shown(
    harness: QueueHarness, peer: ScriptedBuilder
) -> None:
    block = Block()

    async def line_up(_request: object, sink: BuildSink) -> None:
        sink.place(2)
        await block(_request, sink)
        sink.stage(Stage.COMPILING)

    peer.script = [line_up]
    job = await harness.run()
    assert (job.stage, job.waiting_for) == (
        Stage.WAITING_BUILDER,
        Reason(ReasonKey.WAITS_IN_LINE, {"label": "workshop", "ahead": "2"}),
    )
    block.release.set()
    await settle()
    assert job.status is JobStatus.COMPLETED


def test_a_replay_leaves_out_what_is_known_and_nothing_after_the_first_difference() -> None:
    logged = ["== Building on workshop: idle", "a", "== compiling on workshop", "b", "== queued"]
    replay = ReplayFilter(logged, "workshop")
    assert list(replay.new_lines(["a"])) == []
    assert list(replay.new_lines(["b", "c"])) == ["c"]
    assert list(replay.new_lines(["a", "b"])) == ["a", "b"]


def test_a_replay_is_compared_with_the_last_attempt_at_the_builder() -> None:
    logged = ["== Building on workshop: idle", "a", "== Building on workshop: idle", "x"]
    assert list(ReplayFilter(logged, "workshop").new_lines(["a", "x"])) == ["a", "x"]


def test_lines_of_the_builder_that_look_like_ours_are_no_difference() -> None:
    begin, preparing = "== Building on workshop: idle", "== preparing on workshop"
    logged = [begin, preparing, "== Making the toolchain", "a", preparing]
    assert list(
        ReplayFilter(logged, "workshop").new_lines(["== Making the toolchain", "a", "b"])
    ) == ["b"]
