"""The workflows: what can be held true of them where they cannot run."""

from pathlib import Path
import re
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
WORKFLOWS = {
    path.name: yaml.safe_load(path.read_text())
    for path in (ROOT / ".github" / "workflows").iterdir()
}
RUNNERS = {"ubuntu-24.04", "ubuntu-24.04-arm"}
PINNED = re.compile(r"[\w./-]+@([0-9a-f]{40}|\d+\.\d+\.\d+)")


def jobs() -> list[tuple[str, dict[str, Any]]]:
    return [
        (f"{name}, {job}", content)
        for name, workflow in WORKFLOWS.items()
        for job, content in workflow["jobs"].items()
    ]


@pytest.mark.parametrize(("name", "job"), jobs(), ids=[name for name, _ in jobs()])
def test_a_job_is_pinned_and_limited(name: str, job: dict[str, Any]) -> None:
    assert job["timeout-minutes"] <= 90
    for step in job["steps"]:
        if "uses" in step:
            assert PINNED.fullmatch(step["uses"]), "a branch, or a tag that moves"
        else:
            assert "run" in step


@pytest.mark.parametrize("name", WORKFLOWS)
def test_no_workflow_may_write_unless_a_job_asks_for_it(name: str) -> None:
    assert WORKFLOWS[name]["permissions"] == {"contents": "read"}


def test_tests_and_image_run_on_both_architectures() -> None:
    tests, release = WORKFLOWS["test.yml"]["jobs"], WORKFLOWS["release.yml"]["jobs"]
    for job in (tests["test"], tests["image"]):
        assert set(job["strategy"]["matrix"]["runner"]) == RUNNERS
    assert {each["runner"] for each in release["image"]["strategy"]["matrix"]["include"]} == RUNNERS


def test_all_parts_run_among_them_twenty_faults_from_a_fixed_seed() -> None:
    tests = (ROOT / "script" / "test").read_text()
    assert set(re.findall(r"^part_(\w+)\(\)", tests, re.MULTILINE)) == set(
        re.search(r"^all=\((.*)\)$", tests, re.MULTILINE)[1].split()
    )
    assert "part_soak() { script/soak --seed 1 --faults 20; }" in tests
    assert {"run": ".ci/run"} in WORKFLOWS["test.yml"]["jobs"]["test"]["steps"]


def test_a_release_publishes_the_image_that_the_compose_file_runs() -> None:
    compose = yaml.safe_load((ROOT / "builder" / "compose.yaml").read_text())
    assert (
        f"{WORKFLOWS['release.yml']['env']['IMAGE']}:latest"
        == compose["services"]["builder"]["image"]
    )


@pytest.mark.parametrize("name", WORKFLOWS)
def test_what_a_workflow_runs_is_there(name: str) -> None:
    text = (ROOT / ".github" / "workflows" / name).read_text()
    named = re.findall(r"(?<![\w/.-])((?:script|\.ci|builder|custom_components)/[\w./-]+)", text)
    assert named
    for path in named:
        assert (ROOT / path).exists(), path
