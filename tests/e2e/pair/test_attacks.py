"""Somebody means ill: on the way between pi and workshop, as a guest, or as the workshop."""

import asyncio
import base64
import hashlib
import json
from pathlib import Path
import time

import aiohttp
from custom_components.esphome_offload.engine.client.connection import Connection
from custom_components.esphome_offload.engine.client.errors import LinkLost, PeerRefused
from custom_components.esphome_offload.engine.protocol.body import Opener, Sealer
from custom_components.esphome_offload.engine.protocol.definitions import (
    FIRMWARE_LIMIT,
    TICKET_LIFETIME,
    URL_TICKET,
    ErrorCode,
    ProtocolError,
)
from custom_components.esphome_offload.engine.protocol.greetings import Grant, TicketAnswer
from custom_components.esphome_offload.engine.protocol.handshake import OffloaderHandshake
from custom_components.esphome_offload.engine.protocol.seal import Channel, Purpose
from custom_components.esphome_offload.engine.protocol.tickets import TicketApplication
import pytest

from custom_components.esphome_offload.engine.protocol.identity import Identity
from custom_components.esphome_offload.engine.protocol.messages import (
    Acknowledge,
    Attach,
    Cancel,
    Clean,
    Submit,
    SubscribeStatus,
    Unpair,
    Wanted,
)
from custom_components.esphome_offload.engine.protocol.negotiation import own_offer
from custom_components.esphome_offload.engine.protocol.parsing import parse, parse_json
from custom_components.esphome_offload.engine.protocol.payloads import FirmwareParameters

from ..harness.client import Json
from ..harness.jobs import (
    DOMAIN,
    follow,
    reach,
    submit,
)
from ..harness.meddler import Forge, Meddler
from ..harness.pair import Pair
from .checks import (
    assert_built_by_workshop,
    assert_compiled,
    identity,
    install,
    refusal_of,
)

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

NOBODYS_ATTEMPT = "0" * 32
NOBODYS_BUNDLE = "0" * 64


# Firmware that is not what the workshop built.


async def test_firmware_altered_on_its_way_is_never_flashed(
    pair: Pair, meddler: Meddler, entity: str
) -> None:
    pair.pi.device.configure(greeting="altered")
    meddler.forge = altered
    await assert_refused(pair, entity, "a chunk that is not the sender's")

    # Once nobody alters it, it is flashed, and the owner need not look any more.
    meddler.forge = None
    before = program(pair)
    await install(pair, entity)
    assert program(pair) != before
    assert await repair(pair) is None


async def test_firmware_sealed_by_another_key_is_never_flashed(
    pair: Pair, meddler: Meddler, entity: str, tmp_path: Path
) -> None:
    pair.pi.device.configure(greeting="forged")
    meddler.forge = forge(pair, Identity.generate(), tmp_path)
    await assert_refused(pair, entity, "that the peer sealed for this instance")


async def test_firmware_that_its_own_builder_lies_about_is_never_flashed(
    pair: Pair, meddler: Meddler, entity: str, tmp_path: Path
) -> None:
    # With the workshop's key and all that it says about its firmware, and another content.
    pair.pi.device.configure(greeting="forged")
    meddler.forge = forge(pair, identity(pair.workshop), tmp_path)
    await assert_refused(pair, entity, "not what the header says")


async def test_firmware_of_an_earlier_build_is_never_flashed(
    pair: Pair, meddler: Meddler, entity: str
) -> None:
    async def earliest(_attempt_id: str, _sealed: bytes) -> bytes:
        return next(iter(meddler.firmware.values()))

    pair.pi.device.configure(greeting="forged")
    meddler.forge = altered
    await assert_refused(pair, entity, "a chunk that is not the sender's")
    meddler.forge = earliest
    await assert_refused(pair, entity, "the firmware of another build")
    assert len(meddler.firmware) == 2


# What was sent once is sent again.


async def test_replayed_submit_starts_no_second_build(
    pair: Pair, meddler: Meddler, entity: str
) -> None:
    async def builds() -> int:
        sensor = await pair.workshop.entity(f"guest_{identity(pair.pi).pin_sha256}_builds")
        return int((await pair.workshop.client.state(sensor))["state"])

    async def assert_over() -> None:
        """Check that neither submit nor bundle is taken, with a fresh token of the pi's."""
        before = await builds()
        answer = await meddler.inject(sent)
        assert answer["error"]["code"] == "attempt_over"
        status, refusal = await meddler.put_again(sent["attempt_id"], meddler.tokens[-1])
        assert (status, refusal["error"]) == (409, "attempt_over")
        assert pair.workshop.at_work() == {}
        assert await builds() == before

    before = await builds()
    pair.pi.device.configure(greeting="replayed")
    # Each submit comes twice while its build runs: it is the same build.
    meddler.repeat = True
    job = await submit(pair.pi.client, "compile", entity)
    assert_compiled(pair, await follow(pair.pi.client, job["job_id"]))
    meddler.repeat = False
    sent = meddler.submits[-1]
    assert sent["attempt_id"] in meddler.bundles
    assert meddler.repeated[-1]["success"]
    assert await builds() == before + 1

    # Later it is over and done with, in the very connection that the pi has proven.
    await assert_over()

    await pair.workshop.crash()
    await pair.workshop.boot()
    await pair.pi.client.reload(pair.entry_id)
    await pair.connected()
    await assert_over()


# Tickets.


async def test_stolen_ticket_is_of_no_use_without_the_key(pair: Pair, meddler: Meddler) -> None:
    workshop, pi, thief = identity(pair.workshop), identity(pair.pi), Identity.generate()
    request, answer = meddler.tickets[-1]

    # What was overheard tells nothing to whoever has another key.
    for key in (thief, workshop):
        channel = Channel(key, pi.public if key is workshop else workshop.public)
        with pytest.raises(ProtocolError) as refusal:
            TicketApplication(channel).open(answer)
        assert refusal.value.code is ErrorCode.TAMPERED

    # Asking in the pi's name gives nothing.
    forged = TicketApplication(Channel(thief, workshop.public)).message
    assert (await ask(meddler, forged))["error"] == "unknown_guest"
    assert (await ask(meddler, {**forged, "pin_sha256": pi.pin_sha256}))["error"] == "tampered"

    # To ask once more as the pi did, or to keep what it asked for a while, gives no token.
    channel = Channel(pi, workshop.public)
    assert grant(channel, answer).access_token is not None
    replayed = grant(channel, await ask(meddler, request))
    assert (replayed.access_token, replayed.error) == (None, ErrorCode.REPLAYED)
    old = TicketApplication(channel, clock=lambda: time.time() - 600)
    refused = grant(channel, await ask(meddler, old.message))
    assert (refused.access_token, refused.error) == (None, ErrorCode.CLOCK_SKEW)


async def test_stolen_access_token_lives_a_minute_and_commands_nothing(
    pair: Pair, meddler: Meddler
) -> None:
    token = meddler.tokens[-1]
    claims = token.split(".")[1]
    told = json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))
    assert told["exp"] - told["iat"] == TICKET_LIFETIME == 60

    async with aiohttp.ClientSession() as session:
        connection = await Connection.open(session, pair.workshop.instance.url, token)
        try:
            for command in (
                Submit(NOBODYS_ATTEMPT, NOBODYS_BUNDLE),
                Attach(NOBODYS_ATTEMPT),
                Cancel(NOBODYS_ATTEMPT),
                Wanted(()),
                Acknowledge(NOBODYS_ATTEMPT),
                Clean(pair.pi.device.configuration),
                SubscribeStatus(),
                Unpair(bytes(32)),
            ):
                assert await refusal_of(connection, command) is ErrorCode.NOT_PROVEN, command
            for ours in ({"type": "job/follow", "job_id": "x"}, {"type": "jobs/list"}):
                with pytest.raises(PeerRefused, match="unauthorized"):
                    await connection.call({**ours, "type": f"{DOMAIN}/{ours['type']}"})
            # To greet is not to have the key, and a wrong proof is the end.
            channel = Channel(Identity.generate(), identity(pair.workshop).public)
            handshake = OffloaderHandshake(channel, own_offer("0.1.0"))
            prove = handshake.prove(await connection.call(handshake.hello))
            assert await refusal_of(connection, prove) is ErrorCode.NOT_PROVEN
            with pytest.raises(LinkLost):
                await asyncio.wait_for(asyncio.shield(connection.lost), 5)
        finally:
            await connection.close()
    # The pi did not notice.
    await pair.connected()


# What these tests do again and again.


def program(pair: Pair) -> str:
    """Return what the device is running, by digest."""
    return hashlib.sha256((pair.pi.device.folder / "program").read_bytes()).hexdigest()


async def altered(_attempt_id: str, sealed: bytes) -> bytes:
    """Change the last byte of a firmware on its way."""
    return sealed[:-1] + bytes([sealed[-1] ^ 1])


def forge(pair: Pair, key: Identity, folder: Path) -> Forge:
    """Return what seals a program that would run, with ``key``, as what the workshop built."""
    pi = identity(pair.pi)
    image = folder / "evil.bin"
    image.write_bytes((pair.pi.device.folder / "program").read_bytes() + b"evil")

    async def sealed(_attempt_id: str, genuine: bytes) -> bytes:
        opener = Opener(
            Channel(pi, identity(pair.workshop).public), Purpose.FIRMWARE, FIRMWARE_LIMIT
        )
        header = opener.read_header(genuine)
        assert header is not None
        sealer = Sealer(
            Channel(key, pi.public),
            Purpose.FIRMWARE,
            image,
            parse(FirmwareParameters, header.parameters),
            limit=FIRMWARE_LIMIT,
            sha256=header.sha256,
        )
        # The header has the lie by now; an honest sealer would stop when it sees another content.
        sealer.sha256 = hashlib.sha256(image.read_bytes()).hexdigest()
        return b"".join(sealer.batches())

    return sealed


async def assert_refused(pair: Pair, entity: str, why: str) -> None:
    """Install, and check that nothing comes of it but word to the owner."""

    def settled(event: Json) -> bool:
        # Whatever is not refused would be flashed, or built once more: not worth waiting for.
        job = event["job"]
        return bool(event["terminal"] or job["stage"] == "uploading" or job["source"] == "local")

    before = program(pair)
    job = await submit(pair.pi.client, "install", entity)
    job = await reach(pair.pi.client, job["job_id"], settled)
    assert (job["status"], job["failure_reason"]) == ("failed", "integrity"), job["error"]
    assert why in job["error"]
    assert_built_by_workshop(pair, job)
    assert len(job["attempts"]) == 1
    assert not {"uploading", "verifying"} & job["stages"].keys()
    assert program(pair) == before
    issue = await repair(pair)
    assert issue["translation_key"] == "firmware_altered"
    assert issue["translation_placeholders"] == {
        "device": pair.pi.device.name,
        "builder": "workshop",
        "error": job["error"],
    }


async def repair(pair: Pair) -> Json:
    """Return what the pi's owner is told about altered firmware, None when nothing."""
    issue_id = f"firmware_altered_{pair.pi.device.configuration}"
    answer = await pair.pi.client.call("repairs/list_issues")
    found = [issue for issue in answer["issues"] if issue["issue_id"] == issue_id]
    return found[0] if found else None


async def ask(meddler: Meddler, request: Json) -> Json:
    """Ask the workshop for a ticket."""
    status, body = await meddler.ask("POST", URL_TICKET, json=request)
    assert status == 200
    return json.loads(body)


def grant(channel: Channel, answer: Json) -> Grant:
    """Return what stands in an answer to whoever has the key."""
    sealed = parse(TicketAnswer, answer).sealed
    return parse_json(Grant, channel.open(Purpose.TICKET_ANSWER, sealed))
