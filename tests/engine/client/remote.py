"""A real builder at a real port, and the offloader: real link and PeerBuilder, bundles by hand."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
import hashlib
from pathlib import Path
from typing import override
import uuid

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer
import pytest

from custom_components.esphome_offload.engine.build.bundle import Bundle, Bundles
from custom_components.esphome_offload.engine.build.cache.layout import CacheLayout
from custom_components.esphome_offload.engine.build.firmware import FirmwareStore
from custom_components.esphome_offload.engine.build.model import (
    BuildError,
    BuildRequest,
    BuildSink,
    Firmware,
)
from custom_components.esphome_offload.engine.build.process.processes import Processes
from custom_components.esphome_offload.engine.build.toolchain.toolchains import Toolchains
from custom_components.esphome_offload.engine.build.toolchain.uv import Uv
from custom_components.esphome_offload.engine.client.dial import Caller
from custom_components.esphome_offload.engine.client.link import PeerLink
from custom_components.esphome_offload.engine.client.peer_builder import PeerBuilder
from custom_components.esphome_offload.engine.clock import SystemTime
from custom_components.esphome_offload.engine.const import Stage
from custom_components.esphome_offload.engine.host.commands import GuestCommands
from custom_components.esphome_offload.engine.protocol.calls import Call
from custom_components.esphome_offload.engine.protocol.hello import URL_LINK, Introduction
from custom_components.esphome_offload.engine.protocol.identity import Identity
from custom_components.esphome_offload.engine.protocol.negotiation import own_offer

from ..host.builder import LAMP, BuilderMachine, make_bundle
from ..jobs.fakes import VirtualTime
from .proxy import Proxy


class BriskTime(VirtualTime):
    """Pauses of up to a second end at once; longer ones when the test lets time pass."""

    @override
    def call_later(self, seconds: float, action: Callable[[], None]) -> Callable[[], None]:
        if seconds > 1:
            return super().call_later(seconds, action)
        return asyncio.get_running_loop().call_later(0.001, action).cancel


class RemoteBuilder(BuilderMachine):
    """A builder at a port. Counts the commands of its guests."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, SystemTime())
        self.commands: Counter[str] = Counter()
        self.connections = 0
        app = web.Application()
        app.router.add_get(URL_LINK, self._handle)
        self._web = TestServer(app)

    @property
    def port(self) -> int:
        assert self._web.port is not None
        return self._web.port

    @override
    async def start(self) -> None:
        await super().start()
        if not self._web.started:
            await self._web.start_server()

    async def close(self) -> None:
        await self.stop()
        await self._web.close()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.connections += 1
        return await self.server.handle(request)


def count_commands(remote: RemoteBuilder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Count the commands of a builder's guests from now on."""
    serve = GuestCommands.serve

    async def counting(commands: GuestCommands, call: Call) -> object | None:
        if commands._host is remote.host:
            remote.commands[call.type] += 1
        return await serve(commands, call)

    monkeypatch.setattr(GuestCommands, "serve", counting)


class Sink(BuildSink):
    """Keeps what it was given."""

    def __init__(self) -> None:
        self.stages: list[Stage] = []
        self.percents: list[float] = []
        self.places: list[int] = []
        self.output: list[str] = []
        self.changed = asyncio.Event()

    @override
    def stage(self, stage: Stage) -> None:
        if self.stages[-1:] != [stage]:
            self.stages.append(stage)
        self.changed.set()

    @override
    def progress(self, percent: float) -> None:
        self.percents.append(percent)
        self.changed.set()

    @override
    def lines(self, lines: Sequence[str]) -> None:
        self.output.extend(lines)
        self.changed.set()

    @override
    def place(self, ahead: int) -> None:
        self.places.append(ahead)
        self.changed.set()

    @property
    def built(self) -> list[str]:
        """What the builder printed."""
        return [line for line in self.output if not line.startswith("== ")]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


class HandMadeBundles(Bundles):
    """Packs ``files`` of a test. Lists what was invalidated."""

    def __init__(self, layout: CacheLayout) -> None:
        processes = Processes()
        uv = Uv(layout, ("uv",), Path("python"))
        super().__init__(layout, processes, Toolchains(layout, processes, uv))
        self.files: dict[str, bytes] = dict(LAMP)
        self.invalidated: list[str] = []
        self.made = 0
        self.error: BuildError | None = None
        self.record = "{}"
        """What ESPHome validated for them."""

    @override
    async def validated(self, configuration: str, sha256: str) -> dict[str, Path]:
        record = self._layout.staging / f"validated for {sha256}"
        await asyncio.to_thread(record.write_text, self.record)
        return {"json": record, "validated.json": record}

    @override
    async def make(self, request: BuildRequest, lines: Callable[[Sequence[str]], None]) -> Bundle:
        if self.error is not None:
            raise self.error
        self.made += 1
        # The name goes into the bundle, the folder does not.
        folder = self._layout.staging / f"bundle of {request.attempt_id}"
        folder.mkdir(parents=True, exist_ok=True)
        own = {request.configuration: f"esphome:\n  name: {request.device_name}\n".encode()}
        path = make_bundle(folder / "bundle.tar.gz", {**own, **self.files})
        content = bytearray(path.read_bytes())
        content[4:8] = bytes(4)
        path.write_bytes(content)
        return Bundle(path, hashlib.sha256(content).hexdigest(), len(content), fresh=True)

    @override
    async def invalidate(self, configuration: str) -> None:
        self.invalidated.append(configuration)


async def until(link: PeerLink, condition: Callable[[], bool]) -> None:
    """Wait until something is the case, looking whenever the link has changed."""
    changed = asyncio.Event()
    unsubscribe = link.subscribe(changed.set)
    try:
        async with asyncio.timeout(30):
            while not condition():
                changed.clear()
                await changed.wait()
    finally:
        unsubscribe()


class Offloader:
    """The offloader. ``wanted`` is what its queue would want."""

    def __init__(
        self,
        root: Path,
        remote: RemoteBuilder,
        proxy: Proxy,
        http: aiohttp.ClientSession,
        label: str = "attic",
    ) -> None:
        self.label = label
        self.remote = remote
        self.proxy = proxy
        self.http = http
        self.time = BriskTime()
        self.identity = Identity.generate()
        self.layout = CacheLayout(root / "offloader")
        self.layout.make()
        self.bundles = HandMadeBundles(self.layout)
        self.store = FirmwareStore(self.layout)
        self.wanted: set[str] = set()
        self.make()

    def make(self) -> None:
        """Make link and builder again, as after a restart."""
        introduction = Introduction(own_offer("0.1.0"), "offloader")
        self.link = PeerLink(
            url=self.proxy.url,
            caller=Caller(self.identity, introduction),
            peer_key=self.remote.identity.public,
            label=self.label,
            session=self.http,
            wanted=self.still_wanted,
            time=self.time,
            jitter=lambda: 0.0,
        )
        self.builder = PeerBuilder(self.link, self.bundles, self.store, self.layout, time=self.time)

    async def pair(self) -> None:
        await self.remote.pair("offloader", self.identity)

    def still_wanted(self) -> Iterable[str]:
        return self.wanted

    async def connect(self) -> None:
        await self.link.start()
        await self.until(lambda: self.link.connected and self.link.status is not None)

    async def cut(self) -> None:
        """Lose the connection, and make no other before ``mend``."""
        await self.proxy.cut()
        await self.until(lambda: not self.link.connected)

    async def mend(self) -> None:
        """Connect again."""
        await self.proxy.mend()
        self.link.wake()
        await self.until(lambda: self.link.connected)

    async def blink(self) -> None:
        """Lose the connection; the next try finds the builder again."""
        await self.proxy.blink()
        self.link.wake()

    async def until(self, condition: Callable[[], bool]) -> None:
        await until(self.link, condition)

    def request(self, attempt_id: str | None = None, **changes: object) -> BuildRequest:
        values: dict[str, object] = {
            "job_id": uuid.uuid7().hex,
            "attempt_id": attempt_id or uuid.uuid7().hex,
            "configuration": "lamp.yaml",
            "config_dir": Path("nowhere"),
            "device_name": "lamp",
            "esphome_version": "2026.10.0",
            "time_zone": "Europe/Berlin",
            **changes,
        }
        return BuildRequest(**values)  # type: ignore[arg-type]

    async def build(self, sink: BuildSink | None = None, **changes: object) -> Firmware:
        """Build as the queue would; it wants the attempt as long as it runs."""
        request = self.request(**changes)  # type: ignore[arg-type]
        self.wanted.add(request.attempt_id)
        try:
            async with asyncio.timeout(60):
                return await self.builder.build(request, sink or Sink())
        finally:
            self.wanted.discard(request.attempt_id)
