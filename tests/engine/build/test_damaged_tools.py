"""Damaged packages of the tools are thrown away, and nothing else is, whatever a build prints."""

import os
from pathlib import Path
from typing import BinaryIO

import pytest

from custom_components.esphome_offload.engine.build.cache import damaged_tools as module
from custom_components.esphome_offload.engine.build.cache.damaged_tools import (
    find_damaged,
    trash_all,
    trash_package,
)
from custom_components.esphome_offload.engine.build.cache.layout import CacheLayout

COMPILER = ("platformio", "packages", "toolchain-xtensa")


def package(layout: CacheLayout, *names: str, manifest: str | None = "{}") -> Path:
    folder = layout.tools.joinpath(*names)
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "gcc").write_text("compiler")
    if manifest is not None:
        (folder / "package.json").write_text(manifest)
    return folder


@pytest.mark.parametrize(
    ("line", "names"),
    [
        (
            "{tools}/platformio/packages/toolchain-xtensa/bin/g++: error while loading shared libraries: libz.so.1",
            COMPILER,
        ),
        (
            "sh: 1: {tools}/platformio/packages/toolchain-xtensa/bin/g++: Exec format error",
            COMPILER,
        ),
        (
            "ERROR toolchain-xtensa at {tools}/platformio/packages/toolchain-xtensa is missing the expected bin directory",
            COMPILER,
        ),
        (
            "ERROR: tool cmake version 3.30.2 is installed, but getting error: non-zero exit code (127)",
            ("idf", "tools", "cmake", "3.30.2"),
        ),
        (
            "{tools}/idf/tools/ninja/1.12.1/ninja: cannot execute: required file not found",
            ("idf", "tools", "ninja", "1.12.1"),
        ),
        (
            "ERROR The installation is incomplete: missing {tools}/arduino8266/frameworks/3.1.2/cores",
            ("arduino8266", "frameworks", "3.1.2"),
        ),
    ],
)
def test_a_package_that_a_line_names_as_damaged_is_found(
    layout: CacheLayout, line: str, names: tuple[str, ...]
) -> None:
    assert find_damaged(layout, [line.format(tools=layout.tools)]) == (names,)


@pytest.mark.parametrize(
    "line",
    [
        "{tools}/platformio/packages/toolchain-xtensa/bin/g++: out of memory",
        "{tools}/platformio/packages/../../../firmware: not found",
        "{tools}/platformio/packages/.hidden/x: not found",
        "{tools}/../trees/lamp/x: not found",
        "/elsewhere/platformio/packages/toolchain-xtensa/bin/g++: not found",
        "CMake Error at {tools}/idf/frameworks/5.5.6/build.cmake:5: x: No such file or directory",
        "tool ../.. version .. is installed, but getting error",
    ],
)
def test_no_other_line_finds_any(layout: CacheLayout, line: str) -> None:
    assert find_damaged(layout, [line.format(tools=layout.tools)]) == ()


def test_packages_without_a_manifest_are_found_where_one_is_missed(layout: CacheLayout) -> None:
    package(layout, *COMPILER)
    package(layout, "platformio", "packages", "framework-x", manifest=None)
    package(layout, "platformio", "packages", "tool-y", manifest='{"name": ')
    link = layout.tools / "platformio" / "packages" / "tool-z"
    link.symlink_to(layout.root)
    line = "MissingPackageManifestError: Could not find one of 'package.json' manifest files in the package"
    found = find_damaged(layout, [line])
    assert sorted(found) == [
        ("platformio", "packages", "framework-x"),
        ("platformio", "packages", "tool-y"),
    ]
    assert find_damaged(layout, ["Could not find one of 'platform.json' manifest files"]) == ()


@pytest.mark.parametrize("what", ["folder", "pipe", "link"])
def test_what_is_no_manifest_keeps_no_file_open_and_is_looked_at_once(
    layout: CacheLayout, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    for number in range(5):
        manifest = package(layout, *COMPILER[:2], f"p{number}") / "package.json"
        manifest.unlink()
        match what:
            case "folder":
                manifest.mkdir()
            case "pipe":
                os.mkfifo(manifest)
            case "link":
                manifest.symlink_to(manifest.parent / "bin" / "gcc")
    looks: list[str] = []
    real = module.open_regular

    def look(name: str, folder: int) -> BinaryIO:
        looks.append(name)
        return real(name, folder)

    monkeypatch.setattr(module, "open_regular", look)
    before = len([*Path("/proc/self/fd").iterdir()])
    found = find_damaged(layout, ["Could not find one of 'package.json' manifest files"] * 50)
    assert len([*Path("/proc/self/fd").iterdir()]) <= before
    assert (len(found), len(looks)) == (5, 5)


def test_of_endless_packages_only_so_many_are_looked_at(
    layout: CacheLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST_NAMES", 3)
    for number in range(5):
        package(layout, *COMPILER[:2], f"p{number}", manifest=None)
    assert len(find_damaged(layout, ["one of 'package.json' manifest"])) == 3


def test_tools_of_a_guest_are_not_ours(layout: CacheLayout) -> None:
    guest = layout.guest("a" * 64)
    guest.make()
    theirs = package(guest, *COMPILER)
    line = f"{theirs}/bin/g++: Exec format error"
    assert find_damaged(layout, [line]) == ()
    assert find_damaged(guest, [line]) == (COMPILER,)
    package(layout, *COMPILER)
    assert trash_package(layout, COMPILER) is not None
    assert theirs.exists()


def test_only_the_named_package_is_removed(layout: CacheLayout) -> None:
    named = package(layout, *COMPILER)
    other = package(layout, "platformio", "packages", "tool-y")
    doomed = trash_package(layout, COMPILER)
    assert (named.exists(), other.exists()) == (False, True)
    assert list(layout.trash.iterdir()) == [doomed]
    assert trash_package(layout, COMPILER) is None


@pytest.mark.parametrize("level", range(1, 4))
def test_no_link_is_followed(layout: CacheLayout, tmp_path: Path, level: int) -> None:
    outside = tmp_path / "outside"
    outside.joinpath(*COMPILER[level:]).mkdir(parents=True)
    (outside / "kept").write_text("kept")
    link = layout.tools.joinpath(*COMPILER[:level])
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(outside)
    assert trash_package(layout, COMPILER) is None
    assert (outside / "kept").read_text() == "kept"
    assert outside.joinpath(*COMPILER[level:]).is_dir()


def test_tools_that_are_a_link_themselves_are_left_alone(
    layout: CacheLayout, tmp_path: Path
) -> None:
    layout.tools.rmdir()
    (tmp_path / "outside" / COMPILER[0] / COMPILER[1] / COMPILER[2]).mkdir(parents=True)
    layout.tools.symlink_to(tmp_path / "outside")
    assert trash_package(layout, COMPILER) is None
    assert find_damaged(layout, ["Could not find one of 'package.json' manifest files"]) == ()


def test_all_tools_can_be_removed(layout: CacheLayout) -> None:
    package(layout, *COMPILER)
    package(layout, "idf", "tools", "cmake", "3.30.2")
    before = layout.tools.stat().st_ino
    assert {path.parent for path in trash_all(layout)} == {layout.trash}
    assert list(layout.tools.iterdir()) == []
    assert layout.tools.stat().st_ino == before
    assert layout.trees.is_dir()


def test_no_tools_are_nothing_to_remove(layout: CacheLayout) -> None:
    layout.discard(layout.tools)
    assert trash_all(layout) == []
