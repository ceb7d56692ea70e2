"""What a guest may say over its websocket, and when."""

import asyncio
import base64
from typing import Any
import uuid

from custom_components.esphome_offload.engine.protocol.handshake import OffloaderHandshake
from homeassistant.core import HomeAssistant
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry
from pytest_homeassistant_custom_component.typing import WebSocketGenerator

from custom_components.esphome_offload.coordinator import OffloadCoordinator
from custom_components.esphome_offload.engine.codec import encode
from custom_components.esphome_offload.engine.const import FailureReason
from custom_components.esphome_offload.engine.protocol.identity import Identity
from custom_components.esphome_offload.engine.protocol.messages import (
    COMMANDS,
    Acknowledge,
    Attach,
    Cancel,
    Clean,
    Submit,
    SubscribeStatus,
    Unpair,
    Wanted,
)
from custom_components.esphome_offload.engine.protocol.negotiation import Offer
from custom_components.esphome_offload.lending import connections as guest_connections

from ..engine.jobs.fakes import Block, failing
from .conftest import Stage
from .guest_client import (
    CONFIGURATION,
    CommandRefusedError,
    Offloader,
    Wire,
    new_attempt_id,
)

ID = "0" * 32


def every_command() -> list[object]:
    return [
        Submit(ID, "0" * 64),
        Attach(ID),
        Cancel(ID),
        Wanted(()),
        Acknowledge(ID),
        Clean(CONFIGURATION),
        SubscribeStatus(),
        Unpair(b"0" * 32),
    ]


def test_every_command_is_tried() -> None:
    assert {type(command) for command in every_command()} == set(COMMANDS)


async def refused(wire: Wire, command: object) -> str:
    with pytest.raises(CommandRefusedError) as refusal:
        await wire.call(command)
    return refusal.value.code


# Proof


@pytest.mark.parametrize("command", every_command(), ids=lambda command: type(command).__name__)
async def test_nothing_is_done_before_the_key_is_proven(
    lent: OffloadCoordinator, pi: Offloader, command: object
) -> None:
    wire = await pi.connect(prove=False)
    assert await refused(wire, command) == "not_proven"
    handshake = OffloaderHandshake(pi.channel, pi.offer)
    await wire.send(handshake.hello)
    assert await refused(wire, command) == "not_proven"
    assert len(lent.lender.guests.all()) == 1
    await wire.socket.close()


@pytest.mark.parametrize("command", every_command(), ids=lambda command: type(command).__name__)
async def test_nobody_but_a_guest_may_say_anything(
    hass: HomeAssistant,
    lent: OffloadCoordinator,
    command: object,
    hass_ws_client: WebSocketGenerator,
) -> None:
    admin = await hass_ws_client(hass)
    await admin.send_json_auto_id(encode(command))
    answer = await admin.receive_json()
    assert answer["error"]["code"] in ("unknown_guest", "not_proven")


async def test_a_stolen_ticket_is_worth_nothing_without_the_key(
    lent: OffloadCoordinator, pi: Offloader
) -> None:
    token = await pi.ticket()
    thief = Offloader(pi.client, pi.folder, "thief")
    thief.builder = pi.builder
    wire = await thief.connect(prove=False, token=token)
    handshake = OffloaderHandshake(thief.channel, thief.offer)
    prove = handshake.prove(await wire.send(handshake.hello))
    with pytest.raises(CommandRefusedError) as refusal:
        await wire.send(prove)
    assert refusal.value.code == "not_proven"
    await wire.closed()
    assert lent.lender.guests.all()[0].last_seen is None


async def test_a_proof_is_for_one_connection(lent: OffloadCoordinator, pi: Offloader) -> None:
    first = await pi.connect(prove=False)
    handshake = OffloaderHandshake(pi.channel, pi.offer)
    prove = handshake.prove(await first.send(handshake.hello))
    second = await pi.connect(prove=False)
    await second.send(handshake.hello)
    with pytest.raises(CommandRefusedError):
        await second.send(prove)
    await second.closed()
    handshake.finish(await first.send(prove))
    assert lent.lender.connections.connected(pi.identity.pin_sha256)
    await first.socket.close()


async def test_who_does_not_prove_its_key_in_time_is_cut_off(
    lent: OffloadCoordinator, pi: Offloader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guest_connections, "HANDSHAKE_TIMEOUT", 0.05)
    wire = await pi.connect(prove=False)
    await wire.send(OffloaderHandshake(pi.channel, pi.offer).hello)
    await wire.closed()


async def test_a_guest_that_is_too_old_is_told_so(lent: OffloadCoordinator, pi: Offloader) -> None:
    pi.offer = Offer(7, 6, (), "9.0.0")
    wire = await pi.connect(prove=False)
    with pytest.raises(CommandRefusedError) as refusal:
        await wire.handshake(pi)
    assert refusal.value.code == "too_new"
    await wire.closed()


async def test_fields_of_a_later_protocol_are_ignored_and_wrong_ones_refused(
    lent: OffloadCoordinator, pi: Offloader
) -> None:
    wire = await pi.connect()
    known = await wire.send({**encode(Wanted(())), "mood": "good"})
    assert known == {"attempts": []}
    with pytest.raises(CommandRefusedError) as refusal:
        await wire.send({**encode(Wanted(())), "attempt_ids": ["../x"]})
    assert refusal.value.code == "malformed"
    await wire.socket.close()


# Building


async def test_a_build_from_bundle_to_acknowledgement(
    lent: OffloadCoordinator, pi: Offloader, stage: Stage
) -> None:
    async def print_lines(_request: object, sink: Any) -> None:
        sink.lines([f"line {number}" for number in range(1200)])

    stage.guests.script.append(print_lines)
    wire = await pi.connect()
    attempt_id = await pi.submit(wire, time_zone="Asia/Tokyo", clean=True)
    events = await wire.built(attempt_id)

    assert events[-1]["state"] == "completed"
    lines = [line for each in events if each["type"] == "lines" for line in each["lines"]]
    assert lines == [f"line {number}" for number in range(1200)]
    (request,) = stage.guests.requests
    assert (request.time_zone, request.clean) == ("Asia/Tokyo", True)
    assert (request.config_dir / CONFIGURATION).read_bytes() == b"esphome:\n"
    assert lent.lender.guests.all()[0].builds == 1
    assert len(stage.rooms_made) == 1, "what was installed for it counts against the budget"

    assert [each["attempt_id"] for each in (await wire.call(Wanted((attempt_id,))))["attempts"]]
    await wire.call(Acknowledge(attempt_id))
    assert await refused(wire, Attach(attempt_id)) == "unknown_attempt"
    await wire.call(Clean(CONFIGURATION))
    await wire.socket.close()


async def test_lines_can_be_had_again_from_any_number_on(
    lent: OffloadCoordinator, pi: Offloader, stage: Stage
) -> None:
    block = Block()

    async def print_lines(request: Any, sink: Any) -> None:
        sink.lines([f"line {number}" for number in range(10)])
        await block(request, sink)

    stage.guests.script.append(print_lines)
    wire = await pi.connect()
    attempt_id = await pi.submit(wire)
    subscription = await wire.subscribe(Attach(attempt_id))
    while (await wire.event(subscription))["type"] != "lines":
        pass
    await wire.socket.close()

    wire = await pi.connect()
    block.release.set()
    events = await wire.built(attempt_id, from_line=7)
    lines = [each for each in events if each["type"] == "lines"]
    assert lines[0]["first_line"] == 7
    assert lines[0]["lines"][0] == "line 7"
    await wire.socket.close()


async def test_a_failure_is_told_with_its_reason(
    lent: OffloadCoordinator, pi: Offloader, stage: Stage
) -> None:
    stage.guests.script.append(failing(FailureReason.COMPILE_FAILED, "main.cpp:1: error: no", 1))
    wire = await pi.connect()
    events = await wire.built(await pi.submit(wire))
    assert events[-1]["state"] == "failed"
    assert events[-1]["failure_reason"] == "compile_failed"
    assert events[-1]["error"] == "main.cpp:1: error: no"
    await wire.socket.close()


async def test_what_runs_can_be_cancelled(
    lent: OffloadCoordinator, pi: Offloader, stage: Stage
) -> None:
    stage.guests.script.append(Block())
    wire = await pi.connect()
    attempt_id = await pi.submit(wire)
    subscription = await wire.subscribe(Attach(attempt_id))
    await wire.until_state(subscription, "compiling")
    await wire.call(Cancel(attempt_id))
    assert stage.guests.running == 0
    await wire.until_state(subscription, "cancelled")
    await wire.socket.close()


async def test_one_guest_cannot_touch_what_another_builds(
    lent: OffloadCoordinator, pi: Offloader, attic: Offloader, stage: Stage
) -> None:
    stage.guests.script.append(Block())
    wire = await pi.connect()
    attempt_id = await pi.submit(wire)
    other = await attic.connect()
    for command in (Attach(attempt_id), Cancel(attempt_id), Acknowledge(attempt_id)):
        assert await refused(other, command) == "unknown_attempt"
    assert await other.call(Wanted((attempt_id,))) == {"attempts": []}
    assert len((await wire.call(Wanted((attempt_id,))))["attempts"]) == 1
    await wire.call(Cancel(attempt_id))
    await wire.socket.close()
    await other.socket.close()


async def test_a_submit_without_its_bundle_asks_for_it(
    lent: OffloadCoordinator, pi: Offloader
) -> None:
    wire = await pi.connect()
    attempt_id = new_attempt_id()
    sealer = pi.bundle(attempt_id)
    assert await refused(wire, Submit(attempt_id, sealer.sha256)) == "bundle_needed"

    await wire.built(await pi.submit(wire))
    again = new_attempt_id()
    sealer = pi.bundle(again)
    await wire.call(Submit(again, sealer.sha256, header=sealer.header))
    assert (await wire.built(again))[-1]["state"] == "completed"
    await wire.socket.close()


async def test_while_paused_what_runs_ends_well_and_nothing_new_begins(
    lent: OffloadCoordinator, pi: Offloader, stage: Stage
) -> None:
    block = Block()
    stage.guests.script.append(block)
    wire = await pi.connect()
    status = await wire.subscribe(SubscribeStatus())
    assert (await wire.event(status))["available"] is True
    running = await pi.submit(wire)
    waiting = new_attempt_id()
    sealer = pi.bundle(waiting)
    assert (await pi.upload(waiting, sealer))[0] == 204

    await lent.lender.async_set_paused(paused=True)
    while (event := await wire.event(status))["available"]:
        pass
    assert event["why_not"] == "paused by its owner"
    assert await refused(wire, Submit(waiting, sealer.sha256)) == "not_lending"
    block.release.set()
    assert (await wire.built(running))[-1]["state"] == "completed"

    await lent.lender.async_set_paused(paused=False)
    await wire.call(Submit(waiting, sealer.sha256))
    assert (await wire.built(waiting))[-1]["state"] == "completed"
    await wire.socket.close()


async def test_lending_that_ends_ends_builds(
    hass: HomeAssistant,
    lent: OffloadCoordinator,
    entry: MockConfigEntry,
    pi: Offloader,
    stage: Stage,
) -> None:
    stage.guests.script.append(Block())
    wire = await pi.connect()
    attempt_id = await pi.submit(wire)
    subscription = await wire.subscribe(Attach(attempt_id))
    await wire.until_state(subscription, "compiling")
    hass.config_entries.async_update_entry(entry, options={"lend": False})
    await wire.until_state(subscription, "cancelled")
    await wire.closed()
    assert stage.guests.running == 0


async def test_a_reload_of_the_entry_leaves_builds_and_connections_alone(
    hass: HomeAssistant,
    lent: OffloadCoordinator,
    entry: MockConfigEntry,
    pi: Offloader,
    stage: Stage,
) -> None:
    block = Block()
    stage.guests.script.append(block)
    wire = await pi.connect()
    attempt_id = await pi.submit(wire)
    subscription = await wire.subscribe(Attach(attempt_id))
    await wire.until_state(subscription, "compiling")
    await hass.config_entries.async_reload(entry.entry_id)
    assert stage.guests.running == 1
    block.release.set()
    await wire.until_state(subscription, "completed")
    await wire.socket.close()


async def test_a_guest_that_reads_nothing_is_not_sent_everything_at_once(
    lent: OffloadCoordinator, pi: Offloader, stage: Stage
) -> None:
    async def print_lines(_request: object, sink: Any) -> None:
        for _ in range(200):
            sink.lines(["x" * 100] * 100)
            await asyncio.sleep(0)

    stage.guests.script.append(print_lines)
    wire = await pi.connect()
    attempt_id = await pi.submit(wire)
    subscription = await wire.subscribe(Attach(attempt_id))
    events = await wire.until_state(subscription, "completed")
    numbers = [each["first_line"] for each in events if each["type"] == "lines"]
    assert numbers == sorted(set(numbers))
    last = [each for each in events if each["type"] == "lines"][-1]
    assert last["first_line"] + len(last["lines"]) == 20_000
    await wire.socket.close()


# Unpairing


async def test_the_guest_may_end_the_pairing_with_a_proof(
    hass: HomeAssistant, lent: OffloadCoordinator, pi: Offloader
) -> None:
    (guest,) = lent.lender.guests.all()
    wire = await pi.connect()
    assert await refused(wire, Unpair(b"0" * 32)) == "not_proven"
    assert wire.session is not None
    await wire.call(Unpair(wire.session.unpair_proof))
    await wire.closed()
    await hass.async_block_till_done(wait_background_tasks=True)
    assert lent.lender.guests.all() == ()
    assert await hass.auth.async_get_user(guest.user_id) is None


async def test_the_guest_is_told_that_it_was_removed_with_a_proof(
    lent: OffloadCoordinator, pi: Offloader, stage: Stage
) -> None:
    stage.guests.script.append(Block())
    wire = await pi.connect()
    status = await wire.subscribe(SubscribeStatus())
    await pi.submit(wire)
    removal = asyncio.ensure_future(lent.lender.async_unpair(pi.identity.pin_sha256))
    while (event := await wire.event(status))["type"] != "unpaired":
        pass
    assert wire.session is not None
    assert wire.session.is_unpair_proof(base64.b64decode(str(event["proof"])))
    await wire.closed()
    await removal
    assert stage.guests.running == 0
    assert not lent.build_services.layout.guest(pi.identity.pin_sha256).root.exists()


async def test_a_key_that_was_removed_cannot_come_back_without_pairing(
    lent: OffloadCoordinator, pi: Offloader
) -> None:
    await lent.lender.async_unpair(pi.identity.pin_sha256)
    pi.identity = Identity.from_private(pi.identity.private)
    status, answer = await pi.put(uuid.uuid4().hex, b"", "not.a.token")
    assert (status, answer) == (401, None)
    assert lent.lender.guests.all() == ()


@pytest.fixture
def expected_lingering_timers() -> bool:
    """Allow that aiohttp leaves the heartbeat timer of a websocket that the server closed."""
    return True
