"""Disk budgets: what is removed, and what never is."""

import asyncio
from collections.abc import Collection
import errno
import os
from pathlib import Path
import threading
import time
import tracemalloc
from typing import Any, override
from unittest.mock import patch

import pytest

from custom_components.esphome_offload.engine.build.cache import eviction
from custom_components.esphome_offload.engine.build.cache.eviction import (
    IN_USE,
    UNMEASURABLE,
    CacheEntry,
    CacheFolder,
    RecentUse,
    cache_entries,
    disk_usage,
    evict,
    make_room,
)
from custom_components.esphome_offload.engine.build.cache.layout import CacheLayout
from custom_components.esphome_offload.engine.build.cache.removal import remove
from custom_components.esphome_offload.engine.build.process.processes import Processes
from custom_components.esphome_offload.engine.build.toolchain import toolchains as toolchains_module
from custom_components.esphome_offload.engine.build.toolchain.toolchains import Toolchains
from custom_components.esphome_offload.engine.threads import in_thread

from ..jobs.fakes import VirtualTime
from .conftest import uv_of

NOW = 1_000_000_000.0
LONG_AGO = NOW - 10 * IN_USE


class Cache:
    """Entries in memory; those in ``in_use`` cannot be discarded."""

    def __init__(self, *entries: CacheEntry, in_use: Collection[str] = ()) -> None:
        self.entries = entries
        self.in_use = in_use
        self.discarded: list[str] = []

    async def evict(self, budget: int) -> int:
        return await evict(self.entries, budget, self._discard)

    async def _discard(self, entry: CacheEntry) -> bool:
        if entry.path.name in self.in_use:
            return False
        self.discarded.append(entry.path.name)
        return True


def entry(name: str, size: int, used: float) -> CacheEntry:
    return CacheEntry(Path(name), size, used)


async def test_nothing_is_removed_within_the_budget() -> None:
    cache = Cache(entry("a", 10, LONG_AGO))
    assert await cache.evict(10) == 10
    assert cache.discarded == []


async def test_the_least_recently_used_are_removed_first_and_no_more_than_needed() -> None:
    cache = Cache(
        entry("newest", 10, LONG_AGO + 3),
        entry("oldest", 10, LONG_AGO + 1),
        entry("middle", 10, LONG_AGO + 2),
    )
    assert await cache.evict(25) == 20
    assert cache.discarded == ["oldest"]
    cache.discarded.clear()
    assert await cache.evict(11) == 10
    assert cache.discarded == ["oldest", "middle"]


@pytest.mark.parametrize("hours", [0, 20, -6])
async def test_what_was_used_lately_is_in_use_whatever_the_clock_says(hours: int) -> None:
    time = VirtualTime()
    recent = RecentUse(time)
    assert "tree" not in recent
    recent.note("tree")
    time.jump(hours)
    await time.go(IN_USE - 1)
    assert "tree" in recent
    await time.go(1)
    assert "tree" not in recent


async def test_the_next_one_is_removed_in_place_of_one_that_is_in_use() -> None:
    cache = Cache(entry("busy", 10, LONG_AGO), entry("old", 10, LONG_AGO + 1), in_use={"busy"})
    assert await cache.evict(10) == 10
    assert cache.discarded == ["old"]


async def test_what_is_too_large_by_itself_costs_no_other_its_place() -> None:
    small = entry("small", 10, LONG_AGO)
    huge = entry("huge", UNMEASURABLE, LONG_AGO + 1)
    cache = Cache(small, huge)
    assert await cache.evict(10) == 10
    assert cache.discarded == ["huge"]
    cache = Cache(small, huge, in_use={"huge"})
    await cache.evict(10)
    assert cache.discarded == []


def test_a_folder_without_its_stamp_counts_as_never_used(tmp_path: Path) -> None:
    (tmp_path / "half-made").mkdir()
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "stamp").touch()
    entries = cache_entries(tmp_path, threading.Event(), "stamp")
    used = {each.path.name: each.used for each in entries}
    assert used["half-made"] == 0.0
    assert used["made"] == pytest.approx(time.time(), abs=60)


def test_links_are_not_followed_when_measuring(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"x" * 1_000_000)
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "link").symlink_to(tmp_path / "big")
    assert disk_usage(tmp_path / "tree", threading.Event()) < 100_000


def test_folders_themselves_are_counted(tmp_path: Path) -> None:
    """A folder of many names takes more blocks than its files, if they are empty."""
    inner = tmp_path / "tree" / "inner"
    inner.mkdir(parents=True)
    for number in range(2000):
        (inner / f"{number:0200}").touch()
    blocks = sum(folder.stat().st_blocks for folder in (inner, inner.parent))
    assert disk_usage(tmp_path / "tree", threading.Event()) == blocks * 512


def test_a_folder_that_cannot_be_listed_is_not_left_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_folder: int) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    before = len([*Path("/proc/self/fd").iterdir()])
    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", refuse)
        assert disk_usage(tmp_path, threading.Event()) == 0
    assert len([*Path("/proc/self/fd").iterdir()]) <= before


@pytest.mark.parametrize("act", ["measure", "remove"])
def test_many_names_take_no_memory(tmp_path: Path, act: str) -> None:
    tree = tmp_path / "tree"
    for folder in (tree, tree / "folders"):
        folder.mkdir()
    here = os.open(tree, os.O_RDONLY)
    for number in range(8_000):
        os.close(os.open(f"{number:032}", os.O_CREAT | os.O_WRONLY, dir_fd=here))
        if number < 2_000:
            os.mkdir(f"folders/{number:032}", dir_fd=here)
    os.close(here)
    tracemalloc.start()
    try:
        if act == "measure":
            assert disk_usage(tree, threading.Event()) > 0
        else:
            remove(tree)
            assert not tree.exists()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 200_000


def test_what_is_too_deep_or_too_large_to_be_measured_is_unmeasurable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / "deep" / Path(*"d" * 150)
    deep.mkdir(parents=True)
    assert disk_usage(tmp_path / "deep", threading.Event()) == UNMEASURABLE
    monkeypatch.setattr(eviction, "_MOST_NAMES", 10)
    (tmp_path / "wide").mkdir()
    for number in range(11):
        (tmp_path / "wide" / str(number)).touch()
    assert disk_usage(tmp_path / "wide", threading.Event()) == UNMEASURABLE


def test_what_is_not_there_takes_nothing(tmp_path: Path) -> None:
    assert disk_usage(tmp_path / "nothing", threading.Event()) == 0
    assert cache_entries(tmp_path / "nothing", threading.Event()) == []


class Plain(CacheFolder):
    """Folders that are not in use."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    @override
    def folder(self) -> Path:
        return self._folder

    @override
    async def discard(self, key: str) -> bool:
        (self._folder / key / "big").unlink()
        (self._folder / key).rmdir()
        return True

    def put(self, name: str, unused_for: float) -> None:
        folder = self._folder / name
        folder.mkdir(parents=True)
        (folder / "big").write_bytes(os.urandom(100_000))
        used = time.time() - unused_for
        os.utime(folder, (used, used))

    @property
    def names(self) -> set[str]:
        return {path.name for path in self._folder.iterdir()}


async def test_several_kinds_of_folders_share_one_budget(tmp_path: Path) -> None:
    trees, bundles = Plain(tmp_path / "trees"), Plain(tmp_path / "bundles")
    trees.put("a", 4 * IN_USE)
    bundles.put("a", 5 * IN_USE)
    trees.put("b", 3 * IN_USE)
    bundles.put("b", 2 * IN_USE)
    await make_room([trees, bundles, Plain(tmp_path / "missing")], 250_000)
    assert (trees.names, bundles.names) == ({"b"}, {"b"})


async def test_a_cancelled_thread_has_ended_when_the_cancellation_is_raised() -> None:
    begun, ended = threading.Event(), threading.Event()

    def work(stop: threading.Event) -> None:
        begun.set()
        assert stop.wait(10)
        ended.set()
        raise OSError("dropped")

    task = asyncio.create_task(in_thread(work))
    await asyncio.to_thread(begun.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()


def test_measuring_stops_when_it_is_told_to(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "big").write_bytes(b"x" * 100_000)
    stop = threading.Event()
    assert disk_usage(tmp_path, stop) >= 100_000
    stop.set()
    assert disk_usage(tmp_path, stop) == 0


@pytest.fixture
def layout(tmp_path: Path) -> CacheLayout:
    layout = CacheLayout(tmp_path)
    layout.make()
    return layout


def toolchain(layout: CacheLayout, version: str) -> Path:
    """Make the folder of one: eviction looks at nothing but the stamp."""
    stamp = layout.toolchain(version) / ".complete"
    (stamp.parent / "bin").mkdir(parents=True)
    (stamp.parent / "bin" / "python").touch()
    stamp.write_text(version)
    return stamp.parent


async def test_toolchains_are_measured_when_there_are_others(
    layout: CacheLayout, processes: Processes
) -> None:
    """They have thousands of files, and a build needs none of that."""
    toolchain(layout, "2026.10.0")
    toolchains = Toolchains(layout, processes, uv_of(layout))
    await toolchains.load()
    with patch.object(toolchains_module, "cache_entries", side_effect=cache_entries) as measured:
        await toolchains.make_room()
        await toolchains.make_room()
        assert measured.call_count == 1
        toolchain(layout, "2026.9.0")
        await toolchains.make_room()
        assert measured.call_count == 2


async def test_only_toolchains_that_are_not_in_use_are_removed(
    layout: CacheLayout, processes: Processes
) -> None:
    time = VirtualTime()
    old, used = toolchain(layout, "2026.9.0"), toolchain(layout, "2026.10.0")
    toolchains = Toolchains(layout, processes, uv_of(layout), time)
    await toolchains.load()
    toolchains._healthy.add("2026.10.0")
    await toolchains.ensure("2026.10.0", lambda _: None)
    time.jump(20)
    await toolchains.make_room(budget=0)
    assert not old.exists()
    assert used.exists()
    assert toolchains.installed() == ("2026.10.0",)
    await time.go(IN_USE)
    await toolchains.make_room(budget=0)
    assert not used.exists()


async def test_a_toolchain_taken_into_use_while_others_are_measured_stays(
    layout: CacheLayout, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = toolchain(layout, "2026.9.0")
    toolchains = Toolchains(layout, processes, uv_of(layout))
    await toolchains.load()

    def taken_meanwhile(*args: Any) -> list[CacheEntry]:
        measured = cache_entries(*args)
        assert toolchains._complete(toolchains._toolchain("2026.9.0"))
        return measured

    monkeypatch.setattr(toolchains_module, "cache_entries", taken_meanwhile)
    await toolchains.make_room(budget=0)
    assert folder.exists()
    assert toolchains.installed() == ("2026.9.0",)
