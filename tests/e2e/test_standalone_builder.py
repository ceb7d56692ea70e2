"""The standalone builder, from its wheel, in an environment without Home Assistant: real builds."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
import time
from zlib import crc32

import aiohttp
import pytest
import pytest_asyncio

from custom_components.esphome_offload.engine.client.dial import Caller, dial
from custom_components.esphome_offload.engine.client.link import PeerLink
from custom_components.esphome_offload.engine.jobs.attempt_sink import new_id
from custom_components.esphome_offload.engine.protocol.bodies import IncomingFile
from custom_components.esphome_offload.engine.protocol.calls import CommandRefused
from custom_components.esphome_offload.engine.protocol.errors import ErrorCode
from custom_components.esphome_offload.engine.protocol.hello import Introduction
from custom_components.esphome_offload.engine.protocol.identity import Identity
from custom_components.esphome_offload.engine.protocol.messages import (
    AttemptState,
    BuildEvent,
    Fetch,
    LinesEvent,
    SendBundle,
    Submit,
)
from custom_components.esphome_offload.engine.protocol.negotiation import own_offer
from custom_components.esphome_offload.engine.protocol.pairing import pair
from custom_components.esphome_offload.engine.protocol.parsing import parse
from custom_components.esphome_offload.engine.protocol.payloads import (
    BuildParameters,
    FirmwareHeader,
)

from ..engine.host.builder import make_bundle
from ..engine.host.guest_link import digest
from .harness.device import NEW_VERSION
from .harness.standalone import StandaloneBuilder
from .harness.waiting import until

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

# The address is in a header that all sources include: no compiler cache helps another device.
YAML = b"esphome:\n  name: %s\nhost:\n  mac_address: 02:00:00:00:00:%02x\nlogger:\napi:\n"
NAME = "living room"


class Guest:
    """An offloader: the integration's engine, with bundles made by hand."""

    def __init__(self, builder: StandaloneBuilder, http: aiohttp.ClientSession) -> None:
        self.builder = builder
        self.caller = Caller(Identity.generate(), Introduction(own_offer("1.2.3"), NAME))
        self.http = http
        self.wanted: list[str] = []
        self.lines: list[str] = []

    async def pair(self) -> None:
        code = await self.builder.open_pairing()
        async with dial(self.http, self.builder.url, self.caller) as answered:
            await pair(answered.opening, answered.hello, code)
        assert code not in self.builder.log

    @asynccontextmanager
    async def link(self) -> AsyncIterator[PeerLink]:
        link = PeerLink(
            url=self.builder.url,
            caller=self.caller,
            peer_key=self.builder.identity.public,
            label=self.builder.name,
            session=self.http,
            wanted=lambda: self.wanted,
        )
        await link.start()
        try:
            await link.wait_connected(30)
            yield link
        finally:
            await link.stop()

    async def submit(self, link: PeerLink, folder: Path, name: str) -> str:
        """Submit a build of a new attempt and return its id."""
        attempt_id = new_id()
        self.wanted.append(attempt_id)
        yaml = YAML % (name.encode(), crc32(name.encode()) % 256)
        bundle = make_bundle(folder / f"{name}.tar.gz", {f"{name}.yaml": yaml})
        content = bundle.read_bytes()
        parameters = BuildParameters(
            new_id(), attempt_id, f"{name}.yaml", name, NEW_VERSION, "Europe/Vienna"
        )
        await link.send_bundle(SendBundle(attempt_id, digest(content), len(content)), bundle)
        await link.submit(Submit(parameters, digest(content)))
        return attempt_id

    def seen(self, event: BuildEvent) -> None:
        if isinstance(event, LinesEvent):
            self.lines += event.lines

    async def compiling(self, link: PeerLink, attempt_id: str) -> None:
        """Return once the compiler has begun."""
        self.lines.clear()
        following = asyncio.create_task(link.follow(attempt_id, 0, self.seen))

        async def begun() -> bool:
            return any("] CXX " in line for line in self.lines)

        await until(begun, "the compiler")
        following.cancel()


async def fetched(link: PeerLink, attempt_id: str, target: Path) -> bytes:
    def accept(raw: object) -> IncomingFile:
        header = parse(FirmwareHeader, raw)
        return IncomingFile(target, header.size, header.sha256)

    await link.fetch(Fetch(attempt_id), accept)
    return target.read_bytes()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def builder(early_sockets: None, workspace: Path) -> AsyncIterator[StandaloneBuilder]:
    builder = StandaloneBuilder(workspace.with_name(f"{workspace.name}-standalone"))
    try:
        # Its builds are our own.
        await builder.open("--uncontained")
        yield builder
    finally:
        await builder.close()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def guest(builder: StandaloneBuilder) -> AsyncIterator[Guest]:
    async with aiohttp.ClientSession() as http:
        guest = Guest(builder, http)
        await guest.pair()
        yield guest


async def test_a_build_is_seen_in_its_status_and_kept_when_it_is_killed(
    builder: StandaloneBuilder, guest: Guest, tmp_path: Path
) -> None:
    async with guest.link() as link:
        attempt_id = await guest.submit(link, tmp_path, "lamp")
        await guest.compiling(link, attempt_id)
        (build,) = (await builder.json("status"))["builds"]
        assert (build["guest"], build["device"], build["stage"]) == (NAME, "lamp", "compiling")
        end = await link.follow(attempt_id, 0, guest.seen)
        assert end.state is AttemptState.COMPLETED, builder.log
        built = await fetched(link, attempt_id, tmp_path / "built")
        assert built.startswith(b"\x7fELF")
        assert any(line.startswith("== Compiler cache: ") for line in guest.lines)
        status = await builder.json("status")
        assert status["ccache"] is True
        assert status["ccache_files"] > status["ccache_hits"]

        interrupted = await guest.submit(link, tmp_path, "heater")
        await guest.compiling(link, interrupted)
        await builder.kill()
    await builder.start("--uncontained")
    assert builder.build_processes() == {}, "what it had started has ended by itself"
    async with guest.link() as link:
        end = await link.follow(attempt_id, 0, guest.seen)
        assert end.state is AttemptState.COMPLETED
        assert await fetched(link, attempt_id, tmp_path / "again") == built
        with pytest.raises(CommandRefused) as refused:
            await link.follow(interrupted, 0, guest.seen)
        assert refused.value.code is ErrorCode.UNKNOWN_ATTEMPT
    assert (await builder.json("guests"))[0]["builds"] == 1


async def test_sigterm_ends_it_and_its_builds_within_ten_seconds(
    builder: StandaloneBuilder, guest: Guest, tmp_path: Path
) -> None:
    async with guest.link() as link:
        await guest.compiling(link, await guest.submit(link, tmp_path, "fan"))
        began = time.monotonic()
        assert await builder.terminate() == 0
        assert time.monotonic() - began < 10
    assert builder.build_processes() == {}
    assert "Traceback" not in builder.log
    await builder.start("--uncontained")


async def test_its_log_has_a_line_for_each_event(
    builder: StandaloneBuilder, guest: Guest, tmp_path: Path
) -> None:
    async with guest.link() as link:
        attempt_id = await guest.submit(link, tmp_path, "lamp")
        await link.follow(attempt_id, 0, guest.seen)
    for event in ("has connected", "Build submitted", "Build started", "Build completed"):
        assert any(event in line for line in builder.log.splitlines()), event
    assert all(line[:4].isdigit() for line in builder.log.splitlines())
