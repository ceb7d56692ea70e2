"""The real standalone builder: its wheel in an environment of its own, as a process."""

from collections.abc import Mapping
from dataclasses import dataclass
import json
from pathlib import Path
import shutil
import sys
from typing import override

from custom_components.esphome_offload.engine.protocol.identity import Identity, load_or_create

from . import ports
from .any_builder import AnyBuilder
from .client import Json
from .processes import Child, ProcessFailedError, environment, run
from .waiting import PATIENCE
from .workspace import CACHE, REPOSITORY

_INSTALL = 300.0
_COMMAND = 60.0
_STOP = 15.0
_NO_HOME_ASSISTANT = (
    "import importlib.util as u; print(u.find_spec('homeassistant'), u.find_spec('esphome'))"
)


@dataclass(frozen=True, slots=True)
class BuilderEnvironment:
    """A virtual environment with the builder and what it needs, and nothing else."""

    folder: Path

    @property
    def command(self) -> Path:
        """The command that the wheel installs."""
        return self.folder / "bin" / "esphome-offload-builder"

    async def make(self) -> None:
        """Make it anew from the present sources."""
        shutil.rmtree(self.folder, ignore_errors=True)
        wheels = self.folder / "wheels"
        env = environment(UV_CACHE_DIR=str(CACHE / "uv"))

        async def call(*arguments: str | Path) -> None:
            argv = [sys.executable, "-m", "uv", "--quiet", *arguments]
            await run(argv, cwd=REPOSITORY, env=env, seconds=_INSTALL)

        source = REPOSITORY / "builder"
        await call("venv", "--python", sys.executable, self.folder)
        await call("build", "--wheel", "--python", sys.executable, source, "--out-dir", wheels)
        (wheel,) = wheels.glob("*.whl")
        await call("pip", "install", "--compile-bytecode", "--python", self.python, wheel)
        found = await run(
            [self.python, "-I", "-c", _NO_HOME_ASSISTANT], cwd=wheels, env=env, seconds=_COMMAND
        )
        if found.split() != ["None", "None"]:
            raise ProcessFailedError(f"Home Assistant or ESPHome can be imported there: {found}")

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"


class StandaloneBuilder(AnyBuilder):
    """One standalone builder in ``folder``. Only toolchains survive ``reset``."""

    def __init__(self, folder: Path, *, name: str = "workshop", discoverable: bool = False) -> None:
        self.folder = folder
        self.name = name
        self._discoverable = discoverable
        self.data = folder / "data"
        self.environment = BuilderEnvironment(folder / "environment")
        self._arguments: tuple[str, ...] = ()
        self._extra: dict[str, str] = {}
        self._port = 0
        self._child: Child | None = None

    @property
    @override
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    @override
    def port(self) -> int:
        return self._port

    @property
    @override
    def identity(self) -> Identity:
        return load_or_create(self.data / "identity")

    @property
    @override
    def pid(self) -> int:
        return self._running.pid

    @property
    @override
    def running(self) -> bool:
        return self._child is not None and self._child.running

    @property
    @override
    def cache(self) -> Path:
        return self.data / "cache"

    @property
    def log(self) -> str:
        """Its output since the last start."""
        return self._child.output() if self._child else ""

    @property
    def _running(self) -> Child:
        assert self._child is not None
        return self._child

    def reset(self) -> None:
        """Recreate the data folder, as of a builder that was never started."""
        toolchains = self.cache / "toolchains"
        kept = self.folder / "kept"
        if toolchains.is_dir() and not kept.exists():
            toolchains.rename(kept)
        shutil.rmtree(self.data, ignore_errors=True)
        toolchains.parent.mkdir(parents=True)
        self.data.chmod(0o700)
        if kept.is_dir():
            kept.rename(toolchains)
        # The packages that script/setup has downloaded are not downloaded again.
        (toolchains.parent / "uv-cache").symlink_to(CACHE / "uv")

    @override
    async def open(self, *arguments: str, **extra: str) -> None:
        """Install and start it, fresh."""
        self.reset()
        await self.environment.make()
        await self.start(*arguments, **extra)

    async def start(self, *arguments: str, **extra: str) -> None:
        """Run it and return when it is ready; ``extra`` goes into its environment."""
        self._arguments, self._extra = arguments, extra
        await self.boot()

    @override
    async def boot(self) -> None:
        (self._port,) = ports.pick(preferred=[self.port] if self.port else [])
        argv: list[str | Path] = [self.environment.command, "--data", self.data, "run"]
        argv += ["--port", str(self.port), "--name", self.name]
        # Discovered is an address in the network, which has to answer.
        argv += [] if self._discoverable else ["--host", "127.0.0.1", "--no-announce"]
        argv += self._arguments
        self._child = child = await Child.start(
            "the standalone builder",
            argv,
            log=self.folder / "builder.log",
            cwd=self.folder,
            env=environment(**self._extra),
        )
        await child.until(lambda: "Ready" in child.output(), "being ready", PATIENCE)

    async def command(self, *arguments: str) -> str:
        """Run one of its other commands and return the output; raises ProcessFailedError."""
        argv: list[str | Path] = [self.environment.command, "--data", self.data, *arguments]
        return await run(argv, cwd=self.folder, env=environment(), seconds=_COMMAND)

    async def json(self, *arguments: str) -> Json:
        """Run a command that prints JSON."""
        return json.loads(await self.command(*arguments, "--json"))

    @override
    async def open_pairing(self) -> str:
        code: str = (await self.json("pair"))["code"]
        return code

    @override
    async def guests(self) -> Mapping[str, str]:
        return {guest["pin_sha256"]: guest["label"] for guest in await self.json("guests")}

    @override
    async def remove_guest(self, guest: str) -> None:
        await self.command("guests", "remove", guest)

    async def terminate(self) -> int:
        """Send SIGTERM and return the exit code."""
        await self._running.stop(_STOP)
        return await self._running.wait()

    @override
    async def crash(self) -> None:
        # What it has started is not in its process group.
        await self._running.kill()

    @override
    async def close(self) -> None:
        if self._child is not None:
            await self._child.stop(_STOP)
