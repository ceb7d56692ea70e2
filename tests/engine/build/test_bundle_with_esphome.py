"""The real ``esphome bundle``: what it takes along, what it leaves out, and what it compiles to."""

import asyncio
from pathlib import Path
import shutil
import tarfile

import pytest

from custom_components.esphome_offload.engine.build.bundle import Bundle, Bundles
from custom_components.esphome_offload.engine.build.cache.layout import CacheLayout
from custom_components.esphome_offload.engine.build.model import BuildError
from custom_components.esphome_offload.engine.build.process.processes import Processes
from custom_components.esphome_offload.engine.build.toolchain.toolchains import Toolchains
from custom_components.esphome_offload.engine.const import FailureReason

from .conftest import Sink, uv_of
from .requests import build_request
from .test_with_esphome import CACHE, VERSION

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("socket_enabled")]

YAML = """\
esphome:
  name: lamp
  includes:
    - {include}
host:
packages:
  base: !include common/base.yaml
external_components:
  - source: {{type: local, path: components}}
foo:
logger:
"""


class Bench:
    def __init__(self, folder: Path, processes: Processes) -> None:
        self.layout = CacheLayout(CACHE)
        self.layout.make()
        toolchains = Toolchains(self.layout, processes, uv_of(self.layout))
        self.bundles = Bundles(self.layout, processes, toolchains)
        self.config_dir = folder / "config"
        self.write("common/base.yaml", "substitutions:\n  who: !secret wifi\n")
        self.write("secrets.yaml", "wifi: hunter2\nother: unused\n")
        self.write("extra.h", "#pragma once\n")
        self.write("components/foo/__init__.py", "CONFIG_SCHEMA = {}\n")
        (folder / "outside.h").write_text("#pragma once\n")
        self.configure("extra.h")

    def write(self, name: str, content: str) -> None:
        path = self.config_dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)

    def configure(self, include: str) -> None:
        self.write("lamp.yaml", YAML.format(include=include))

    async def make(self, sink: Sink) -> Bundle:
        request = build_request(self.config_dir, VERSION)
        return await self.bundles.make(request, sink.lines)


@pytest.fixture
async def bench(tmp_path: Path, processes: Processes) -> Bench:
    bench = Bench(tmp_path, processes)
    shutil.rmtree(bench.layout.bundle("lamp.yaml"), ignore_errors=True)
    return bench


async def test_it_takes_all_along_and_is_the_same_each_time(bench: Bench, sink: Sink) -> None:
    first = await bench.make(sink)
    with tarfile.open(first.path) as archive:
        names = set(archive.getnames())
        secrets = archive.extractfile("secrets.yaml")
        assert secrets is not None
        assert secrets.read() == b"wifi: hunter2\n"
    assert names >= {"lamp.yaml", "common/base.yaml", "extra.h", "components/foo/__init__.py"}
    assert not (await bench.make(sink)).fresh
    await asyncio.sleep(1.1)  # the gzip header holds whole seconds
    await bench.bundles.invalidate("lamp.yaml")
    again = await bench.make(sink)
    assert again.fresh
    assert again.sha256 == first.sha256
    assert sorted(path.name for path in bench.config_dir.iterdir()) == [
        "common",
        "components",
        "extra.h",
        "lamp.yaml",
        "secrets.yaml",
    ]


async def test_a_changed_secret_makes_another_bundle(bench: Bench, sink: Sink) -> None:
    first = await bench.make(sink)
    bench.write("secrets.yaml", "wifi: hunter3\nother: unused\n")
    second = await bench.make(sink)
    assert second.fresh
    assert second.sha256 != first.sha256


async def test_an_invalid_configuration_is_said_in_esphomes_words(bench: Bench, sink: Sink) -> None:
    bench.write("lamp.yaml", "esphome:\n  name: lamp\nhost:\nnosuch:\n")
    with pytest.raises(BuildError, match="Component not found") as failure:
        await bench.make(sink)
    assert failure.value.failure_reason is FailureReason.CONFIG_INVALID
