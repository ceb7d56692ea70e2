"""Bundles: what is in them, and what is said where there can be none."""

import asyncio
import os
from pathlib import Path
import tarfile
import threading
import time

import pytest

from custom_components.esphome_offload.engine.build import bundle as bundle_module, bundle_sources
from custom_components.esphome_offload.engine.build.bundle import Bundles
from custom_components.esphome_offload.engine.build.cache.layout import CacheLayout
from custom_components.esphome_offload.engine.build.process.processes import Processes
from custom_components.esphome_offload.engine.const import FailureReason
from custom_components.esphome_offload.engine.reason import Reason, ReasonKey

from .scripted_bundles import ESPHOME, Bench


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


async def test_the_same_content_has_the_same_digest_at_another_time(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await bench.make()
    bench.esphome.write_text(f"import time; time.time = lambda: {time.time() + 100}\n" + ESPHOME)
    (bench.config_dir / "lamp.yaml").touch()
    second = await bench.make()
    assert second.fresh
    assert second.sha256 == first.sha256


async def test_an_old_bundle_is_removed_when_there_is_a_new_one(bench: Bench) -> None:
    first = await bench.make()
    bench.configure(says=["another"])
    second = await bench.make()
    assert second.sha256 != first.sha256
    assert [path.name for path in second.path.parent.glob("*.tar.gz")] == [second.path.name]


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
