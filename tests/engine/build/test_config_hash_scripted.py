"""Hashes of configurations: what is asked, and what an answer means; ESPHome is scripted."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from custom_components.esphome_offload.engine.build.cache.layout import CacheLayout
from custom_components.esphome_offload.engine.build.config_hash import ConfigHashes
from custom_components.esphome_offload.engine.build.process.processes import Processes
from custom_components.esphome_offload.engine.build.toolchain.esphome_command import enter_limited
from custom_components.esphome_offload.engine.build.toolchain.toolchain import Toolchain

from .scripted_bundles import Ready

VERSION = "2026.10.0"
LAMP = "lamp.yaml"

# Prints what the file says; like ESPHome's hash with ``includes:``, it may depend on the folder.
ESPHOME = """
import pathlib, sys
command, path = sys.argv[2:]
assert command == "config-hash"
text = pathlib.Path(path).read_text()
if text.startswith("exit"):
    raise SystemExit(2)
print("INFO Reading configuration")
print(text.replace("FOLDER", f"{len(path):x}"))
"""


class Hashes(ConfigHashes):
    """Hashes by a scripted ESPHome."""

    def __init__(self, folder: Path, layout: CacheLayout, processes: Processes) -> None:
        self.config_dir = folder / "config"
        self.config_dir.mkdir()
        self.program = folder / "esphome.py"
        self.program.write_text(ESPHOME)
        super().__init__(layout, processes, Ready(layout, processes), entry=self._enter)

    def _enter(self, toolchain: Toolchain, arguments: Sequence[str]) -> tuple[str, ...]:
        return (str(toolchain.python), "-I", "-S", str(self.program), *arguments)

    async def of(self, text: str) -> int | None:
        (self.config_dir / LAMP).write_text(text)
        return await self.calculate(LAMP, self.config_dir, VERSION, "UTC")

    async def portable(self, config_hash: int) -> bool:
        return await self.is_portable(LAMP, self.config_dir, VERSION, "UTC", config_hash)


@pytest.fixture
def hashes(tmp_path: Path, layout: CacheLayout, processes: Processes) -> Hashes:
    return Hashes(tmp_path, layout, processes)


@pytest.mark.parametrize(
    ("said", "config_hash"),
    [
        ("0x0000002a", 42),
        ("0x00000001\n0x00000002", 2),
        ("0x123456789", None),
        ("no hash", None),
        ("exit", None),
    ],
)
async def test_the_last_line_that_is_a_hash_counts(
    hashes: Hashes, said: str, config_hash: int | None
) -> None:
    assert await hashes.of(said) == config_hash


async def test_where_esphome_cannot_be_started_there_is_no_hash(
    hashes: Hashes, tmp_path: Path
) -> None:
    assert await hashes.calculate(LAMP, tmp_path / "missing", VERSION, "UTC") is None


async def test_a_hash_that_depends_on_the_folder_is_noticed(hashes: Hashes) -> None:
    fixed = await hashes.of("0x0000002a")
    assert fixed is not None
    assert await hashes.portable(fixed)
    of_here = await hashes.of("0xFOLDER")
    assert of_here is not None
    assert not await hashes.portable(of_here)


async def test_a_folder_that_cannot_have_another_name_is_not_judged(
    hashes: Hashes, layout: CacheLayout
) -> None:
    fixed = await hashes.of("0x0000002a")
    assert fixed is not None
    (layout.config_hash / "folder").mkdir(parents=True)
    assert not await hashes.portable(fixed)


def test_esphome_runs_with_a_limit_of_memory() -> None:
    toolchain = Toolchain(VERSION, Path("/toolchain/bin/python"), Path("/toolchain/bin"))
    python, _, _, _, program, *arguments = enter_limited(toolchain, ("config-hash", LAMP))
    assert python == "/toolchain/bin/python"
    assert "RLIMIT_AS" in program
    assert arguments == ["config-hash", LAMP]
