"""Bundles of an ESPHome that does what the configuration says."""

from collections.abc import Sequence
import json
from pathlib import Path
import sys
from typing import override

import pytest

from custom_components.esphome_offload.engine.build.bundle import Bundle, Bundles
from custom_components.esphome_offload.engine.build.cache.layout import CacheLayout
from custom_components.esphome_offload.engine.build.model import BuildError
from custom_components.esphome_offload.engine.build.process.processes import Processes
from custom_components.esphome_offload.engine.build.toolchain.toolchains import (
    Lines,
    Toolchain,
    Toolchains,
)

from ..jobs.fakes import VirtualTime
from .conftest import uv_of
from .requests import build_request

ESPHOME = """
import io, json, os, pathlib, sys, tarfile
arguments = sys.argv[1:]
yaml = pathlib.Path(arguments[2])
output = pathlib.Path(arguments[3].removeprefix("--output="))
folder = yaml.parent
(folder.parent / "calls").open("a").write(os.environ["ESPHOME_DATA_DIR"] + "\\n")
told = json.loads(yaml.read_text())
for line in told.get("says", ()):
    print(line.format(data=os.environ["ESPHOME_DATA_DIR"]))
if touched := told.get("writes"):
    (folder / touched).write_text("written meanwhile")
if told.get("exit"):
    raise SystemExit(told["exit"])
with tarfile.open(fileobj=output.open("wb"), mode="w:gz") as archive:
    def add(name, content):
        member = tarfile.TarInfo(name)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    names = [yaml.name, *told.get("uses", ())]
    manifest = {"files": names, "depends": told.get("depends", [])}
    add(told.get("manifest", "manifest.json"), json.dumps(manifest).encode())
    for name in names:
        add(name.replace("../", "around/"), (folder / name).read_bytes())
"""


class Ready(Toolchains):
    """Toolchains that are there."""

    def __init__(self, layout: CacheLayout, processes: Processes) -> None:
        super().__init__(layout, processes, uv_of(layout))
        self.asked: list[str] = []
        self.doubted: list[str] = []

    @override
    async def ensure(self, version: str, lines: Lines) -> Toolchain:
        self.asked.append(version)
        return Toolchain(version, Path(sys.executable), Path(sys.executable).parent)

    @override
    def invalidate(self, version: str) -> None:
        self.doubted.append(version)


class Bench:
    def __init__(self, folder: Path, layout: CacheLayout, processes: Processes) -> None:
        self.layout = layout
        self.config_dir = folder / "config"
        self.config_dir.mkdir()
        self.calls_file = folder / "calls"
        self.esphome = folder / "esphome.py"
        self.esphome.write_text(ESPHOME)
        self.toolchains = Ready(layout, processes)
        self.time = VirtualTime()
        self.bundles = Bundles(
            layout, processes, self.toolchains, entry=self._enter, time=self.time
        )
        self.output: list[str] = []
        self.configure()

    def _enter(self, toolchain: Toolchain, arguments: Sequence[str]) -> tuple[str, ...]:
        return (str(toolchain.python), "-I", "-S", str(self.esphome), *arguments)

    def configure(self, name: str = "lamp.yaml", **told: object) -> None:
        (self.config_dir / name).write_text(json.dumps(told))

    def write(self, name: str, content: str = "x") -> Path:
        path = self.config_dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return path

    @property
    def calls(self) -> int:
        return len(self.calls_file.read_text().splitlines()) if self.calls_file.exists() else 0

    async def make(self, name: str = "lamp.yaml", version: str = "2026.10.0") -> Bundle:
        request = build_request(self.config_dir, version, name)
        return await self.bundles.make(request, self.output.extend)

    async def fails(self) -> BuildError:
        with pytest.raises(BuildError) as failure:
            await self.make()
        return failure.value
