"""The builder as a process of its own, until a signal ends it."""

from collections.abc import AsyncIterator
import json
from pathlib import Path
import signal
import sys
import time

from esphome_offload_builder import serve
import pytest

from ..e2e.harness.processes import Child, environment
from .running import free_port

ROOT = Path(__file__).parents[2]


async def run(folder: Path, *arguments: str, **extra: str) -> Child:
    """Start it with the interpreter of the tests, so that its coverage is measured."""
    argv = [sys.executable, "-m", "esphome_offload_builder", "--data", str(folder / "data"), "run"]
    argv += ["--host", "127.0.0.1", "--uncontained", *arguments]
    env = environment(PYTHONPATH=str(ROOT / "builder"), **extra)
    return await Child.start("builder", argv, log=folder / "log", cwd=ROOT, env=env)


@pytest.fixture
async def child(tmp_path: Path) -> AsyncIterator[Child]:
    child = await run(tmp_path, "--no-announce", ESPHOME_OFFLOAD_PORT=str(free_port()))
    await child.until(lambda: "Ready" in child.output(), "being ready", 60)
    yield child
    await child.stop()


async def test_it_holds_no_tls_and_nothing_that_reads_options(child: Child) -> None:
    """Both together are a tenth of its memory."""
    process = Path("/proc", str(child.pid))
    assert "/_ssl." not in (process / "maps").read_text()
    assert b"esphome_offload_builder.process" in (process / "cmdline").read_bytes()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_in_order(child: Child, tmp_path: Path, number: int) -> None:
    began = time.monotonic()
    child._process.send_signal(number)
    assert await child.wait() == 0
    assert time.monotonic() - began < serve.STOP_TIMEOUT
    lines = child.output().splitlines()
    assert lines[-1].endswith("INFO Stopped")
    private = json.loads((tmp_path / "data" / "identity").read_text())["private_key"]
    assert private not in child.output()


async def test_a_killed_one_can_be_started_again_with_the_same_identity(
    child: Child, tmp_path: Path
) -> None:
    pin = child.output().rpartition("pin ")[2].strip()
    await child.kill()
    again = await run(tmp_path, "--no-announce", "--port", str(free_port()))
    try:
        await again.until(lambda: "Ready" in again.output(), "being ready", 60)
        assert again.output().rpartition("pin ")[2].strip() == pin
    finally:
        await again.stop()


async def test_it_announces_itself_and_withdraws_that(tmp_path: Path) -> None:
    child = await run(tmp_path, "--port", str(free_port()), "--verbose")
    await child.until(lambda: "Ready" in child.output(), "being ready", 60)
    await child.stop()
    assert child.output().splitlines()[-1].endswith("INFO Stopped")


async def test_what_is_refused_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "data" / "cache").mkdir(mode=0o755, parents=True)
    child = await run(tmp_path)
    assert await child.wait() == 1
    assert child.output().splitlines()[-1].startswith("Error: Others can read or change")


async def test_a_pin_that_is_none_is_refused(tmp_path: Path) -> None:
    pins = tmp_path / "pins"
    pins.write_text("nonsense\n")
    child = await run(tmp_path, "--guests-file", str(pins))
    assert await child.wait() == 1
    assert "'nonsense' is not a pin" in child.output()
