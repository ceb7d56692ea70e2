"""The real ESPHome's hash of a configuration."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from custom_components.esphome_offload.engine.build.cache.layout import CacheLayout
from custom_components.esphome_offload.engine.build.config_hash import ConfigHashes
from custom_components.esphome_offload.engine.build.firmware import FirmwareStore
from custom_components.esphome_offload.engine.build.local import LocalBuilder
from custom_components.esphome_offload.engine.build.process.processes import Processes
from custom_components.esphome_offload.engine.build.toolchain.toolchains import Toolchains

from .conftest import Sink, uv_of
from .requests import build_request

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("socket_enabled")]

VERSION = "2026.10.0"
LAMP = "lamp.yaml"
CACHE = Path(__file__).parents[3] / ".cache" / "test-toolchains"
ZONE = "Europe/Berlin"

FILES = {
    LAMP: """\
esphome:
  name: lamp
  friendly_name: Lamp
host:
packages:
  base: !include base.yaml
logger: !include logger.yaml
ota:
  - platform: esphome
    password: !secret ota_password
""",
    "base.yaml": "api:\n",
    "logger.yaml": "level: DEBUG\n",
    "secrets.yaml": "ota_password: one\nother: two\n",
}


class Folder:
    """A lamp in several files, and what hashes it."""

    def __init__(self, processes: Processes, folder: Path) -> None:
        self.layout = CacheLayout(CACHE)
        self.layout.make()
        self.toolchains = Toolchains(self.layout, processes, uv_of(self.layout))
        self.hashes = ConfigHashes(self.layout, processes, self.toolchains)
        self.processes = processes
        self.config_dir = folder / "config"
        self.config_dir.mkdir()
        for name, text in FILES.items():
            (self.config_dir / name).write_text(text)

    def edit(self, name: str, change: Callable[[str], str]) -> None:
        path = self.config_dir / name
        path.write_text(change(path.read_text()))

    async def hash(self) -> int | None:
        return await self.hashes.calculate(LAMP, self.config_dir, VERSION, ZONE)


@pytest.fixture
async def folder(tmp_path: Path) -> AsyncIterator[Folder]:
    processes = Processes()
    yield Folder(processes, tmp_path)
    await processes.aclose()


@pytest.mark.parametrize(
    ("name", "change", "changes"),
    [
        (
            LAMP,
            lambda text: f"# a comment\n\n{text.replace('name: lamp', 'name:   "lamp"')}",
            False,
        ),
        ("secrets.yaml", lambda text: text.replace("two", "three"), False),
        ("secrets.yaml", lambda text: text.replace("one", "another"), True),
        ("logger.yaml", lambda _: "level: INFO\n", True),
        ("base.yaml", lambda text: f"{text}  port: 6054\n", True),
        (LAMP, lambda text: text.replace("friendly_name: Lamp", "friendly_name: Light"), True),
    ],
    ids=["format", "other-secret", "secret", "include", "package", "file"],
)
async def test_only_what_counts_changes_it(
    folder: Folder, name: str, change: Callable[[str], str], *, changes: bool
) -> None:
    before = await folder.hash()
    assert before is not None
    folder.edit(name, change)
    after = await folder.hash()
    assert after is not None
    assert (after != before) is changes


async def test_it_is_the_hash_of_the_firmware_that_is_built(
    folder: Folder, tmp_path: Path, sink: Sink
) -> None:
    store = FirmwareStore(CacheLayout(tmp_path / "firmware"))
    builder = LocalBuilder(folder.layout, folder.processes, folder.toolchains, store)
    firmware = await builder.build(
        build_request(folder.config_dir, VERSION, LAMP, time_zone=ZONE),
        sink,
    )
    assert await folder.hash() == firmware.build_info.config_hash


@pytest.mark.parametrize(("more", "portable"), [("", True), ("  includes: [own.h]\n", False)])
async def test_with_includes_it_depends_on_the_folder(
    folder: Folder, more: str, *, portable: bool
) -> None:
    (folder.config_dir / "own.h").write_text("// nothing\n")
    folder.edit(LAMP, lambda text: text.replace("host:", f"{more}host:"))
    config_hash = await folder.hash()
    assert config_hash is not None
    question = LAMP, folder.config_dir, VERSION, ZONE
    assert await folder.hashes.is_portable(*question, config_hash) is portable
    # Asked once more, of another folder.
    assert not await folder.hashes.is_portable(LAMP, folder.config_dir.parent, VERSION, ZONE, 1)


async def test_an_invalid_configuration_has_none(folder: Folder) -> None:
    folder.edit(LAMP, lambda text: text.replace("host:", "hots:"))
    assert await folder.hash() is None


async def test_a_configuration_that_eats_memory_has_none(folder: Folder) -> None:
    folder.edit(LAMP, lambda text: text.replace("Lamp", "${ 'x'|center(10**9) }"))
    async with asyncio.timeout(60):
        assert await folder.hash() is None


async def test_a_version_that_cannot_be_installed_has_none(folder: Folder) -> None:
    assert not folder.hashes.can_tell("0.0.1")
    assert await folder.hashes.calculate(LAMP, folder.config_dir, "nonsense", ZONE) is None


async def test_only_versions_that_are_installed_are_asked(folder: Folder) -> None:
    await folder.hash()
    assert folder.hashes.can_tell(VERSION)


async def test_one_that_takes_too_long_has_none(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    await folder.hash()
    monkeypatch.setattr("custom_components.esphome_offload.engine.build.config_hash._TIMEOUT", 0.01)
    assert await folder.hash() is None
    assert not folder.processes._running


async def test_one_that_is_no_longer_wanted_leaves_nothing(folder: Folder) -> None:
    await folder.hash()
    asking = asyncio.create_task(folder.hash())
    while not folder.processes._running:  # noqa: ASYNC110 - a real process
        await asyncio.sleep(0.001)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert not folder.processes._running
