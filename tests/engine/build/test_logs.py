"""Logs of builds and uploads, each with what is right about it (``logs/*/EXPECTED.txt``).

Their lines are those that the tools print, shortened; hosts, names and paths are made up.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from custom_components.esphome_offload.engine.build.diagnosis import classify
from custom_components.esphome_offload.engine.build.model import BuildError
from custom_components.esphome_offload.engine.build.process.output import OutputParser
from custom_components.esphome_offload.engine.build.process.processes import ProcessResult
from custom_components.esphome_offload.engine.build.upload_diagnosis import judge
from custom_components.esphome_offload.engine.jobs.remedies import Action, FailureHistory, Step

FOLDER = Path("/config/esphome")
LOGS = sorted(path for path in (Path(__file__).parent / "logs").iterdir() if path.is_dir())
TAIL = 500


@dataclass
class Case:
    """What is in a folder."""

    mode: str
    exit_code: int
    reason: str
    has: str
    has_not: str
    lines: list[str]
    progress: list[float]


def read(folder: Path) -> Case:
    expected = dict(
        line.split(":", 1) for line in (folder / "EXPECTED.txt").read_text().splitlines() if line
    )
    parser = OutputParser()
    lines: list[str] = []
    progress: list[float] = []
    for row in (folder / "input.log").read_bytes().splitlines(keepends=True):
        more, percent = parser.feed(row)
        lines += more
        if percent is not None:
            progress.append(percent)
    values = {name: value.strip() for name, value in expected.items()}
    return Case(
        values["mode"],
        int(values["exit"]),
        values["reason"],
        values["message has"],
        values["message has not"],
        lines + parser.finish(),
        progress,
    )


CASES = {folder.name: read(folder) for folder in LOGS}


def of_mode(*modes: str) -> Sequence[object]:
    return [pytest.param(case, id=name) for name, case in CASES.items() if case.mode in modes]


def shown_in(case: Case, error: BuildError) -> None:
    message = str(error)
    assert "\n" not in message
    assert case.has in message
    assert not case.has_not or case.has_not not in message
    for private in ("https://", "example.org", "192.0.2.", "/config/", "/t/", "hunter2"):
        assert private not in message


@pytest.mark.parametrize("case", of_mode("build", "config"))
def test_a_build_fails_for_its_reason(case: Case) -> None:
    error = classify(case.lines[-TAIL:], ProcessResult(exit_code=case.exit_code), FOLDER)
    assert error.failure_reason == case.reason
    shown_in(case, error)


@pytest.mark.parametrize("case", of_mode("upload"))
def test_an_upload_fails_for_its_reason(case: Case) -> None:
    error = judge(case.lines, ProcessResult(exit_code=case.exit_code), "lamp", FOLDER)
    assert error.failure_reason == case.reason
    shown_in(case, error)


@pytest.mark.parametrize("case", of_mode("upload-decision"))
def test_built_firmware_is_flashed_later_when_something_is_missing_here(case: Case) -> None:
    error = judge(case.lines, ProcessResult(exit_code=case.exit_code), "lamp", FOLDER)
    decision = FailureHistory().decide(Step.FLASH, error.failure_reason)
    assert decision.action in (Action.RETRY_UPLOAD, Action.WAIT_FOR_DEVICE)


@pytest.mark.parametrize("case", of_mode("progress"))
def test_progress_moves_and_never_back_or_to_its_end_too_early(case: Case) -> None:
    assert len(case.progress) > 50
    assert case.progress == sorted(case.progress)
    assert all(percent < 100 for percent in case.progress[:-1])
