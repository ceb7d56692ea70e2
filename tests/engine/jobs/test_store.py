"""The stored form of jobs, and which are kept."""

from datetime import UTC, datetime, timedelta
import json

import pytest

from custom_components.esphome_offload.engine.codec import decode, encode
from custom_components.esphome_offload.engine.const import FailureReason, Source, Stage
from custom_components.esphome_offload.engine.jobs.ids import new_id
from custom_components.esphome_offload.engine.jobs.model import Attempt, FirmwareJob, Routing
from custom_components.esphome_offload.engine.jobs.store import decode_all, to_drop
from custom_components.esphome_offload.engine.reason import Reason, ReasonKey

from .fakes import BUILD_INFO, because, request

NOW = datetime(2026, 10, 20, tzinfo=UTC)


def rich_job() -> FirmwareJob:
    job = FirmwareJob(new_id(), request(user_id="u", address="192.0.2.1"), NOW)
    job.start(NOW)
    job.start_attempt(
        Attempt(new_id(), "local", Source.LOCAL, "Here", NOW),
        Routing(
            Source.LOCAL,
            None,
            "Here",
            "2026.10.0",
            Reason(ReasonKey.CHOSEN_IDLE),
            {"Attic": because("paused")},
        ),
    )
    job.enter(Stage.COMPILING)
    job.spend(Stage.COMPILING, 7.5)
    job.advance(40)
    job.end_attempt(NOW)
    job.built("ab" * 32, BUILD_INFO, "print")
    job.flashed(NOW + timedelta(seconds=9))
    job.complete(NOW + timedelta(seconds=12), verified=True)
    return job


def test_a_job_survives_being_stored_with_all_that_it_knows() -> None:
    job = rich_job()
    stored = json.loads(json.dumps(encode(job)))
    assert decode(FirmwareJob, stored) == job
    assert not [name for name in stored if name.startswith("_")]


def test_unknown_fields_are_ignored_and_missing_ones_get_their_defaults() -> None:
    job = FirmwareJob(new_id(), request(), NOW)
    stored = encode(job)
    stored["from_the_future"] = 1
    for name in ("attempts", "routing", "outcome", "stage_seconds"):
        del stored[name]
    assert decode(FirmwareJob, stored) == job


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("job_id", "../../etc/passwd"),
        ("job_id", 7),
        ("created_at", "yesterday"),
        ("created_at", "2026-10-20T00:00:00"),
        ("created_at", 5),
        ("status", "confused"),
        ("status", None),
        ("progress", "half"),
        ("progress", True),
        ("attempts", {}),
        ("attempts", [1]),
        ("stage_seconds", []),
        ("stage_seconds", {"sleeping": 1.0}),
        ("request", {"operation": "install"}),
        ("request", None),
    ],
)
def test_a_corrupt_job_is_refused(field: str, value: object) -> None:
    stored = encode(rich_job())
    stored[field] = value
    with pytest.raises(ValueError, match=r".+"):
        decode(FirmwareJob, stored)


def test_a_corrupt_job_does_not_affect_the_others(caplog: pytest.LogCaptureFixture) -> None:
    older, newer = rich_job(), rich_job()
    jobs = decode_all([encode(older), {"job_id": "?"}, "nonsense", encode(newer)])
    assert jobs == [older, newer]
    assert caplog.text.count("left out") == 2
    assert "job_id: not of the right form" in caplog.text


def test_whole_seconds_are_seconds_too() -> None:
    stored = encode(rich_job())
    stored["stage_seconds"] = {"compiling": 3}
    assert decode(FirmwareJob, stored).stage_seconds == {Stage.COMPILING: 3.0}


def ended(configuration: str, mac: str | None = None) -> FirmwareJob:
    job = FirmwareJob(new_id(), request(configuration, mac=mac), NOW)
    job.cancel(NOW)
    return job


def test_all_jobs_below_the_limit_are_kept() -> None:
    assert to_drop([ended("a.yaml") for _ in range(3)], limit=3) == []


def test_the_oldest_are_dropped_but_never_the_newest_of_a_device() -> None:
    jobs = [*(ended("rare.yaml") for _ in range(2)), *(ended("busy.yaml") for _ in range(5))]
    assert to_drop(jobs, limit=3) == [jobs[3], jobs[2], jobs[0]]


def test_of_several_devices_of_a_configuration_the_newest_of_each_is_kept() -> None:
    rare, *busy = [ended("a.yaml", mac) for mac in ("aa:bb:cc:00:11:22", *[None] * 4)]
    assert to_drop([rare, *busy], limit=2) == [busy[1], busy[0]]


def test_active_jobs_are_never_dropped() -> None:
    waiting = FirmwareJob(new_id(), request("a.yaml"), NOW)
    jobs = [waiting, *(ended("b.yaml") for _ in range(5))]
    assert to_drop(jobs, limit=2) == [jobs[3], jobs[2], jobs[1]]


def test_a_failed_job_keeps_its_reason() -> None:
    job = FirmwareJob(new_id(), request(), NOW)
    job.fail(NOW, FailureReason.CONFIG_INVALID, because("why"), 2)
    assert decode(FirmwareJob, encode(job)).outcome == job.outcome
