"""What Home Assistant's log says of jobs."""

import logging

import pytest

from custom_components.esphome_offload.engine.const import FailureReason
from custom_components.esphome_offload.engine.jobs import transition_log

from .fakes import failing, settle
from .queue_harness import QueueHarness

COMPLAINS_AT = 200
"""Lines of one module within five minutes, from which on Home Assistant warns of it."""


@pytest.fixture(autouse=True)
def _everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, transition_log.__name__)


def lines(caplog: pytest.LogCaptureFixture, level: int = logging.INFO) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == transition_log.__name__ and record.levelno >= level
    ]


async def test_a_job_is_logged_when_it_starts_with_its_builder_and_when_it_ends(
    harness: QueueHarness, caplog: pytest.LogCaptureFixture
) -> None:
    job = await harness.run()
    name = f"Job {job.job_id} (lamp.yaml): "
    assert lines(caplog) == [f"{name}preparing on {harness.builder.label}", f"{name}completed"]
    assert len(lines(caplog, logging.DEBUG)) > 2


async def test_a_failure_is_a_warning_with_its_reason(
    harness: QueueHarness, caplog: pytest.LogCaptureFixture
) -> None:
    harness.builder.script = [failing(FailureReason.COMPILE_FAILED, "main.cpp:7")]
    await harness.run()
    (line,) = lines(caplog, logging.WARNING)
    assert "failed (compile_failed)" in line
    assert "main.cpp:7" in line


async def test_of_many_jobs_the_first_are_logged_and_the_others_summed_up(
    harness: QueueHarness, caplog: pytest.LogCaptureFixture
) -> None:
    harness.queue.hold()
    for number in range(300):
        harness.submit(f"device{number}.yaml")
    await harness.queue.cancel_all()
    assert len(lines(caplog)) == 25
    await harness.time.go(60)
    assert lines(caplog)[25:] == ["More jobs in the last minute: 275 cancelled"]


async def test_what_steadily_changes_never_makes_home_assistant_complain(
    harness: QueueHarness, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(300):
        harness.builder.script = [failing(FailureReason.CONFIG_INVALID)]
        harness.submit(f"device{number}.yaml")
        await harness.time.go(1)
    assert len(lines(caplog)) < COMPLAINS_AT
    sums = [line for line in lines(caplog, logging.WARNING) if line.startswith("More jobs")]
    assert len(sums) == 5
    assert all("failed" in line and "started" in line for line in sums)


async def test_the_last_sum_is_logged_when_the_queue_stops(
    harness: QueueHarness, caplog: pytest.LogCaptureFixture
) -> None:
    harness.queue.hold()
    for number in range(30):
        harness.submit(f"device{number}.yaml")
    await harness.queue.cancel_all()
    await settle()
    await harness.queue.stop()
    assert lines(caplog)[-1] == "More jobs in the last minute: 5 cancelled"
