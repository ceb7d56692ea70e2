"""The link: how it connects, when it tries again, and when it does not."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from custom_components.esphome_offload.engine.client import connection, link as link_module
from custom_components.esphome_offload.engine.client.dial import BackOff
from custom_components.esphome_offload.engine.client.errors import LinkLost
from custom_components.esphome_offload.engine.client.link import LinkState, PeerLink
from custom_components.esphome_offload.engine.host.admission import Lending
from custom_components.esphome_offload.engine.protocol.definitions import ErrorCode, ProtocolError
from custom_components.esphome_offload.engine.protocol.identity import Identity
from custom_components.esphome_offload.engine.protocol.negotiation import own_offer

from ...jobs.fakes import VirtualTime, settle
from ..stand import Stand, Wire
from .pi import Pi


async def test_it_connects_proves_itself_and_hears_how_the_builder_is(pi: Pi, stand: Stand) -> None:
    await pi.connect()
    assert (pi.link.state, pi.link.why, pi.link.code) == (LinkState.CONNECTED, None, None)
    assert pi.link.session is not None
    assert pi.link.session.run_id == stand.run_id
    assert pi.link.status is not None
    assert pi.link.status.available
    assert [stand.commands[name] for name in ("hello", "prove", "wanted", "subscribe")] == [1] * 4


async def test_a_builder_that_hangs_up_is_connected_to_again(connected: Pi, stand: Stand) -> None:
    await stand.hang_up()
    await connected.until(lambda: not connected.link.connected)
    assert connected.builder.status().why_not == "the peer closed the connection"
    await connected.until(lambda: connected.link.connected)
    # Each connection has a token of its own.
    assert len(stand.given_tokens) == len(set(stand.given_tokens)) == 2


async def test_what_was_known_of_a_builder_stays_known_while_it_is_away(
    connected: Pi, wire: Wire
) -> None:
    await wire.cut()
    await connected.until(lambda: not connected.link.connected)
    status = connected.builder.status()
    assert (status.available, status.reachable) == (False, False)
    assert status.versions == ("2026.10.0",)
    with pytest.raises(LinkLost):
        await connected.link.clean("lamp.yaml")


async def test_the_pauses_grow_and_a_sighting_ends_one_at_once(
    pi: Pi, stand: Stand, wire: Wire
) -> None:
    time = VirtualTime()
    await wire.cut()
    pi.link._time = time
    await pi.link.start()
    pauses = []
    for _ in range(9):
        async with asyncio.timeout(5):
            while not time.next_in:  # noqa: ASYNC110 - it tries over a real network
                await asyncio.sleep(0)
        pauses.append(time.next_in[0])
        await time.go(pauses[-1])
    # Without any jitter they are half as long.
    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]
    assert "cannot be reached" in (pi.link.why or "")
    async with asyncio.timeout(5):
        while not time.next_in:  # noqa: ASYNC110
            await asyncio.sleep(0)
    await wire.mend()
    pi.link.wake()
    await pi.until(lambda: pi.link.connected)


def test_the_pauses_differ_from_link_to_link_and_begin_anew() -> None:
    short, long = BackOff(1, 60, lambda: 0.0), BackOff(1, 60, lambda: 1.0)
    assert [short.next(), short.next(), long.next(), long.next()] == [0.5, 1, 1, 2]
    long.reset()
    assert long.next() == 1


@pytest.mark.parametrize(("seconds", "pause"), [(59, 1.0), (60, 0.5)])
async def test_a_connection_that_lasted_a_minute_makes_good(
    pi: Pi, stand: Stand, seconds: float, pause: float
) -> None:
    time = VirtualTime()
    pi.link._time = time
    await pi.connect()
    pi.link._back_off.next()  # as after a first failure
    await time.go(seconds)
    await stand.hang_up()
    await pi.until(lambda: not pi.link.connected)
    await settle()
    assert time.next_in == [pause]


async def test_an_unknown_guest_stops_and_says_pair_again(pi: Pi, stand: Stand) -> None:
    await stand.lender.guests.remove(pi.identity.pin_sha256)
    await pi.link.start()
    await pi.until(lambda: pi.link.given_up)
    assert (pi.link.state, pi.link.code) == (LinkState.REFUSED, ErrorCode.UNKNOWN_GUEST)
    assert "pair again" in (pi.link.why or "")
    pi.link.wake()
    await asyncio.sleep(0.05)  # a try would have come by now
    assert stand.tickets == 1
    assert pi.builder.status().why_not == pi.link.why


async def test_another_instance_at_the_address_is_not_talked_to(
    pi: Pi, stand: Stand, tmp_path: Path
) -> None:
    stand.lender.identity = Identity.generate()
    stand._desk._identity = stand.lender.identity
    await pi.link.start()
    await pi.until(lambda: pi.link.given_up)
    assert pi.link.state is LinkState.REFUSED
    assert "not the instance that was paired with" in (pi.link.why or "")
    assert stand.commands.total() == 0


async def test_one_in_between_that_has_a_token_but_no_key_gets_nothing(
    pi: Pi, stand: Stand
) -> None:
    """It lets the ticket through, and answers the websocket by itself."""
    stand.lender.identity = Identity.generate()
    await pi.link.start()
    await pi.until(lambda: pi.link.why not in {"not connected yet", None})
    assert not pi.link.connected
    assert stand.commands["wanted"] == 0


async def test_at_a_new_address_a_refusal_is_forgotten(pi: Pi, stand: Stand, wire: Wire) -> None:
    guest = await stand.lender.guests.remove(pi.identity.pin_sha256)
    assert guest is not None
    await pi.link.start()
    await pi.until(lambda: pi.link.given_up)
    await stand.lender.guests.add(guest)
    pi.link.set_url(wire.url)
    assert pi.link.given_up
    pi.link.set_url(f"http://127.0.0.1:{stand.port}")
    await pi.until(lambda: pi.link.connected)


async def test_a_new_address_is_used_at_once(connected: Pi, stand: Stand) -> None:
    connected.link.set_url(f"http://127.0.0.1:{stand.port}")
    await connected.until(lambda: not connected.link.connected)
    await connected.until(lambda: connected.link.connected)
    assert stand.tickets == 2


@pytest.mark.parametrize(
    ("protocol", "code", "side"),
    [(9, ErrorCode.TOO_NEW, "update it here"), (1, ErrorCode.TOO_OLD, "update it there")],
)
async def test_a_peer_of_another_time_says_which_side_to_update(
    pi: Pi, stand: Stand, protocol: int, code: ErrorCode, side: str
) -> None:
    stand.offer = replace(stand.offer, protocol=protocol, oldest_protocol=protocol)
    if code is ErrorCode.TOO_OLD:
        pi.link._offer = replace(pi.link._offer, protocol=5, oldest_protocol=5)
    await pi.link.start()
    await pi.until(lambda: pi.link.given_up)
    assert (pi.link.state, pi.link.code) == (LinkState.INCOMPATIBLE, code)
    assert side in (pi.link.why or "")


async def test_an_updated_peer_is_tried_when_it_is_seen_again(pi: Pi, stand: Stand) -> None:
    offer, stand.offer = stand.offer, replace(stand.offer, protocol=9, oldest_protocol=9)
    await pi.link.start()
    await pi.until(lambda: pi.link.given_up)
    stand.offer = offer
    pi.link.wake()
    await pi.until(lambda: pi.link.connected)


async def test_a_token_that_is_not_accepted_is_not_tried_twice_and_not_soon(
    pi: Pi, stand: Stand
) -> None:
    time = VirtualTime()
    pi.link._time = time
    stand.refuse_tokens = True
    await pi.link.start()
    await pi.until(lambda: "does not let us in" in (pi.link.why or ""))
    await settle()
    assert time.next_in == [link_module.LONGEST_PAUSE]
    stand.refuse_tokens = False
    await time.go(link_module.LONGEST_PAUSE)
    await pi.until(lambda: pi.link.connected)
    assert len(set(stand.given_tokens)) == 2


async def test_a_clock_that_is_wrong_is_said_by_how_much(pi: Pi, stand: Stand) -> None:
    stand.clock_ahead = 3600.0
    await pi.link.start()
    await pi.until(lambda: pi.link.code is ErrorCode.CLOCK_SKEW)
    assert "its clock is 3600 s ahead of this one" in (pi.link.why or "")
    assert pi.link.state is LinkState.CONNECTING


async def test_a_builder_that_is_not_lent_is_tried_again(pi: Pi, stand: Stand) -> None:
    await stand.lender.host.lend(Lending.OFF)
    await pi.link.start()
    await pi.until(lambda: pi.link.code is ErrorCode.NOT_LENDING)
    await stand.lender.host.lend(Lending.ON)
    await pi.until(lambda: pi.link.connected)


async def test_a_builder_that_does_not_answer_is_connected_to_anew(
    connected: Pi, stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand.silent.add("clean")
    monkeypatch.setattr(connection.Connection.call, "__defaults__", (0.05,))
    with pytest.raises(LinkLost, match="did not answer"):
        await connected.link.clean("lamp.yaml")
    await connected.until(lambda: not connected.link.connected)
    await connected.until(lambda: connected.link.connected)
    assert stand.commands["hello"] == 2


async def test_a_connection_that_is_dead_without_a_word_is_noticed(
    pi: Pi, stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "HEARTBEAT", 0.01)
    monkeypatch.setattr(connection, "PONG_TIMEOUT", 0.05)
    await pi.connect()
    async with asyncio.timeout(5):
        while stand.commands["ping"] < 3:  # noqa: ASYNC110 - it goes over the network
            await asyncio.sleep(0.01)
    assert pi.link.connected
    stand.silent.add("ping")
    await pi.until(lambda: not pi.link.connected)
    assert "did not answer" in (pi.link.why or "")


async def test_all_that_wait_hear_of_a_connection_that_breaks(
    connected: Pi, stand: Stand, wire: Wire
) -> None:
    stand.silent.add("clean")
    waiting = [asyncio.create_task(connected.link.clean(f"{name}.yaml")) for name in "abc"]
    await asyncio.sleep(0)
    await wire.cut()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(each) for each in results] == [LinkLost] * 3


async def test_the_builder_ends_the_pairing(connected: Pi, stand: Stand) -> None:
    await stand.unpair(connected.identity.pin_sha256)
    await connected.until(lambda: connected.link.given_up)
    assert connected.link.state is LinkState.REFUSED
    assert connected.link.why == "its owner ended the pairing; pair again"


async def test_we_end_the_pairing(connected: Pi, stand: Stand) -> None:
    await connected.link.unpair()
    assert stand.lender.guests.all() == ()


async def test_a_stopped_link_leaves_nothing_and_can_be_started_again(
    connected: Pi, stand: Stand
) -> None:
    await connected.link.stop()
    assert connected.link.state is LinkState.STOPPED
    async with asyncio.timeout(5):
        while stand.sockets:  # noqa: ASYNC110 - it goes over the network
            await asyncio.sleep(0.01)
    with pytest.raises(LinkLost):
        await connected.link.wait_connected(1)
    await connected.connect()


async def test_waiting_for_a_link_has_an_end(pi: Pi, wire: Wire) -> None:
    await wire.cut()
    await pi.link.start()
    with pytest.raises(LinkLost, match="cannot be reached"):
        await pi.link.wait_connected(0.2)


async def test_only_what_is_wanted_goes_on_there(connected: Pi, stand: Stand) -> None:
    """See test_breaking for what becomes of the others."""
    connected.wanted = {f"{number:032x}" for number in range(600)}
    await stand.hang_up()
    await connected.until(lambda: not connected.link.connected)
    await connected.until(lambda: connected.link.connected)
    assert stand.commands["wanted"] == 2


async def test_something_else_at_the_port_is_no_home_assistant(pi: Pi) -> None:
    async def rude(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        writer.close()

    server = await asyncio.start_server(rude, "127.0.0.1", 0)
    pi.link.set_url(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    await pi.link.start()
    await pi.until(lambda: "cannot be reached" in (pi.link.why or ""))
    server.close()


def test_a_copy_of_this_instance_is_no_peer() -> None:
    identity = Identity.generate()
    with pytest.raises(ProtocolError) as refusal:
        PeerLink(
            url="http://127.0.0.1:1",
            identity=identity,
            peer_key=identity.public,
            label="copy",
            offer=own_offer("0.1.0"),
            session=None,  # type: ignore[arg-type]
            wanted=tuple,
        )
    assert refusal.value.code is ErrorCode.SAME_IDENTITY
