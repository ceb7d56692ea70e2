"""How ESPHome is asked: remote packages from clones, and what happens when it does not answer."""

from collections.abc import AsyncIterator
from dataclasses import replace
import hashlib
import os
from pathlib import Path
import subprocess

import pytest

from custom_components.esphome_offload.engine.build.cache.layout import CacheLayout
from custom_components.esphome_offload.engine.build.process.processes import Processes
from custom_components.esphome_offload.engine.build.toolchain.toolchains import (
    Toolchain,
    Toolchains,
)
from custom_components.esphome_offload.engine.devices import inspector
from custom_components.esphome_offload.engine.devices.inspector import EsphomeInspector
from custom_components.esphome_offload.engine.reason import ReasonKey

from ..build.conftest import uv_of
from .folder import CACHE, KITCHEN, VERSION, ask_esphome, write

URL = "https://github.com/somebody/something.git"
PANEL = "packages: [github://somebody/something/panel.yaml@main]\n"


def clone(data_dir: Path, name: str = "panel", *, mark: str = "esphome_clone_complete") -> None:
    key = hashlib.sha256(f"{URL}@main".encode()).hexdigest()[:8]
    files = {"panel.yaml": f"esphome: {{name: {name}}}\nesp32: {{board: x}}\n", f".git/{mark}": ""}
    write(data_dir / "packages" / key, files)


def commit(origin: Path) -> None:
    for command in ("init -q -b main", "add .", "commit -q -m x"):
        user = ["-c", "user.name=x", "-c", "user.email=x@example.invalid"]
        subprocess.run(["git", *user, *command.split()], cwd=origin, check=True)


@pytest.mark.slow
class TestPackages:
    """Remote packages are read where they are, and never fetched."""

    async def test_from_the_clones_of_the_folder(self, tmp_path: Path) -> None:
        write(tmp_path, {"a.yaml": PANEL})
        clone(tmp_path / ".esphome", mark="HEAD")
        before = sorted(tmp_path.rglob("*"))

        answer = (await ask_esphome(tmp_path, ["a.yaml"]))["a.yaml"]

        assert (answer.node_name, answer.platform, answer.complete) == ("panel", "esp32", True)
        assert not answer.remote_packages_missing
        assert any(each.endswith("panel.yaml") for each in answer.reads)
        # The user's folder stays as it is.
        assert sorted(tmp_path.rglob("*")) == before

    async def test_from_the_clones_of_a_build(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write(tmp_path, {"a.yaml": PANEL})
        clone(tmp_path / "elsewhere")
        monkeypatch.setattr(CacheLayout, "data_dirs", lambda _self: [tmp_path / "elsewhere"])

        answer = (await ask_esphome(tmp_path, ["a.yaml"]))["a.yaml"]

        assert answer.node_name == "panel"

    async def test_they_are_fetched_only_when_that_is_asked_for(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        origin = tmp_path / "origin"
        write(origin, {"panel.yaml": "esphome: {name: fetched}\nesp32: {board: x}\n"})
        commit(origin)
        packages = tmp_path / "packages"
        monkeypatch.setattr(CacheLayout, "packages", packages)
        folder = tmp_path / "esphome"
        url = "https://example.invalid/panel.git"
        text = f"packages: {{p: {{url: '{url}', ref: main, files: [panel.yaml]}}}}\n"
        write(folder, {"a.yaml": text})
        # It is this address for git, which is all that ESPHome asks.
        for key, value in (
            ("GIT_CONFIG_COUNT", "1"),
            ("GIT_CONFIG_KEY_0", f"url.file://{origin}.insteadOf"),
            ("GIT_CONFIG_VALUE_0", url),
        ):
            monkeypatch.setitem(inspector.GIT_ENVIRONMENT, key, value)

        before = (await ask_esphome(folder, ["a.yaml"]))["a.yaml"]
        assert before.remote_packages_missing
        assert not packages.exists()

        fetched = (await ask_esphome(folder, ["a.yaml"], fetch=True))["a.yaml"]
        assert fetched.node_name == "fetched"
        assert not fetched.remote_packages_missing

        (fetched_here,) = packages.glob("packages/*/")
        os.utime(fetched_here, (0, 0))
        again = (await ask_esphome(folder, ["a.yaml"]))["a.yaml"]
        assert again.node_name == "fetched"
        assert fetched_here.stat().st_mtime > 0, "it is used, so others are removed first"
        assert [path.name for path in folder.iterdir()] == ["a.yaml"]

    async def test_what_cannot_be_fetched_stays_missing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(CacheLayout, "packages", tmp_path / "packages")
        text = "packages: {p: {url: 'https://127.0.0.1:1/x.git', files: [panel.yaml]}}\n"
        write(tmp_path, {"a.yaml": text, "b.yaml": KITCHEN})

        answers = await ask_esphome(tmp_path, ["a.yaml", "b.yaml"], fetch=True)

        assert answers["a.yaml"].remote_packages_missing
        assert answers["b.yaml"].node_name == "kitchen"

    async def test_half_a_clone_is_none(self, tmp_path: Path) -> None:
        write(tmp_path, {"a.yaml": PANEL})
        clone(tmp_path / ".esphome", mark="config")

        answer = (await ask_esphome(tmp_path, ["a.yaml"]))["a.yaml"]

        assert answer.remote_packages_missing
        assert answer.problem is not None
        assert answer.problem.key is ReasonKey.CONFIGURATION_PACKAGE_NOT_FETCHED


def test_the_data_directories_of_builds_and_bundles_are_looked_through(tmp_path: Path) -> None:
    layout = CacheLayout(tmp_path)
    for folder in (layout.tree("a.yaml"), layout.bundle("b.yaml") / "data"):
        folder.mkdir(parents=True)
    assert layout.data_dirs() == [
        layout.packages,
        layout.tree("a.yaml"),
        layout.bundle("b.yaml") / "data",
    ]


class ScriptedToolchains(Toolchains):
    """A toolchain whose Python is a shell script."""

    def __init__(self, layout: CacheLayout, processes: Processes, script: str | None) -> None:
        super().__init__(layout, processes, uv_of(layout))
        self._script = script

    def installed(self) -> tuple[str, ...]:
        return () if self._script is None else (VERSION,)

    async def newest(self) -> Toolchain | None:
        if self._script is None:
            return await super().newest()
        python = self._layout.root / "python"
        python.write_text(f"#!/bin/sh\n{self._script}\n")
        python.chmod(0o755)
        return Toolchain(VERSION, python, self._layout.root)


class TestFailures:
    """What happens when there is no sensible answer."""

    @pytest.fixture
    async def processes(self) -> AsyncIterator[Processes]:
        processes = Processes()
        yield processes
        await processes.aclose()

    @pytest.fixture
    def layout(self, tmp_path: Path) -> CacheLayout:
        layout = CacheLayout(tmp_path / "cache")
        layout.make()
        write(tmp_path, {"a.yaml": KITCHEN})
        return layout

    def inspector(
        self, layout: CacheLayout, processes: Processes, script: str | None
    ) -> EsphomeInspector:
        return EsphomeInspector(layout, processes, ScriptedToolchains(layout, processes, script))

    async def test_without_a_toolchain_there_is_none(
        self, layout: CacheLayout, processes: Processes, tmp_path: Path
    ) -> None:
        asked = self.inspector(layout, processes, None)
        assert asked.version is None
        assert await asked.ask(tmp_path, ["a.yaml"]) == {}

    @pytest.mark.parametrize(
        "script", ["echo Traceback; exit 1", "kill -9 $$", "yes 1234567890", "exec sleep 60"]
    )
    async def test_a_process_that_fails_answers_nothing(
        self,
        layout: CacheLayout,
        processes: Processes,
        tmp_path: Path,
        script: str,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        monkeypatch.setattr(inspector, "_OUTPUT", 100_000)
        monkeypatch.setattr(inspector, "_START_TIMEOUT", 1.0)
        monkeypatch.setattr(inspector, "_READING", replace(inspector._READING, timeout=0.0))
        asked = self.inspector(layout, processes, script)
        assert asked.version == VERSION
        assert await asked.ask(tmp_path, ["a.yaml"]) == {}
        assert "could not be asked" in caplog.text
        assert not list(layout.tmp.iterdir())

    async def test_where_packages_are_fetched_to_is_there(
        self, layout: CacheLayout, processes: Processes, tmp_path: Path
    ) -> None:
        asked = self.inspector(layout, processes, 'ls -d "$ESPHOME_DATA_DIR" >&2; exit 1')
        await asked.ask(tmp_path, ["a.yaml"])
        assert not layout.packages.exists()
        await asked.ask(tmp_path, ["a.yaml"], fetch=True)
        assert layout.packages.is_dir()

    @pytest.mark.parametrize(
        "answer",
        ["nonsense", '{"file": "b.yaml"}', '{"file": "a.yaml", "node_name": "Not A Name"}', "{}"],
    )
    async def test_an_answer_that_is_not_as_it_should_be_is_a_problem(
        self, layout: CacheLayout, processes: Processes, tmp_path: Path, answer: str
    ) -> None:
        asked = self.inspector(layout, processes, f"echo '{answer}'")
        (found,) = (await asked.ask(tmp_path, ["a.yaml"])).values()
        assert found.file == "a.yaml"
        assert found.problem is not None
        assert found.problem.key is ReasonKey.CONFIGURATION_CRASHES_ESPHOME


@pytest.mark.slow
async def test_the_newest_toolchain_that_is_there_is_used(tmp_path: Path) -> None:
    layout = CacheLayout(CACHE)
    processes = Processes()
    toolchains = Toolchains(layout, processes, uv_of(layout))
    await toolchains.ensure(VERSION, lambda _lines: None)
    found = await toolchains.newest()
    await processes.aclose()
    assert found is not None
    assert found.version == VERSION
    assert found.python.exists()
