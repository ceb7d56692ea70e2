"""A guest whose configuration is an attack, on machines that contain it in different ways.

Each machine is a process of its own, with the rights and on the kernel of its kind: attack and build
are real.
"""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
import json
import os
from pathlib import Path
import shutil
import subprocess
import sys
from typing import Any

import pytest

from custom_components.esphome_offload.engine.build.cache.layout import CacheLayout
from custom_components.esphome_offload.engine.build.cache.ownership import (
    GUEST_USERS,
)
from custom_components.esphome_offload.engine.build.process.machine_containment import (
    Degree,
)
from custom_components.esphome_offload.engine.build.process.processes import Processes
from custom_components.esphome_offload.engine.build.toolchain.toolchains import Toolchains

from .conftest import uv_of
from .marks import HERE, needs_guest_users
from .rights import DOCKER, LEAST, SOMEBODY, WITHOUT_LANDLOCK, as_somebody, root_with

pytestmark = [
    pytest.mark.slow,
    pytest.mark.usefixtures("socket_enabled"),
    needs_guest_users,
    pytest.mark.skipif(
        HERE.degree is not Degree.CONTAINED,
        reason="only a newer kernel can stand for machines of all kinds",
    ),
]

VERSION = "2026.10.0"
CACHE = Path(__file__).parents[3] / ".cache" / "test-toolchains"
ATTACK = Path(__file__).with_name("attack")

type Outcome = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of machine: how it is started, and whether its kernel has Landlock."""

    landlock: bool
    degree: Degree
    started_by: tuple[str, ...] = ()
    user: int = 0


NOT_ROOT = as_somebody()
KINDS = {
    "Landlock, root": Kind(True, Degree.CONTAINED),
    "Landlock, docker's root": Kind(True, Degree.CONTAINED, root_with(*DOCKER)),
    "Landlock, not root": Kind(True, Degree.CONTAINED, NOT_ROOT, SOMEBODY),
    "no Landlock, root": Kind(False, Degree.BY_USERS),
    "no Landlock, docker's root": Kind(False, Degree.BY_USERS, root_with(*DOCKER)),
    "no Landlock, root with the least": Kind(False, Degree.BY_USERS, root_with(*LEAST)),
    "no Landlock, root with too little": Kind(False, Degree.UNCONTAINED, root_with(*LEAST[1:])),
    "no Landlock, not root": Kind(False, Degree.UNCONTAINED, NOT_ROOT, SOMEBODY),
}
CONTAINED = [name for name, kind in KINDS.items() if kind.degree is not Degree.UNCONTAINED]
UNCONTAINED = [name for name in KINDS if name not in CONTAINED]
COMPILED = "no Landlock, docker's root"
"""Where the build is not stopped after the attack, which is most of its time."""

WHAT_USERS_MAY = {
    "a file that every user can read",
    "programs that run",
    "a file in /tmp",
    "a file in shared memory",
}
"""Without Landlock; what it leaves there is removed."""
ROOT_ONLY = {
    "add to the system's programs",
    "a device",
    "give a file away",
    "another root folder",
    "what runs when a program crashes",
    "slow the host down",
    "a user namespace",
}
"""What the system denies to a user who is not root, or may deny."""
DENIED = {"EACCES", "EPERM", "EXDEV"}


@pytest.fixture(scope="module")
def toolchain() -> Path:
    """Return the toolchain that the tests share."""
    shared = CacheLayout(CACHE)
    shared.make()

    async def ensure() -> None:
        processes = Processes()
        toolchains = Toolchains(shared, processes, uv_of(shared))
        await toolchains.ensure(VERSION, lambda _lines: None)
        await processes.aclose()

    asyncio.run(ensure())
    return shared.toolchain(VERSION)


@pytest.fixture(scope="module")
def toolchains_of_somebody(
    toolchain: Path,
) -> Iterator[Path]:
    """Return a cache whose toolchain belongs to another user than root, as far as that is tried."""
    folder = CACHE.with_name("test-toolchains-of-somebody")
    shutil.rmtree(folder, ignore_errors=True)
    cache = CacheLayout(folder)
    cache.make()
    copy = cache.toolchain(VERSION)
    shutil.copytree(toolchain, copy, symlinks=True, copy_function=os.link)
    changed = (
        copy / ".complete",
        copy / ".lock",
        *copy.glob("lib/python*/site-packages/esphome/codegen.py"),
    )
    for path in changed:
        content, status = path.read_bytes(), path.stat()
        path.unlink()
        path.write_bytes(content)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    for path in (folder, *folder.iterdir(), copy, copy / "lib", copy / "bin", *changed):
        os.chown(path, SOMEBODY, SOMEBODY)
    yield folder
    shutil.rmtree(folder)


class Machines:
    """Starts machines."""

    def __init__(self, folder: Path, request: pytest.FixtureRequest) -> None:
        self.folder = folder
        self.request = request

    def run(self, name: str, *, uncontained: bool = False, compile_: bool = False) -> Outcome:
        kind = KINDS[name]
        folder = self.folder / "machine"
        folder.mkdir(mode=0o711)
        os.chown(folder, kind.user, kind.user)
        self.request.getfixturevalue("toolchain")
        toolchains = self.request.getfixturevalue("toolchains_of_somebody") if kind.user else CACHE
        options = {
            "folder": str(folder),
            "toolchains": str(toolchains),
            "uncontained": uncontained,
            "compile": compile_,
        }
        without = () if kind.landlock else WITHOUT_LANDLOCK
        machine = (sys.executable, str(ATTACK / "machine.py"), json.dumps(options))
        ran = subprocess.run(
            [*without, *kind.started_by, *machine], stdout=subprocess.PIPE, check=True, timeout=300
        )
        outcome: Outcome = json.loads(ran.stdout)
        assert outcome["degree"] == kind.degree
        return outcome


@pytest.fixture
def machines(passable: Path, request: pytest.FixtureRequest) -> Machines:
    return Machines(passable, request)


@pytest.mark.parametrize("name", CONTAINED)
def test_an_attack_is_denied_and_nothing_of_it_is_left(machines: Machines, name: str) -> None:
    kind, compiled = KINDS[name], name == COMPILED
    outcome = machines.run(name, compile_=compiled)
    assert outcome["refused"] is None
    if compiled:
        assert outcome["image"] > 100_000, outcome.get("failed")
    else:
        assert "that was all" in outcome["failed"]
    may = set() if kind.landlock else set(WHAT_USERS_MAY)
    if kind.user:
        # Landlock knows no right for it, and the key belongs to the very same user.
        may.add("rights of the key")
    report: dict[str, str] = outcome["report"]
    # None of its descriptors is open.
    assert report.pop("a descriptor of the launcher") == "EBADF"
    assert {what for what, came in report.items() if came == "done"} == may
    assert {came for what, came in report.items() if what not in may} <= DENIED
    assert len(report) > 50
    assert outcome["host_lives"]
    assert outcome["other_lives"]
    assert not outcome["daemon_lives"]
    assert outcome["untouched"]
    assert outcome["left"] == outcome["trash"] == []

    if not kind.user:
        user, other = outcome["users"]
        assert user != other
        assert {user, other} <= set(GUEST_USERS[0])
        root, trees, *written = outcome["owners"].values()
        assert (root, trees) == (0, 0)
        # Tree, tools, and the compiler cache once it is made.
        assert written == [user] * (3 if compiled else 2)


@pytest.mark.parametrize("name", UNCONTAINED)
def test_what_cannot_be_contained_is_refused_with_the_reason(machines: Machines, name: str) -> None:
    outcome = machines.run(name)
    assert outcome["refused"] == outcome["sentence"]
    assert "Landlock: the kernel" in outcome["refused"]
    assert ("only root" if KINDS[name].user else "capabilities CHOWN") in outcome["refused"]
    assert "report" not in outcome


def test_uncontained_the_attack_succeeds(machines: Machines) -> None:
    """The attack is a real one: nothing but the containment stops it."""
    outcome = machines.run("no Landlock, not root", uncontained=True)
    report: dict[str, str] = outcome["report"]
    assert {what for what, came in report.items() if came != "done"} <= {
        *ROOT_ONLY,
        "a descriptor of the launcher",
    }
    assert not outcome["host_lives"]
