"""The real thing: ESPHome compiles for the platform ``host`` and flashes a running program."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
import json
from pathlib import Path
import shutil
import subprocess
from typing import Self, cast

from aiohttp import web
import pytest

from custom_components.esphome_offload.engine.build.bundle import Bundles
from custom_components.esphome_offload.engine.build.cache.layout import CacheLayout
from custom_components.esphome_offload.engine.build.firmware import BuildResult, FirmwareStore
from custom_components.esphome_offload.engine.build.flasher import FirmwareFlasher
from custom_components.esphome_offload.engine.build.local import LocalBuilder
from custom_components.esphome_offload.engine.build.model import (
    CONFIGURED,
    BuildError,
    BuildRequest,
    Firmware,
    FlashRequest,
)
from custom_components.esphome_offload.engine.build.process.processes import Processes
from custom_components.esphome_offload.engine.build.toolchain.toolchains import Toolchains
from custom_components.esphome_offload.engine.const import FailureReason
from custom_components.esphome_offload.engine.reason import ReasonKey
from tests.e2e.harness import ports

from .conftest import Sink, uv_of
from .requests import build_request

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("socket_enabled")]

VERSION = "2026.10.0"
BETA = "2026.10.0b1"
LAMP = "lamp.yaml"
CACHE = Path(__file__).parents[3] / ".cache" / "test-toolchains"

YAML = """\
esphome:
  name: lamp
{includes}host:
api:
  port: {api}
ota:
  - platform: esphome
    port: {ota}
    password: !secret ota_password
logger:
{more}
"""


PACKAGE = """\
packages:
  more:
    url: https://packages.example/lamp
    files: [more.yaml]
    refresh: always
"""
HEADER = """\
sensor:
  - platform: template
    name: Level
    lambda: return level();
"""
MORE = """\
logger:
  id: from_the_package
"""


class Bench:
    """A lamp: its configuration, its builder and flasher, and its program when switched on."""

    def __init__(self, processes: Processes, folder: Path) -> None:
        self.layout = CacheLayout(CACHE)
        self.layout.make()
        self.processes = processes
        self.toolchains = Toolchains(self.layout, processes, uv_of(self.layout))
        self.store = FirmwareStore(self.layout)
        self.builder = LocalBuilder(self.layout, processes, self.toolchains, self.store)
        self.bundles = Bundles(self.layout, processes, self.toolchains)
        self.flasher = FirmwareFlasher(self.layout, processes, self.toolchains)
        self.config_dir = folder / "config"
        self.config_dir.mkdir()
        self.program = folder / "program"
        self.ports = ports.pick(2)
        self.device: asyncio.subprocess.Process | None = None
        self.secret("first")

    def configure(self, more: str = "") -> None:
        api, ota = self.ports
        headers = "".join(f"    - {path.name}\n" for path in self.config_dir.glob("*.h"))
        includes = f"  includes:\n{headers}" if headers else ""
        text = YAML.format(api=api, ota=ota, more=more, includes=includes)
        (self.config_dir / LAMP).write_text(text)

    def secret(self, password: str) -> None:
        (self.config_dir / "secrets.yaml").write_text(f"ota_password: {password}\n")

    def git_repository(self) -> Path:
        """Make one with a package in it."""
        remote = self.config_dir.parent / "remote"
        remote.mkdir()
        (remote / "more.yaml").write_text(MORE)
        author = ("-c", "user.name=Nobody", "-c", "user.email=nobody@example.com")
        for arguments in (("init", "-q"), ("add", "."), (*author, "commit", "-q", "-m", "More")):
            subprocess.run(["git", "-C", remote, *arguments], check=True)
        return remote

    async def build(self, sink: Sink, version: str = VERSION) -> Firmware:
        return await self.builder.build(self.request(version), sink)

    def request(self, version: str = VERSION) -> BuildRequest:
        return build_request(self.config_dir, version, LAMP, time_zone="Pacific/Chatham")

    async def flash(
        self,
        firmware: Firmware,
        sink: Sink,
        address: str = "127.0.0.1",
        flasher: FirmwareFlasher | None = None,
    ) -> None:
        request = FlashRequest(
            job_id="job",
            attempt_id="attempt",
            configuration=LAMP,
            config_dir=self.config_dir,
            firmware=firmware,
            addresses=(address,),
            time_zone="Pacific/Chatham",
        )
        await (flasher or self.flasher).flash(request, sink)

    async def switch_on(self, firmware: Firmware) -> None:
        shutil.copyfile(firmware.ota, self.program)
        self.program.chmod(0o755)
        self.device = await asyncio.create_subprocess_exec(
            self.program,
            cwd=self.program.parent,
            env={"ESPHOME_PREFDIR": str(self.program.parent / "preferences")},
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        await self.listening()

    async def listening(self) -> None:
        assert self.device is not None
        async with asyncio.timeout(30):  # starts in 0.1 s; a slow machine under load
            while not ports.is_taken_by(self.ports[1], self.device.pid):  # noqa: ASYNC110 no event crosses
                await asyncio.sleep(0.02)

    async def taken(self, firmware: Firmware) -> None:
        """Wait until the device has replaced its program by this firmware and started it."""
        async with asyncio.timeout(30):
            while self.program.read_bytes() != firmware.ota.read_bytes():  # noqa: ASYNC110 no event crosses
                await asyncio.sleep(0.02)
        await self.listening()

    async def switch_off(self) -> None:
        if self.device is not None and self.device.returncode is None:
            self.device.kill()
            await self.device.wait()


class HangingDevice:
    """Speaks the first bytes of ESPHome's OTA, takes a few pieces and then says nothing more."""

    _TALK = (
        (5, b"\x00\x02"),  # magic, version
        (1, b"\x40"),  # features, header
        (0, b"\x41"),  # no password
        (4, b"\x42"),  # size
        (32, b"\x43"),  # checksum
        (8192, b"\x47"),
        (8192, b"\x47"),
    )

    def __init__(self, port: int, *, answers: int = len(_TALK)) -> None:
        self.port = port
        self.answers = answers
        self.connections = 0
        self._over = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._talk, "127.0.0.1", self.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._over.set()
        self._server.close()
        await self._server.wait_closed()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        for count, answer in self._TALK[: self.answers]:
            await reader.readexactly(count)
            writer.write(answer)
        await self._over.wait()
        writer.close()


@pytest.fixture
async def bench(processes: Processes, tmp_path: Path) -> AsyncIterator[Bench]:
    """Return a bench with nothing built; the tree is kept, since compiling all takes long."""
    bench = Bench(processes, tmp_path)
    bench.layout.discard(bench.layout.flash(LAMP))
    bench.layout.discard(bench.layout.firmware(LAMP))
    bench.layout.discard(bench.layout.bundle(LAMP))
    bench.configure()
    await bench.toolchains.load()
    yield bench
    await bench.switch_off()


async def refused_flash(bench: Bench, firmware: Firmware, sink: Sink) -> BuildError:
    with pytest.raises(BuildError) as caught:
        await bench.flash(firmware, sink)
    return caught.value


async def test_a_build_and_an_unchanged_one(bench: Bench, sink: Sink) -> None:
    bench.layout.discard(bench.layout.tree(LAMP))
    firmware = await bench.build(sink)
    assert firmware.build_info.esphome_version == VERSION
    # Chatham is 12:45 or 13:45 before us, so the requester's time zone is what was used.
    assert firmware.build_info.build_time.endswith(("+1245", "+1345"))
    assert firmware.build_info.build_time.encode() in firmware.ota.read_bytes()
    assert sink.percents[-1] == 100
    assert sink.percents == sorted(sink.percents)
    assert not (bench.config_dir / ".gitignore").exists()
    assert not (bench.config_dir / ".esphome").exists()
    before = firmware.ota.stat()
    assert await bench.build(sink) == firmware
    assert firmware.ota.stat() == before


async def test_a_changed_header_gives_the_firmware_a_build_time_of_its_own(
    bench: Bench, sink: Sink
) -> None:
    header = bench.config_dir / "level.h"
    header.write_text("inline float level() { return 1.0f; }\n")
    bench.configure(HEADER)
    first = await bench.build(sink)
    header.write_text("inline float level() { return 2.0f; }\n")
    second = await bench.build(sink)
    assert second.sha256 != first.sha256
    assert second.build_info.config_hash == first.build_info.config_hash
    assert second.build_info.build_time != first.build_info.build_time
    assert second.build_info.build_time.encode() in second.ota.read_bytes()
    assert await bench.build(sink) == second


async def test_another_version_in_the_same_tree_is_that_version(bench: Bench, sink: Sink) -> None:
    older = await bench.build(sink, BETA)
    newer = await bench.build(sink)
    assert older.build_info.esphome_version == BETA
    assert newer.build_info.esphome_version == VERSION
    assert older.sha256 != newer.sha256
    assert bench.builder.status().versions[:2] == (VERSION, BETA)


async def test_a_flashed_device_runs_the_kept_image(bench: Bench, sink: Sink) -> None:
    await bench.switch_on(await bench.build(sink))
    bench.configure("  id: renamed\n")
    newer = await bench.build(sink)
    sink.percents.clear()
    await bench.flash(newer, sink)
    assert sink.percents[-1] == 100
    await bench.taken(newer)


async def test_firmware_is_flashed_with_the_secrets_that_it_was_built_with(
    bench: Bench, sink: Sink
) -> None:
    first = await bench.build(sink)
    await bench.switch_on(first)
    # The time of the main file is all that ESPHome's own cache would look at.
    bench.secret("second")
    second = await bench.build(sink)
    assert second.sha256 != first.sha256
    error = await refused_flash(bench, second, sink)
    assert error.failure_reason is FailureReason.UPLOAD_REFUSED
    assert "password" in str(error)
    await bench.flash(first, sink)
    await bench.taken(first)
    assert sum("Loaded validated config cache" in line for line in sink.output) == 2


async def test_firmware_is_flashed_although_its_packages_cannot_be_fetched_any_more(
    bench: Bench, sink: Sink
) -> None:
    remote = bench.git_repository()
    # ESPHome takes no file:// for an address.
    lines = f'[url "{remote}"]\n  insteadOf = https://packages.example/lamp\n'
    (bench.layout.home / ".gitconfig").write_text(lines)
    bench.configure(PACKAGE)
    built = await bench.build(sink)
    await bench.switch_on(built)
    bundle = await bench.bundles.make(bench.request(), sink.lines)
    validated = await bench.bundles.validated(LAMP, bundle.sha256)
    shutil.rmtree(remote)
    # Saved again since: not even that has ESPHome validate it once more.
    bench.configure(f"{PACKAGE}# saved again\n")
    await bench.flash(built, sink)
    # It had the same program before: whether it has restarted cannot be seen.
    await bench.switch_off()
    await bench.switch_on(built)
    # What a peer built is flashed with what was validated for its bundle.
    result = BuildResult(built.ota, built.build_info, validated)
    await bench.flash(await bench.store.keep(LAMP, "lamp", result), sink)
    await bench.taken(built)
    assert sum("Loaded validated config cache" in line for line in sink.output) == 2


async def test_a_device_that_is_off_is_offline(bench: Bench, sink: Sink) -> None:
    firmware = await bench.build(sink)
    error = await refused_flash(bench, firmware, sink)
    assert error.failure_reason is FailureReason.DEVICE_OFFLINE
    assert error.reason.key is ReasonKey.DEVICE_UNREACHABLE


async def test_an_upload_that_hangs_half_way_is_ended_after_its_one_connection(
    bench: Bench, sink: Sink
) -> None:
    firmware = await bench.build(sink)
    flasher = FirmwareFlasher(bench.layout, bench.processes, bench.toolchains, stalled=3.0)
    async with HangingDevice(bench.ports[1]) as device:
        with pytest.raises(BuildError) as caught:
            await bench.flash(firmware, sink, flasher=flasher)
    assert caught.value.failure_reason is FailureReason.UPLOAD_FAILED
    assert caught.value.reason.key is ReasonKey.UPLOAD_STALLED
    assert device.connections == 1


async def test_a_device_that_hangs_at_once_is_tried_once(bench: Bench, sink: Sink) -> None:
    firmware = await bench.build(sink)
    async with HangingDevice(bench.ports[1], answers=0) as device:
        error = await refused_flash(bench, firmware, sink)
    assert error.failure_reason is FailureReason.UPLOAD_FAILED
    assert device.connections == 1
    assert any("Retrying in" in line for line in sink.output)


async def test_a_device_that_only_has_the_web_server_is_flashed_through_it(
    bench: Bench, sink: Sink, tmp_path: Path
) -> None:
    """No program of the host platform can do that: a web server of ours takes the firmware."""
    taken: list[bytes] = []

    async def update(request: web.Request) -> web.Response:
        form = await request.post()
        taken.append(cast("web.FileField", form["update"]).file.read())
        return web.Response(text="Update Successful!")

    firmware = await bench.build(sink)
    validated = json.loads(firmware.validated["validated.json"].read_text())
    validated["config"]["ota"] = [{"platform": "web_server"}]
    validated["config"]["web_server"] = {"port": bench.ports[1], "version": 2}
    (tmp_path / "validated.json").write_text(json.dumps(validated))
    firmware = replace(
        firmware,
        validated={**firmware.validated, "validated.json": tmp_path / "validated.json"},
    )
    app = web.Application(client_max_size=2**30)
    app.router.add_post("/update", update)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", bench.ports[1]).start()
        await bench.flash(firmware, sink)
    finally:
        await runner.cleanup()
    assert taken == [firmware.ota.read_bytes()]
    assert sink.percents[-1] == 100


async def test_a_configuration_without_an_address_needs_one(bench: Bench, sink: Sink) -> None:
    firmware = await bench.build(sink)
    with pytest.raises(BuildError) as caught:
        await bench.flash(firmware, sink, address=CONFIGURED)
    assert caught.value.failure_reason is FailureReason.DEVICE_OFFLINE


async def test_a_configuration_that_does_not_validate(bench: Bench, sink: Sink) -> None:
    bench.configure("lihgt:\n  - platform: binary\n")
    with pytest.raises(BuildError) as caught:
        await bench.build(sink)
    assert caught.value.failure_reason is FailureReason.CONFIG_INVALID
    assert caught.value.exit_code == 2
    assert caught.value.reason.line == "Component not found"


async def test_a_lambda_that_does_not_compile(bench: Bench, sink: Sink) -> None:
    bench.configure("sensor:\n  - platform: template\n    name: Level\n    lambda: return lihgt;\n")
    with pytest.raises(BuildError) as caught:
        await bench.build(sink)
    assert caught.value.failure_reason is FailureReason.COMPILE_FAILED
    assert caught.value.reason.key is ReasonKey.CODE_REFUSED_AT
    assert caught.value.reason.parameters["file"] in ("lamp.yaml", "src/main.cpp")
    assert caught.value.reason.line == "error: … was not declared in this scope"


async def test_a_machine_without_a_compiler_is_the_builders_fault(
    bench: Bench, sink: Sink, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    await bench.toolchains.ensure(VERSION, sink.lines)
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("sh", "env", "git"):
        if found := shutil.which(name):
            (programs / name).symlink_to(found)
    monkeypatch.setenv("PATH", str(programs))
    with pytest.raises(BuildError) as caught:
        await bench.build(sink)
    assert caught.value.failure_reason is FailureReason.BUILDER_ENVIRONMENT
    assert caught.value.reason.key is ReasonKey.TOOL_MISSING
