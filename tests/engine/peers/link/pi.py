"""The offloader: a real link and a real PeerBuilder; only the bundles are packed by hand."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
import hashlib
from pathlib import Path
from typing import override
import uuid

import aiohttp

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
from custom_components.esphome_offload.engine.client.link import PeerLink
from custom_components.esphome_offload.engine.client.peer_builder import PeerBuilder
from custom_components.esphome_offload.engine.const import Stage
from custom_components.esphome_offload.engine.protocol.identity import Identity
from custom_components.esphome_offload.engine.protocol.negotiation import own_offer

from ..host.lender import LAMP, make_bundle
from ..stand import Stand, Wire


class Sink(BuildSink):
    """Remembers what it was told."""

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
        async with asyncio.timeout(10):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


class HandMade(Bundles):
    """Packs ``files`` of a test. Says what was doubted."""

    def __init__(self, layout: CacheLayout) -> None:
        processes = Processes()
        uv = Uv(layout, ("uv",), Path("python"))
        super().__init__(layout, processes, Toolchains(layout, processes, uv))
        self.files: dict[str, bytes] = dict(LAMP)
        self.doubted: list[str] = []
        self.made = 0
        self.error: BuildError | None = None

    @override
    async def make(self, request: BuildRequest, lines: Callable[[Sequence[str]], None]) -> Bundle:
        if self.error is not None:
            raise self.error
        self.made += 1
        # The name goes into the bundle, the folder does not.
        folder = self._layout.staging / f"bundle of {request.attempt_id}"
        folder.mkdir(parents=True)
        own = {request.configuration: f"esphome:\n  name: {request.device_name}\n".encode()}
        files = {**own, **self.files}
        path = make_bundle(folder / "bundle.tar.gz", files)
        content = bytearray(path.read_bytes())
        content[4:8] = bytes(4)
        path.write_bytes(content)
        return Bundle(path, hashlib.sha256(content).hexdigest(), len(content), fresh=True)

    @override
    async def invalidate(self, configuration: str) -> None:
        self.doubted.append(configuration)


class Pi:
    """The offloader. ``wanted`` is what its queue would say."""

    def __init__(
        self,
        root: Path,
        stand: Stand,
        wire: Wire,
        session: aiohttp.ClientSession,
        label: str = "workshop",
    ) -> None:
        self.label = label
        self.stand = stand
        self.wire = wire
        self.http = session
        self.identity = Identity.generate()
        self.layout = CacheLayout(root / "pi")
        self.layout.make()
        self.bundles = HandMade(self.layout)
        self.store = FirmwareStore(self.layout)
        self.wanted: set[str] = set()
        self.changes = 0
        self.make()

    def make(self, *, patience: float = 10.0) -> None:
        """Make link and builder anew, as after a restart."""
        self.link = PeerLink(
            url=self.wire.url,
            identity=self.identity,
            peer_key=self.stand.lender.identity.public,
            label=self.label,
            offer=own_offer("0.1.0"),
            session=self.http,
            wanted=self.still_wanted,
            jitter=lambda: 0.0,
        )
        self.link.subscribe(self._changed)
        self.builder = PeerBuilder(
            self.link,
            self.bundles,
            self.store,
            self.layout,
            patience=patience,
            submit_patience=patience,
        )

    def still_wanted(self) -> Iterable[str]:
        return self.wanted

    def _changed(self) -> None:
        self.changes += 1

    async def connect(self) -> None:
        await self.link.start()
        await self.until(lambda: self.link.connected and self.link.status is not None)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something is the case, looking whenever the link has changed."""
        changed = asyncio.Event()
        unsubscribe = self.link.subscribe(changed.set)
        try:
            async with asyncio.timeout(10):
                while not condition():
                    changed.clear()
                    await changed.wait()
        finally:
            unsubscribe()

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
            async with asyncio.timeout(20):
                return await self.builder.build(request, sink or Sink())
        finally:
            self.wanted.discard(request.attempt_id)
