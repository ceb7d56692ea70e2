"""What makes a configuration another one, with all that the real ESPHome says of it."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import override

import pytest

from custom_components.esphome_offload.engine.build.bundle import Bundles
from custom_components.esphome_offload.engine.build.cache.layout import CacheLayout
from custom_components.esphome_offload.engine.build.config_hash import ConfigHashes
from custom_components.esphome_offload.engine.build.firmware import BuildResult, FirmwareStore
from custom_components.esphome_offload.engine.build.model import BuildInfo, BuildRequest
from custom_components.esphome_offload.engine.build.origins import Origins
from custom_components.esphome_offload.engine.build.process.processes import Processes
from custom_components.esphome_offload.engine.build.process.warm import WarmPythons
from custom_components.esphome_offload.engine.build.toolchain.toolchains import Toolchains
from custom_components.esphome_offload.engine.devices.inspector import EsphomeInspector
from custom_components.esphome_offload.engine.devices.scanner import Scanner
from custom_components.esphome_offload.engine.jobs.model import FirmwareJob, JobRequest
from custom_components.esphome_offload.engine.jobs.pool import BuilderPool
from custom_components.esphome_offload.engine.jobs.ports import (
    ConfigurationHashes,
    ConfigurationSource,
)
from custom_components.esphome_offload.engine.jobs.unchanged import UnchangedBuilds
from tests.engine.jobs.fakes import ScriptedBuilder, request
from tests.engine.jobs.queue_harness import SETTINGS

from .conftest import uv_of

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("socket_enabled")]

VERSION = "2026.10.0"
LAMP = "lamp.yaml"
ZONE = "Europe/Berlin"
CACHE = Path(__file__).parents[3] / ".cache" / "test-toolchains"

FILES = {
    LAMP: """\
esphome:
  name: lamp
  includes: [level.h]
host:
packages:
  base: !include base.yaml
network:
http_request:
  ca_certificate_path: tables/gamma.csv
""",
    "base.yaml": "ota:\n  - platform: esphome\n    password: !secret ota_password\n",
    "secrets.yaml": "ota_password: one\nother: two\n",
    "level.h": "inline float level() { return 1.0f; }\n",
    "tables/gamma.csv": "1;2",
    "tables/more.csv": "3;4",
    "fan.yaml": "esphome:\n  name: fan\nhost:\n",
    "notes/bulbs.txt": "buy bulbs",
}


class Folder(ConfigurationSource, ConfigurationHashes):
    """A lamp in several files, firmware that is kept of it, and whether it counts as unchanged."""

    def __init__(self, processes: Processes, folder: Path) -> None:
        # All of its own but for the toolchain: other tests have fetched something for other lamps.
        self.layout = CacheLayout(folder / "cache")
        self.layout.make()
        self.layout.toolchains.rmdir()
        self.layout.toolchains.symlink_to(CACHE / "toolchains")
        self.folder = folder / "config"
        self.image = folder / "image"
        for name, text in FILES.items():
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_text(text)
        toolchains = Toolchains(self.layout, processes, uv_of(self.layout))
        self.toolchains = toolchains
        self.bundles = Bundles(self.layout, processes, toolchains)
        self._hashes = ConfigHashes(self.layout, processes, toolchains)
        self.scanner = Scanner(self.folder, EsphomeInspector(self.layout, processes, toolchains))
        self.store = FirmwareStore(self.layout)
        self.builder = ScriptedBuilder()
        builders = BuilderPool()
        builders.register(self.builder)
        self.unchanged = UnchangedBuilds(
            origins=Origins(self.layout, self.store),
            hashes=self,
            firmware=self.store,
            configurations=self,
            builders=builders,
            settings=lambda: SETTINGS,
        )

    @property
    @override
    def config_dir(self) -> Path:
        return self.folder

    @override
    async def fingerprint(self, configuration: str) -> str | None:
        return await self.scanner.fingerprint(configuration)

    @override
    def all_files(self, configuration: str) -> object | None:
        return self.scanner.all_files(configuration)

    @override
    async def ask(self, request: JobRequest, fingerprint: str) -> int | None:
        return await self._hashes.calculate(
            request.configuration, self.folder, request.esphome_version, ZONE, for_job=True
        )

    async def build(self) -> None:
        """Keep firmware of the present state, with what ESPHome validates for it."""
        await self.toolchains.load()
        job = self.job()
        before = await self.unchanged.before(job)
        bundle = await self.bundles.make(
            BuildRequest("job", "attempt", LAMP, self.folder, "lamp", VERSION, ZONE),
            lambda _lines: None,
        )
        config_hash = await self.ask(job.request, "")
        assert config_hash is not None
        self.image.write_bytes(b"lamp\0")
        result = BuildResult(
            self.image,
            BuildInfo(VERSION, "2026-10-20 10:00:00 +0000", config_hash),
            await self.bundles.validated(LAMP, bundle.sha256),
        )
        firmware = await self.store.keep(LAMP, "lamp", result)
        await self.unchanged.note(job, before, firmware, self.builder)

    def job(self, version: str = VERSION) -> FirmwareJob:
        return FirmwareJob("0" * 32, request(LAMP, esphome_version=version), datetime.now(UTC))

    async def is_unchanged(self, version: str = VERSION) -> bool:
        return await self.unchanged.find(self.job(version)) is not None

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text)


@pytest.fixture
async def folder(tmp_path: Path) -> AsyncIterator[Folder]:
    processes = Processes(warm=WarmPythons())
    yield Folder(processes, tmp_path)
    await processes.aclose()


def edit(name: str, old: str, new: str) -> Callable[[Folder], object]:
    return lambda folder: folder.write(name, FILES[name].replace(old, new))


CHANGES = {
    "nothing": None,
    "another configuration": edit("fan.yaml", "fan", "fan2"),
    "a file that nobody uses": edit("notes/bulbs.txt", "bulbs", "more bulbs"),
    "an included YAML file": edit("base.yaml", "ota:", "ota: # edited"),
    "a secret": edit("secrets.yaml", "one", "another"),
    "a header": edit("level.h", "1.0f", "2.0f"),
    "a file that a component names": edit("tables/gamma.csv", "1", "2"),
    "a file beside it": edit("tables/more.csv", "3", "4"),
}
UNCHANGED = tuple(CHANGES)[:3]


async def test_which_changes_count(folder: Folder) -> None:
    found = {}
    for name, change in CHANGES.items():
        await folder.build()
        if change is not None:
            change(folder)
        found[name] = await folder.is_unchanged()
        for file, text in FILES.items():
            if (folder.folder / file).read_text() != text:
                folder.write(file, text)
    assert found == {name: name in UNCHANGED for name in CHANGES}


async def test_another_version_counts(folder: Folder) -> None:
    await folder.build()
    assert await folder.is_unchanged()
    assert not await folder.is_unchanged("2026.10.0b1")


COMPONENT = """\
import esphome.config_validation as cv
CONFIG_SCHEMA = cv.Schema({})
async def to_code(config):
    pass
"""


async def test_no_firmware_is_kept_of_what_may_read_any_file(folder: Folder) -> None:
    """The Python of a component."""
    (folder.folder / "parts" / "shine").mkdir(parents=True)
    folder.write("parts/shine/__init__.py", COMPONENT)
    folder.write(LAMP, FILES[LAMP] + "external_components:\n  - source: parts\nshine:\n")
    await folder.build()
    assert not await folder.is_unchanged()


async def test_no_firmware_is_kept_of_a_folder_of_the_framework(folder: Folder) -> None:
    (folder.folder / "mine").mkdir()
    folder.write(
        LAMP,
        "esphome:\n  name: lamp\nesp32:\n  variant: esp32\n  framework:\n    type: esp-idf\n"
        f"    components:\n      - name: mine\n        path: {folder.folder / 'mine'}\n",
    )
    await folder.build()
    assert not await folder.is_unchanged()
    folder.write(
        LAMP,
        "esphome:\n  name: lamp\nesp32:\n  variant: esp32\n  framework:\n    type: esp-idf\n",
    )
    await folder.build()
    assert await folder.is_unchanged(), "the framework that ESPHome chooses is known"


async def test_no_firmware_is_kept_of_what_the_network_decides(folder: Folder) -> None:
    """A package that may be another one tomorrow."""
    await folder.build()
    (folder.layout.bundle(LAMP) / "data" / "packages").mkdir()
    await folder.build()
    assert not await folder.is_unchanged()
