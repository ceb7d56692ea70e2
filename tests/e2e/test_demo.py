"""The demo, run as script/demo runs it."""

import asyncio
import json
from pathlib import Path
import re
import signal
import sys

import pytest

from .harness.client import Json
from .harness.device import FIRST_VERSION, NEW_VERSION
from .harness.processes import environment, mentioning
from .harness.waiting import until
from .harness.workspace import REPOSITORY

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]


STAGES = {"compiling", "uploading", "verifying"}


async def test_demo_builds_at_the_builder_and_leaves_nothing_behind(workspace: Path) -> None:
    lines, result = await run(workspace)
    assert (result["source"], result["source_label"]) == ("remote", "builder")
    assert re.fullmatch("[0-9a-f]{64}", result["source_pin_sha256"])
    assert STAGES | {"fetching"} <= set(result["stages"])
    assert any("builder builds" in line for line in lines)


async def test_demo_builds_at_the_standalone_builder_and_leaves_nothing_behind(
    workspace: Path,
) -> None:
    lines, result = await run(workspace, "--builder")
    assert (result["source"], result["source_label"]) == ("remote", "workshop")
    assert STAGES | {"fetching"} <= set(result["stages"])
    assert any("workshop builds" in line for line in lines)


async def test_local_demo_builds_by_itself_and_leaves_nothing_behind(workspace: Path) -> None:
    _, result = await run(workspace, "--local")
    assert result["source"] == "local"
    assert result["source_pin_sha256"] is None
    assert set(result["stages"]) >= STAGES


async def run(workspace: Path, *arguments: str) -> tuple[list[str], Json]:
    """Run the demo to its end, which has to be a good one; return its output and its result."""
    demo = await start(workspace, *arguments)
    text, _ = await demo.communicate()
    lines = text.decode().splitlines()
    result = json.loads(lines[-1])
    assert demo.returncode == 0, lines[-20:]
    assert result["result"] == "ok"
    assert (result["from_version"], result["to_version"]) == (FIRST_VERSION, NEW_VERSION)
    assert result["seconds"] > 0
    assert any("] CXX " in line for line in lines)
    assert processes_of(workspace) == {}
    return lines, result


async def test_interrupted_demo_reports_it_and_leaves_nothing_behind(workspace: Path) -> None:
    demo = await start(workspace)
    await printed(demo, "Home Assistant")
    demo.send_signal(signal.SIGTERM)
    text, _ = await demo.communicate()
    assert demo.returncode == 1
    assert json.loads(text.decode().splitlines()[-1])["result"] == "failed"
    assert processes_of(workspace) == {}


async def test_killed_demo_leaves_nothing_behind(workspace: Path) -> None:
    demo = await start(workspace)
    await printed(demo, "compiling")
    demo.kill()
    await demo.wait()

    async def ended() -> bool:
        return not processes_of(workspace)

    # It cannot stop anything any more: all that it had started ends by itself.
    await until(ended, "the end of all that the demo had started")


def folder_of(workspace: Path) -> Path:
    """Return the folder of the demo: not the usual one, where a person's demo may run."""
    return workspace.with_name(f"{workspace.name}-demo")


def processes_of(workspace: Path) -> dict[int, str]:
    """Return the processes that the demo has started."""
    return mentioning(f"{folder_of(workspace)}/")


async def start(workspace: Path, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-u",
        "-m",
        "script.demo_install",
        "--folder",
        folder_of(workspace).name,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        cwd=REPOSITORY,
        env=environment(NO_COLOR="1"),
    )


async def printed(demo: asyncio.subprocess.Process, text: str) -> None:
    """Wait until the demo has printed a line with ``text`` in it."""
    assert demo.stdout is not None
    async for line in demo.stdout:
        if text in line.decode():
            return
    raise AssertionError(f"it ended without printing {text!r}")
