"""A job refuses what it cannot do."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from custom_components.esphome_offload.engine.const import (
    FailureReason,
    JobStatus,
    Source,
    Stage,
)
from custom_components.esphome_offload.engine.jobs.ids import new_id
from custom_components.esphome_offload.engine.jobs.model import (
    Attempt,
    FirmwareJob,
    IllegalTransitionError,
    Routing,
)
from custom_components.esphome_offload.engine.jobs.progress import overall

from .fakes import BUILD_INFO, because, request

NOW = datetime(2026, 10, 20, tzinfo=UTC)
ATTEMPT = Attempt("a", "local", Source.LOCAL, "Here", NOW)


def queued() -> FirmwareJob:
    return FirmwareJob(new_id(), request(), NOW)


def running() -> FirmwareJob:
    job = queued()
    job.start(NOW)
    return job


MOVES: dict[str, Callable[[FirmwareJob], object]] = {
    "start": lambda job: job.start(NOW),
    "wait_in_queue": lambda job: job.wait_in_queue(because("x")),
    "enter": lambda job: job.enter(Stage.COMPILING),
    "start_attempt": lambda job: job.start_attempt(ATTEMPT, Routing()),
    "end_attempt": lambda job: job.end_attempt(NOW),
    "built": lambda job: job.built("ab", BUILD_INFO),
    "flashed": lambda job: job.flashed(NOW),
    "advance": lambda job: job.advance(1),
    "requeue": lambda job: job.requeue(NOW),
    "complete": lambda job: job.complete(NOW, verified=None),
    "fail": lambda job: job.fail(NOW, FailureReason.INTERNAL, because("x")),
    "cancel": lambda job: job.cancel(NOW),
}


@pytest.mark.parametrize("move", MOVES)
def test_a_job_that_has_ended_never_changes_again(move: str) -> None:
    job = running()
    job.complete(NOW, verified=True)
    with pytest.raises(IllegalTransitionError):
        MOVES[move](job)
    assert job.status is JobStatus.COMPLETED


@pytest.mark.parametrize(
    "move", ["enter", "start_attempt", "built", "flashed", "advance", "complete"]
)
def test_a_queued_job_has_to_start_first(move: str) -> None:
    with pytest.raises(IllegalTransitionError):
        MOVES[move](queued())


@pytest.mark.parametrize("move", ["start", "wait_in_queue", "end_attempt"])
def test_a_running_job_cannot(move: str) -> None:
    with pytest.raises(IllegalTransitionError):
        MOVES[move](running())


def test_there_is_one_attempt_at_a_time() -> None:
    job = running()
    job.start_attempt(ATTEMPT, Routing())
    with pytest.raises(IllegalTransitionError):
        job.start_attempt(ATTEMPT, Routing())


def test_ids_are_unique_and_sort_by_time() -> None:
    ids = [new_id() for _ in range(1000)]
    assert ids == sorted(set(ids))


@pytest.mark.parametrize("percent", [float("inf"), float("nan")])
def test_a_percentage_that_is_not_a_number_is_ignored(percent: float) -> None:
    assert overall(request().operation, Stage.COMPILING, percent) is None


def test_downloading_tools_takes_its_share_of_compiling_if_there_are_any() -> None:
    operation = request().operation
    assert overall(operation, Stage.DOWNLOADING, 0) == overall(operation, Stage.COMPILING, 0)
    downloaded = overall(operation, Stage.DOWNLOADING, 100)
    assert downloaded == overall(operation, Stage.COMPILING, 0, downloaded=True) == 27
    end = overall(operation, Stage.COMPILING, 100)
    assert overall(operation, Stage.COMPILING, 100, downloaded=True) == end


def test_a_hundred_percent_is_for_completed_jobs() -> None:
    assert overall(request().operation, Stage.VERIFYING, 100) == 99
