"""The demo, run as script/demo runs it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
import json
from pathlib import Path
import re
import signal
import sys

import pytest

from .harness.client import Client, Json
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


async def test_local_demo_builds_by_itself_and_can_be_kept_with_something_to_try(
    workspace: Path,
) -> None:
    async with started(workspace, "--local", "--keep") as demo:
        lines = await printed(demo, "until Ctrl-C")
        (url,) = re.findall(r"(http://\S+)  “Demo home”", "\n".join(lines))
        await kept_with_something_to_try(await Client.login(url))
        demo.send_signal(signal.SIGINT)
        text, _ = await demo.communicate()
    result = json.loads(text.decode().splitlines()[-1])
    assert demo.returncode == 0
    assert (result["result"], result["source"]) == ("ok", "local")
    assert result["source_pin_sha256"] is None
    assert set(result["stages"]) >= STAGES
    assert processes_of(workspace) == {}


async def kept_with_something_to_try(client: Client) -> None:
    """Check what a person finds who looks around in the demo."""
    try:
        states = {
            name: await client.state(f"sensor.{name}_installation")
            for name in ("kitchen", "hall", "porch", "attic")
        }
        assert {name: state["state"] for name, state in states.items()} == {
            "kitchen": "idle",
            "hall": "idle",
            "porch": "idle",
            "attic": "failed",
        }
        assert "not defined" in states["attic"]["attributes"]["reason"]
        updates = {name: await client.state(f"update.{name}_esphome") for name in states}
        assert {name: state["state"] for name, state in updates.items()} == {
            "kitchen": "off",
            "hall": "on",
            "porch": "on",
            "attic": "on",
        }
        assert updates["porch"]["attributes"]["configuration_changed"]
        assert "logbook" in (await client.call("get_config"))["components"]
        blueprints = await client.call("blueprint/list", domain="automation")
        folder = REPOSITORY / "blueprints" / "automation"
        assert set(blueprints) == {
            path.relative_to(folder).as_posix() for path in folder.rglob("*.yaml")
        }
    finally:
        await client.close()


async def run(workspace: Path, *arguments: str) -> tuple[list[str], Json]:
    """Run the demo to its end, which has to be a good one; return its output and its result."""
    async with started(workspace, *arguments) as demo:
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
    async with started(workspace) as demo:
        await printed(demo, "Home Assistant")
        demo.send_signal(signal.SIGTERM)
        text, _ = await demo.communicate()
    assert demo.returncode == 1
    assert json.loads(text.decode().splitlines()[-1])["result"] == "failed"
    assert processes_of(workspace) == {}


async def test_killed_demo_leaves_nothing_behind(workspace: Path) -> None:
    async with started(workspace) as demo:
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


@asynccontextmanager
async def started(workspace: Path, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run the demo; a test that fails leaves nothing of it for the next one."""
    demo = await asyncio.create_subprocess_exec(
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
    try:
        yield demo
    finally:
        if demo.returncode is None:
            demo.send_signal(signal.SIGINT)
            await demo.communicate()


async def printed(demo: asyncio.subprocess.Process, text: str) -> list[str]:
    """Wait until the demo has printed a line with ``text`` in it; return the lines until then."""
    assert demo.stdout is not None
    lines = []
    async for line in demo.stdout:
        lines.append(line.decode())
        if text in lines[-1]:
            return lines
    raise AssertionError(f"it ended without printing {text!r}")
