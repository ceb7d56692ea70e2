"""A machine that lends itself: the real host with real files; only what compiles is scripted."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import replace
import io
from itertools import count
import json
from pathlib import Path
import tarfile
from typing import override

from custom_components.esphome_offload.engine.build.cache.layout import CacheLayout
from custom_components.esphome_offload.engine.build.firmware import BuildResult, FirmwareStore
from custom_components.esphome_offload.engine.build.model import (
    BuilderStatus,
    BuildRequest,
    BuildSink,
    Firmware,
)
from custom_components.esphome_offload.engine.build.slots import Slots
from custom_components.esphome_offload.engine.const import Stage
from custom_components.esphome_offload.engine.host.admission import Caller, Lending
from custom_components.esphome_offload.engine.host.build_host import BuildHost
from custom_components.esphome_offload.engine.host.guests import Guest, GuestRegistry
from custom_components.esphome_offload.engine.host.ports import GuestBuildServices, StateStore
from custom_components.esphome_offload.engine.protocol import transfer
from custom_components.esphome_offload.engine.protocol.body import Sealer
from custom_components.esphome_offload.engine.protocol.definitions import (
    BUNDLE_LIMIT,
    FIRMWARE_LIMIT,
)
from custom_components.esphome_offload.engine.protocol.identity import Identity
from custom_components.esphome_offload.engine.protocol.messages import (
    Acknowledge,
    Attach,
    AttemptEvent,
    BuildEvent,
    Cancel,
    Known,
    LinesEvent,
    StatusEvent,
    Submit,
    Wanted,
)
from custom_components.esphome_offload.engine.protocol.payloads import (
    BodyHeader,
    BuildParameters,
    FirmwarePart,
)
from custom_components.esphome_offload.engine.protocol.seal import Channel, Purpose

from ...jobs.fakes import (
    BUILD_INFO,
    Act,
    ScriptedBuilder,
    VirtualTime,
)

LAMP = {"lamp.yaml": b"esphome:\n  name: lamp\n"}


async def until(condition: Callable[[], bool]) -> None:
    """Let everything run, threads too, until something is the case."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - of threads nothing tells
            await asyncio.sleep(0)


def make_bundle(path: Path, files: Mapping[str, bytes]) -> Path:
    """Pack files as ``esphome bundle`` does."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            member.mode = 0o644
            archive.addfile(member, io.BytesIO(content))
    return path


class MemoryStore(StateStore):
    """Keeps what a file would."""

    def __init__(self) -> None:
        self.text = "null"
        self.saves = 0
        self.error: OSError | None = None

    @override
    async def load(self) -> dict[str, object] | None:
        state: dict[str, object] | None = json.loads(self.text)
        return state

    @override
    def save_soon(self, state: Callable[[], dict[str, object]]) -> None:
        self.text = json.dumps(state())

    @override
    async def save_now(self, state: dict[str, object]) -> None:
        self.saves += 1
        self.text = json.dumps(state)

    @override
    async def save_durably(self, state: dict[str, object]) -> None:
        if self.error is not None:
            raise self.error
        await self.save_now(state)


class ScriptedGuestBuilder(ScriptedBuilder):
    """Does the next act of the lender's script, then keeps firmware made of the configuration."""

    layout: CacheLayout
    script_of: Lender

    @override
    async def build(self, request: BuildRequest, sink: BuildSink) -> Firmware:
        self.requests.append(request)
        self.script_of.builds.append(request)
        self.running += 1
        try:
            sink.stage(Stage.PREPARING)
            sink.stage(Stage.COMPILING)
            tree = self.layout.tree(request.configuration)
            tree.mkdir(parents=True, exist_ok=True)
            text = (request.config_dir / request.configuration).read_bytes()
            if self.script_of.script:
                await self.script_of.script.pop(0)(request, sink)
            image = tree / "firmware.bin"
            image.write_bytes(b"firmware of " + text)
            elf = tree / "firmware.elf"
            elf.write_bytes(b"symbols of " + text)
            return await FirmwareStore(self.layout).keep(
                request.configuration,
                request.device_name,
                BuildResult(image, None, elf, BUILD_INFO),
            )
        finally:
            self.running -= 1


class Lender:
    """The builder. ``restart`` makes it anew from what it stored."""

    def __init__(self, root: Path) -> None:
        self.layout = CacheLayout(root / "cache")
        self.identity = Identity.generate()
        self.time = VirtualTime()
        self.slots = Slots(1)
        self.guest_store = MemoryStore()
        self.store = MemoryStore()
        self.script: list[Act] = []
        self.builds: list[BuildRequest] = []
        self.state = BuilderStatus(available=True, versions=("2026.10.0",), disk_mib=50_000)
        self.builders: dict[str, ScriptedGuestBuilder] = {}
        self._ids = count(1)
        self.host = self._make()

    def _make(self) -> BuildHost:
        self.guests = GuestRegistry(self.guest_store)
        return BuildHost(
            identity=self.identity,
            guests=self.guests,
            store=self.store,
            layout=self.layout,
            slots=self.slots,
            make_build_services=self._make_workshop,
            time=self.time,
        )

    async def _make_workshop(self, layout: CacheLayout) -> GuestBuildServices:
        builder = ScriptedGuestBuilder(state=self.state)
        builder.layout = layout
        builder.script_of = self
        self.builders[layout.root.name] = builder
        return GuestBuildServices(layout, builder, FirmwareStore(layout))

    async def start(self) -> None:
        await self.guests.load()
        await self.host.start()
        await self.host.lend(Lending.ON)

    async def restart(self) -> None:
        await self.host.stop()
        self.host = self._make()
        await self.start()

    async def crash(self) -> None:
        """Start anew from what was stored before the last moment; the builds die with it."""
        store, guests = self.store.text, self.guest_store.text
        await self.host.stop()
        self.store.text, self.guest_store.text = store, guests
        self.host = self._make()
        await self.start()

    def new_id(self) -> str:
        """Return an id of the lender's present time: UUID 7 with a counter."""
        milliseconds = int(self.time.now().timestamp() * 1000)
        return f"{milliseconds:012x}7{next(self._ids):019x}"

    async def pair(self, label: str, identity: Identity | None = None) -> Offloader:
        identity = identity or Identity.generate()
        guest = Guest(identity.public, label, f"user of {label}", self.time.now())
        await self.guests.add(guest)
        return Offloader(self, identity, guest.user_id)


class Offloader:
    """A guest, as the lender's Home Assistant lets it in."""

    def __init__(self, lender: Lender, identity: Identity, user_id: str) -> None:
        self.lender = lender
        self.identity = identity
        self.pin = identity.pin_sha256
        self.caller = Caller(user_id, self.pin)
        self.http = Caller(user_id)
        self.channel = Channel(identity, lender.identity.public)
        self.scratch = lender.layout.root.parent / "scratch" / self.pin[:8]
        self.scratch.mkdir(parents=True, exist_ok=True)

    @property
    def host(self) -> BuildHost:
        return self.lender.host

    def parameters(self, attempt_id: str, **changes: object) -> BuildParameters:
        base = BuildParameters(
            job_id=self.lender.new_id(),
            attempt_id=attempt_id,
            configuration="lamp.yaml",
            device_name="lamp",
            esphome_version="2026.10.0",
            time_zone="Europe/Berlin",
        )
        return replace(base, **changes)  # type: ignore[arg-type]

    def sealer(
        self, attempt_id: str, files: Mapping[str, bytes] | None = None, **changes: object
    ) -> Sealer:
        bundle = make_bundle(self.scratch / f"{self.lender.new_id()}.tar.gz", files or LAMP)
        parameters = self.parameters(attempt_id, **changes)
        return Sealer(self.channel, Purpose.BUNDLE, bundle, parameters, limit=BUNDLE_LIMIT)

    async def put(self, attempt_id: str, sealer: Sealer) -> None:
        await self.host.receive(self.http, attempt_id, transfer.send(sealer))

    async def submit(self, files: Mapping[str, bytes] | None = None, **changes: object) -> str:
        """Send a bundle and submit it; returns the attempt id."""
        attempt_id = self.lender.new_id()
        sealer = self.sealer(attempt_id, files, **changes)
        await self.put(attempt_id, sealer)
        await self.host.submit(self.caller, Submit(attempt_id, sealer.sha256))
        return attempt_id

    def attach(self, attempt_id: str, from_line: int = 0) -> AsyncGenerator[BuildEvent]:
        return self.host.attach(self.caller, Attach(attempt_id, from_line))

    async def events(self, attempt_id: str, from_line: int = 0) -> list[BuildEvent]:
        """Return all that there is to tell until the attempt has ended."""
        async with asyncio.timeout(10):
            return [event async for event in self.attach(attempt_id, from_line)]

    async def end(self, attempt_id: str) -> AttemptEvent:
        """Wait until an attempt has ended."""
        last = (await self.events(attempt_id))[-1]
        assert isinstance(last, AttemptEvent)
        return last

    async def wanted(self, *attempt_ids: str) -> Known:
        return await self.host.wanted(self.caller, Wanted(attempt_ids))

    async def cancel(self, attempt_id: str) -> None:
        await self.host.cancel(self.caller, Cancel(attempt_id))

    async def acknowledge(self, attempt_id: str) -> None:
        await self.host.acknowledge(self.caller, Acknowledge(attempt_id))

    async def status(self) -> StatusEvent:
        stream = self.host.status(self.caller)
        try:
            return await anext(stream)
        finally:
            await stream.aclose()

    async def fetch(
        self, attempt_id: str, part: FirmwarePart = FirmwarePart.OTA
    ) -> tuple[BodyHeader, bytes]:
        """Fetch and open a file of the firmware."""
        sealer = await self.host.firmware(self.http, attempt_id, part)
        target = self.scratch / "fetched"
        header = await transfer.receive(
            self.channel, Purpose.FIRMWARE, transfer.send(sealer), target, limit=FIRMWARE_LIMIT
        )
        return header, target.read_bytes()


def lines_of(events: list[BuildEvent]) -> list[tuple[int, str]]:
    """Return the numbered lines in these events."""
    return [
        (event.first_line + index, line)
        for event in events
        if isinstance(event, LinesEvent)
        for index, line in enumerate(event.lines)
    ]


def printing(*lines: str) -> Act:
    """Return an act that prints."""

    async def act(_request: BuildRequest, sink: BuildSink) -> None:
        sink.lines(lines)

    return act


def then(*acts: Callable[[BuildRequest, BuildSink], Awaitable[None]]) -> Act:
    """Return an act that does one act after the other."""

    async def act(request: BuildRequest, sink: BuildSink) -> None:
        for each in acts:
            await each(request, sink)

    return act
