"""LocalBuilder: real processes and a real toolchain, with an ESPHome that does as it is told."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
import json
import os
from pathlib import Path
import threading

import pytest

from custom_components.esphome_offload.engine.build.cache.eviction import RecentUse, make_room
from custom_components.esphome_offload.engine.build.cache.layout import CacheLayout
from custom_components.esphome_offload.engine.build.file_counts import FileCounts
from custom_components.esphome_offload.engine.build.firmware import FirmwareStore
from custom_components.esphome_offload.engine.build.local import LocalBuilder
from custom_components.esphome_offload.engine.build.model import BuildError, BuildRequest
from custom_components.esphome_offload.engine.build.process.processes import Processes
from custom_components.esphome_offload.engine.build.resources import MEMORY_MIB, Machine
from custom_components.esphome_offload.engine.build.toolchain.esphome_command import enter_directly
from custom_components.esphome_offload.engine.build.toolchain.toolchains import (
    Toolchain,
    Toolchains,
)
from custom_components.esphome_offload.engine.const import FailureReason, Source, Stage
from custom_components.esphome_offload.engine.reason import Reason, ReasonKey

from .conftest import Sink, uv_of
from .package_index import NEWEST, NOBODYS
from .requests import build_request

LAMP = "lamp.yaml"


class Bench:
    """A builder, its user's folder and what ESPHome saw."""

    def __init__(self, layout: CacheLayout, processes: Processes, config_dir: Path) -> None:
        self.layout = layout
        self.config_dir = config_dir
        self.machine = Machine(layout.root, proc=config_dir / "proc")
        self.memory(4096)
        self.toolchains = Toolchains(layout, processes, uv_of(layout))
        self.store = FirmwareStore(layout)
        self.builder = LocalBuilder(
            layout, processes, self.toolchains, self.store, machine=self.machine
        )

    def memory(self, mib: int) -> None:
        self.machine.proc.mkdir(exist_ok=True)
        (self.machine.proc / "meminfo").write_text(f"MemAvailable: {mib * 1024} kB\n")

    def request(
        self, told: dict[str, object], *, clean: bool = False, version: str = NEWEST
    ) -> BuildRequest:
        (self.config_dir / LAMP).write_text(json.dumps(told))
        return build_request(
            self.config_dir, version, LAMP, time_zone="Pacific/Chatham", clean=clean
        )

    async def refused(self, told: dict[str, object], sink: Sink) -> BuildError:
        with pytest.raises(BuildError) as caught:
            await self.builder.build(self.request(told), sink)
        return caught.value

    @property
    def tree(self) -> Path:
        return self.layout.tree(LAMP)

    def seen(self) -> dict[str, object]:
        seen: dict[str, object] = json.loads((self.tree / "seen.json").read_text())
        return seen


@pytest.fixture
def bench(shared_layout: CacheLayout, processes: Processes, index: str, tmp_path: Path) -> Bench:
    for folder in (shared_layout.trees, shared_layout.firmware(LAMP)):
        shared_layout.discard(folder)
    shared_layout.make()
    (tmp_path / "config").mkdir()
    return Bench(shared_layout, processes, tmp_path / "config")


async def test_a_build_ends_with_kept_firmware(bench: Bench, sink: Sink) -> None:
    firmware = await bench.builder.build(
        bench.request({"content": "image", "says": ["[1/2] CC a", "[2/2] LINK"]}), sink
    )
    assert firmware.ota.read_text() == "image"
    assert firmware.build_info.esphome_version == NEWEST
    assert firmware.build_info.build_time == "2031-01-02 03:04:05 +0000"
    assert firmware == await bench.store.latest(LAMP)
    assert sink.stages == [Stage.PREPARING, Stage.COMPILING]
    assert sink.percents[-1] == 100
    assert "[2/2] LINK" in sink.output


async def test_firmware_that_differs_has_a_build_time_of_its_own(bench: Bench, sink: Sink) -> None:
    """ESPHome keeps it where only an included header has changed."""
    first = await bench.builder.build(bench.request({"content": "one"}), sink)
    assert await bench.builder.build(bench.request({"content": "one"}), sink) == first
    second = await bench.builder.build(bench.request({"content": "two"}), sink)
    assert second.build_info.build_time != first.build_info.build_time
    assert sum(line.startswith("== Built again") for line in sink.output) == 1
    third = await bench.builder.build(bench.request({"content": "one"}), sink)
    times = {each.build_info.build_time for each in (first, second, third)}
    assert len(times) == 3


async def test_firmware_of_versions_without_a_build_time_is_built_once(
    bench: Bench, sink: Sink
) -> None:
    for content in ("one", "two"):
        await bench.builder.build(bench.request({"content": content, "old": True}), sink)
    assert not any(line.startswith("== Built again") for line in sink.output)


async def test_tools_that_are_downloaded_are_a_stage_of_their_own(bench: Bench, sink: Sink) -> None:
    says = ["Downloading: [==  ] 50%", "-- Configuring done (3.2s)", "[1/2] CC a", "[2/2] LINK"]
    await bench.builder.build(bench.request({"content": "image", "says": says}), sink)
    # All at once, it was over before anybody could be told.
    assert sink.stages[-1] is Stage.COMPILING
    assert sink.percents[-1] == 100


PICO = "Processing lamp (board: rpipicow; framework: arduino; platform: x)"


def compiling(*names: str) -> list[str]:
    return [PICO, *(f"Compiling .pioenvs/lamp/src/{name}.cpp.o" for name in names)]


async def test_the_files_of_the_last_build_are_the_measure_of_the_next(
    bench: Bench, sink: Sink
) -> None:
    await bench.builder.build(
        bench.request({"content": "image", "says": compiling("a", "b", "c", "d")}), sink
    )
    assert sink.percents[-1] < 5
    counts = FileCounts(bench.layout)
    assert counts.read(LAMP) == (4, {"rpipicow arduino": 4})
    # One that compiles only what has changed is no measure.
    await bench.builder.build(
        bench.request({"content": "image", "says": compiling("a")}), again := Sink()
    )
    assert again.percents[-1] == 25.0
    assert counts.read(LAMP)[0] == 4


async def test_the_users_folder_stays_as_it_is(bench: Bench, sink: Sink) -> None:
    request = bench.request({"content": "image"})
    before = {path: path.read_bytes() for path in bench.config_dir.rglob("*") if path.is_file()}
    await bench.builder.build(request, sink)
    after = {path: path.read_bytes() for path in bench.config_dir.rglob("*") if path.is_file()}
    assert after == before


async def test_esphome_writes_under_the_cache_only_and_sees_the_requesters_time_zone(
    bench: Bench, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUPERVISOR_TOKEN", "secret")
    monkeypatch.setenv("ESPHOME_IS_HA_ADDON", "1")
    await bench.builder.build(bench.request({"content": "image"}), sink)
    seen = bench.seen()
    environment = seen["env"]
    assert isinstance(environment, dict)
    for name in (
        "HOME",
        "TMPDIR",
        "ESPHOME_DATA_DIR",
        "PLATFORMIO_CORE_DIR",
        "ESPHOME_ESP_IDF_PREFIX",
        "ESPHOME_SDK_NRF_PREFIX",
        "ESPHOME_ARDUINO8266_PREFIX",
        "ESPHOME_HOST_PREFIX",
        "CCACHE_DIR",
        "CCACHE_STATSLOG",
    ):
        assert Path(environment[name]).is_relative_to(bench.layout.root), name
    assert environment["ESPHOME_NOGITIGNORE"] == "1"
    assert environment["TZ"] == "Pacific/Chatham"
    assert environment["PATH"].split(":")[0] == str(bench.layout.toolchain(NEWEST) / "bin")
    assert not {"SUPERVISOR_TOKEN", "ESPHOME_IS_HA_ADDON"} & set(environment)
    assert seen["cwd"] == str(bench.config_dir)


async def test_a_file_of_the_user_is_never_taken_for_a_python_module(
    bench: Bench, sink: Sink
) -> None:
    (bench.config_dir / "json.py").write_text("raise SystemExit(9)\n")
    await bench.builder.build(bench.request({"content": "image"}), sink)


async def test_a_second_build_finds_the_tree_of_the_first(bench: Bench, sink: Sink) -> None:
    request = bench.request({"content": "image"})
    await bench.builder.build(request, sink)
    (bench.tree / "object.o").touch()
    await bench.builder.build(request, sink)
    assert (bench.tree / "object.o").exists()


async def test_a_clean_build_does_not(bench: Bench, sink: Sink) -> None:
    await bench.builder.build(bench.request({"content": "image"}), sink)
    (bench.tree / "object.o").touch()
    await bench.builder.build(bench.request({"content": "image"}, clean=True), sink)
    assert not (bench.tree / "object.o").exists()


async def test_clean_forgets_the_tree_and_keeps_the_firmware(bench: Bench, sink: Sink) -> None:
    firmware = await bench.builder.build(bench.request({"content": "image"}), sink)
    assert bench.builder.status().warm == {LAMP}
    await bench.builder.clean(LAMP)
    assert not bench.tree.exists()
    assert bench.builder.status().warm == frozenset()
    assert await bench.store.latest(LAMP) == firmware


async def test_names_of_files_elsewhere_are_not_taken_for_trees(
    bench: Bench, sink: Sink, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "secret.yaml.json").touch()
    await bench.builder.build(bench.request({"content": "image"}), sink)
    (bench.tree / "storage").rename(bench.tree / "storage.old")
    (bench.tree / "storage").symlink_to(elsewhere)
    await bench.builder.refresh()
    assert bench.builder.status().warm == frozenset()


async def test_an_invalid_configuration_is_esphomes_own_message(bench: Bench, sink: Sink) -> None:
    says = ["Failed config", "", "light: [source lamp.yaml:3]", "  Platform not found: 'lihgt'."]
    error = await bench.refused({"invalid": True, "says": says, "exit": 2}, sink)
    assert error.failure_reason is FailureReason.CONFIG_INVALID
    assert error.exit_code == 2
    assert error.reason.key is ReasonKey.CONFIG_REFUSED_AT
    assert error.reason.line == "Platform not found"


async def test_a_compiler_error_is_the_compilers_message(bench: Bench, sink: Sink) -> None:
    says = ["[1/9] CXX main.cpp.o", "src/main.cpp:7:3: error: 'lihgt' was not declared"]
    error = await bench.refused({"says": says, "exit": 1}, sink)
    assert error.failure_reason is FailureReason.COMPILE_FAILED
    assert error.reason.parameters == {"file": "src/main.cpp", "row": "7"}


async def test_a_build_tool_that_exits_with_2_does_not_make_the_configuration_invalid(
    bench: Bench, sink: Sink
) -> None:
    says = ["src/main.cpp:7:3: error: 'lihgt' was not declared"]
    error = await bench.refused({"says": says, "exit": 2}, sink)
    assert error.failure_reason is FailureReason.COMPILE_FAILED
    assert error.exit_code == 2


@pytest.mark.parametrize(
    "told",
    [{}, {"content": "image", "nameless": True}],
    ids=["no program", "no name"],
)
async def test_success_without_firmware_is_a_failure(
    bench: Bench, sink: Sink, told: dict[str, object]
) -> None:
    error = await bench.refused(told, sink)
    assert error.failure_reason is FailureReason.BUILDER_ENVIRONMENT
    assert error.reason.key is ReasonKey.RESULT_MISSING


@pytest.mark.parametrize("claimed", ["2025.1.0", "none at all", ""])
async def test_firmware_of_another_version_than_was_asked_for_is_refused(
    bench: Bench, sink: Sink, claimed: str
) -> None:
    error = await bench.refused({"content": "image", "claimed": claimed}, sink)
    assert error.failure_reason is FailureReason.INTEGRITY
    assert error.reason == Reason(ReasonKey.OTHER_VERSION, {"version": NEWEST})
    assert await bench.store.latest(LAMP) is None


async def test_a_file_outside_of_the_tree_is_never_taken_for_firmware(
    bench: Bench, sink: Sink, tmp_path: Path
) -> None:
    outside = tmp_path / "elsewhere" / "program"
    error = await bench.refused({"content": "secret", "image": str(outside)}, sink)
    assert error.failure_reason is FailureReason.CONFIG_INVALID
    assert "build_path" in str(error)
    assert await bench.store.latest(LAMP) is None


async def test_a_link_to_the_outside_is_never_taken_for_firmware(
    bench: Bench, sink: Sink, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("secret")
    image = bench.tree / "build" / "node" / "program"
    image.parent.mkdir(parents=True)
    image.symlink_to(tmp_path / "secret")
    error = await bench.refused({}, sink)
    assert error.failure_reason is FailureReason.CONFIG_INVALID


async def test_an_esphome_that_writes_no_build_info_leaves_the_build_time_open(
    bench: Bench, sink: Sink
) -> None:
    firmware = await bench.builder.build(bench.request({"content": "image", "old": True}), sink)
    assert firmware.build_info.esphome_version == NEWEST
    assert firmware.build_info.build_time == ""


async def test_too_little_memory_is_refused_with_the_figures_before_anything_runs(
    bench: Bench, sink: Sink
) -> None:
    bench.memory(MEMORY_MIB - 1)
    error = await bench.refused({"content": "image"}, sink)
    assert error.failure_reason is FailureReason.BUILDER_ENVIRONMENT
    assert f"{MEMORY_MIB - 1} MiB" in str(error)
    assert not bench.tree.exists()


async def test_a_version_that_cannot_be_had_is_said_as_such(bench: Bench, sink: Sink) -> None:
    with pytest.raises(BuildError) as caught:
        await bench.builder.build(bench.request({}, version=NOBODYS), sink)
    assert caught.value.failure_reason is FailureReason.VERSION_UNAVAILABLE


@pytest.mark.parametrize("name", ["../lamp.yaml", "/etc/passwd", "sub/lamp.yaml", "..", ""])
async def test_a_configuration_is_a_file_name(bench: Bench, sink: Sink, name: str) -> None:
    request = replace(bench.request({}), configuration=name)
    with pytest.raises(BuildError) as caught:
        await bench.builder.build(request, sink)
    assert caught.value.failure_reason is FailureReason.CONFIG_INVALID


async def test_cancelling_ends_the_process(bench: Bench, sink: Sink) -> None:
    build = asyncio.create_task(bench.builder.build(bench.request({"stays": True}), sink))
    async with asyncio.timeout(60):  # a slow machine under load
        while not (bench.tree / "seen.json").exists():  # noqa: ASYNC110 no event crosses
            await asyncio.sleep(0.01)
    build.cancel()
    with pytest.raises(asyncio.CancelledError):
        await build
    running = [
        entry
        for entry in Path("/proc").glob("[0-9]*/environ")
        if str(bench.tree).encode() in _content(entry)
    ]
    assert running == []


async def test_a_cancelled_build_lets_go_of_its_tree_only_when_its_thread_has_ended(
    bench: Bench, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the thread takes the tree of the next build away, or what ESPHome has left in it."""
    await bench.builder.build(bench.request({"content": "image"}), sink)
    entered, may_end = threading.Event(), threading.Event()
    to_trash = CacheLayout.to_trash

    def held(layout: CacheLayout, path: Path) -> Path | None:
        entered.set()
        may_end.wait()
        return to_trash(layout, path)

    monkeypatch.setattr(CacheLayout, "to_trash", held)
    first = asyncio.create_task(
        bench.builder.build(bench.request({"content": "image"}, clean=True), sink)
    )
    await asyncio.to_thread(entered.wait)
    first.cancel()
    second = asyncio.create_task(bench.builder.build(bench.request({"content": "image"}), sink))
    for _ in range(100):
        await asyncio.sleep(0)
    ended_early = first.done()
    may_end.set()
    assert not ended_early
    await asyncio.wait({first})
    assert first.cancelled()
    await second
    assert bench.seen()


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


async def test_a_builder_that_cannot_compile_says_why_and_refuses(
    bench: Bench, processes: Processes, sink: Sink
) -> None:
    builder = LocalBuilder(
        bench.layout, processes, bench.toolchains, bench.store, why_not=Reason(ReasonKey.NOT_GLIBC)
    )
    status = builder.status()
    assert not status.available
    assert status.why_not == Reason(ReasonKey.NOT_GLIBC)
    with pytest.raises(BuildError, match="uses musl") as caught:
        await builder.build(bench.request({"content": "image"}), sink)
    assert caught.value.failure_reason is FailureReason.BUILDER_ENVIRONMENT


async def test_the_status_tells_what_is_there_after_a_look(bench: Bench, sink: Sink) -> None:
    await bench.builder.build(bench.request({"content": "image"}), sink)
    bench.memory(1234)
    await bench.builder.refresh()
    status = bench.builder.status()
    assert status.available
    assert status.versions == (NEWEST,)
    assert status.warm == {LAMP}
    assert status.memory_mib == 1234
    assert status.disk_mib is not None
    assert (bench.builder.builder_id, bench.builder.source) == ("local", Source.LOCAL)


async def test_the_slots_are_those_of_the_machine_whoever_holds_them(bench: Bench) -> None:
    slots = bench.builder.slots
    slots.set_count(2)
    guest_s = slots.take("a guest")
    assert guest_s is not None
    status = bench.builder.status()
    assert (status.slots, status.busy, status.queue_length) == (2, 1, 0)
    guest_s.release()
    assert bench.builder.status().busy == 0


async def test_listeners_hear_of_changes_until_they_unsubscribe(bench: Bench) -> None:
    heard: list[int] = []
    unsubscribe = bench.builder.subscribe(lambda: heard.append(bench.builder.status().slots))
    bench.builder.slots.set_count(3)
    bench.builder.slots.set_count(3)
    unsubscribe()
    bench.builder.slots.set_count(4)
    assert heard == [3]


async def test_another_way_to_enter_a_toolchain_can_be_put_in(
    bench: Bench, processes: Processes, sink: Sink
) -> None:
    def enter_elsewhere(toolchain: Toolchain, arguments: Sequence[str]) -> tuple[str, ...]:
        return ("env", "ELSEWHERE=yes", *enter_directly(toolchain, arguments))

    builder = LocalBuilder(
        bench.layout,
        processes,
        bench.toolchains,
        bench.store,
        entry=enter_elsewhere,
        machine=bench.machine,
    )
    await builder.build(bench.request({"content": "image"}), sink)
    environment = bench.seen()["env"]
    assert isinstance(environment, dict)
    assert environment["ELSEWHERE"] == "yes"


async def test_trees_beyond_the_budget_go_but_never_one_that_is_being_built_in(
    bench: Bench, sink: Sink
) -> None:
    old = bench.layout.tree("old.yaml")
    old.mkdir(parents=True)
    (old / "object.o").write_bytes(b"x" * 100_000)
    os.utime(old, (0, 0))
    await bench.builder.build(bench.request({"content": "image"}), sink)
    await make_room([bench.builder], budget=0)
    assert not old.exists()
    assert bench.tree.exists()

    bench.builder._recent = RecentUse()
    async with bench.builder._tree(LAMP):
        await make_room([bench.builder], budget=0)
    assert bench.tree.exists()
    await make_room([bench.builder], budget=0)
    assert not bench.tree.exists()
