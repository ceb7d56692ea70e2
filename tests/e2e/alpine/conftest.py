"""A root file system of Alpine, the engine in the spelling of its Python, and a way to enter it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import dataclass
import fcntl
import json
from pathlib import Path
import re
import sys
from typing import cast

import pytest
import pytest_asyncio

from custom_components.esphome_offload.engine.jobs.ids import new_id

from ...engine.build.package_index import write_other_index
from ..harness.device import NEW_VERSION, Device
from ..harness.esphome_env import link_toolchain
from ..harness.processes import ProcessFailedError, environment, run
from ..harness.standalone import StandaloneBuilder
from ..harness.workspace import CACHE, REPOSITORY
from .offloader import INVITATION, Answer, Invitation, Request

_ENGINE = Path("custom_components/esphome_offload/engine")
_SECONDS = 300.0
_CANNOT = 3
"""What script/alpine_root.py exits with where there is no such root file system."""

# Home Assistant has Python 3.14 on Alpine, but there is none to be had here.
_EXCEPT = re.compile(r"^(\s*except) ([\w.]+(?:, [\w.]+)+):", re.MULTILINE)
_DOCSTRING = re.compile(r'\A(?:""".*?"""\n)?', re.DOTALL)
_LAZY = "from __future__ import annotations\n"

# In a mount namespace of its own, so that nothing is left. $1: the root file system, $2: what
# holds the folders config, data and engine; then the command.
_ENTER = """
set -eu
root=$1 folders=$2
shift 2
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/tmp"
for name in config data engine; do mount --bind "$folders/$name" "$root/$name"; done
for name in hosts resolv.conf ssl/certs/ca-certificates.crt; do
    if [ -e "/etc/$name" ]; then mount --bind "/etc/$name" "$root/etc/$name"; fi
done
exec chroot "$root" "$@"
"""


def write_engine(target: Path) -> None:
    """Copy the engine, and the program that uses it, in the spelling of Python 3.13."""
    package = target / _ENGINE
    for file in (REPOSITORY / _ENGINE).rglob("*.py"):
        text = _EXCEPT.sub(r"\1 (\2):", file.read_text())
        if _LAZY not in text:
            text = _DOCSTRING.sub(lambda found: f"{found[0]}{_LAZY}", text, count=1)
        copy = package / file.relative_to(REPOSITORY / _ENGINE)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(text)
    for folder in package.parents[:2]:
        (folder / "__init__.py").touch()
    program = Path(__file__).with_name("offloader.py")
    (target / program.name).write_bytes(program.read_bytes())


@dataclass(frozen=True, slots=True)
class Alpine:
    """A root file system that is only read, and the folders that are entered with it."""

    root: Path
    folders: Path

    async def run(self, *argv: str, **extra: str) -> str:
        """Run a command there and return its output; raises ProcessFailedError."""
        enter = ("unshare", "--mount", "--propagation", "private", "/bin/sh", "-c", _ENTER, "enter")
        return await run(
            [*enter, self.root, self.folders, *argv],
            cwd=self.folders,
            env=environment(PATH="/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", **extra),
            seconds=_SECONDS,
        )


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def alpine(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Alpine]:
    uv = (sys.executable, "-m", "uv", "run", "--quiet", "--python", sys.executable)
    process = await asyncio.create_subprocess_exec(
        *(*uv, "--script", "script/alpine_root.py"),
        cwd=REPOSITORY,
        env=environment(UV_CACHE_DIR=str(CACHE / "uv")),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, error = (output.decode().strip() for output in await process.communicate())
    if process.returncode == _CANNOT:
        pytest.skip(f"no Alpine user land: {error}")
    assert process.returncode == 0, error
    folders = tmp_path_factory.mktemp("alpine")
    for name in ("config", "data"):
        (folders / name).mkdir()
    write_engine(folders / "engine")
    with ExitStack() as stack:
        # As long as it is used, none is made and none removed.
        lock = stack.enter_context((CACHE / "alpine" / "lock").open())
        await asyncio.to_thread(fcntl.flock, lock, fcntl.LOCK_SH)
        alpine = Alpine(Path(said), folders)
        try:
            await alpine.run("/bin/true")
        except ProcessFailedError as error:
            pytest.skip(f"no Alpine user land: it cannot be entered here: {error}")
        yield alpine


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def device(alpine: Alpine, early_sockets: None, workspace: Path) -> AsyncIterator[Device]:
    device = Device("kitchen", workspace / "kitchen", alpine.folders / "config")
    try:
        await device.flash()
        await device.switch_on()
        yield device
    finally:
        await device.switch_off()


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def answer(alpine: Alpine, device: Device, workspace: Path) -> Answer:
    """Run the offloader on Alpine once, against a builder on this machine."""
    request = Request(
        version=NEW_VERSION,
        configuration=device.configuration,
        device_name=device.name,
        job_id=new_id(),
        attempt_id=new_id(),
    )
    data = alpine.folders / "data"
    (data / "request.json").write_text(json.dumps(request))
    write_other_index(data / "musllinux-index")
    offloader = alpine.run(
        *("/usr/local/bin/python3", "/engine/offloader.py", "/data/request.json"),
        # As Home Assistant's image sets them.
        UV_EXTRA_INDEX_URL="file:///data/musllinux-index/simple",
        UV_SYSTEM_PYTHON="true",
        UV_NO_CACHE="true",
    )
    builder = StandaloneBuilder(workspace.with_name(f"{workspace.name}-standalone"))
    try:
        async with asyncio.TaskGroup() as group:
            running = group.create_task(offloader)
            link_toolchain(NEW_VERSION, builder.cache)
            # Its builds are our own.
            await builder.open("--uncontained")
            invitation = Invitation(url=builder.url, code=await builder.open_pairing())
            part = data / "invitation.part"
            part.write_text(json.dumps(invitation))
            part.rename(data / INVITATION.name)
    finally:
        await builder.close()
    output = running.result()
    return cast("Answer", json.loads(output.splitlines()[-1]))
