"""Folders of configurations made from texts, and ESPHome asked about them."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
import textwrap
from typing import override

from custom_components.esphome_offload.engine.build.cache.layout import CacheLayout
from custom_components.esphome_offload.engine.build.process.processes import Processes
from custom_components.esphome_offload.engine.build.process.warm import WarmPythons
from custom_components.esphome_offload.engine.build.toolchain.toolchains import Toolchains
from custom_components.esphome_offload.engine.devices import plain
from custom_components.esphome_offload.engine.devices.answers import Answer, Known
from custom_components.esphome_offload.engine.devices.inspector import EsphomeInspector, Inspector
from custom_components.esphome_offload.engine.devices.judgement import judge
from custom_components.esphome_offload.engine.devices.model import (
    Configuration,
    ScanResult,
)
from custom_components.esphome_offload.engine.devices.scanner import Scanner
from custom_components.esphome_offload.engine.reason import ReasonKey

from ..build.conftest import uv_of

KITCHEN = "esphome: {name: kitchen}\nhost:\n"
VERSION = "2026.10.0"
CACHE = Path(__file__).parents[3] / ".cache" / "test-toolchains"

LAMP = Answer("lamp.yaml", node_name="lamp", platform="host", complete=True)

type Files = Mapping[str, str | bytes]


def write(folder: Path, files: Files) -> None:
    for name, content in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            file.write_bytes(content)
        else:
            file.write_text(textwrap.dedent(content), encoding="utf-8")


async def ask_esphome(
    folder: Path, names: Sequence[str], *, fetch: bool = False
) -> Mapping[str, Answer]:
    """Return what the real ESPHome answers, all in one process."""
    layout = CacheLayout(CACHE)
    layout.make()
    processes = Processes(warm=WarmPythons())
    toolchains = Toolchains(layout, processes, uv_of(layout))
    await toolchains.ensure(VERSION, lambda _lines: None)
    try:
        return await EsphomeInspector(layout, processes, toolchains).ask(folder, names, fetch=fetch)
    finally:
        await processes.aclose()


class Cases:
    """Many small folders, about all of whose files ESPHome is asked at once, at the first question.

    A case is a folder; its answers come as if it were the configuration folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._answers: Mapping[str, Answer] | None = None

    def add(self, case: str, files: Files) -> None:
        write(self._folder / case, files)

    def answers(self, case: str) -> dict[str, Answer]:
        """Return the answers about the configurations of a case, by file name."""
        if self._answers is None:
            names = [
                f"{case.name}/{file.name}"
                for case in sorted(self._folder.iterdir())
                for file in sorted(case.iterdir())
                if file.suffix in (".yaml", ".yml") and file.name != "secrets.yaml"
            ]
            self._answers = asyncio.run(ask_esphome(self._folder, names))
            assert len(self._answers) == len(names)
        prefix = f"{case}/"
        return {
            name.removeprefix(prefix): answer
            for name, answer in self._answers.items()
            if name.startswith(prefix)
        }

    def answer(self, case: str, name: str = "a.yaml") -> Answer:
        return self.answers(case)[name]

    def judged(self, case: str, before: Sequence[str] = ()) -> ScanResult:
        """Return which files of a case are devices; keys of problems have the case before them."""
        known = {
            f"{case}/{name}": Known(VERSION, {}, answer, device=LAMP if name in before else None)
            for name, answer in self.answers(case).items()
        }
        return judge(str(self._folder), known)

    def configuration(self, case: str, name: str = "a.yaml") -> Configuration:
        return self.judged(case).configurations[f"{case}/{name}"]

    def problems(self, case: str, before: Sequence[str] = ()) -> dict[str, ReasonKey]:
        problems = self.judged(case, before).problems
        return {name.removeprefix(f"{case}/"): reason.key for name, reason in problems.items()}


class ScriptedInspector(Inspector):
    """Answers like ESPHome for plain files, and as it is told for others."""

    def __init__(self, version: str | None = VERSION) -> None:
        self._version = version
        self.asked: list[list[str]] = []
        self.fetched: list[list[str]] = []
        self.answers: dict[str, Answer] = {}
        self.silent = False

    @property
    @override
    def version(self) -> str | None:
        return self._version

    @version.setter
    def version(self, version: str | None) -> None:
        self._version = version

    @override
    async def ask(
        self, config_dir: Path, names: Sequence[str], *, fetch: bool = False
    ) -> Mapping[str, Answer]:
        (self.fetched if fetch else self.asked).append(sorted(names))
        if self.silent:
            return {}
        return {
            name: self.answers.get(name) or plain.read(name, (config_dir / name).read_bytes())
            for name in names
        }


class Folder:
    """Writes files and scans them with one scanner."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.inspector = ScriptedInspector()
        self.scanner = Scanner(path, self.inspector)

    def write(self, name: str, text: str) -> Path:
        write(self.path, {name: text})
        return self.path / name

    async def scan(self) -> ScanResult:
        return await self.scanner.scan()
