"""Real processes, real uv, and a package index of our own."""

from collections.abc import AsyncIterator, Iterator, Sequence
import os
from pathlib import Path
import sys
import tempfile

import pytest

from custom_components.esphome_offload.engine.build.cache.layout import CacheLayout
from custom_components.esphome_offload.engine.build.cache.ownership import NOBODY, closed_folder
from custom_components.esphome_offload.engine.build.model import BuildSink
from custom_components.esphome_offload.engine.build.process import processes as process
from custom_components.esphome_offload.engine.build.process.processes import Processes
from custom_components.esphome_offload.engine.build.process.warm import WarmPythons
from custom_components.esphome_offload.engine.build.toolchain.toolchains import Toolchains
from custom_components.esphome_offload.engine.build.toolchain.uv import Uv
from custom_components.esphome_offload.engine.build.toolchain.versions import Versions
from custom_components.esphome_offload.engine.const import Stage

from .containment_harness import ContainmentHarness
from .measured import measured
from .package_index import write_index


class Sink(BuildSink):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.stages: list[Stage] = []
        self.percents: list[float] = []
        self.output: list[str] = []

    def stage(self, stage: Stage) -> None:
        self.stages.append(stage)

    def progress(self, percent: float) -> None:
        self.percents.append(percent)

    def lines(self, lines: Sequence[str]) -> None:
        self.output.extend(lines)


@pytest.fixture
def sink() -> Sink:
    return Sink()


@pytest.fixture
async def processes() -> AsyncIterator[Processes]:
    processes = Processes(warm=WarmPythons())
    yield processes
    await processes.aclose()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have what ignores SIGTERM killed after one second; that it is three is tested once."""
    start = "; main()"
    assert process._LAUNCHER.endswith(start)
    shorter = "; from launcher import descendants; descendants.GRACE = 1.0"
    launcher = f"{process._LAUNCHER.removesuffix(start)}{shorter}{start}"
    monkeypatch.setattr(process, "_LAUNCHER", launcher)


@pytest.fixture
def measured_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measure the coverage of launchers, if that of the tests is measured."""
    monkeypatch.setattr(process, "_LAUNCHER", measured(process._LAUNCHER))


@pytest.fixture(scope="session")
def index_address(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_index(tmp_path_factory.mktemp("index"))


@pytest.fixture
def index(index_address: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make uv know our index only."""
    for name in list(os.environ):
        if name.startswith(("UV_", "PIP_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("UV_DEFAULT_INDEX", index_address)
    return index_address


@pytest.fixture
def layout(tmp_path: Path) -> CacheLayout:
    layout = CacheLayout(tmp_path / "cache")
    layout.make()
    return layout


@pytest.fixture(scope="session")
def shared_layout(tmp_path_factory: pytest.TempPathFactory) -> CacheLayout:
    """One cache for tests that only need a toolchain, so that it is made once."""
    layout = CacheLayout(tmp_path_factory.mktemp("shared") / "cache")
    layout.make()
    return layout


def uv_of(layout: CacheLayout) -> Uv:
    return Uv(layout, (sys.executable, "-m", "uv"), Path(sys.executable))


@pytest.fixture
def toolchains(layout: CacheLayout, processes: Processes, index: str) -> Toolchains:
    return Toolchains(layout, processes, uv_of(layout))


@pytest.fixture
def versions(layout: CacheLayout, processes: Processes, toolchains: Toolchains) -> Versions:
    return Versions(processes, uv_of(layout), toolchains.installed)


@pytest.fixture
def passable() -> Iterator[Path]:
    """Return a folder that every user can reach; that of pytest is closed, also by other runs."""
    with tempfile.TemporaryDirectory(prefix="esphome-offload-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        for needed in (folder / "any", Path(sys.executable).resolve()):
            if (closed := closed_folder(needed, NOBODY)) is not None:
                pytest.skip(f"{closed} is closed to other users")
        yield folder


@pytest.fixture
def harness(tmp_path: Path, processes: Processes) -> Iterator[ContainmentHarness]:
    harness = ContainmentHarness(tmp_path, processes)
    yield harness
    harness.close()
