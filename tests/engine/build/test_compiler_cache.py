"""The compiler cache: it is there, it is used, it is one's own, and it says what it did."""

import os
from pathlib import Path
import shutil

import pytest

from custom_components.esphome_offload.engine.build import compiler_cache as module
from custom_components.esphome_offload.engine.build.cache.layout import CacheLayout
from custom_components.esphome_offload.engine.build.compiler_cache import (
    CacheUse,
    CompilerCache,
    CompilerCaches,
)
from custom_components.esphome_offload.engine.build.process.processes import Processes
from custom_components.esphome_offload.engine.build.services import BuildServices
from custom_components.esphome_offload.engine.build.toolchain import (
    ccache as ccache_module,
    toolchains as making,
)
from custom_components.esphome_offload.engine.build.toolchain.toolchains import (
    Toolchain,
    Toolchains,
)
from custom_components.esphome_offload.engine.const import GIB, MIB, FailureReason

from .conftest import Sink, uv_of
from .package_index import NEWEST, write_index
from .test_local import LAMP, Bench, bench

__all__ = ["bench"]

HIT, HIT_TOO, MISS = "direct_cache_hit", "preprocessed_cache_hit", "cache_miss"


@pytest.fixture
def tree(layout: CacheLayout) -> Path:
    tree = layout.tree(LAMP)
    tree.mkdir()
    return tree


@pytest.fixture
def toolchain(layout: CacheLayout) -> Toolchain:
    """Return one that has ccache."""
    programs = layout.toolchain(NEWEST) / "bin"
    programs.mkdir(parents=True)
    (programs / "ccache").touch()
    return Toolchain(NEWEST, programs / "python", programs)


def free(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    monkeypatch.setattr(module, "free_disk", lambda _folder: size)


async def test_a_toolchain_has_ccache(toolchains: Toolchains, sink: Sink) -> None:
    assert (await toolchains.ensure(NEWEST, sink.lines)).ccache.is_file()
    assert toolchains.have_ccache()


async def test_one_that_was_made_without_it_gets_it_after_a_restart(
    layout: CacheLayout, processes: Processes, toolchains: Toolchains, sink: Sink
) -> None:
    (await toolchains.ensure(NEWEST, sink.lines)).ccache.unlink()
    sink.output.clear()
    later = Toolchains(layout, processes, uv_of(layout))
    assert (await later.ensure(NEWEST, sink.lines)).ccache.is_file()
    assert sink.output == []


@pytest.mark.parametrize("ccache", [None, "exit 127"], ids=["cannot be had", "cannot run"])
async def test_without_one_that_runs_builds_do_without(
    layout: CacheLayout,
    processes: Processes,
    index: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    ccache: str | None,
) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", write_index(tmp_path / "other", ccache))
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    toolchains, sink = Toolchains(layout, processes, uv_of(layout)), Sink()
    toolchain = await toolchains.ensure(NEWEST, sink.lines)
    assert not toolchain.ccache.exists()
    assert not toolchains.have_ccache()
    assert sink.output[-1] == f"== ESPHome {NEWEST} is ready on this machine"


async def test_a_check_that_cannot_be_started_is_as_good_as_none(
    toolchains: Toolchains, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ccache_module, "_TIMEOUT", 0.0)
    assert not (await toolchains.ensure(NEWEST, sink.lines)).ccache.exists()


async def test_where_nothing_can_be_compiled_it_is_not_installed(
    toolchains: Toolchains, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(making, "is_musl", lambda: True)
    assert not (await toolchains.ensure(NEWEST, sink.lines)).ccache.exists()


async def test_a_build_says_last_what_came_from_the_cache_and_the_status_adds_it_up(
    bench: Bench, sink: Sink
) -> None:
    told = {"content": "image", "says": ["[1/1] LINK"], "cached": [HIT, HIT, MISS, HIT_TOO]}
    await bench.builder.build(bench.request(told), sink)
    assert sink.output[-2:] == ["[1/1] LINK", "== Compiler cache: 3 of 4 from the cache"]
    await bench.builder.build(bench.request(told), sink)
    assert sink.output[-1] == "== Compiler cache: 3 of 4 from the cache"
    status = bench.builder.status()
    assert (status.ccache, status.ccache_hits, status.ccache_files) == (True, 6, 8)


async def test_a_build_that_asked_the_cache_for_nothing_says_nothing_of_it(
    bench: Bench, sink: Sink
) -> None:
    await bench.builder.build(bench.request({"content": "image"}), sink)
    assert not any("Compiler cache" in line for line in sink.output)


async def test_clean_all_removes_it(bench: Bench, sink: Sink) -> None:
    await bench.builder.build(bench.request({"content": "image"}), sink)
    (bench.layout.compiler_cache / "0").mkdir(parents=True)
    await bench.builder.clean(LAMP)
    assert bench.layout.compiler_cache.exists()
    await bench.builder.clean(LAMP, tools=True)
    assert not bench.layout.compiler_cache.exists()


async def test_a_cache_that_cannot_be_used_is_removed_and_another_builder_is_asked(
    bench: Bench, sink: Sink
) -> None:
    bench.layout.compiler_cache.mkdir(parents=True)
    says = ["INFO Generating C++ source...", "[1/9] CXX a.o", "ccache: error: Not a directory"]
    error = await bench.refused({"says": says, "exit": 1}, sink)
    assert error.failure_reason is FailureReason.BUILDER_ENVIRONMENT
    assert error.reason.line == "The compiler cache cannot be used"
    assert not bench.layout.compiler_cache.exists()


async def test_own_builds_and_each_guest_have_a_cache_of_their_own(tmp_path: Path) -> None:
    services = BuildServices(CacheLayout(tmp_path / "cache"), ())
    layouts = [services.layout, *(services.layout.guest(pin * 64) for pin in "ab")]
    caches = [layout.compiler_cache for layout in layouts]
    assert len(set(caches)) == 3
    for folder, layout in zip(caches[1:], layouts[1:], strict=True):
        assert folder.is_relative_to(layout.root)
        assert not folder.is_relative_to(caches[0])
    await services.aclose()


def test_esphome_does_not_try_out_what_was_tried_out(
    layout: CacheLayout, toolchain: Toolchain, tree: Path
) -> None:
    cache = CompilerCache(CompilerCaches(), layout, guest=False)
    assert cache.prepare(toolchain, tree)["ESPHOME_CCACHE_ENABLE"] == "1"
    toolchain.ccache.unlink()
    assert "ESPHOME_CCACHE_ENABLE" not in cache.prepare(toolchain, tree), "that of the system"


def test_a_dollar_in_a_path_is_no_variable(tmp_path: Path, toolchain: Toolchain) -> None:
    layout = CacheLayout(tmp_path / "$HOME")
    layout.tree(LAMP).mkdir(parents=True)
    cache = CompilerCache(CompilerCaches(), layout, guest=False)
    variables = cache.prepare(toolchain, layout.tree(LAMP))
    assert variables["CCACHE_DIR"] == f"{tmp_path}/$$HOME/tools/ccache"


@pytest.mark.parametrize(
    ("free_gib", "guest", "mib"),
    [(100, False, 5120), (100, True, 2560), (8, False, 2048), (8, True, 2048), (0, False, 1)],
)
def test_it_gets_a_quarter_of_the_free_disk_at_most(
    layout: CacheLayout,
    toolchain: Toolchain,
    tree: Path,
    monkeypatch: pytest.MonkeyPatch,
    free_gib: int,
    guest: bool,
    mib: int,
) -> None:
    """A guest also a quarter of what all guests have together."""
    free(monkeypatch, free_gib * GIB)
    caches = CompilerCaches()
    caches.guest_disk = 10 * GIB
    variables = CompilerCache(caches, layout, guest=guest).prepare(toolchain, tree)
    assert variables["CCACHE_MAXSIZE"] == f"{mib}Mi"


def test_the_limit_can_be_changed(layout: CacheLayout, toolchain: Toolchain, tree: Path) -> None:
    caches = CompilerCaches()
    cache = CompilerCache(caches, layout, guest=False)
    caches.limit = 10 * MIB
    assert cache.prepare(toolchain, tree)["CCACHE_MAXSIZE"] == "10Mi"


@pytest.mark.parametrize("what", ["link", "pipe", "folder", "garbage"])
def test_what_a_build_puts_in_the_place_of_the_count_is_never_followed(
    layout: CacheLayout, toolchain: Toolchain, tree: Path, tmp_path: Path, what: str
) -> None:
    caches = CompilerCaches()
    cache = CompilerCache(caches, layout, guest=True)
    (tmp_path / "other.log").write_text(f"{HIT}\n")
    log = Path(cache.prepare(toolchain, tree)["CCACHE_STATSLOG"])
    match what:
        case "link":
            log.symlink_to(tmp_path / "other.log")
        case "pipe":
            os.mkfifo(log)
        case "folder":
            log.mkdir()
        case "garbage":
            log.write_bytes(b"\xff\x00" * 1000)
    before = len([*Path("/proc/self/fd").iterdir()])
    assert cache.count(tree) == CacheUse()
    assert len([*Path("/proc/self/fd").iterdir()]) <= before
    cache.prepare(toolchain, tree)
    assert (tmp_path / "other.log").exists()
    assert caches.use == cache.use == CacheUse()
