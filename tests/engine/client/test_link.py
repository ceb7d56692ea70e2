"""PeerLink: connects whenever that is possible, and says why it is not connected."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field, replace

import aiohttp
import pytest

from custom_components.esphome_offload.engine.client.back_off import BackOff
from custom_components.esphome_offload.engine.client.dial import Caller
from custom_components.esphome_offload.engine.client.link import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
    LinkState,
    PeerLink,
)
from custom_components.esphome_offload.engine.protocol.calls import Call, CommandRefused
from custom_components.esphome_offload.engine.protocol.channel import ChannelClosed
from custom_components.esphome_offload.engine.protocol.errors import ErrorCode, ProtocolError
from custom_components.esphome_offload.engine.protocol.identity import Identity
from custom_components.esphome_offload.engine.protocol.session import (
    COMMAND_TIMEOUT,
    HEARTBEAT,
    PONG_TIMEOUT,
)
from custom_components.esphome_offload.engine.reason import Reason, ReasonKey

from ..jobs.fakes import VirtualTime
from .proxy import Proxy
from .remote import until
from .scripted_server import STATUS, ScriptedServer

_FIRST = FIRST_PAUSE / 2
"""The first pause without any jitter."""


@dataclass
class Offloader:
    """A link to the builder, by a clock that stands still."""

    server: ScriptedServer
    caller: Caller
    http: aiohttp.ClientSession
    url: str
    time: VirtualTime = field(default_factory=VirtualTime)
    wanted: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.link = PeerLink(
            url=self.url,
            caller=self.caller,
            peer_key=self.server.identity.public,
            label="builder",
            session=self.http,
            wanted=self._wanted,
            time=self.time,
            jitter=lambda: 0.0,
        )

    def _wanted(self) -> Iterable[str]:
        return self.wanted

    async def connect(self) -> None:
        await self.link.start()
        await self.until(lambda: self.link.connected and self.link.status is not None)

    async def until(self, condition: Callable[[], bool]) -> None:
        await until(self.link, condition)

    async def next_pause(self) -> float:
        """Wait until the link waits for its next try; return for how long it will."""
        async with asyncio.timeout(30):
            while not self.time.next_in or self.link.connected:  # noqa: ASYNC110 - a real network
                await asyncio.sleep(0.001)
        return self.time.next_in[0]

    async def try_again(self) -> None:
        """Let the pause before the next try pass."""
        await self.time.go(await self.next_pause())


@pytest.fixture
async def unknown(
    server: ScriptedServer, proxy: Proxy, caller: Caller, http: aiohttp.ClientSession
) -> AsyncIterator[Offloader]:
    """Not known to the builder, and not connected."""
    offloader = Offloader(server, caller, http, proxy.url)
    yield offloader
    await offloader.link.stop()


@pytest.fixture
def paired(unknown: Offloader) -> Offloader:
    unknown.server.guests.add(unknown.caller.identity.public)
    return unknown


@pytest.fixture
async def connected(paired: Offloader) -> Offloader:
    await paired.connect()
    return paired


async def test_it_connects_and_gets_the_status(connected: Offloader) -> None:
    assert (connected.link.state, connected.link.why) == (LinkState.CONNECTED, None)
    assert connected.link.status == STATUS


async def test_it_connects_again_after_a_lost_connection_and_keeps_the_status(
    connected: Offloader, proxy: Proxy
) -> None:
    await proxy.cut()
    await connected.until(lambda: not connected.link.connected)
    assert connected.link.state is LinkState.CONNECTING
    assert connected.link.status == STATUS
    with pytest.raises(ChannelClosed):
        await connected.link.clean("lamp.yaml")
    await proxy.mend()
    await connected.try_again()
    await connected.until(lambda: connected.link.connected)


async def test_the_pauses_grow_and_waking_ends_one_at_once(paired: Offloader, proxy: Proxy) -> None:
    await proxy.cut()
    await paired.link.start()
    pauses = []
    for _ in range(9):
        pauses.append(await paired.next_pause())
        await paired.time.go(pauses[-1])
    # Without any jitter they are half as long.
    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    assert paired.link.why == Reason(ReasonKey.PEER_AWAY)
    await paired.next_pause()
    await proxy.mend()
    paired.link.wake()
    await paired.until(lambda: paired.link.connected)


def test_the_pauses_differ_from_link_to_link_and_start_again() -> None:
    short, long = BackOff(1, 60, lambda: 0.0), BackOff(1, 60, lambda: 1.0)
    assert [short.next(), short.next(), long.next(), long.next()] == [0.5, 1, 1, 2]
    long.reset()
    assert long.next() == 1


@pytest.mark.parametrize(("seconds", "pause"), [(19, 1.0), (60, 0.5)])
async def test_a_connection_that_lasted_a_minute_resets_the_pauses(
    paired: Offloader, seconds: float, pause: float
) -> None:
    await paired.connect()
    paired.link._back_off.next()  # as after a first failure
    for _ in range(int(seconds)):
        await paired.time.go(1)
        await _answer_pings(paired)
    await paired.server.hang_up()
    await paired.until(lambda: not paired.link.connected)
    assert await paired.next_pause() == pause


async def _answer_pings(offloader: Offloader) -> None:
    """Let a real network bring an answer to a ping while the clock stands still."""
    async with asyncio.timeout(30):
        while offloader.link.connected and len(offloader.time.next_in) != 1:  # noqa: ASYNC110
            await asyncio.sleep(0.001)


async def test_a_refusal_is_retried_like_a_lost_connection(unknown: Offloader) -> None:
    """It is not authenticated: anybody in between could have sent it."""
    await unknown.link.start()
    await unknown.until(lambda: unknown.link.code is ErrorCode.UNKNOWN_GUEST)
    assert unknown.link.state is LinkState.CONNECTING
    unknown.server.guests.add(unknown.caller.identity.public)
    await unknown.try_again()
    await unknown.until(lambda: unknown.link.connected)


async def test_three_refusals_in_a_row_say_pair_again(unknown: Offloader) -> None:
    await unknown.link.start()
    for _ in range(2):
        await unknown.try_again()
    await unknown.until(lambda: unknown.link.given_up)
    assert (unknown.link.state, unknown.link.code) == (LinkState.REFUSED, ErrorCode.UNKNOWN_GUEST)
    assert unknown.link.why == Reason(ReasonKey.PEER_FORGOT)
    with pytest.raises(ChannelClosed, match="pair the two again"):
        await unknown.link.wait_connected(1)


async def test_another_failure_in_between_restarts_the_count_of_refusals(
    unknown: Offloader, proxy: Proxy
) -> None:
    await unknown.link.start()
    await unknown.try_again()
    await unknown.next_pause()
    assert unknown.server.handshakes[ErrorCode.UNKNOWN_GUEST] == 2
    await proxy.cut()
    await unknown.try_again()
    await unknown.until(lambda: unknown.link.why == Reason(ReasonKey.PEER_AWAY))
    await proxy.mend()
    await unknown.try_again()
    await unknown.until(lambda: unknown.link.code is ErrorCode.UNKNOWN_GUEST)
    assert unknown.link.state is LinkState.CONNECTING


async def _refused(offloader: Offloader) -> None:
    await offloader.link.start()
    for _ in range(2):
        await offloader.try_again()
    await offloader.until(lambda: offloader.link.given_up)


async def test_a_refused_link_is_tried_every_minute_and_recovers(
    unknown: Offloader, proxy: Proxy
) -> None:
    await _refused(unknown)
    assert await unknown.next_pause() == LONGEST_PAUSE
    await proxy.cut()
    await unknown.try_again()
    # A network that is away does not make it less refused.
    assert await unknown.next_pause() == LONGEST_PAUSE
    assert unknown.link.state is LinkState.REFUSED
    await proxy.mend()
    unknown.server.guests.add(unknown.caller.identity.public)
    await unknown.try_again()
    await unknown.until(lambda: unknown.link.connected)


async def test_another_instance_at_the_address_gets_no_handshake(paired: Offloader) -> None:
    paired.server.identity = Identity.generate()
    await _refused(paired)
    assert paired.link.why == Reason(ReasonKey.PEER_REPLACED)
    assert set(paired.server.handshakes) == {"closed"}


async def test_a_copy_of_this_instance_at_the_address_is_named(paired: Offloader) -> None:
    paired.server.identity = paired.caller.identity
    await _refused(paired)
    assert paired.link.why == Reason(ReasonKey.PEER_COPIED)


async def test_an_instance_that_claims_the_pin_without_the_key_gets_nothing(
    paired: Offloader,
) -> None:
    other = Identity.generate()
    # Its hello names the pin, and its handshake is made with another key.
    paired.server.identity = Identity(other.private, paired.server.identity.public)
    await paired.link.start()
    await paired.until(lambda: paired.link.why is not None)
    assert not paired.link.connected
    assert not paired.server.commands


async def test_a_new_address_forgets_a_refusal(unknown: Offloader, server: ScriptedServer) -> None:
    await _refused(unknown)
    server.guests.add(unknown.caller.identity.public)
    unknown.link.set_url(unknown.url)
    assert unknown.link.given_up
    unknown.link.set_url(server.url)
    await unknown.until(lambda: unknown.link.connected)


async def test_a_new_address_is_used_at_once(connected: Offloader, server: ScriptedServer) -> None:
    connected.link.set_url(server.url)
    await connected.until(lambda: not connected.link.connected)
    await connected.until(lambda: connected.link.connected)
    assert server.handshakes["opened"] == 2


@pytest.mark.parametrize(
    ("theirs", "ours", "code", "reason"),
    [
        (9, 1, ErrorCode.TOO_NEW, ReasonKey.PEER_TOO_NEW),
        (1, 5, ErrorCode.TOO_OLD, ReasonKey.PEER_TOO_OLD),
    ],
)
async def test_a_peer_of_another_protocol_names_the_side_to_update(
    paired: Offloader, theirs: int, ours: int, code: ErrorCode, reason: ReasonKey
) -> None:
    server, introduction = paired.server, paired.caller.introduction
    server.offer = replace(server.offer, protocol=theirs, oldest_protocol=theirs)
    offer = replace(introduction.offer, protocol=ours, oldest_protocol=ours)
    paired.link._caller = replace(paired.caller, introduction=replace(introduction, offer=offer))
    await paired.link.start()
    await paired.until(lambda: paired.link.given_up)
    assert (paired.link.state, paired.link.code) == (LinkState.INCOMPATIBLE, code)
    assert paired.link.why == Reason(reason)
    assert await paired.next_pause() == LONGEST_PAUSE


async def test_an_updated_peer_is_tried_when_it_announces_itself(paired: Offloader) -> None:
    server = paired.server
    offer, server.offer = server.offer, replace(server.offer, protocol=9, oldest_protocol=9)
    await paired.link.start()
    await paired.until(lambda: paired.link.given_up)
    server.offer = offer
    await paired.next_pause()
    paired.link.wake()
    await paired.until(lambda: paired.link.connected)


@pytest.mark.parametrize("code", [ErrorCode.NOT_LENDING, ErrorCode.BUSY])
async def test_a_builder_that_takes_no_link_now_is_tried_again(
    paired: Offloader, code: ErrorCode
) -> None:
    paired.server.refusal = code
    await paired.link.start()
    await paired.until(lambda: paired.link.code is code)
    assert paired.link.state is LinkState.CONNECTING
    paired.server.refusal = None
    await paired.try_again()
    await paired.until(lambda: paired.link.connected)
    assert paired.link.code is None


async def test_a_builder_that_does_not_answer_a_command_is_connected_to_again(
    connected: Offloader,
) -> None:
    connected.server.silent.add("build/clean")
    cleaning = asyncio.create_task(connected.link.clean("lamp.yaml"))
    await _served(connected, "build/clean")
    await connected.time.go(COMMAND_TIMEOUT)
    with pytest.raises(ChannelClosed, match="did not answer"):
        await cleaning
    await connected.until(lambda: not connected.link.connected)
    await connected.try_again()
    await connected.until(lambda: connected.link.connected)
    assert connected.server.handshakes["opened"] == 2


async def test_a_connection_that_is_dead_without_a_word_is_noticed(
    connected: Offloader, proxy: Proxy
) -> None:
    await connected.time.go(HEARTBEAT)
    await _answer_pings(connected)
    assert connected.link.connected
    proxy.hold()
    await connected.time.go(HEARTBEAT)
    assert connected.link.connected
    await connected.time.go(PONG_TIMEOUT)
    await connected.until(lambda: not connected.link.connected)
    assert connected.link.why == Reason(ReasonKey.PEER_LOST)


async def test_all_that_wait_get_an_error_when_the_connection_breaks(
    connected: Offloader, proxy: Proxy
) -> None:
    connected.server.silent.add("build/clean")
    waiting = [asyncio.create_task(connected.link.clean(f"{name}.yaml")) for name in "abc"]
    await _served(connected, "build/clean", 3)
    await proxy.cut()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(each) for each in results] == [ChannelClosed] * 3


async def _served(offloader: Offloader, command: str, times: int = 1) -> None:
    async with asyncio.timeout(30):
        while offloader.server.commands[command] < times:  # noqa: ASYNC110 - a real network
            await asyncio.sleep(0.001)


async def test_the_builder_ends_the_pairing(connected: Offloader) -> None:
    await connected.server.unpair()
    await connected.until(lambda: connected.link.given_up)
    assert connected.link.state is LinkState.REFUSED
    assert connected.link.why == Reason(ReasonKey.PEER_UNPAIRED)


async def test_unpairing_is_a_command(connected: Offloader) -> None:
    await connected.link.unpair()
    assert connected.server.commands["unpair"] == 1


async def test_a_stopped_link_leaves_nothing_and_can_be_started_again(
    connected: Offloader,
) -> None:
    await connected.link.stop()
    assert connected.link.state is LinkState.STOPPED
    async with asyncio.timeout(30):
        while connected.server.sessions:  # noqa: ASYNC110 - a real network
            await asyncio.sleep(0.001)
    assert not connected.time.next_in
    with pytest.raises(ChannelClosed):
        await connected.link.wait_connected(1)
    await connected.connect()


async def test_waiting_for_a_link_has_an_end(paired: Offloader, proxy: Proxy) -> None:
    await proxy.cut()
    await paired.link.start()
    await paired.next_pause()
    waiting = asyncio.create_task(paired.link.wait_connected(0.2))
    await paired.time.go(0.2)
    with pytest.raises(ChannelClosed, match="cannot be reached"):
        await waiting


async def test_the_wanted_attempts_are_sent_at_each_connect(
    connected: Offloader,
) -> None:
    sent: list[object] = []

    async def serve(call: Call) -> None:
        sent.append(call.message["attempt_ids"])

    connected.server.serve["build/wanted"] = serve
    connected.wanted = {f"{number:032x}" for number in range(600)}
    await connected.server.hang_up()
    await connected.until(lambda: not connected.link.connected)
    await connected.try_again()
    await connected.until(lambda: connected.link.connected)
    assert connected.server.commands["build/wanted"] == 2
    assert [len(each) for each in sent if isinstance(each, list)] == [500]


async def test_another_server_at_the_port_is_no_builder(paired: Offloader) -> None:
    async def rude(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        writer.close()

    server = await asyncio.start_server(rude, "127.0.0.1", 0)
    paired.link.set_url(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    await paired.link.start()
    await paired.until(lambda: paired.link.why == Reason(ReasonKey.PEER_AWAY))
    server.close()


@pytest.mark.parametrize("code", [ErrorCode.NOT_LENDING, ErrorCode.MALFORMED])
async def test_a_link_that_is_refused_for_another_reason_is_tried_again(
    paired: Offloader, code: ErrorCode
) -> None:
    paired.server.link_refusal = code
    await paired.link.start()
    for _ in range(4):
        await paired.try_again()
    assert (paired.link.state, paired.link.code) == (LinkState.CONNECTING, code)
    paired.server.link_refusal = None
    await paired.try_again()
    await paired.until(lambda: paired.link.connected)


async def test_a_builder_that_refuses_the_first_command_is_tried_again(paired: Offloader) -> None:
    async def refuse(_call: Call) -> None:
        raise ProtocolError(ErrorCode.NOT_LENDING, "not now")

    paired.server.serve["build/wanted"] = refuse
    await paired.link.start()
    await paired.until(lambda: paired.link.code is ErrorCode.NOT_LENDING)
    paired.server.serve.clear()
    await paired.try_again()
    await paired.until(lambda: paired.link.connected)


async def test_a_refused_command_keeps_the_connection(connected: Offloader) -> None:
    async def refuse(_call: Call) -> None:
        raise ProtocolError(ErrorCode.BUSY, "not\nnow")

    connected.server.serve["build/clean"] = refuse
    with pytest.raises(CommandRefused) as refusal:
        await connected.link.clean("lamp.yaml")
    assert (refusal.value.code, refusal.value.detail) == (ErrorCode.BUSY, "not now")
    assert connected.link.connected


@pytest.mark.parametrize("code", [ErrorCode.UNKNOWN_ATTEMPT, ErrorCode.INTERNAL])
async def test_cancelling_an_attempt_that_is_not_known_there_succeeds(
    connected: Offloader, code: ErrorCode
) -> None:
    async def refuse(_call: Call) -> None:
        raise ProtocolError(code, "no")

    connected.server.serve["build/cancel"] = refuse
    if code is ErrorCode.UNKNOWN_ATTEMPT:
        await connected.link.cancel("0" * 32)
    else:
        with pytest.raises(CommandRefused):
            await connected.link.cancel("0" * 32)


async def test_a_status_that_makes_no_sense_is_ignored(
    connected: Offloader, monkeypatch: pytest.MonkeyPatch
) -> None:
    (call,) = connected.server.status_calls
    await call.event({"type": "status", "available": True, "slots": -1})
    await call.event(replace(STATUS, slots=7))
    await connected.until(lambda: connected.link.status != STATUS)
    assert connected.link.status == replace(STATUS, slots=7)


def test_a_copy_of_this_instance_is_no_peer(caller: Caller) -> None:
    with pytest.raises(ProtocolError) as refusal:
        PeerLink(
            url="http://127.0.0.1:1",
            caller=caller,
            peer_key=caller.identity.public,
            label="copy",
            session=None,  # type: ignore[arg-type]
            wanted=tuple,
        )
    assert refusal.value.code is ErrorCode.SAME_IDENTITY
