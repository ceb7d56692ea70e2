"""When a configuration is bundled again, and when the bundle is kept."""

import asyncio
import os
from pathlib import Path

import pytest

from custom_components.esphome_offload.engine.build import bundle_sources
from custom_components.esphome_offload.engine.build.bundle import Bundles
from custom_components.esphome_offload.engine.build.bundle_sources import read_sources
from custom_components.esphome_offload.engine.build.cache.eviction import IN_USE, make_room
from custom_components.esphome_offload.engine.build.cache.layout import CacheLayout
from custom_components.esphome_offload.engine.build.process.processes import Processes

from .scripted_bundles import Bench


@pytest.fixture
def bench(tmp_path: Path, layout: CacheLayout, processes: Processes) -> Bench:
    return Bench(tmp_path, layout, processes)


async def test_an_unchanged_configuration_is_not_bundled_again(bench: Bench) -> None:
    bench.write("secrets.yaml")
    bench.configure(uses=["secrets.yaml"])
    first = await bench.make()
    second = await bench.make()
    assert (first.fresh, second.fresh) == (True, False)
    assert (second.path, second.sha256, second.size) == (first.path, first.sha256, first.size)
    assert bench.calls == 1
    assert bench.toolchains.asked == ["2026.10.0"]


async def test_an_unchanged_configuration_is_not_bundled_again_after_a_restart(
    bench: Bench, processes: Processes
) -> None:
    await bench.make()
    bench.bundles = Bundles(bench.layout, processes, bench.toolchains, entry=bench._enter)
    assert not (await bench.make()).fresh


@pytest.mark.parametrize(
    "change",
    ["main", "used", "secrets", "touched", "added", "removed", "linked", "below", "version"],
)
async def test_any_change_that_can_matter_makes_a_new_bundle(bench: Bench, change: str) -> None:
    used = bench.write("common/base.yaml")
    other = bench.write("other.yaml")
    bench.write("secrets.yaml", "a: 1")
    (bench.config_dir / "link.yaml").symlink_to("other.yaml")
    bench.configure(uses=["common/base.yaml"])
    await bench.make()
    version = "2026.10.0"
    match change:
        case "main":
            bench.configure(uses=["common/base.yaml"], says=["hello"])
        case "used":
            used.write_text("y")
        case "secrets":  # a package that ESPHome fetched may use one
            bench.write("secrets.yaml", "a: 2")
        case "touched":
            used.touch()
        case "added":
            bench.write("new.yaml")
        case "removed":
            other.unlink()
        case "linked":
            (bench.config_dir / "link.yaml").unlink()
            (bench.config_dir / "link.yaml").symlink_to("lamp.yaml")
        case "below":
            bench.write("components/foo/__init__.py")
        case "version":
            version = "2026.11.0"
    assert (await bench.make(version=version)).fresh
    assert bench.calls == 2


async def test_a_change_of_a_file_that_no_bundle_has_makes_no_new_bundle(bench: Bench) -> None:
    other = bench.write("other.yaml")
    await bench.make()
    other.write_text("changed")
    bench.write(".esphome/storage/x.json")
    bench.write("components/__pycache__/x.pyc")
    # The new folder is a new name; what is in it is not.
    await bench.make()
    bench.write("components/__pycache__/y.pyc")
    assert not (await bench.make()).fresh


async def test_a_file_that_is_written_during_a_run_is_bundled_again_the_next_time(
    bench: Bench,
) -> None:
    bench.write("base.yaml")
    bench.configure(uses=["base.yaml"], writes="base.yaml")
    await bench.make()
    assert (await bench.make()).fresh


async def test_an_invalidated_bundle_is_made_again(bench: Bench) -> None:
    await bench.make()
    await bench.bundles.invalidate("lamp.yaml")
    assert (await bench.make()).fresh


async def test_a_bundle_that_is_unused_for_hours_is_evicted_and_made_again(
    bench: Bench,
) -> None:
    bundle = await bench.make()
    await make_room([bench.bundles], budget=0)
    assert bundle.path.exists(), "it may be on its way to a builder"
    await bench.time.go(IN_USE)
    await make_room([bench.bundles], budget=0)
    assert not bundle.path.parent.exists()
    assert (await bench.make()).fresh


async def test_a_bundle_that_is_used_again_is_not_evicted(bench: Bench) -> None:
    bundle = await bench.make()
    await bench.time.go(IN_USE)
    assert not (await bench.make()).fresh
    await make_room([bench.bundles], budget=0)
    assert bundle.path.exists()


async def test_a_bundle_that_is_used_during_an_eviction_stays(bench: Bench) -> None:
    bundle = await bench.make()
    key = bundle.path.parent.name
    await bench.time.go(IN_USE)
    again, _ = await asyncio.gather(bench.make(), bench.bundles.discard(key))
    await bench.bundles.discard(key)
    assert again.path.exists()


async def test_a_damaged_bundle_is_made_again(bench: Bench) -> None:
    bundle = await bench.make()
    bundle.path.write_bytes(b"")
    assert (await bench.make()).fresh
    (bench.layout.bundle("lamp.yaml") / "bundle.json").write_text('{"sha256": 1')
    assert (await bench.make()).fresh


def test_a_folder_with_too_many_names_has_no_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle_sources, "NAMES_LIMIT", 2)
    for name in "ab":
        (tmp_path / name).touch()
    assert read_sources(tmp_path).names is not None
    (tmp_path / "c").touch()
    assert read_sources(tmp_path).names is None
    assert read_sources(tmp_path / "missing").names is None


async def test_without_a_state_of_the_folder_each_bundle_is_made_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle_sources, "NAMES_LIMIT", 0)
    await bench.make()
    assert (await bench.make()).fresh


@pytest.mark.parametrize("change", ["file", "secrets", "new", "below", "linked"])
async def test_what_is_not_in_the_folder_itself_is_noticed_when_it_changes(
    bench: Bench, change: str
) -> None:
    around = bench.config_dir.parent
    bench.write("../common/sub/base.yaml")
    bench.write("../secrets.yaml")
    bench.write("../real.h")
    (bench.config_dir / "linked.h").symlink_to("../real.h")
    bench.configure(uses=["../common/sub/base.yaml", "linked.h"], depends=["../secrets.yaml"])
    # What changed after a bundle was begun is bundled again.
    await asyncio.sleep(0.02)
    await bench.make()
    assert not (await bench.make()).fresh
    match change:
        case "file":
            bench.write("../common/sub/base.yaml", "new")
        case "secrets":
            bench.write("../secrets.yaml", "new")
        case "new":
            bench.write("../common/sub/new.yaml")
        case "below":
            (around / "common" / "sub" / "folder").mkdir()
        case _:
            bench.write("../real.h", "new")
    assert (await bench.make()).fresh


async def test_what_is_written_outside_of_the_folder_meanwhile_is_bundled_again(
    bench: Bench,
) -> None:
    bench.write("../base.yaml")
    bench.configure(uses=["../base.yaml"], writes="../base.yaml")
    await bench.make()
    assert (await bench.make()).fresh


async def test_a_file_outside_of_the_folder_that_is_gone_again_is_bundled_again(
    bench: Bench,
) -> None:
    bench.configure(depends=["../gone.yaml"])
    await bench.make()
    assert (await bench.make()).fresh


def test_too_many_folders_outside_have_no_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "common" / "sub").mkdir(parents=True)
    (tmp_path / "common" / "a.yaml").touch()
    (tmp_path / "config").mkdir()
    names = ["../common/a.yaml"]
    found = bundle_sources.outer_signatures(tmp_path / "config", names)
    assert found is not None
    assert [os.path.relpath(path, tmp_path) for path in found] == [
        "common/a.yaml",
        "common",
        "common/sub",
    ]
    monkeypatch.setattr(bundle_sources, "NAMES_LIMIT", 2)
    assert bundle_sources.outer_signatures(tmp_path / "config", names) is None
