"""What a build left in its tree is believed only as far as it can be."""

from collections.abc import Callable
import json
import os
from pathlib import Path
import shutil
from typing import Any

import pytest

from custom_components.esphome_offload.engine.build.firmware import BuildResult
from custom_components.esphome_offload.engine.build.model import BuildError
from custom_components.esphome_offload.engine.build.result import forget_validated, take_result
from custom_components.esphome_offload.engine.const import FailureReason
from custom_components.esphome_offload.engine.reason import ReasonKey

from .marks import needs_root

LAMP = "lamp.yaml"


class Tree:
    """A tree as ESPHome leaves it."""

    def __init__(self, folder: Path) -> None:
        self.taken = 0
        self.root = folder / "tree"
        self.build = self.root / "build" / "lamp"
        self.image = self.build / "firmware.ota.bin"
        self.record = self.root / "storage" / f"{LAMP}.json"
        self.info = self.build / "build_info.json"
        self.outside = folder / "auth"
        self.outside.write_text('{"esphome_version": "1", "build_time_str": "", "config_hash": 0}')
        self.build.mkdir(parents=True)
        self.record.parent.mkdir()
        self.image.write_bytes(b"image")
        self.info.write_text(self.outside.read_text())
        self.tell()

    def tell(self, **changes: object) -> None:
        told: dict[str, Any] = {
            "build_path": str(self.build),
            "firmware_bin_path": str(self.image),
            "esphome_version": "2026.10.0",
            **changes,
        }
        self.record.write_text(json.dumps(told))

    def result(self) -> BuildResult:
        self.taken += 1
        return take_result(self.root, LAMP, self.root.with_name(f"taken{self.taken}"))

    def refused(self) -> BuildError:
        with pytest.raises(BuildError) as caught:
            self.result()
        return caught.value


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_a_whole_tree_has_a_result(tree: Tree) -> None:
    result = tree.result()
    assert (result.ota.name, result.ota.read_bytes()) == (tree.image.name, b"image")
    assert not result.ota.is_relative_to(tree.root)
    assert result.build_info.esphome_version == "1"


def test_what_was_validated_is_part_of_the_result(tree: Tree) -> None:
    assert tree.result().validated == {}
    validated = tree.record.with_name(f"{LAMP}.validated.json")
    validated.write_text("{}")
    taken = tree.result().validated
    assert {name: path.read_text() for name, path in taken.items()} == {
        "json": tree.record.read_text(),
        "validated.json": "{}",
    }
    assert all(path.stat().st_mode & 0o077 == 0 for path in taken.values())
    validated.unlink()
    validated.symlink_to(tree.outside)
    assert tree.refused().failure_reason is FailureReason.CONFIG_INVALID


def test_what_esphome_makes_beside_the_image_is_taken_but_no_link_to_elsewhere(tree: Tree) -> None:
    assert tree.result().images == ()
    elf, factory = tree.build / "firmware.elf", tree.build / "firmware.factory.bin"
    elf.write_bytes(b"symbols")
    factory.symlink_to(tree.outside)
    (taken,) = tree.result().images
    assert (taken.name, taken.read_bytes()) == ("firmware.elf", b"symbols")
    assert not taken.is_relative_to(tree.root)


def test_what_was_validated_earlier_is_forgotten_but_not_behind_a_link(
    tree: Tree, tmp_path: Path
) -> None:
    validated = tree.record.with_name(f"{LAMP}.validated.json")
    validated.write_text("{}")
    forget_validated(tree.root, LAMP)
    assert not validated.exists()
    assert tree.record.exists()
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / validated.name).write_text("{}")
    shutil.rmtree(tree.record.parent)
    tree.record.parent.symlink_to(theirs)
    forget_validated(tree.root, LAMP)
    assert (theirs / validated.name).exists()


def test_without_build_info_the_version_is_that_of_the_record(tree: Tree) -> None:
    tree.info.unlink()
    assert tree.result().build_info.esphome_version == "2026.10.0"


@pytest.mark.parametrize("which", ["record", "info", "image"])
def test_a_link_out_of_the_tree_is_not_followed(tree: Tree, which: str) -> None:
    path: Path = getattr(tree, which)
    path.unlink()
    path.symlink_to(tree.outside)
    assert tree.refused().failure_reason is FailureReason.CONFIG_INVALID


@pytest.mark.parametrize("which", ["record", "info", "image"])
def test_a_link_in_place_of_a_folder_is_not_followed(tree: Tree, which: str) -> None:
    """Another build of the same guest could put one there while this result is read."""
    path: Path = getattr(tree, which)
    theirs = tree.outside.with_name("theirs")
    path.parent.rename(theirs)
    path.parent.symlink_to(theirs)
    assert tree.refused().failure_reason is FailureReason.CONFIG_INVALID


@needs_root
@pytest.mark.parametrize("which", ["record", "info", "image"])
def test_a_file_of_somebody_else_is_not_read(tree: Tree, which: str) -> None:
    """Where the system lets everybody make a second name for any file."""
    os.chown(tree.root, 55000, 55000)
    for path in tree.root.rglob("*"):
        os.chown(path, 55000, 55000)
    assert tree.result().ota.read_bytes() == b"image"
    path = getattr(tree, which)
    path.unlink()
    path.hardlink_to(tree.outside)
    assert tree.refused().reason.key is ReasonKey.RESULT_MISSING


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
@pytest.mark.parametrize("which", ["record", "info", "image"])
def test_what_is_no_file_is_refused_and_not_left_open(
    tree: Tree, which: str, make: Callable[[Path], None]
) -> None:
    path: Path = getattr(tree, which)
    path.unlink()
    make(path)
    before = len([*Path("/proc/self/fd").iterdir()])
    assert tree.refused().reason.key is ReasonKey.RESULT_MISSING
    assert len([*Path("/proc/self/fd").iterdir()]) <= before


@pytest.mark.parametrize("which", ["record", "info", "image"])
def test_a_file_of_endless_size_is_not_read(tree: Tree, which: str) -> None:
    path: Path = getattr(tree, which)
    os.truncate(path, 1 << 40)
    assert tree.refused().reason.key is ReasonKey.RESULT_MISSING


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "[" * 200_000, '{"build_path": 1, "firmware_bin_path": 1}']
)
def test_a_record_that_is_none_is_refused(tree: Tree, text: str) -> None:
    tree.record.write_text(text)
    assert tree.refused().failure_reason is FailureReason.BUILDER_ENVIRONMENT


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", "[" * 200_000, '{"esphome_version": "", "build_time_str": "",']
)
def test_build_info_that_is_none_is_refused(tree: Tree, text: str) -> None:
    tree.info.write_text(text)
    assert tree.refused().failure_reason is FailureReason.BUILDER_ENVIRONMENT


def test_an_endless_number_is_refused(tree: Tree) -> None:
    tree.info.write_text('{"esphome_version": "", "build_time_str": "", "config_hash": Infinity}')
    assert tree.refused().failure_reason is FailureReason.BUILDER_ENVIRONMENT


@pytest.mark.parametrize("name", ["\0", "x" * 5000, "nothing"])
def test_an_image_with_an_impossible_name_is_refused(tree: Tree, name: str) -> None:
    tree.tell(firmware_bin_path=str(tree.build) + "/" + name)
    assert tree.refused().failure_reason is FailureReason.BUILDER_ENVIRONMENT
