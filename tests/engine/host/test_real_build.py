"""The very builder that this machine has for itself, at work for a guest."""

import asyncio
from collections.abc import AsyncIterator
import os
from pathlib import Path
import re
from typing import override

import pytest

from custom_components.esphome_offload.engine.build.cache.layout import CacheLayout
from custom_components.esphome_offload.engine.build.firmware import FirmwareStore
from custom_components.esphome_offload.engine.build.local import LocalBuilder
from custom_components.esphome_offload.engine.build.process.containment import (
    GuestContainment,
)
from custom_components.esphome_offload.engine.build.process.machine_containment import (
    Degree,
    containment_here,
)
from custom_components.esphome_offload.engine.build.process.processes import Processes
from custom_components.esphome_offload.engine.build.services import GuestBuildServices
from custom_components.esphome_offload.engine.build.toolchain.toolchains import Toolchains
from custom_components.esphome_offload.engine.clock import SystemTime
from custom_components.esphome_offload.engine.const import FailureReason
from custom_components.esphome_offload.engine.protocol.messages import AttemptState

from ..build.conftest import uv_of
from .builder import (
    BuilderMachine,
    GuestCalls,
    lines_of,
    until,
)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("socket_enabled")]

CACHE = Path(__file__).parents[3] / ".cache" / "test-toolchains"
CONTAINED = containment_here().degree is not Degree.UNCONTAINED

LAMP = {"lamp.yaml": b"esphome:\n  name: lamp\nhost:\nlogger:\napi:\n"}
AROUND = {
    "esphome/manifest.json": b"{}",
    "esphome/lamp.yaml": b"esphome:\n  name: lamp\n  includes: [../lib/level.h]\nhost:\nlogger:\n"
    b"packages:\n  base: !include ../common/base.yaml\n",
    "common/base.yaml": b"api:\ninterval:\n  - interval: 1s\n    then:\n      lambda: level();\n",
    "lib/level.h": b"#pragma once\ninline int level() { return 1; }\n",
}
"""With files from outside of the folder of the configuration."""


class RealBuilder(BuilderMachine):
    """Builds with ESPHome, contained where this machine can."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, SystemTime())
        self.processes = Processes()
        toolchains = CacheLayout(CACHE)
        toolchains.make()
        self.toolchains = Toolchains(toolchains, self.processes, uv_of(toolchains))

    @override
    async def _make_services(self, layout: CacheLayout) -> GuestBuildServices:
        kept = FirmwareStore(layout)
        containment = GuestContainment(layout, (self.layout.inbox,)) if CONTAINED else None
        builder = LocalBuilder(
            layout,
            self.processes,
            self.toolchains,
            kept,
            slots=self.slots,
            containment=containment,
        )
        await builder.refresh()
        return GuestBuildServices(layout, builder, kept)


@pytest.fixture
async def builder(tmp_path: Path) -> AsyncIterator[RealBuilder]:
    builder = RealBuilder(tmp_path)
    await builder.start()
    yield builder
    await builder.stop()
    await builder.processes.aclose()


@pytest.fixture
async def guest(builder: RealBuilder) -> GuestCalls:
    return await builder.pair("guest")


def processes_of(root: Path) -> list[str]:
    """Return the commands that still run for a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if str(root).encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_text())
        except OSError:
            continue
    return [each for each in found if str(os.getpid()) != each]


async def end_of(guest: GuestCalls, attempt_id: str) -> AttemptState:
    async with asyncio.timeout(600):
        events = [event async for event in guest.attach(attempt_id)]
    return events[-1].state  # type: ignore[union-attr]


async def test_a_guest_gets_what_it_would_have_built_itself(
    builder: RealBuilder, guest: GuestCalls
) -> None:
    first = await guest.submit(AROUND)
    assert await end_of(guest, first) is AttemptState.COMPLETED
    printed = [line for _, line in lines_of(await guest.events(first))]
    assert any("Compiling" in line or "Linking" in line for line in printed)
    header, program = await guest.fetch(first)
    assert program.startswith(b"\x7fELF")
    assert header.size == len(program)
    status = await guest.status()
    assert (status.warm, status.versions) == (("lamp.yaml",), ("2026.10.0",))
    assert status.memory_mib

    # The tree was kept: a second build compiles nothing but what changed, here nothing.
    second = await guest.submit(AROUND)
    assert await end_of(guest, second) is AttemptState.COMPLETED
    again = [line for _, line in lines_of(await guest.events(second))]
    assert sum(" CXX obj/" in line for line in again) < sum(" CXX obj/" in line for line in printed)
    assert processes_of(builder.layout.root) == []

    # Contained as it is, it has a compiler cache: another device is not compiled again.
    porch = {
        name.replace("lamp", "porch"): content.replace(b"lamp", b"porch")
        for name, content in AROUND.items()
    }
    third = await guest.submit(porch, configuration="porch.yaml", device_name="porch")
    assert await end_of(guest, third) is AttemptState.COMPLETED
    *_, last = [line for _, line in lines_of(await guest.events(third))]
    said = re.fullmatch(r"== Compiler cache: (\d+) of (\d+) from the cache", last)
    assert said is not None, last
    hits, files = map(int, said.groups())
    assert files - hits <= 2, "main.cpp, and what has the time of the build"
    status = await guest.status()
    assert (status.ccache, status.ccache_hits) == (True, hits)
    assert status.ccache_files > files


async def test_nothing_runs_any_more_once_a_build_is_cancelled(
    builder: RealBuilder, guest: GuestCalls
) -> None:
    attempt_id = await guest.submit(LAMP)
    stream = guest.attach(attempt_id)
    async with asyncio.timeout(600):
        async for event in stream:
            if any(" CXX obj/" in line for _, line in lines_of([event])):
                break
    assert processes_of(builder.layout.root)
    await guest.cancel(attempt_id)
    assert processes_of(builder.layout.root) == []
    assert [event async for event in stream][-1].state is AttemptState.CANCELLED  # type: ignore[union-attr]
    await until(lambda: builder.slots.busy == 0)


async def test_what_esphome_does_not_accept_fails_with_its_own_words(
    builder: RealBuilder, guest: GuestCalls
) -> None:
    attempt_id = await guest.submit({"lamp.yaml": b"esphome:\n  name: lamp\nhost:\nnonsense:\n"})
    assert await end_of(guest, attempt_id) is AttemptState.FAILED
    end = await guest.end(attempt_id)
    assert end.failure_reason is FailureReason.CONFIG_INVALID
    assert end.reason is not None
    assert end.reason.line == "Component not found"
    assert end.exit_code == 2
