"""Disk budgets: what goes, and what never does."""

import asyncio
import os
from pathlib import Path
import threading
import time
from typing import Any, override

import pytest

from custom_components.esphome_offload.engine.build.cache.eviction import (
    IN_USE,
    CacheEntry,
    CacheFolder,
    disk_usage,
    make_room,
    occupants,
    select_for_eviction,
)
from custom_components.esphome_offload.engine.build.cache.layout import CacheLayout
from custom_components.esphome_offload.engine.build.process.processes import Processes
from custom_components.esphome_offload.engine.build.toolchain import toolchains as toolchains_module
from custom_components.esphome_offload.engine.build.toolchain.toolchains import Toolchains
from custom_components.esphome_offload.engine.threads import in_thread

from .conftest import uv_of

NOW = 1_000_000_000.0
LONG_AGO = NOW - 10 * IN_USE


def names(going: list[CacheEntry]) -> list[str]:
    return [occupant.path.name for occupant in going]


def test_nothing_goes_within_the_budget() -> None:
    assert select_for_eviction([CacheEntry(Path("a"), 10, LONG_AGO)], 10, NOW) == []


def test_the_least_recently_used_go_first_and_no_more_than_needed() -> None:
    there = [
        CacheEntry(Path("newest"), 10, LONG_AGO + 3),
        CacheEntry(Path("oldest"), 10, LONG_AGO + 1),
        CacheEntry(Path("middle"), 10, LONG_AGO + 2),
    ]
    assert names(select_for_eviction(there, 25, NOW)) == ["oldest"]
    assert names(select_for_eviction(there, 11, NOW)) == ["oldest", "middle"]


def test_what_may_be_in_use_stays_even_beyond_the_budget() -> None:
    there = [CacheEntry(Path("used"), 10, NOW - IN_USE + 1), CacheEntry(Path("old"), 10, LONG_AGO)]
    assert names(select_for_eviction(there, 0, NOW)) == ["old"]


def test_a_folder_without_its_mark_counts_as_never_used(tmp_path: Path) -> None:
    (tmp_path / "half-made").mkdir()
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "mark").touch()
    used = {
        occupant.path.name: occupant.used
        for occupant in occupants(tmp_path, threading.Event(), "mark")
    }
    assert used["half-made"] == 0.0
    assert used["made"] == pytest.approx(time.time(), abs=60)


def test_links_are_not_followed_when_measuring(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"x" * 1_000_000)
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "link").symlink_to(tmp_path / "big")
    assert disk_usage(tmp_path / "tree", threading.Event()) < 100_000


class Plain(CacheFolder):
    """Folders that nobody uses."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    @override
    def folder(self) -> Path:
        return self._folder

    @override
    async def discard(self, key: str) -> None:
        (self._folder / key / "big").unlink()
        (self._folder / key).rmdir()

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


async def test_work_that_nobody_waits_for_any_more_has_ended_when_that_is_known() -> None:
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


def toolchain(layout: CacheLayout, version: str, *, unused_for: float) -> Path:
    """Pretend that there is one: making room looks at nothing but the stamp."""
    stamp = layout.toolchain(version) / ".complete"
    stamp.parent.mkdir()
    stamp.write_text(version)
    used = time.time() - unused_for
    os.utime(stamp, (used, used))
    return stamp.parent


async def test_only_toolchains_that_nobody_uses_make_room(
    layout: CacheLayout, processes: Processes
) -> None:
    old = toolchain(layout, "2026.9.0", unused_for=2 * IN_USE)
    used = toolchain(layout, "2026.10.0", unused_for=60)
    toolchains = Toolchains(layout, processes, uv_of(layout))
    await toolchains.load()
    await toolchains.make_room(budget=0)
    assert not old.exists()
    assert used.exists()
    assert toolchains.installed() == ("2026.10.0",)


async def test_a_toolchain_taken_into_use_while_room_is_made_stays(
    layout: CacheLayout, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = toolchain(layout, "2026.9.0", unused_for=2 * IN_USE)
    toolchains = Toolchains(layout, processes, uv_of(layout))
    await toolchains.load()

    def taken_meanwhile(*args: Any) -> list[CacheEntry]:
        measured = occupants(*args)
        os.utime(folder / ".complete")
        return measured

    monkeypatch.setattr(toolchains_module, "occupants", taken_meanwhile)
    await toolchains.make_room(budget=0)
    assert folder.exists()
    assert toolchains.installed() == ("2026.9.0",)
