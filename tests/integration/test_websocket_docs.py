"""What docs/websocket.md says is what is sent."""

from enum import StrEnum
from pathlib import Path
import re

import pytest

from custom_components.esphome_offload import websocket_api
from custom_components.esphome_offload.engine import job_log
from custom_components.esphome_offload.engine.const import JobStatus, Operation, Source, Stage
from custom_components.esphome_offload.jobs.payload import (
    AttemptDetails,
    JobDetails,
    JobEventPayload,
)
from custom_components.esphome_offload.page import websocket_stream

PAGE = (Path(__file__).parents[2] / "docs" / "websocket.md").read_text()
ROWS = re.compile(r"^\| (`[^|]*) \|", re.MULTILINE)
EVENT, RESPONSE = PAGE.split("## A job")[1].split("A job in a response")


def keys(section: str) -> list[str]:
    return [key for row in ROWS.findall(section) for key in re.findall(r"`(\w+)`", row)]


def row(key: str) -> str:
    return next(line for line in PAGE.splitlines() if line.startswith(f"| `{key}`"))


def test_the_keys_of_a_job_are_documented() -> None:
    assert keys(EVENT) == list(JobEventPayload.__annotations__)
    own = JobDetails.__annotations__.keys() - JobEventPayload.__annotations__.keys()
    assert sorted(keys(RESPONSE)) == sorted(own)


def test_the_keys_of_an_attempt_are_documented() -> None:
    documented = re.findall(r"`(\w+)`", row("attempts"))
    assert documented == ["attempts", *AttemptDetails.__annotations__]


@pytest.mark.parametrize(
    ("key", "words"),
    [("operation", Operation), ("status", JobStatus), ("stage", Stage), ("source", Source)],
)
def test_all_values_are_documented(key: str, words: type[StrEnum]) -> None:
    assert set(re.findall(r"`(\w+)`", row(key))) == {key, *words}


@pytest.mark.parametrize(
    "command",
    [websocket_api.follow_job, websocket_api.list_jobs, websocket_api.subscribe_jobs],
    ids=lambda command: command.__name__,
)
def test_every_command_is_documented(command: object) -> None:
    assert f": `{command._ws_command}`\n" in PAGE


@pytest.mark.parametrize(
    "limit",
    [
        f"at most {1 / websocket_stream.OUTPUT_INTERVAL:.0f} events a second",
        f"at most {1 / websocket_api._LIST_INTERVAL:.0f} a second",
        f"at most {websocket_stream._LINES_PER_EVENT} lines",
        f"about {websocket_stream._BYTES_PER_EVENT // 1024} KiB",
        f"more than {websocket_stream._MAX_UNREAD} messages",
        f"more than {job_log.FILE_LIMIT // 1024**2} MiB",
        f"start with `{job_log.OWN}`",
    ],
)
def test_limits_are_as_documented(limit: str) -> None:
    assert limit in PAGE
