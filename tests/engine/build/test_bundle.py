"""Bundles: when one is made, when not, and what is said when it cannot be; ESPHome is scripted."""

import asyncio
from collections.abc import Sequence
import json
import os
from pathlib import Path
import sys
import tarfile
import threading
import time
from typing import override

import pytest

from custom_components.esphome_offload.engine.build import bundle as bundle_module, bundle_sources
from custom_components.esphome_offload.engine.build.bundle import Bundle, Bundles
from custom_components.esphome_offload.engine.build.bundle_sources import read_sources
from custom_components.esphome_offload.engine.build.cache.eviction import IN_USE, make_room
from custom_components.esphome_offload.engine.build.cache.layout import CacheLayout
from custom_components.esphome_offload.engine.build.model import BuildError
from custom_components.esphome_offload.engine.build.process.processes import Processes
from custom_components.esphome_offload.engine.build.toolchain.toolchains import (
    Lines,
    Toolchain,
    Toolchains,
)
from custom_components.esphome_offload.engine.const import FailureReason
from custom_components.esphome_offload.engine.reason import Reason, ReasonKey

from ..jobs.fakes import VirtualTime
from .conftest import uv_of
from .requests import build_request

ESPHOME = """
import io, json, os, pathlib, sys, tarfile
arguments = sys.argv[1:]
yaml = pathlib.Path(arguments[2])
output = pathlib.Path(arguments[3].removeprefix("--output="))
folder = yaml.parent
(folder.parent / "calls").open("a").write(os.environ["ESPHOME_DATA_DIR"] + "\\n")
told = json.loads(yaml.read_text())
for line in told.get("says", ()):
    print(line.format(data=os.environ["ESPHOME_DATA_DIR"]))
if touched := told.get("writes"):
    (folder / touched).write_text("written meanwhile")
if told.get("exit"):
    raise SystemExit(told["exit"])
with tarfile.open(fileobj=output.open("wb"), mode="w:gz") as archive:
    def add(name, content):
        member = tarfile.TarInfo(name)
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    names = [yaml.name, *told.get("uses", ())]
    manifest = {"files": names, "depends": told.get("depends", [])}
    add(told.get("manifest", "manifest.json"), json.dumps(manifest).encode())
    for name in names:
        add(name.replace("../", "around/"), (folder / name).read_bytes())
"""


class Ready(Toolchains):
    """Toolchains that are there."""

    def __init__(self, layout: CacheLayout, processes: Processes) -> None:
        super().__init__(layout, processes, uv_of(layout))
        self.asked: list[str] = []
        self.doubted: list[str] = []

    @override
    async def ensure(self, version: str, lines: Lines) -> Toolchain:
        self.asked.append(version)
        return Toolchain(version, Path(sys.executable), Path(sys.executable).parent)

    @override
    def invalidate(self, version: str) -> None:
        self.doubted.append(version)


class Bench:
    def __init__(self, folder: Path, layout: CacheLayout, processes: Processes) -> None:
        self.layout = layout
        self.config_dir = folder / "config"
        self.config_dir.mkdir()
        self.calls_file = folder / "calls"
        self.esphome = folder / "esphome.py"
        self.esphome.write_text(ESPHOME)
        self.toolchains = Ready(layout, processes)
        self.time = VirtualTime()
        self.bundles = Bundles(
            layout, processes, self.toolchains, entry=self._enter, time=self.time
        )
        self.output: list[str] = []
        self.configure()

    def _enter(self, toolchain: Toolchain, arguments: Sequence[str]) -> tuple[str, ...]:
        return (str(toolchain.python), "-I", "-S", str(self.esphome), *arguments)

    def configure(self, name: str = "lamp.yaml", **told: object) -> None:
        (self.config_dir / name).write_text(json.dumps(told))

    def write(self, name: str, content: str = "x") -> Path:
        path = self.config_dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return path

    @property
    def calls(self) -> int:
        return len(self.calls_file.read_text().splitlines()) if self.calls_file.exists() else 0

    async def make(self, name: str = "lamp.yaml", version: str = "2026.10.0") -> Bundle:
        request = build_request(self.config_dir, version, name)
        return await self.bundles.make(request, self.output.extend)

    async def fails(self) -> BuildError:
        with pytest.raises(BuildError) as failure:
            await self.make()
        return failure.value


@pytest.fixture
def bench(tmp_path: Path, layout: CacheLayout, processes: Processes) -> Bench:
    return Bench(tmp_path, layout, processes)


async def test_a_bundle_has_the_files_and_is_made_in_a_folder_of_its_own(bench: Bench) -> None:
    bench.write("fonts/a.ttf", "font")
    bench.configure(uses=["fonts/a.ttf"])
    bundle = await bench.make()
    with tarfile.open(bundle.path) as archive:
        assert archive.getnames() == ["manifest.json", "lamp.yaml", "fonts/a.ttf"]
    assert bundle.size == bundle.path.stat().st_size
    data_dir = Path(bench.calls_file.read_text().strip())
    assert data_dir.is_relative_to(bench.layout.bundle("lamp.yaml"))
    assert sorted(path.name for path in bench.config_dir.iterdir()) == ["fonts", "lamp.yaml"]
    assert bench.output == []


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


async def test_the_same_content_has_the_same_digest_at_another_time(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await bench.make()
    bench.esphome.write_text(f"import time; time.time = lambda: {time.time() + 100}\n" + ESPHOME)
    (bench.config_dir / "lamp.yaml").touch()
    second = await bench.make()
    assert second.fresh
    assert second.sha256 == first.sha256


async def test_a_file_that_is_written_during_a_run_is_bundled_again_the_next_time(
    bench: Bench,
) -> None:
    bench.write("base.yaml")
    bench.configure(uses=["base.yaml"], writes="base.yaml")
    await bench.make()
    assert (await bench.make()).fresh


async def test_an_old_bundle_is_removed_when_there_is_a_new_one(bench: Bench) -> None:
    first = await bench.make()
    bench.configure(says=["another"])
    second = await bench.make()
    assert second.sha256 != first.sha256
    assert [path.name for path in second.path.parent.glob("*.tar.gz")] == [second.path.name]


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


async def test_what_was_validated_for_a_bundle_is_that_of_the_last_one(bench: Bench) -> None:
    first = await bench.make()
    storage = bench.layout.bundle("lamp.yaml") / "data" / "storage"
    storage.mkdir(parents=True)
    for name in ("json", "validated.json"):
        (storage / f"lamp.yaml.{name}").write_text("first")
    validated = await bench.bundles.validated("lamp.yaml", first.sha256)
    assert set(validated) == {"json", "validated.json"}
    # Also when files have changed since: it belongs to what is built from this bundle.
    bench.configure(says=["another"])
    assert await bench.bundles.validated("lamp.yaml", first.sha256) == validated
    second = await bench.make()
    assert second.sha256 != first.sha256
    assert await bench.bundles.validated("lamp.yaml", first.sha256) == {}
    # This ESPHome keeps none.
    assert await bench.bundles.validated("lamp.yaml", second.sha256) == {}


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


async def test_simultaneous_requests_for_one_bundle_share_a_run(bench: Bench) -> None:
    bundles = await asyncio.gather(*(bench.make() for _ in range(3)))
    assert len({bundle.sha256 for bundle in bundles}) == 1
    assert bench.calls == 1


async def test_several_configurations_are_bundled_at_the_same_time(bench: Bench) -> None:
    bench.configure("fan.yaml", says=["fan"])
    lamp, fan = await asyncio.gather(bench.make(), bench.make("fan.yaml"))
    assert lamp.path.parent != fan.path.parent


async def test_an_invalid_configuration_is_said_in_esphomes_words(bench: Bench) -> None:
    bench.configure(
        says=["INFO Reading configuration", "Failed config", "", "wifi: [source lamp.yaml:4]"],
        exit=2,
    )
    failure = await bench.fails()
    assert (failure.failure_reason, failure.exit_code) == (FailureReason.CONFIG_INVALID, 2)
    assert failure.reason == Reason(ReasonKey.CONFIG_REFUSED_AT, {"file": "lamp.yaml", "row": "4"})
    assert "Failed config" in bench.output


async def test_files_that_had_to_be_left_out_are_named_once(bench: Bench) -> None:
    left_out = "\\033[33mWARNING Bundle: skipping file outside config directory: {}\\033[0m"
    paths = ["/share/a.h", "/share/b.yaml", "/share/a.h", "/share/c", "/share/d", "/share/e"]
    bench.configure(says=[left_out.format(path) for path in paths])
    failure = await bench.fails()
    assert failure.failure_reason is FailureReason.BUNDLE_INCOMPLETE
    names = [
        os.path.relpath(path, bench.config_dir)
        for path in ("/share/a.h", "/share/b.yaml", "/share/c")
    ]
    assert failure.reason == Reason(
        ReasonKey.BUNDLE_LEAVES_OUT_MORE, {"files": ", ".join(names), "count": "2"}
    )
    # Nothing is kept of it.
    assert (await bench.fails()).failure_reason is FailureReason.BUNDLE_INCOMPLETE


async def test_what_esphome_fetched_itself_need_not_go_along(bench: Bench) -> None:
    bench.configure(
        says=["WARNING Bundle: skipping file outside config directory: {data}/font/a.ttf"]
    )
    assert (await bench.make()).fresh


async def test_an_esphome_that_makes_no_bundles_builds_here_only(bench: Bench) -> None:
    bench.configure(
        says=["esphome: error: argument command: invalid choice: 'bundle' (choose from run)"],
        exit=2,
    )
    failure = await bench.fails()
    assert failure.failure_reason is FailureReason.BUNDLE_INCOMPLETE
    assert "ESPHome 2026.10.0 makes no bundles" in str(failure)


async def test_no_network_for_a_package_is_no_fault_of_the_configuration(bench: Bench) -> None:
    bench.configure(says=["ERROR fatal: Could not resolve host: github.com"], exit=2)
    assert (await bench.fails()).failure_reason is FailureReason.BUILDER_ENVIRONMENT


async def test_an_esphome_that_breaks_bundles_nothing(bench: Bench) -> None:
    bench.configure(says=["ERROR Something went wrong"], exit=1)
    failure = await bench.fails()
    assert failure.failure_reason is FailureReason.BUNDLE_INCOMPLETE
    assert failure.reason.key is ReasonKey.BUNDLE_FAILED
    assert "ERROR Something went wrong" in bench.output


async def test_a_bundle_without_its_list_is_refused(bench: Bench) -> None:
    bench.configure(manifest="other.json")
    assert (await bench.fails()).failure_reason is FailureReason.BUNDLE_INCOMPLETE


async def test_an_esphome_that_cannot_be_started_is_the_environment(bench: Bench) -> None:
    bench.bundles._entry = lambda _toolchain, _arguments: ("/nonexistent/python",)
    failure = await bench.fails()
    assert failure.failure_reason is FailureReason.BUILDER_ENVIRONMENT
    assert bench.toolchains.doubted == ["2026.10.0"]


async def test_a_cancelled_run_leaves_no_bundle(bench: Bench) -> None:
    bench.esphome.write_text("import time; print('x', flush=True); time.sleep(600)")
    making = asyncio.create_task(bench.make())
    await asyncio.sleep(0)
    making.cancel()
    with pytest.raises(asyncio.CancelledError):
        await making
    bench.esphome.write_text(ESPHOME)
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


async def test_a_folder_that_does_not_answer_is_not_waited_for(
    bench: Bench, processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = threading.Event()

    def hang(_: Path) -> bundle_sources.Sources:
        answers.wait()
        return bundle_sources.Sources()

    monkeypatch.setattr(bundle_module, "read_sources", hang)
    bench.bundles = Bundles(
        bench.layout, processes, bench.toolchains, entry=bench._enter, look_timeout=0.05
    )
    try:
        error = await bench.fails()
    finally:
        answers.set()
        for each in threading.enumerate():
            if each.name == "unreliable work":
                each.join()
    assert error.failure_reason is FailureReason.BUILDER_ENVIRONMENT
    assert error.reason.key is ReasonKey.BUNDLE_UNUSABLE
    assert bench.calls == 0


@pytest.mark.parametrize(
    ("around", "told"), [("..", ".."), (".", "."), ("elsewhere", "."), (None, ".")]
)
async def test_files_may_come_from_the_folder_around_but_from_no_other(
    bench: Bench, processes: Processes, around: str | None, told: str
) -> None:
    folder = None if around is None else bench.config_dir / around
    bench.esphome.write_text(f"{ESPHOME}(folder.parent / 'around').write_text(arguments[4])")
    bench.bundles = Bundles(
        bench.layout,
        processes,
        bench.toolchains,
        entry=bench._enter,
        around=None if folder is None else Path(os.path.normpath(folder)),
    )
    await bench.make()
    expected = os.path.normpath(bench.config_dir / told)
    assert (bench.config_dir.parent / "around").read_text() == f"--around={expected}"
