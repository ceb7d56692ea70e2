"""The programs of ours that a toolchain's Python runs, and the launcher, on older Pythons.

Home Assistant has one Python, but a toolchain may get any that ESPHome supports. That they have no
newer syntax and use no newer part of the standard library is checked by ruff and mypy.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
import shutil
import subprocess
import sys

import pytest

from custom_components.esphome_offload.engine.build.bundle import Bundles
from custom_components.esphome_offload.engine.build.cache.layout import CacheLayout
from custom_components.esphome_offload.engine.build.config_hash import ConfigHashes
from custom_components.esphome_offload.engine.build.launcher import landlock
from custom_components.esphome_offload.engine.build.process.containment import Rules
from custom_components.esphome_offload.engine.build.process.processes import Command, Processes
from custom_components.esphome_offload.engine.build.process.warm import WarmPythons
from custom_components.esphome_offload.engine.build.toolchain.toolchains import Toolchains
from custom_components.esphome_offload.engine.build.toolchain.uv import Uv
from custom_components.esphome_offload.engine.devices.inspector import EsphomeInspector

from .conftest import Sink
from .processes import LEAVES_A_FAMILY, gone, pids
from .requests import build_request

VERSION = "2026.10.0"
CACHE = Path(__file__).parents[3] / ".cache"
LAMP = "lamp.yaml"
YAML = "esphome: {name: lamp}\nhost:\napi:\nota:\n  - platform: esphome\n"


def find_python(version: str) -> Path | None:
    """Return an interpreter of this version on this machine."""
    name = f"python{version}"
    versions = Path.home().glob(f".pyenv/versions/{version}.*/bin/{name}")
    on_path = shutil.which(name)
    for path in (*versions, *([Path(on_path)] if on_path else [])):
        # A shim may be there without the version.
        tried = subprocess.run([path, "-c", "import ctypes"], capture_output=True, check=False)
        if tried.returncode == 0:
            return path
    return None


@pytest.fixture(params=["3.12", "3.13"])
def older_python(request: pytest.FixtureRequest) -> Path:
    version: str = request.param
    if (found := find_python(version)) is None:
        pytest.skip(f"there is no Python {version} on this machine")
    return found


@pytest.fixture
def launcher_python(older_python: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run launchers with the older Python."""
    monkeypatch.setattr(sys, "executable", str(older_python))
    return older_python


async def test_the_launcher_ends_a_family(
    launcher_python: Path, processes: Processes, tmp_path: Path
) -> None:
    command = Command(
        argv=(str(launcher_python), "-I", "-S", "-c", LEAVES_A_FAMILY, str(tmp_path)),
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin"},
        lock=tmp_path / "lock",
    )
    result, output = await processes.capture(command, timeout=60)
    assert (result.exit_code, output) == (0, "family is there\n")
    await gone(*await pids(tmp_path))


async def test_the_launcher_contains_a_command(
    launcher_python: Path, processes: Processes, tmp_path: Path
) -> None:
    try:
        landlock.abi()
    except OSError:
        pytest.skip("this system has no Landlock")
    own = tmp_path / "own"
    own.mkdir()
    command = Command(
        argv=("/bin/sh", "-c", "echo kept > own/file; echo leaked > outside"),
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin"},
        rules=Rules(write=(own,), run=tuple(map(Path, ("/usr", "/bin", "/lib", "/lib64")))),
    )
    await processes.capture(command, timeout=60)
    assert (own / "file").read_text() == "kept\n"
    assert not (tmp_path / "outside").exists()


@dataclass(frozen=True, slots=True)
class Bench:
    """A toolchain with the older Python, and a lamp."""

    layout: CacheLayout
    warm: WarmPythons
    processes: Processes
    toolchains: Toolchains
    config_dir: Path


@pytest.fixture
async def bench(older_python: Path, tmp_path: Path, socket_enabled: None) -> AsyncIterator[Bench]:
    warm = WarmPythons()
    processes = Processes(warm=warm)
    layout = CacheLayout(CACHE / f"test-toolchains-{older_python.name}")
    layout.make()
    if not layout.uv_cache.is_symlink():
        shutil.rmtree(layout.uv_cache, ignore_errors=True)
        layout.uv_cache.symlink_to(CACHE / "uv")
    toolchains = Toolchains(
        layout, processes, Uv(layout, (sys.executable, "-m", "uv"), older_python)
    )
    toolchain = await toolchains.ensure(VERSION, lambda _lines: None)
    assert toolchain.python.resolve() == older_python.resolve()
    (tmp_path / LAMP).write_text(YAML)
    yield Bench(layout, warm, processes, toolchains, tmp_path)
    await processes.aclose()


# With 3.13 it is asked in tests/alpine.
@pytest.mark.slow
@pytest.mark.parametrize("older_python", ["3.12"], indirect=True)
async def test_esphome_there_answers_as_anywhere(bench: Bench, sink: Sink) -> None:
    inspector = EsphomeInspector(bench.layout, bench.processes, bench.toolchains)
    answer = (await inspector.ask(bench.config_dir, [LAMP]))[LAMP]
    assert (answer.node_name, answer.platform, answer.complete) == ("lamp", "host", True)

    request = build_request(bench.config_dir, VERSION, LAMP)
    bundles = Bundles(bench.layout, bench.processes, bench.toolchains)
    bundle = await bundles.make(request, sink.lines)
    assert {"json", "validated.json"} <= set(await bundles.validated(LAMP, bundle.sha256))

    hashes = ConfigHashes(bench.layout, bench.processes, bench.toolchains)
    found = await hashes.calculate(LAMP, bench.config_dir, VERSION, "UTC")
    assert found is not None
    assert bench.warm._warm, "it does without if such a Python cannot be started"
