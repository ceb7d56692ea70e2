"""What a build does about tools that are damaged, and what cleaning does about all."""

import asyncio

import pytest

from custom_components.esphome_offload.engine.build.model import BuildError
from custom_components.esphome_offload.engine.const import FailureReason
from custom_components.esphome_offload.engine.reason import Reason, ReasonKey

from .conftest import Sink
from .test_local import LAMP, Bench, bench

__all__ = ["bench"]

NO_MANIFEST = "MissingPackageManifestError: Could not find one of 'package.json' manifest files"


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
