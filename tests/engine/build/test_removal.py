"""Folders that builds wrote are removed, whatever is in them."""

from collections.abc import Iterator
import os
from pathlib import Path
import resource
import threading
from typing import Any, override

import pytest

from custom_components.esphome_offload.engine.build.cache.removal import open_folder, remove


class StopAtSecond(threading.Event):
    """Set from the question after so many on."""

    def __init__(self, after: int = 1) -> None:
        super().__init__()
        self._left = after

    @override
    def is_set(self) -> bool:
        self._left -= 1
        return self._left < 0


@pytest.fixture
def few_descriptors() -> Iterator[None]:
    """Let only a few more files be open at a time."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(map(int, os.listdir("/proc/self/fd")))  # noqa: PTH208 - names only
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 10, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def nest(folder: Path, depth: int) -> None:
    """Make folders in folders, deeper than a path can say."""
    here = os.open(folder, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d" * 200, dir_fd=here)
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=here))
        inner = os.open("d" * 200, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    os.close(here)


@pytest.mark.usefixtures("few_descriptors")
def test_depth_takes_no_descriptors(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    nest(tree, 300)
    remove(tree)
    assert list(tmp_path.iterdir()) == []


def test_links_go_and_what_they_lead_to_stays(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").touch()
    tree = tmp_path / "tree"
    (tree / "inner").mkdir(parents=True)
    (tree / "link").symlink_to(kept)
    (tree / "inner" / "link").symlink_to(kept)
    remove(tree)
    assert list(tmp_path.iterdir()) == [kept]
    assert (kept / "file").exists()
    (tmp_path / "link").symlink_to(kept)
    remove(tmp_path / "link")
    assert (kept / "file").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root needs no rights")
def test_what_forbids_to_be_read_or_changed_goes(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "inner" / "more").mkdir(parents=True)
    (tree / "inner" / "more" / "file").touch()
    for folder in (tree / "inner" / "more", tree / "inner", tree):
        folder.chmod(0)
    remove(tree)
    assert list(tmp_path.iterdir()) == []


def test_what_forbids_to_be_read_is_opened_up_where_we_are_not_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = tmp_path / "tree"
    tree.mkdir(mode=0)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    os.close(open_folder(str(tree), None))
    assert tree.stat().st_mode & 0o700 == 0o700


@pytest.mark.parametrize("level", ["a file", "a file in a folder"])
def test_removing_stops_when_it_is_told_to(tmp_path: Path, level: str) -> None:
    folder = tmp_path / "tree" / "inner" if level == "a file in a folder" else tmp_path / "tree"
    folder.mkdir(parents=True)
    (folder / "file").touch()
    stop = StopAtSecond() if folder.name == "inner" else StopAtSecond(0)
    remove(tmp_path / "tree", stop)
    assert (folder / "file").exists()
    remove(tmp_path / "tree")
    assert not (tmp_path / "tree").exists()


def test_what_cannot_be_removed_keeps_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = tmp_path / "tree"
    (tree / "inner" / "stays").mkdir(parents=True)
    (tree / "inner" / "file").touch()
    rename = os.rename

    def refuse(source: str, *arguments: Any, **options: Any) -> None:
        if source == "stays":
            raise PermissionError
        rename(source, *arguments, **options)

    monkeypatch.setattr(os, "rename", refuse)
    remove(tree)
    assert [path.name for path in tree.rglob("*")] == ["inner", "stays"]


def test_what_is_not_there_is_no_error(tmp_path: Path) -> None:
    remove(tmp_path / "nothing")
