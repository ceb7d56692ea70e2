"""A builder: the real host and server with real files; only what compiles is scripted."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
import hashlib
import io
from itertools import count
import json
from pathlib import Path
import shutil
import tarfile
from typing import override

from aiohttp import web
from aiohttp.test_utils import TestServer
import pytest

from custom_components.esphome_offload.engine.build.cache.layout import CacheLayout
from custom_components.esphome_offload.engine.build.firmware import BuildResult, FirmwareStore
from custom_components.esphome_offload.engine.build.model import (
    BuilderStatus,
    BuildRequest,
    BuildSink,
    Firmware,
)
from custom_components.esphome_offload.engine.build.services import GuestBuildServices
from custom_components.esphome_offload.engine.build.slots import Slots
from custom_components.esphome_offload.engine.clock import Time
from custom_components.esphome_offload.engine.const import Image, Stage
from custom_components.esphome_offload.engine.host.build_host import BuildHost
from custom_components.esphome_offload.engine.host.guests import GuestRegistry
from custom_components.esphome_offload.engine.host.inbox import Receive
from custom_components.esphome_offload.engine.host.lending import Lending
from custom_components.esphome_offload.engine.host.pairing_window import PairingWindow
from custom_components.esphome_offload.engine.host.ports import StateStore
from custom_components.esphome_offload.engine.host.server import LinkServer, Served
from custom_components.esphome_offload.engine.protocol.bodies import IncomingFile
from custom_components.esphome_offload.engine.protocol.errors import ErrorCode, ProtocolError
from custom_components.esphome_offload.engine.protocol.hello import URL_LINK
from custom_components.esphome_offload.engine.protocol.identity import Identity
from custom_components.esphome_offload.engine.protocol.messages import (
    Acknowledge,
    Attach,
    AttemptEvent,
    BuildEvent,
    Cancel,
    Clean,
    Fetch,
    FetchImage,
    Known,
    LinesEvent,
    SendBundle,
    StatusEvent,
    Submit,
    Wanted,
)
from custom_components.esphome_offload.engine.protocol.negotiation import own_offer
from custom_components.esphome_offload.engine.protocol.payloads import (
    BuildParameters,
    FirmwareHeader,
)

from ..jobs.fakes import (
    BUILD_INFO,
    Act,
    Block,
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
    """Does the next act of the script, then keeps firmware made of the configuration."""

    layout: CacheLayout
    script_of: BuilderMachine

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
            return await FirmwareStore(self.layout).keep(
                request.configuration,
                request.device_name,
                BuildResult(
                    image,
                    replace(BUILD_INFO, esphome_version=request.esphome_version),
                    images=tuple(self.script_of.make_images(tree)),
                ),
            )
        finally:
            self.running -= 1


class BuilderMachine:
    """The builder. ``restart`` makes it again from what it stored."""

    def __init__(self, root: Path, time: Time | None = None) -> None:
        self.layout = CacheLayout(root / "cache")
        self.identity = Identity.generate()
        self.virtual = VirtualTime()
        self.clock: Time = time or self.virtual
        self.slots = Slots(1)
        self.guest_store = MemoryStore()
        self.store = MemoryStore()
        self.script: list[Act] = []
        self.builds: list[BuildRequest] = []
        self.images: dict[str, bytes] = {}
        self.state = BuilderStatus(available=True, versions=("2026.10.0",), disk_mib=50_000)
        self.builders: dict[str, ScriptedGuestBuilder] = {}
        self._ids = count(1)
        self._make()

    def make_images(self, tree: Path) -> Iterator[Path]:
        """Make what a build makes beside the OTA image."""
        for name, content in self.images.items():
            (tree / name).write_bytes(content)
            yield tree / name

    @property
    def time(self) -> VirtualTime:
        return self.virtual

    def _make(self) -> None:
        self.guests = GuestRegistry(self.guest_store)
        self.host = BuildHost(
            guests=self.guests,
            store=self.store,
            layout=self.layout,
            slots=self.slots,
            make_build_services=self._make_services,
            time=self.clock,
        )
        self.window = PairingWindow(self.clock.monotonic)
        self.server = LinkServer(self.clock)
        self.server.served = Served(
            self.identity, own_offer("1.2.3"), lambda: "builder", self.host, self.window
        )

    async def _make_services(self, layout: CacheLayout) -> GuestBuildServices:
        builder = ScriptedGuestBuilder(state=self.state)
        builder.layout = layout
        builder.script_of = self
        self.builders[layout.root.name] = builder
        return GuestBuildServices(layout, builder, FirmwareStore(layout))

    async def start(self) -> None:
        await self.guests.load()
        await self.host.start()
        await self.host.lend(Lending.ON)

    async def stop(self) -> None:
        await self.server.close()
        await self.host.stop()

    async def restart(self) -> None:
        await self.stop()
        self._make()
        await self.start()

    async def crash(self) -> None:
        """Start again from what was stored before the last moment; the builds die with it."""
        store, guests = self.store.text, self.guest_store.text
        await self.stop()
        self.store.text, self.guest_store.text = store, guests
        self._make()
        await self.start()

    def new_id(self) -> str:
        """Return an id of the builder's present time: UUID 7 with a counter."""
        milliseconds = int(self.clock.now().timestamp() * 1000)
        return f"{milliseconds:012x}7{next(self._ids):019x}"

    async def start_blocked(
        self, guest: GuestCalls, files: Mapping[str, bytes] | None = None, **changes: object
    ) -> tuple[str, Block]:
        """Return a build that has started and waits, and what it waits for."""
        block = Block()
        self.script = [block]
        attempt_id = await guest.submit(files, **changes)
        await block.entered.wait()
        return attempt_id, block

    async def pair(self, label: str, identity: Identity | None = None) -> GuestCalls:
        identity = identity or Identity.generate()
        await self.guests.add(identity.public, label, self.clock.now())
        return GuestCalls(self, identity)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Serve the link on 127.0.0.1 and give its URL."""

        async def handle(request: web.Request) -> web.StreamResponse:
            return await self.server.handle(request)

        app = web.Application()
        app.router.add_get(URL_LINK, handle)
        async with TestServer(app, host="127.0.0.1") as server:
            try:
                yield str(server.make_url(URL_LINK))
            finally:
                await self.server.close()


@dataclass(frozen=True)
class BundleFile:
    """A bundle as a guest has it."""

    path: Path
    sha256: str
    size: int


class GuestCalls:
    """What a guest asks of the host, without a connection in between."""

    def __init__(self, builder: BuilderMachine, identity: Identity) -> None:
        self.builder = builder
        self.identity = identity
        self.pin = identity.pin_sha256
        self.scratch = builder.layout.root.parent / "scratch" / self.pin[:8]
        self.scratch.mkdir(parents=True, exist_ok=True)

    @property
    def host(self) -> BuildHost:
        return self.builder.host

    def parameters(self, attempt_id: str, **changes: object) -> BuildParameters:
        base = BuildParameters(
            job_id=self.builder.new_id(),
            attempt_id=attempt_id,
            configuration="lamp.yaml",
            device_name="lamp",
            esphome_version="2026.10.0",
            time_zone="Europe/Berlin",
        )
        return replace(base, **changes)  # type: ignore[arg-type]

    def bundle(self, files: Mapping[str, bytes] | None = None) -> BundleFile:
        path = make_bundle(self.scratch / f"{self.builder.new_id()}.tar.gz", files or LAMP)
        content = path.read_bytes()
        return BundleFile(path, hashlib.sha256(content).hexdigest(), len(content))

    async def put(
        self, attempt_id: str, bundle: BundleFile, receive: Receive | None = None
    ) -> None:
        async def copy(file: IncomingFile) -> None:
            assert (file.sha256, file.size) == (bundle.sha256, bundle.size)
            shutil.copy(bundle.path, file.target)

        command = SendBundle(attempt_id, bundle.sha256, bundle.size)
        await self.host.receive(self.pin, command, receive or copy)

    async def ask(self, attempt_id: str, bundle_sha256: str, **changes: object) -> None:
        """Submit what was put before."""
        submit = Submit(self.parameters(attempt_id, **changes), bundle_sha256)
        await self.host.submit(self.pin, submit)

    async def submit(self, files: Mapping[str, bytes] | None = None, **changes: object) -> str:
        """Send a bundle and submit it; returns the attempt id."""
        attempt_id = self.builder.new_id()
        bundle = self.bundle(files)
        await self.put(attempt_id, bundle)
        await self.ask(attempt_id, bundle.sha256, **changes)
        return attempt_id

    def attach(self, attempt_id: str, from_line: int = 0) -> AsyncGenerator[BuildEvent]:
        return self.host.attach(self.pin, Attach(attempt_id, from_line))

    async def events(self, attempt_id: str, from_line: int = 0) -> list[BuildEvent]:
        """Return all events until the attempt has ended."""
        async with asyncio.timeout(10):
            return [event async for event in self.attach(attempt_id, from_line)]

    async def end(self, attempt_id: str) -> AttemptEvent:
        """Wait until an attempt has ended."""
        last = (await self.events(attempt_id))[-1]
        assert isinstance(last, AttemptEvent)
        return last

    async def wanted(self, *attempt_ids: str) -> Known:
        return await self.host.wanted(self.pin, Wanted(attempt_ids))

    async def cancel(self, attempt_id: str) -> None:
        await self.host.cancel(self.pin, Cancel(attempt_id))

    async def acknowledge(self, attempt_id: str) -> None:
        await self.host.acknowledge(self.pin, Acknowledge(attempt_id))

    async def clean(self, configuration: str) -> None:
        await self.host.clean(self.pin, Clean(configuration))

    async def status(self) -> StatusEvent:
        stream = self.host.status(self.pin)
        try:
            return await anext(stream)
        finally:
            await stream.aclose()

    async def fetch(self, attempt_id: str) -> tuple[FirmwareHeader, bytes]:
        """Return the firmware, with its header."""
        file = await self.host.firmware(self.pin, Fetch(attempt_id))
        assert isinstance(file.header, FirmwareHeader)
        return file.header, file.path.read_bytes()

    async def fetch_image(self, sha256: str, image: Image = Image.ELF) -> bytes:
        """Return another file of a firmware of the lamp."""
        file = await self.host.firmware(self.pin, FetchImage("lamp.yaml", sha256, image))
        return file.path.read_bytes()


async def refused(act: Awaitable[object]) -> ErrorCode:
    """Return the code with which an act is refused."""
    with pytest.raises(ProtocolError) as refusal:
        await act
    return refusal.value.code


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
