"""A guest that sends its commands, and what belongs to them, in any order and in any number."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
import tempfile

from hypothesis import given, strategies as st

from custom_components.esphome_offload.engine.build.model import (
    BuildError,
    BuildRequest,
    BuildSink,
)
from custom_components.esphome_offload.engine.codec import Json, encode
from custom_components.esphome_offload.engine.const import FailureReason, Image
from custom_components.esphome_offload.engine.host.commands import GuestCommands
from custom_components.esphome_offload.engine.protocol.channel import ChannelClosed, Piece
from custom_components.esphome_offload.engine.protocol.errors import ErrorCode, ProtocolError
from custom_components.esphome_offload.engine.protocol.messages import (
    BUILD_EVENTS,
    COMMANDS,
    LINK_EVENTS,
    Acknowledge,
    Attach,
    Cancel,
    Clean,
    Fetch,
    FetchImage,
    Known,
    SendBundle,
    Submit,
    SubscribeStatus,
    Unpair,
    Wanted,
)
from custom_components.esphome_offload.engine.protocol.parsing import parse, parse_one_of
from custom_components.esphome_offload.engine.protocol.payloads import FirmwareHeader
from custom_components.esphome_offload.engine.protocol.session import Session

from ..fuzzing import (
    check_bounded,
    check_empty,
    mangled,
    no_errors_logged,
    no_tasks_left,
    share,
)
from ..jobs.fakes import Act, because
from ..protocol.ends import MemoryEnds, memory_link
from .builder import BuilderMachine, BundleFile, GuestCalls, printing, until

type Make = Callable[[Guest], object]


class Guest:
    """A guest's end, which checks that all it is sent is of the protocol."""

    def __init__(self, calls: GuestCalls, ends: MemoryEnds) -> None:
        self.calls = calls
        self.channel = ends.offloader.channel
        self.attempts = [calls.builder.new_id() for _ in range(3)]
        self.bundles = [calls.bundle(), calls.bundle({"lamp.yaml": b"other"})]
        self.sent: dict[int, object] = {}
        self.results = Counter[int]()
        self.bodies = Counter[int]()

    async def send(self, command: object) -> None:
        """Send a command with the next id; a mapping is sent as it is."""
        command_id = len(self.sent) + 1
        wire = command if isinstance(command, dict) else encode(command)
        self.sent[command_id] = command
        with suppress(ProtocolError):
            self.sent[command_id] = parse_one_of(COMMANDS, wire)
        await self.channel.send({**wire, "id": command_id})

    async def send_body(self, command_id: int, content: bytes) -> None:
        """Send the next piece of a body, also one that nobody wants."""
        number = self.bodies[command_id]
        self.bodies[command_id] += 1
        await self.channel.send_piece(Piece(command_id, number, memoryview(content)))

    async def read(self) -> None:
        """Read, and check, everything until the connection ends."""
        with suppress(ChannelClosed):
            while True:
                received = await self.channel.receive()
                if isinstance(received, dict):
                    self._check(received)

    def _check(self, message: Json) -> None:
        if message["type"] == "pong":
            return
        command_id = message["id"]
        assert isinstance(command_id, int)
        command = self.sent[command_id]
        match message["type"]:
            case "result":
                self.results[command_id] += 1
                assert self.results[command_id] <= 1 + isinstance(
                    command, (Attach, SubscribeStatus)
                )
                if message["success"] and isinstance(command, Wanted):
                    parse(Known, message["result"])
                if not message["success"]:
                    error = message["error"]
                    assert isinstance(error, dict)
                    assert ErrorCode(error["code"]) is not ErrorCode.INTERNAL, error
            case "event" if isinstance(command, Fetch):
                parse(FirmwareHeader, message["event"])
            case "event" if isinstance(command, SendBundle):
                assert message["event"] == {}
            case "event":
                assert parse_one_of((*BUILD_EVENTS, *LINK_EVENTS), message["event"]) is not None
            case "body_ack":
                assert isinstance(command, SendBundle)
            case other:
                raise AssertionError(f"{other} is nothing that a builder says")


which = st.integers(0, 2)
known = st.sampled_from([0, 1])


def of_attempt(kind: Callable[[str], object]) -> st.SearchStrategy[Make]:
    return which.map(lambda number: lambda guest: kind(guest.attempts[number]))


def _send_bundle(attempt_id: str, bundle: BundleFile) -> SendBundle:
    return SendBundle(attempt_id, bundle.sha256, bundle.size)


def _submit(guest: Guest, number: int, bundle: int, configuration: str) -> Submit:
    parameters = guest.calls.parameters(guest.attempts[number], configuration=configuration)
    return Submit(parameters, guest.bundles[bundle].sha256)


configurations = st.sampled_from(["lamp.yaml", "other.yaml"])
commands: st.SearchStrategy[Make] = st.one_of(
    st.builds(lambda number, bundle: lambda guest: _send_bundle(
        guest.attempts[number], guest.bundles[bundle]), which, known),
    st.builds(lambda number, bundle, name: lambda guest: _submit(guest, number, bundle, name),
              which, known, configurations),
    *map(of_attempt, (Attach, Cancel, Fetch, Acknowledge)),
    st.builds(lambda name, image: lambda _: FetchImage(name, "0" * 64, image),
              configurations, st.sampled_from(Image)),
    st.sets(which).map(lambda numbers: lambda guest: Wanted(
        tuple(guest.attempts[each] for each in sorted(numbers)))),
    st.builds(lambda name, tools: lambda _: Clean(name, tools), configurations, st.booleans()),
    st.just(lambda _: SubscribeStatus()),
    st.sampled_from(COMMANDS).flatmap(mangled).map(lambda wire: lambda _: wire),
)  # fmt: skip

type Step = Callable[[Guest], Awaitable[None]]


def asks(make: Make) -> Step:
    async def step(guest: Guest) -> None:
        await guest.send(make(guest))

    return step


def builds(number: int, bundle: int) -> Step:
    """Do what an offloader does: send a bundle whole, and submit it."""

    async def step(guest: Guest) -> None:
        sent = guest.bundles[bundle]
        await guest.send(_send_bundle(guest.attempts[number], sent))
        command_id = len(guest.sent)
        await guest.send_body(command_id, sent.path.read_bytes())
        with suppress(TimeoutError):
            async with asyncio.timeout(0.05):
                while not guest.results[command_id]:  # noqa: ASYNC110 - files are written
                    await asyncio.sleep(0)
        await guest.send(_submit(guest, number, bundle, "lamp.yaml"))
        await guest.send(Attach(guest.attempts[number]))

    return step


def sends_body(command_id: int, content: bytes | None) -> Step:
    async def step(guest: Guest) -> None:
        whole = guest.bundles[0].path.read_bytes()
        await guest.send_body(command_id, whole if content is None else content)

    return step


def unsubscribes(command_id: int) -> Step:
    async def step(guest: Guest) -> None:
        await guest.channel.send({"id": command_id, "type": "unsubscribe"})

    return step


def lets_time_pass(seconds: float) -> Step:
    async def step(guest: Guest) -> None:
        await guest.calls.builder.time.go(seconds)

    return step


ids = st.integers(1, 12)
steps = st.lists(
    st.one_of(
        commands.map(asks),
        st.builds(builds, which, known),
        st.builds(sends_body, ids, st.none() | st.binary(max_size=300)),
        ids.map(unsubscribes),
        st.sampled_from([0.0, 0.1, 2000.0, 100_000.0]).map(lets_time_pass),
    ),
    max_size=25,
)


async def breaks(_: BuildRequest, sink: BuildSink) -> None:
    sink.lines(["error"])
    raise BuildError(FailureReason.COMPILE_FAILED, because("error"))


async def never_ends(_: BuildRequest, sink: BuildSink) -> None:
    sink.progress(50)
    await asyncio.Event().wait()


acts: list[Act] = [printing("one", "two"), breaks, never_ends]
ends_with = st.sampled_from([None, Unpair()])


@share(40)
@given(steps, st.lists(st.sampled_from(acts), max_size=3), ends_with)
async def test_a_builder_survives_whatever_a_guest_asks(
    script: list[Step], builds_go: list[Act], last: Unpair | None
) -> None:
    with tempfile.TemporaryDirectory() as folder, no_errors_logged():
        async with no_tasks_left(), memory_link() as ends:
            builder = BuilderMachine(Path(folder))
            await builder.start()
            builder.script = list(builds_go)
            unpaired = asyncio.Event()
            guest = Guest(await builder.pair("guest"), ends)
            commands = GuestCommands(builder.host, guest.calls.pin, unpaired.set)
            session = Session(ends.builder.channel, commands.serve)
            running = asyncio.create_task(session.run())
            reading = asyncio.create_task(guest.read())
            with suppress(ChannelClosed):
                for step in script:
                    await step(guest)
                    check_bounded(session)
                    assert len(builder.host._attempts.all()) <= len(guest.attempts)
                if last is not None:
                    await guest.send(last)
            await until(lambda: unpaired.is_set() or last is None or session.lost is not None)
            await ends.sockets[0].close()
            await running
            await reading
            check_empty(session)
            assert not commands._streams
            await builder.host.remove_guest(guest.calls.pin)
            await builder.stop()
            assert not builder.host._submitting
        kept = [path for path in Path(folder, "cache").rglob("*") if path.is_file()]
        assert not [path for path in kept if guest.calls.pin[:16] in str(path)], kept
