"""A machine that builds for two guests, one of which attacks; a process of its own.

The rights that it has are those it was started with. It prints what came of it as JSON.
"""

import asyncio
from collections.abc import Sequence
import json
import os
from pathlib import Path
import shutil
import socket
import subprocess
import sys
from typing import TypedDict, cast, override
import uuid

sys.path.insert(0, str(Path(__file__).parents[4] / "builder"))

from esphome_offload_builder.engine.build.cache.layout import CacheLayout
from esphome_offload_builder.engine.build.cache.ownership import guest_users
from esphome_offload_builder.engine.build.local import LocalBuilder
from esphome_offload_builder.engine.build.model import BuildError, BuildRequest, BuildSink
from esphome_offload_builder.engine.build.process.containment import Contained
from esphome_offload_builder.engine.build.process.processes import Command
from esphome_offload_builder.engine.build.services import (
    BuildServices,
    GuestBuildServices,
)
from esphome_offload_builder.engine.build.toolchain.toolchains import Toolchains
from esphome_offload_builder.engine.build.toolchain.uv import Uv
from esphome_offload_builder.engine.const import Stage
from esphome_offload_builder.engine.host.status import why_not_lent

VERSION = "2026.10.0"
YAML = """\
esphome:
  name: lamp
host:
logger:
api:
external_components:
  - source: {type: local, path: components}
evil:
"""
WAITS = """
import os, sys, time
open(sys.argv[1] + ".new", "w").write(str(os.getpid()))
os.rename(sys.argv[1] + ".new", sys.argv[1])
time.sleep(600)
"""


class Outcome(TypedDict, total=False):
    """What came of it."""

    degree: str
    sentence: str
    refused: str | None
    report: dict[str, str | int]
    users: list[int]
    owners: dict[str, int]
    daemon_lives: bool
    host_lives: bool
    other_lives: bool
    left: list[str]
    image: int
    untouched: bool
    trash: list[str]
    failed: str


class _Sink(BuildSink):
    def __init__(self) -> None:
        self.said: list[str] = []

    @override
    def stage(self, stage: Stage) -> None: ...

    @override
    def progress(self, percent: float) -> None: ...

    @override
    def lines(self, lines: Sequence[str]) -> None:
        self.said.extend(lines)


class Machine:
    """The folders of a standalone builder, beside those of a Home Assistant."""

    def __init__(self, folder: Path, toolchains: Path) -> None:
        users = guest_users() is not None
        self.data, self.config = folder / "data", folder / "config"
        self.data.mkdir(mode=0o711 if users else 0o700)
        self.config.mkdir(mode=0o700)
        self.key = _private(self.data / "identity")
        self.storage = _private(self.config / ".storage" / "auth")
        self.public = folder / "public"
        self.public.write_text("for all")
        self.abstract = f"esphome-offload-{uuid.uuid4().hex}"
        self.layout = CacheLayout(self.data / "cache")
        self.services = BuildServices(self.layout, (self.data, self.config))
        shared = CacheLayout(toolchains)
        shared.share()
        self.toolchain = shared.toolchain(VERSION)
        uv = Uv(shared, (sys.executable, "-m", "uv"), Path(sys.executable))
        self.services.toolchains = Toolchains(shared, self.services.processes, uv)

    async def run(self, *, uncontained: bool, compile_: bool) -> Outcome:
        here = self.services.containment
        status = self.services.builder.status()
        why_not = why_not_lent(status, here, uncontained=uncontained)
        outcome = Outcome(
            degree=here.degree,
            sentence=str(here.reason),
            refused=None if why_not is None else str(why_not),
        )
        if why_not is None:
            await self.services.start()
            try:
                await self._attack(outcome, compile_=compile_)
            finally:
                await self.services.aclose()
        return outcome

    async def _attack(self, outcome: Outcome, *, compile_: bool) -> None:
        guest, other = [await self._guest(pin * 32) for pin in ("ab", "cd")]
        waiting = asyncio.create_task(self._wait(other))
        pid = other.layout.tmp / "pid"
        async with asyncio.timeout(30):
            while not pid.exists():  # noqa: ASYNC110 - processes tell nobody
                await asyncio.sleep(0.01)
        with (
            subprocess.Popen(  # noqa: ASYNC220 - it starts at once
                [sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)"],
                env={"TOKEN": "secret"},
                stdout=subprocess.DEVNULL,
            ) as host,
            _listener(str(self.data / "control.sock")),
            _listener("\0" + self.abstract),
        ):
            try:
                targets = self._targets(other, host.pid, int(pid.read_text()))
                await self._build(guest, {**targets, "compile": compile_}, outcome)
                outcome["host_lives"] = host.poll() is None
                outcome["other_lives"] = not waiting.done() and _alive(int(pid.read_text()))
            finally:
                host.kill()
                waiting.cancel()
                await asyncio.wait({waiting})
        outcome["users"] = [each.layout.root.stat().st_gid for each in (guest, other)]
        outcome["untouched"] = all(
            path.exists() and path.read_text() == "secret"
            for path in (self.key, self.storage, other.layout.trees / "lamp" / "secrets")
        )

    def _targets(self, other: GuestBuildServices, host: int, pid: int) -> dict[str, str | int]:
        """Return what the component is to try its tries at."""
        tree = other.layout.trees / "lamp"
        return {
            "key": str(self.key),
            "data": str(self.data),
            "storage": str(self.storage),
            "their_secrets": str(tree / "secrets"),
            "their_tree": str(tree),
            "their_folder": str(other.layout.root),
            "their_cache": str(other.layout.compiler_cache),
            "toolchain": str(self.toolchain),
            "control": str(self.data / "control.sock"),
            "public": str(self.public),
            "abstract": self.abstract,
            "ipc": int(self.abstract[-6:], 16) | 1,
            "host": host,
            "other": pid,
        }

    async def _build(
        self, guest: GuestBuildServices, targets: dict[str, str | int], outcome: Outcome
    ) -> None:
        sources = guest.layout.sources / "lamp"
        component = sources / "components" / "evil"
        component.mkdir(parents=True)
        shutil.copy(Path(__file__).with_name("component.py"), component / "__init__.py")
        (component / "targets.json").write_text(json.dumps(targets))
        (sources / "lamp.yaml").write_text(YAML)
        sink = _Sink()
        request = BuildRequest(
            job_id="job",
            attempt_id="attempt",
            configuration="lamp.yaml",
            config_dir=sources,
            device_name="lamp",
            esphome_version=VERSION,
            time_zone="Pacific/Chatham",
        )
        try:
            firmware = await guest.builder.build(request, sink)
            outcome["image"] = firmware.ota.stat().st_size
        except BuildError as error:
            outcome["failed"] = f"{error.reason}\n" + "\n".join(sink.said[-20:])
        tree = guest.layout.tree("lamp.yaml")
        try:
            report: dict[str, str | int] = json.loads((tree / "report.json").read_bytes())
        except FileNotFoundError:
            return
        outcome["daemon_lives"] = _alive(cast("int", report.pop("daemon")))
        outcome["report"] = report
        layout = guest.layout
        outcome["owners"] = {
            path.name: path.lstat().st_uid
            for path in (layout.root, layout.trees, tree, layout.tools, layout.compiler_cache)
            if path.exists()
        }
        await guest.builder.clean("lamp.yaml", tools=True)
        assert await self.services._background.wait(60.0)  # it is deleted after the answer
        outcome["trash"] = [str(path) for path in guest.layout.trash.iterdir()]
        outcome["left"] = [*_left(self.abstract), *map(str, guest.layout.trees.glob("lamp*/"))]

    async def _guest(self, pin: str) -> GuestBuildServices:
        layout = self.layout.guest(pin)
        layout.root.mkdir(mode=0o700, parents=True)
        layout.make()
        layout.sources.mkdir()
        return await self.services.make_guest(layout)

    async def _wait(self, guest: GuestBuildServices) -> None:
        """Have something run for a guest."""
        layout, rules = guest.layout, None
        containment = cast("LocalBuilder", guest.builder)._containment
        if containment is not None:
            rules = containment(
                Contained(
                    python=self.toolchain / "bin" / "python",
                    toolchain=self.toolchain,
                    config_dir=layout.sources,
                    data_dir=layout.trees / "lamp",
                    env={},
                )
            )
        secrets = _private(layout.trees / "lamp" / "secrets")
        layout.compiler_cache.mkdir()
        if rules is not None and rules.user is not None:
            for path in (secrets, layout.compiler_cache):
                os.chown(path, rules.user, rules.user)
        python = str(Path(sys.executable).resolve())
        argv = (python, "-I", "-S", "-c", WAITS, str(layout.tmp / "pid"))
        command = Command(argv, cwd=layout.sources, env={"TOKEN": "secret"}, rules=rules)
        await self.services.processes.run(command)


def _private(path: Path) -> Path:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.write_text("secret")
    path.chmod(0o600)
    return path


def _listener(address: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    os.fchmod(listener.fileno(), 0o600)
    listener.bind(address)
    listener.listen()
    return listener


def _alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def _left(name: str) -> list[str]:
    """Return what a build left of this name where everybody may write; and remove it."""
    left = [path for path in (Path("/tmp", name), Path("/dev/shm", name)) if path.exists()]
    for path in left:
        path.unlink()
    return list(map(str, left))


if __name__ == "__main__":
    options = json.loads(sys.argv[1])
    made = Machine(Path(options["folder"]), Path(options["toolchains"]))
    ran = made.run(uncontained=options["uncontained"], compile_=options["compile"])
    sys.stdout.write(json.dumps(asyncio.run(ran)))
