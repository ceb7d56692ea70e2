"""What a build does about tools that are damaged, and what cleaning does about all."""

import asyncio
from dataclasses import replace
from pathlib import Path
import threading
from typing import override

import pytest

from custom_components.esphome_offload.engine.build import local
from custom_components.esphome_offload.engine.build.model import BuildError
from custom_components.esphome_offload.engine.build.process.containment import (
    Contained,
    Containment,
    Rules,
)
from custom_components.esphome_offload.engine.const import FailureReason
from custom_components.esphome_offload.engine.reason import Reason, ReasonKey

from .conftest import Sink
from .marks import needs_landlock
from .test_local import LAMP, Bench, bench

__all__ = ["bench"]

NO_MANIFEST = "MissingPackageManifestError: Could not find one of 'package.json' manifest files"


class Hold:
    """Keeps what a thread calls from going on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str, of: object = local) -> None:
        self.entered, self.release = threading.Event(), threading.Event()
        self._real = getattr(of, name)
        monkeypatch.setattr(of, name, self)

    def __call__(self, *args: object) -> object:
        self.entered.set()
        assert self.release.wait(30)
        return self._real(*args)


class Wide(Containment):
    """Lets a build do everything: what matters is that something is cleaned up after it."""

    @override
    def __call__(self, _call: Contained) -> Rules:
        return Rules(write=(Path("/"),), run=(Path("/"),))


async def waits_for(hold: Hold, bench: Bench) -> None:
    """Build, and see that this begins no earlier than something goes on."""
    await asyncio.to_thread(hold.entered.wait, 30)
    sink = Sink()
    build = asyncio.create_task(bench.builder.build(bench.request({"content": "image"}), sink))
    for _ in range(10):
        await asyncio.sleep(0)
    assert sink.stages == []
    hold.release.set()
    assert (await build).ota.read_text() == "image"


def damaged(bench: Bench) -> None:
    (bench.layout.tools / "platformio" / "packages" / "tool-x").mkdir(parents=True, exist_ok=True)


def packages(bench: Bench) -> list[str]:
    return sorted(path.name for path in (bench.layout.tools / "platformio" / "packages").iterdir())


async def test_a_damaged_package_that_was_the_reason_is_removed(bench: Bench, sink: Sink) -> None:
    damaged(bench)
    says = ["INFO Generating C++ source...", NO_MANIFEST]
    error = await bench.refused({"says": says, "exit": 1}, sink)
    assert error.reason.key is ReasonKey.TOOL_MISSING
    assert packages(bench) == []
    assert (
        "== Damaged, and removed when no build uses it: platformio/packages/tool-x" in sink.output
    )


async def test_one_that_was_not_the_reason_stays(bench: Bench, sink: Sink) -> None:
    damaged(bench)
    says = ["INFO Generating C++ source...", NO_MANIFEST, "INFO Next", "a.cpp:1:1: error: no"]
    error = await bench.refused({"says": says, "exit": 1}, sink)
    assert error.failure_reason is FailureReason.COMPILE_FAILED
    assert packages(bench) == ["tool-x"]


async def test_while_another_build_uses_the_tools_they_stay(bench: Bench, sink: Sink) -> None:
    damaged(bench)
    other = asyncio.create_task(bench.builder.build(bench.request({"stays": True}), Sink()))
    async with asyncio.timeout(60):
        while not (bench.tree / "seen.json").exists():  # noqa: ASYNC110 no event crosses
            await asyncio.sleep(0.01)
    (bench.config_dir / "fan.yaml").write_text((bench.config_dir / LAMP).read_text())
    with pytest.raises(BuildError) as refused:
        await bench.builder.clean(LAMP + "x", tools=True)
    assert refused.value.reason == Reason(ReasonKey.TOOLS_IN_USE, {"label": bench.builder.label})
    assert packages(bench) == ["tool-x"]
    other.cancel()
    with pytest.raises(asyncio.CancelledError):
        await other
    await bench.builder.clean(LAMP, tools=True)
    assert list(bench.layout.tools.iterdir()) == []


async def test_no_build_begins_while_tools_are_taken_from_their_places(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged(bench)
    hold = Hold(monkeypatch, "trash_all")
    cleaning = asyncio.create_task(bench.builder.clean("fan.yaml", tools=True))
    await waits_for(hold, bench)
    await cleaning


async def test_no_build_begins_while_a_damaged_package_is_taken_from_its_place(
    bench: Bench, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged(bench)
    hold = Hold(monkeypatch, "trash_package")
    told = {"says": ["INFO Generating C++ source...", NO_MANIFEST], "exit": 1}
    request = replace(bench.request(told), configuration="fan.yaml")
    (bench.config_dir / "fan.yaml").write_bytes((bench.config_dir / LAMP).read_bytes())
    failing = asyncio.create_task(bench.builder.build(request, sink))
    await waits_for(hold, bench)
    with pytest.raises(BuildError):
        await failing
    assert packages(bench) == []


@needs_landlock
async def test_no_build_begins_while_what_others_left_elsewhere_is_removed(
    bench: Bench, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    containment = Wide()
    hold = Hold(monkeypatch, "clean_up", containment)
    bench.builder._containment = containment
    first = replace(bench.request({"content": "image"}), configuration="fan.yaml")
    (bench.config_dir / "fan.yaml").write_bytes((bench.config_dir / LAMP).read_bytes())
    building = asyncio.create_task(bench.builder.build(first, sink))
    await waits_for(hold, bench)
    await building


async def test_a_build_that_begins_while_tools_are_deleted_keeps_its_own(
    bench: Bench, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged(bench)
    (bench.layout.tools / "idf" / "tools").mkdir(parents=True)
    hold = Hold(monkeypatch, "_remove")
    cleaning = asyncio.create_task(bench.builder.clean("fan.yaml", tools=True))
    await asyncio.to_thread(hold.entered.wait, 30)
    assert list(bench.layout.tools.iterdir()) == []
    damaged(bench)
    await bench.builder.build(bench.request({"content": "image"}), sink)
    hold.release.set()
    await cleaning
    assert packages(bench) == ["tool-x"]
    assert list(bench.layout.trash.iterdir()) == []


async def test_tools_that_are_gone_already_are_clean(bench: Bench) -> None:
    bench.layout.discard(bench.layout.tools)
    await bench.builder.clean(LAMP, tools=True)


async def test_tools_that_cannot_be_removed_fail_the_job_with_a_reason(
    bench: Bench, tmp_path: Path
) -> None:
    bench.layout.discard(bench.layout.tools)
    bench.layout.tools.symlink_to(tmp_path)
    try:
        with pytest.raises(BuildError) as refused:
            await bench.builder.clean(LAMP, tools=True)
    finally:
        bench.layout.tools.unlink()
    assert refused.value.reason == Reason(ReasonKey.DISK_UNUSABLE, line="Not a directory")
