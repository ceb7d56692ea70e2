"""What guests get at the link of a builder."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from custom_components.esphome_offload.engine.clock import SystemTime, Time
from custom_components.esphome_offload.engine.host import server
from custom_components.esphome_offload.engine.host.commands import GuestCommands
from custom_components.esphome_offload.engine.host.guest_sessions import PER_GUEST
from custom_components.esphome_offload.engine.host.lending import Lending
from custom_components.esphome_offload.engine.protocol.calls import CommandRefused
from custom_components.esphome_offload.engine.protocol.errors import ErrorCode, ProtocolError
from custom_components.esphome_offload.engine.protocol.messages import (
    Acknowledge,
    Attach,
    Cancel,
    Clean,
    SubscribeStatus,
    Unpair,
    Wanted,
)

from ..jobs.fakes import Block
from .builder import BuilderMachine, GuestCalls, printing, until
from .guest_link import guest_link
from .server_calls import Event, recording, refusal


@pytest.fixture
def time() -> Time:
    return SystemTime()


async def test_a_build_from_bundle_to_firmware(
    builder: BuilderMachine, guest: GuestCalls, url: str, tmp_path: Path
) -> None:
    builder.script = [printing("one", "two")]
    async with guest_link(url, guest) as link:
        assert await link.session.call(Wanted(())) == {"attempts": []}
        attempt_id = await link.submit(b"esphome:")
        events: list[Event] = []
        await link.session.subscribe(Attach(attempt_id), recording(events))
        await until(lambda: bool(events) and events[-1].get("state") == "completed")
        lines = [event["lines"] for event in events if event["type"] == "lines"]
        assert lines == [["one", "two"]]
        assert await link.fetch(attempt_id, tmp_path / "image") == b"firmware of esphome:"
        await link.session.call(Acknowledge(attempt_id))
        with pytest.raises(CommandRefused) as refused:
            await link.session.call(Cancel(attempt_id))
        assert refused.value.code is ErrorCode.UNKNOWN_ATTEMPT


async def test_every_command_is_answered(
    builder: BuilderMachine, guest: GuestCalls, url: str
) -> None:
    block = Block()
    builder.script = [block]
    async with guest_link(url, guest) as link:
        statuses: list[Event] = []
        await link.session.subscribe(SubscribeStatus(), recording(statuses))
        await until(lambda: bool(statuses))
        assert statuses[0]["available"] is True
        attempt_id = await link.submit()
        await block.entered.wait()
        await until(lambda: statuses[-1]["busy"] == 1)
        with pytest.raises(CommandRefused) as refused:
            await link.session.call(Clean("lamp.yaml"))
        assert refused.value.code is ErrorCode.BUSY
        await link.session.call(Cancel(attempt_id))
        assert block.cancelled
        await link.session.call(Clean("lamp.yaml"))


async def test_a_guest_is_marked_as_connected_while_it_is(
    builder: BuilderMachine, guest: GuestCalls, url: str
) -> None:
    def registered() -> tuple[str, bool]:
        found = builder.guests.get(guest.pin)
        assert found is not None
        return found.label, found.last_seen is not None

    assert registered() == ("guest", False)
    async with guest_link(url, guest, label="new name") as link:
        assert not builder.server.sessions.connected(guest.pin), "it has said nothing yet"
        await link.session.call(Wanted(()))
        assert builder.server.sessions.connected(guest.pin)
        assert registered() == ("new name", True)
    await until(lambda: not builder.server.sessions.connected(guest.pin))


async def test_a_guest_with_many_connections_loses_the_oldest(
    builder: BuilderMachine, guest: GuestCalls, url: str
) -> None:
    async with guest_link(url, guest) as oldest:
        await oldest.session.call(Wanted(()))
        links = [guest_link(url, guest) for _ in range(PER_GUEST)]
        connected = [await link.__aenter__() for link in links]
        for each in connected:
            await each.session.call(Wanted(()))
        await until(lambda: oldest.session.lost is not None)
        assert all(each.session.lost is None for each in connected)
        for link in links:
            await link.__aexit__(None, None, None)


async def test_a_removed_guest_is_told_and_disconnected_at_once(
    builder: BuilderMachine, guest: GuestCalls, url: str
) -> None:
    block = Block()
    builder.script = [block]
    async with guest_link(url, guest) as link, guest_link(url, guest) as second:
        statuses: list[Event] = []
        await link.session.subscribe(SubscribeStatus(), recording(statuses))
        await second.submit()
        await block.entered.wait()
        await builder.server.unpair(guest.pin)
        await until(lambda: None not in (link.session.lost, second.session.lost))
        assert statuses[-1] == {"type": "unpaired"}
        assert block.cancelled
        assert await refusal(url, guest.identity, builder) is ErrorCode.UNKNOWN_GUEST


async def test_a_guest_can_end_the_pairing(
    builder: BuilderMachine, guest: GuestCalls, url: str
) -> None:
    async with guest_link(url, guest) as link:
        await link.session.call(Unpair())
        await until(lambda: builder.guests.get(guest.pin) is None)
        await until(lambda: link.session.lost is not None)


async def test_the_end_of_lending_disconnects(
    builder: BuilderMachine, guest: GuestCalls, url: str
) -> None:
    block = Block()
    builder.script = [block]
    async with guest_link(url, guest) as link:
        await link.submit()
        await block.entered.wait()
        await builder.host.lend(Lending.OFF)
        await builder.server.close()
        await until(lambda: link.session.lost is not None)
        assert block.cancelled
        assert await refusal(url, guest.identity, builder) is ErrorCode.NOT_LENDING
        builder.server.served = None
        assert await refusal(url, guest.identity, builder) is ErrorCode.NOT_LENDING


async def test_a_silent_connection_is_closed(
    builder: BuilderMachine, guest: GuestCalls, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "SILENCE", 0.2)
    async with guest_link(url, guest) as link:
        await link.session.call(Wanted(()))
        await until(lambda: link.session.lost is not None)


@dataclass
class Nonsense:
    TYPE: ClassVar[str] = "nonsense"


async def test_an_unknown_command_is_refused(guest: GuestCalls, url: str) -> None:
    async with guest_link(url, guest) as link:
        with pytest.raises(CommandRefused) as refused:
            await link.session.call(Nonsense())
        assert refused.value.code is ErrorCode.MALFORMED


async def test_where_nothing_is_lent_there_is_no_guest_to_remove() -> None:
    unused = server.LinkServer()
    await unused.unpair("0" * 64)
    await unused.close()


def test_each_thing_is_sent_once_on_a_connection(builder: BuilderMachine) -> None:
    commands = GuestCommands(builder.host, "0" * 64, lambda: None)
    with commands._stream("status"):
        again = commands._stream("status")
        with pytest.raises(ProtocolError) as refused:
            again.__enter__()
        assert refused.value.code is ErrorCode.BUSY
    with commands._stream("status"):
        pass
