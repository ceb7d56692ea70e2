"""The offloader's half of the integration, as a program that runs on Alpine, without Home Assistant.

Its argument is a file with a ``Request``; it prints one line of JSON: an ``Answer``.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
import json
import os
from pathlib import Path
import platform
import sys
from typing import TypedDict, override

import aiohttp

from custom_components.esphome_offload.engine.build.cache.layout import CacheLayout
from custom_components.esphome_offload.engine.build.model import (
    BuildError,
    BuildRequest,
    BuildSink,
    Firmware,
    FlashRequest,
)
from custom_components.esphome_offload.engine.build.process.containment import Rules
from custom_components.esphome_offload.engine.build.process.machine_containment import Degree
from custom_components.esphome_offload.engine.build.process.processes import Command
from custom_components.esphome_offload.engine.build.services import BuildServices
from custom_components.esphome_offload.engine.client.dial import Caller, dial
from custom_components.esphome_offload.engine.client.link import PeerLink
from custom_components.esphome_offload.engine.client.peer_builder import PeerBuilder
from custom_components.esphome_offload.engine.const import Stage
from custom_components.esphome_offload.engine.devices.inspector import EsphomeInspector
from custom_components.esphome_offload.engine.libc import is_musl
from custom_components.esphome_offload.engine.protocol.hello import Introduction
from custom_components.esphome_offload.engine.protocol.identity import Identity
from custom_components.esphome_offload.engine.protocol.negotiation import own_offer
from custom_components.esphome_offload.engine.protocol.pairing import pair

CONFIG = Path("/config")
ZONE = "Europe/Vienna"
INVITATION = Path("/data/invitation.json")
"""It comes when the builder runs, which is started meanwhile."""
UNLIKELY = "86399.125"
"""Seconds; nothing else sleeps for so long."""


class Request(TypedDict):
    """The device, and ids that Python 3.14 makes."""

    version: str
    configuration: str
    device_name: str
    job_id: str
    attempt_id: str


class Invitation(TypedDict):
    """What a person reads on the builder and types."""

    url: str
    code: str


class Answer(TypedDict, total=False):
    """What happened, step by step; a step that failed is the last one, and ``failed`` says how."""

    python: str
    musl: bool
    builds_here: bool
    why_not: str
    without_strategy: str
    toolchain: str
    esphome: str
    left_running: list[str]
    contained: bool
    leaked: bool
    node_name: str | None
    config_hash: int | None
    warm: bool
    built_hash: int
    source_label: str
    firmware_sha256: str
    build_time: str
    stages: list[str]
    failed: str


@dataclass
class Sink(BuildSink):
    """Keeps stages and output."""

    stages: list[str] = field(default_factory=list)
    output: list[str] = field(default_factory=list)

    @override
    def stage(self, stage: Stage) -> None:
        self.stages.append(str(stage))

    @override
    def progress(self, percent: float) -> None:
        pass

    @override
    def lines(self, lines: Sequence[str]) -> None:
        self.output.extend(lines)


class Offloader:
    """The parts that Home Assistant would put together."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.services = BuildServices(CacheLayout(Path("/data/cache")), (Path("/config"),))
        self.sink = Sink()
        self.answer: Answer = {}

    async def run(self) -> None:
        """Do all steps; raises what one of them raises."""
        await self.services.start()
        try:
            await self.look_at_machine()
            await self.make_toolchain()
            await self.run_commands()
            await self.ask()
            await self.flash(await self.build())
        finally:
            self.answer["stages"] = self.sink.stages
            await self.services.aclose()

    async def look_at_machine(self) -> None:
        status = self.services.builder.status()
        self.answer["python"] = platform.python_version()
        self.answer["musl"] = is_musl()
        self.answer["builds_here"] = status.available
        self.answer["why_not"] = "" if status.why_not is None else status.why_not.key

    async def make_toolchain(self) -> None:
        """Make it as Home Assistant's image has it: with an index of its own that is asked first."""
        toolchains, version = self.services.toolchains, self.request["version"]
        os.environ["UV_INDEX_STRATEGY"] = "first-index"
        try:
            await toolchains.ensure(version, self.sink.lines)
        except BuildError as error:
            self.answer["without_strategy"] = error.reason.key
        del os.environ["UV_INDEX_STRATEGY"]
        await self.services.versions.check(version)
        toolchain = await toolchains.ensure(version, self.sink.lines)
        self.answer["toolchain"] = toolchain.version
        command = (str(toolchain.python), "-m", "esphome", "version")
        _, output = await self.services.processes.capture(self.command(*command), timeout=60)
        self.answer["esphome"] = output.strip()

    async def run_commands(self) -> None:
        """Run something that has to be ended, and something that is contained."""
        family = f"setsid sleep {UNLIKELY} & sleep {UNLIKELY}"
        try:
            await self.services.processes.capture(self.command("/bin/sh", "-c", family), timeout=1)
        except TimeoutError:
            self.answer["left_running"] = processes_with(UNLIKELY)
        own, other = Path("/data/own"), Path("/data/other")
        own.mkdir()
        other.mkdir()
        if self.services.containment.degree is Degree.UNCONTAINED:
            return
        script = f"echo x > {own}/file; echo x > {other}/file"
        system = tuple(map(Path, ("/bin", "/lib", "/usr")))
        contained = self.command("/bin/sh", "-c", script, rules=Rules(write=(own,), run=system))
        await self.services.processes.capture(contained, timeout=60)
        self.answer["contained"] = (own / "file").exists()
        self.answer["leaked"] = (other / "file").exists()

    async def ask(self) -> None:
        """Ask ESPHome about the device, and for the hash of its configuration."""
        services, name = self.services, self.request["configuration"]
        inspector = EsphomeInspector(services.layout, services.processes, services.toolchains)
        answer = (await inspector.ask(CONFIG, [name]))[name]
        self.answer["node_name"] = answer.node_name if answer.complete else None
        self.answer["config_hash"] = await services.config_hashes.calculate(
            name, CONFIG, self.request["version"], ZONE
        )

    async def build(self) -> Firmware:
        """Pair with the builder and have it build."""
        request = BuildRequest(
            job_id=self.request["job_id"],
            attempt_id=self.request["attempt_id"],
            configuration=self.request["configuration"],
            config_dir=CONFIG,
            device_name=self.request["device_name"],
            esphome_version=self.request["version"],
            time_zone=ZONE,
        )
        invitation = await invited()
        url, code = invitation["url"], invitation["code"]
        caller = Caller(Identity.generate(), Introduction(own_offer("1.2.3"), "alpine"))
        async with aiohttp.ClientSession() as http:
            async with dial(http, url, caller) as answered:
                paired = await pair(answered.opening, answered.hello, code)
            link = PeerLink(
                url=url,
                caller=caller,
                peer_key=paired.public,
                label=paired.label,
                session=http,
                wanted=lambda: (request.attempt_id,),
            )
            await link.start()
            try:
                await link.wait_connected(60)
                build = self.services
                builder = PeerBuilder(link, build.bundles, build.firmware, build.layout)
                firmware = await builder.build(request, self.sink)
            finally:
                await link.stop()
        self.answer["source_label"] = paired.label
        self.answer["firmware_sha256"] = firmware.sha256
        self.answer["build_time"] = firmware.build_info.build_time
        self.answer["built_hash"] = firmware.build_info.config_hash
        return firmware

    async def flash(self, firmware: Firmware) -> None:
        request = FlashRequest(
            job_id=self.request["job_id"],
            attempt_id=self.request["attempt_id"],
            configuration=self.request["configuration"],
            config_dir=CONFIG,
            firmware=firmware,
            addresses=("127.0.0.1",),
            time_zone=ZONE,
        )
        await self.services.flasher.flash(request, self.sink)
        # It does without if such a Python cannot be started.
        warm = self.services.processes._warm
        self.answer["warm"] = warm is not None and bool(warm._warm)

    def command(self, *argv: str, rules: Rules | None = None) -> Command:
        return Command(argv=argv, cwd=Path("/data"), env={"PATH": os.defpath}, rules=rules)


async def invited() -> Invitation:
    async with asyncio.timeout(300):
        while not INVITATION.exists():  # noqa: ASYNC110 - no event crosses
            await asyncio.sleep(0.1)
    found: Invitation = json.loads(INVITATION.read_bytes())
    return found


def processes_with(argument: str) -> list[str]:
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = file.read_bytes()
        except OSError:
            continue
        if argument.encode() in command.split(b"\0"):
            found.append(command.replace(b"\0", b" ").decode())
    return found


async def main() -> None:
    offloader = Offloader(json.loads(Path(sys.argv[1]).read_bytes()))
    try:
        await offloader.run()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what the tests are told
        output = "\n".join(offloader.sink.output[-30:])
        offloader.answer["failed"] = f"{error!r}\n{output}"
    print(json.dumps(offloader.answer))  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main())
