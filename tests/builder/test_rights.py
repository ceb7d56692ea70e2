"""The builder as a process with the rights, and on the kernel, of other machines."""

import json
import os
from pathlib import Path
import sys

from esphome_offload_builder.control_client import ControlClient
from esphome_offload_builder.settings import DataFolder
from esphome_offload_builder.status import status_text
import pytest

from ..e2e.harness.processes import Child, environment
from ..engine.build.conftest import passable  # noqa: F401 - a fixture
from ..engine.build.marks import needs_guest_users
from ..engine.build.rights import DOCKER, LEAST, SOMEBODY, WITHOUT_LANDLOCK, as_somebody, root_with
from .running import free_port

ROOT = Path(__file__).parents[2]

pytestmark = needs_guest_users


class Machine:
    """Starts the builder on a kernel without Landlock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"

    async def run(self, *started_by: str, uncontained: bool = False) -> Child:
        program = [sys.executable, "-m", "esphome_offload_builder", "--data", str(self.data), "run"]
        program += ["--host", "127.0.0.1", "--port", str(free_port()), "--no-announce"]
        program += ["--uncontained"] if uncontained else []
        argv = [*WITHOUT_LANDLOCK, *started_by, *program]
        env = environment(PYTHONPATH=str(ROOT / "builder"))
        # Somebody else may not write where the coverage of tests is kept.
        env = {name: env[name] for name in env if not name.startswith("COVERAGE_")}
        return await Child.start("builder", argv, log=self.folder / "log", cwd=ROOT, env=env)


@pytest.fixture
def machine(passable: Path) -> Machine:  # noqa: F811
    return Machine(passable)


@pytest.mark.parametrize("capabilities", [DOCKER, LEAST], ids=["docker's", "the least"])
async def test_root_of_a_container_contains_by_users_and_says_so(
    machine: Machine, capabilities: tuple[str, ...]
) -> None:
    child = await machine.run(*root_with(*capabilities))
    try:
        await child.until(lambda: "Ready" in child.output(), "being ready", 60)
        status = await ControlClient(DataFolder(machine.data)).status()
    finally:
        await child.stop()
    assert status["containment"] == "by_users"
    assert status["containment_text"].startswith("Builds of guests are contained on this machine")
    assert status["containment_text"] in status_text(status)
    assert json.loads(json.dumps(status)) == status


async def test_who_is_not_root_has_to_want_uncontained_builds(machine: Machine) -> None:
    machine.data.mkdir(mode=0o700)
    os.chown(machine.data, SOMEBODY, SOMEBODY)
    child = await machine.run(*as_somebody())
    assert await child.wait() == 1
    said = child.output().splitlines()[-1]
    assert said.startswith("Error: Nothing contains builds of guests on this machine")
    assert "Landlock: the kernel" in said
    assert "only root can give each guest a user of its own" in said
    assert said.endswith("start with --uncontained")

    child = await machine.run(*as_somebody(), uncontained=True)
    try:
        await child.until(lambda: "Ready" in child.output(), "being ready", 60)
        status = await ControlClient(DataFolder(machine.data)).status()
    finally:
        await child.stop()
    assert status["containment"] == "uncontained"
    assert status["containment_text"] in said
