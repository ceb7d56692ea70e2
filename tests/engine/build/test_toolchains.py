"""Toolchains: real uv makes real environments, of an ESPHome from an index of our own."""

import asyncio
from collections.abc import Sequence
import errno
import os
from pathlib import Path
import subprocess
import sys
from unittest.mock import patch

import pytest

from custom_components.esphome_offload.engine.build.cache.layout import CacheLayout
from custom_components.esphome_offload.engine.build.model import BuildError
from custom_components.esphome_offload.engine.build.process.processes import LaunchError, Processes
from custom_components.esphome_offload.engine.build.toolchain.toolchains import (
    Toolchain,
    Toolchains,
)
from custom_components.esphome_offload.engine.const import FailureReason
from custom_components.esphome_offload.engine.reason import Reason, ReasonKey

from .conftest import Sink, uv_of
from .package_index import (
    BETA,
    BROKEN,
    FOR_OLD_PYTHON,
    NEEDS_MORE,
    NEWEST,
    OLDER,
    write_other_index,
)

UNREACHABLE = "http://127.0.0.1:9/simple"


def restarted(layout: CacheLayout, processes: Processes) -> Toolchains:
    """Return the toolchains of a Home Assistant that has just started."""
    return Toolchains(layout, processes, uv_of(layout))


def pretended(layout: CacheLayout, script: str) -> Path:
    """Make a complete toolchain whose Python is a shell script; return that."""
    python = layout.toolchain(NEWEST) / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    (layout.toolchain(NEWEST) / ".complete").touch()
    return python


def version_of(toolchain: Toolchain) -> str:
    command = [toolchain.python, "-m", "esphome", "version"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


async def refused(toolchains: Toolchains, version: str) -> BuildError:
    with pytest.raises(BuildError) as caught:
        await toolchains.ensure(version, lambda _lines: None)
    return caught.value


@pytest.mark.parametrize("version", [NEWEST, BETA])
async def test_a_toolchain_is_that_version_of_esphome(
    toolchains: Toolchains, sink: Sink, version: str
) -> None:
    toolchain = await toolchains.ensure(version, sink.lines)
    assert version_of(toolchain) == f"Version: {version}"
    assert toolchains.installed() == (version,)
    assert any(f"esphome=={version}" in line for line in sink.output)


async def test_a_version_is_found_though_another_index_has_only_older_ones(
    toolchains: Toolchains, sink: Sink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """uv asks the extra index first, and by itself then looks nowhere else."""
    monkeypatch.setenv("UV_EXTRA_INDEX_URL", write_other_index(tmp_path / "other"))
    assert version_of(await toolchains.ensure(NEWEST, sink.lines)) == f"Version: {NEWEST}"


async def test_its_modules_are_compiled_already(toolchains: Toolchains, sink: Sink) -> None:
    toolchain = await toolchains.ensure(NEWEST, sink.lines)
    package = next(toolchain.bin.parent.glob("lib/python*/site-packages/esphome"))
    assert {path.name.split(".")[0] for path in package.glob("__pycache__/*.pyc")} == {
        "__init__",
        "__main__",
    }


async def test_ten_jobs_that_want_the_same_one_have_it_made_once(toolchains: Toolchains) -> None:
    sinks = [Sink() for _ in range(10)]
    made = await asyncio.gather(*(toolchains.ensure(NEWEST, sink.lines) for sink in sinks))
    assert len(set(made)) == 1
    assert all(sink.output == sinks[0].output for sink in sinks)
    assert [line for line in sinks[0].output if line.startswith("== ")] == [
        f"== Making the toolchain of ESPHome {NEWEST} on this machine, once",
        f"== ESPHome {NEWEST} is ready on this machine",
    ]


async def test_two_versions_live_side_by_side(toolchains: Toolchains, sink: Sink) -> None:
    both = await asyncio.gather(
        toolchains.ensure(OLDER, sink.lines), toolchains.ensure(NEWEST, sink.lines)
    )
    assert [version_of(one) for one in both] == [f"Version: {OLDER}", f"Version: {NEWEST}"]
    assert toolchains.installed() == (NEWEST, OLDER)


async def test_one_that_is_there_is_not_made_again(
    toolchains: Toolchains, layout: CacheLayout, processes: Processes, sink: Sink
) -> None:
    await toolchains.ensure(NEWEST, sink.lines)
    later = restarted(layout, processes)
    await later.load()
    assert later.installed() == (NEWEST,)
    sink.output.clear()
    await later.ensure(NEWEST, sink.lines)
    await later.ensure(NEWEST, sink.lines)
    assert sink.output == []


async def test_one_on_a_disk_that_cannot_be_written_to_is_used(
    layout: CacheLayout, processes: Processes, sink: Sink
) -> None:
    pretended(layout, f"echo 'Version: {NEWEST}'")
    toolchains = restarted(layout, processes)
    await toolchains.load()
    read_only = OSError(errno.EROFS, "Read-only file system")
    with patch.object(os, "utime", side_effect=read_only):
        toolchain = await toolchains.ensure(NEWEST, sink.lines)
        assert await toolchains.ensure(NEWEST, sink.lines) == toolchain
        assert await toolchains.newest() == toolchain


async def test_one_that_the_disk_has_no_room_for_may_be_made_later(
    toolchains: Toolchains, layout: CacheLayout
) -> None:
    layout.root.mkdir(exist_ok=True)
    layout.trash.write_text("in the way")
    error = await refused(toolchains, NEWEST)
    assert error.failure_reason is FailureReason.BUILDER_ENVIRONMENT
    assert error.reason == Reason(ReasonKey.DISK_UNUSABLE, line="File exists")


async def test_a_half_made_one_is_removed_and_never_listed(
    toolchains: Toolchains, layout: CacheLayout
) -> None:
    half_made = layout.toolchain(NEWEST)
    (half_made / "bin").mkdir(parents=True)
    (half_made / "bin" / "python").write_text("#!/bin/sh\nexit 0\n")
    await toolchains.load()
    assert toolchains.installed() == ()
    assert not half_made.exists()


async def test_a_half_made_one_is_never_used(
    toolchains: Toolchains, layout: CacheLayout, sink: Sink
) -> None:
    half_made = layout.toolchain(NEWEST)
    (half_made / "bin").mkdir(parents=True)
    (half_made / "bin" / "python").write_text("#!/bin/sh\necho 'Version: 2031.2.0'\n")
    (half_made / "bin" / "python").chmod(0o755)
    toolchain = await toolchains.ensure(NEWEST, sink.lines)
    assert any("Making the toolchain" in line for line in sink.output)
    assert version_of(toolchain) == f"Version: {NEWEST}"


async def test_one_that_broke_between_two_starts_is_made_again(
    toolchains: Toolchains, layout: CacheLayout, processes: Processes, sink: Sink
) -> None:
    toolchain = await toolchains.ensure(NEWEST, sink.lines)
    next(toolchain.bin.parent.glob("lib/python*/site-packages/esphome/__main__.py")).unlink()
    later = restarted(layout, processes)
    await later.load()
    assert version_of(await later.ensure(NEWEST, sink.lines)) == f"Version: {NEWEST}"


async def test_one_that_was_invalidated_is_checked_again(
    toolchains: Toolchains, sink: Sink
) -> None:
    toolchain = await toolchains.ensure(NEWEST, sink.lines)
    next(toolchain.bin.parent.glob("lib/python*/site-packages/esphome/__main__.py")).unlink()
    toolchains.invalidate(NEWEST)
    assert version_of(await toolchains.ensure(NEWEST, sink.lines)) == f"Version: {NEWEST}"


NO_ANSWERS = {
    "no memory": "echo MemoryError; exit 1",
    "no processes": "echo 'BlockingIOError: [Errno 11] Resource temporarily unavailable'; exit 1",
    "killed": "kill -9 $$",
}


@pytest.mark.parametrize("script", NO_ANSWERS.values(), ids=NO_ANSWERS)
async def test_one_that_gives_no_answer_is_neither_used_nor_removed(
    toolchains: Toolchains, layout: CacheLayout, script: str
) -> None:
    """A build can use up what the check needs; the toolchain of all must survive that."""
    python = pretended(layout, script)
    error = await refused(toolchains, NEWEST)
    assert error.failure_reason is FailureReason.BUILDER_ENVIRONMENT
    assert "cannot be started now" in str(error)
    assert python.exists()


async def test_one_that_cannot_be_asked_is_not_removed(
    toolchains: Toolchains, layout: CacheLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object, **__: object) -> None:
        raise LaunchError("no process can be started")

    python = pretended(layout, "exit 0")
    monkeypatch.setattr(Processes, "capture", refuse)
    error = await refused(toolchains, NEWEST)
    assert error.failure_reason is FailureReason.BUILDER_ENVIRONMENT
    assert "cannot be started now" in str(error)
    assert python.exists()


async def test_one_that_answers_wrongly_is_made_again(
    toolchains: Toolchains, layout: CacheLayout, sink: Sink
) -> None:
    pretended(layout, "echo 'Version: 2031.2.0'")
    toolchain = await toolchains.ensure(NEWEST, sink.lines)
    assert version_of(toolchain) == f"Version: {NEWEST}"


async def test_one_that_was_deleted_is_made_again(
    toolchains: Toolchains, layout: CacheLayout, sink: Sink
) -> None:
    await toolchains.ensure(NEWEST, sink.lines)
    layout.discard(layout.toolchain(NEWEST))
    assert version_of(await toolchains.ensure(NEWEST, sink.lines)) == f"Version: {NEWEST}"


@pytest.mark.parametrize(
    ("version", "key"),
    [
        ("2099.1.0", ReasonKey.VERSION_UNKNOWN),
        ("nonsense", ReasonKey.VERSION_INVALID),
        (FOR_OLD_PYTHON, ReasonKey.VERSION_OTHER_PYTHON),
        (BROKEN, ReasonKey.VERSION_BROKEN),
        (NEEDS_MORE, ReasonKey.VERSION_NOT_INSTALLED),
    ],
)
async def test_a_version_that_can_never_be_installed_here_is_unavailable_and_says_why(
    toolchains: Toolchains, layout: CacheLayout, version: str, key: ReasonKey
) -> None:
    error = await refused(toolchains, version)
    assert error.failure_reason is FailureReason.VERSION_UNAVAILABLE
    assert error.reason.key is key
    assert error.reason.parameters["version"] == version
    assert toolchains.installed() == ()
    assert [path for path in layout.toolchains.iterdir() if path.is_dir()] == []


async def test_without_a_network_what_is_there_goes_on_working_and_the_error_names_it(
    toolchains: Toolchains,
    layout: CacheLayout,
    processes: Processes,
    sink: Sink,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await toolchains.ensure(OLDER, sink.lines)
    monkeypatch.setenv("UV_DEFAULT_INDEX", UNREACHABLE)
    monkeypatch.setenv("UV_OFFLINE", "1")
    later = restarted(layout, processes)
    await later.load()
    await later.ensure(OLDER, sink.lines)
    error = await refused(later, "2031.9.0")
    assert error.failure_reason is FailureReason.BUILDER_ENVIRONMENT
    assert "check the internet connection" in str(error)
    assert error.reason.parameters["installed"] == OLDER
    assert later.installed() == (OLDER,)


class GatedUv:
    """A uv that waits until its gate is open, and writes down that it runs."""

    def __init__(self, folder: Path) -> None:
        self.started = folder / "started"
        self.open = folder / "open"
        self.program = folder / "uv"
        self.program.write_text(
            f"#!/bin/sh\necho $$ > {self.started}\n"
            f'while [ ! -e {self.open} ]; do sleep 0.02; done\nexec python3 -m uv "$@"\n'
        )
        self.program.chmod(0o755)

    async def running(self) -> int:
        async with asyncio.timeout(30):  # a slow machine under load
            while not (self.started.exists() and self.started.read_text()):  # noqa: ASYNC110 no event crosses
                await asyncio.sleep(0.01)
        return int(self.started.read_text())


@pytest.fixture
def gate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GatedUv:
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    return GatedUv(tmp_path)


@pytest.fixture
def gated(layout: CacheLayout, processes: Processes, index: str, gate: GatedUv) -> Toolchains:
    uv = uv_of(layout)
    uv.argv = (str(gate.program),)
    return Toolchains(layout, processes, uv)


async def test_a_caller_that_gives_up_does_not_stop_it_for_the_others(
    gated: Toolchains, gate: GatedUv, sink: Sink
) -> None:
    impatient_output: list[str] = []

    def impatient_lines(lines: Sequence[str]) -> None:
        impatient_output.extend(lines)

    patient = asyncio.create_task(gated.ensure(NEWEST, sink.lines))
    impatient = asyncio.create_task(gated.ensure(NEWEST, impatient_lines))
    await gate.running()
    impatient.cancel()
    await asyncio.wait({impatient})
    gate.open.touch()
    assert version_of(await patient) == f"Version: {NEWEST}"
    assert not any("is ready" in line for line in impatient_output)


async def test_when_the_last_one_gives_up_it_is_stopped_and_nothing_is_left(
    gated: Toolchains, gate: GatedUv, layout: CacheLayout, sink: Sink
) -> None:
    waiters = [asyncio.create_task(gated.ensure(NEWEST, sink.lines)) for _ in range(2)]
    pid = await gate.running()
    for waiter in waiters:
        waiter.cancel()
    await asyncio.wait(waiters)
    assert not Path(f"/proc/{pid}").exists()
    assert not layout.toolchain(NEWEST).exists()
    gate.open.touch()
    assert version_of(await gated.ensure(NEWEST, sink.lines)) == f"Version: {NEWEST}"


async def test_a_caller_that_comes_while_it_is_being_stopped_still_gets_it(
    gated: Toolchains, gate: GatedUv, sink: Sink
) -> None:
    first = asyncio.create_task(gated.ensure(NEWEST, sink.lines))
    await gate.running()
    first.cancel()
    gate.open.touch()
    second = asyncio.create_task(gated.ensure(NEWEST, sink.lines))
    await asyncio.wait({first})
    assert first.cancelled()
    assert version_of(await second) == f"Version: {NEWEST}"


async def test_the_newest_that_is_there_is_found_without_asking_it(
    toolchains: Toolchains, sink: Sink
) -> None:
    assert await toolchains.newest() is None
    for version in (OLDER, NEWEST):
        await toolchains.ensure(version, sink.lines)
    newest = await toolchains.newest()
    assert newest is not None
    assert newest.version == NEWEST
