"""Attacks on the link: recording, replay, lies, strangers, a guest that wants more."""

import asyncio
import base64
from collections.abc import Iterator
import json

import aiohttp
from aiohttp import web
import pytest

from custom_components.esphome_offload.engine.protocol.channel import ChannelClosed
from custom_components.esphome_offload.engine.protocol.hello import URL_LINK
from custom_components.esphome_offload.engine.protocol.identity import Identity
from custom_components.esphome_offload.engine.protocol.pairing import pair as pair_by_code
from custom_components.esphome_offload.engine.protocol.session import CommandRefused

from ..harness import ports
from ..harness.any_builder import AnyBuilder
from ..harness.builder import Builder
from ..harness.client import USERNAME, Json, RequestFailedError
from ..harness.jobs import follow, output, reach, submit
from ..harness.pair import Pair
from ..harness.relay import Relay
from ..harness.second_guest import opening, remove_second_guest, second_guest_of
from ..harness.strangers import strangers
from ..harness.tampering_proxy import (
    Direction,
    Frame,
    TamperingProxy,
)
from ..harness.waiting import PATIENCE
from .checks import (
    assert_built_by_builder,
    install,
)

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

SECRET = "correct-horse-battery-staple"
WINDOW = 16
LARGE = 8 * 1024
STRANGERS = 1200
STALL_MS = 20.0


# A relay that records.


async def test_recorded_install_shows_neither_secrets_nor_output_nor_firmware(
    pair: Pair[AnyBuilder], proxy: TamperingProxy, entity: str
) -> None:
    pair.offloader.device.configure(greeting=SECRET)
    job = await install(pair, entity)
    assert_built_by_builder(pair, job)
    lines = await output(pair.offloader.client, job["job_id"])
    firmware = pair.offloader.device.program.read_bytes()
    to_builder, to_offloader = (proxy.record(direction) for direction in Direction)
    # It is all there, and the firmware holds the secret.
    assert len(to_offloader) > len(firmware)
    assert SECRET.encode() in firmware
    for record in (to_builder, to_offloader):
        assert SECRET.encode() not in record
        assert [line for line in lines if len(line) >= WINDOW and line.encode() in record] == []
        assert not have_common_bytes(record, firmware)
    # That would have been found.
    assert have_common_bytes(to_offloader + b"?" + firmware[4321 : 4321 + 2 * WINDOW], firmware)


def have_common_bytes(record: bytes, secret: bytes) -> bool:
    """Return whether any 2 * WINDOW neighbouring bytes of ``secret`` are in ``record``.

    Those hold one of the blocks into which ``record`` is cut, wherever they are in it.
    """
    blocks = {record[start : start + WINDOW] for start in range(0, len(record), WINDOW)}
    return any(
        secret[start : start + WINDOW] in blocks for start in range(len(secret) - WINDOW + 1)
    )


# An old recording.


async def test_recording_that_is_played_again_does_nothing(
    pair: Pair[AnyBuilder], proxy: TamperingProxy, entity: str
) -> None:
    # All of an install: pairing came before, connecting again is in it.
    await pair.reconnect()
    pair.offloader.device.configure(greeting="recorded")
    job = await install(pair, entity)
    assert_built_by_builder(pair, job)
    sent = [frame for frame in proxy.frames if frame.direction is Direction.TO_BUILDER]
    before = await what_the_builder_knows(pair)
    connections = proxy.connections
    async with aiohttp.ClientSession() as session:
        for number in sorted({frame.connection for frame in sent}):
            await play(session, pair, [frame for frame in sent if frame.connection == number])
    assert pair.builder.build_processes() == {}
    assert await what_the_builder_knows(pair) == before
    # Nor did the offloader lose its own connection.
    await pair.connected()
    assert proxy.connections == connections


async def play(session: aiohttp.ClientSession, pair: Pair[AnyBuilder], frames: list[Frame]) -> None:
    """Send what was recorded of one connection, and see the builder hang up on it."""
    async with session.ws_connect(f"{pair.builder.url}{URL_LINK}") as socket:
        await socket.receive()
        try:
            for frame in frames:
                if frame.is_text:
                    await socket.send_str(frame.data.decode())
                else:
                    await socket.send_bytes(frame.data)
        except aiohttp.ClientConnectionResetError:
            return
        answers = 0
        async with asyncio.timeout(PATIENCE):
            async for message in socket:
                # To the handshake, which proves nothing yet, or that it is refused.
                answers += 1
                assert len(message.data) < LARGE
        assert answers <= 1


async def what_the_builder_knows(pair: Pair[Builder]) -> Json:
    """Return the builder's devices, entities and states that are of its guests."""
    states = {
        state["entity_id"]: state["state"]
        for state in await pair.builder.client.get("states")
        if "build" in state["entity_id"] or "guest" in state["entity_id"]
    }
    trees = sorted(path.name for path in pair.builder.builds.glob("*/trees/*"))
    return states, await pair.builder.guests(), trees


# A builder that lies.


@pytest.mark.parametrize("about", ["content", "bundle", "attempt", "version"])
async def test_firmware_that_its_builder_lies_about_is_never_flashed(
    pair: Pair[Builder], entity: str, about: str
) -> None:
    def settled(event: Json) -> bool:
        # What is not refused is flashed, or built once more: not worth waiting for.
        job = event["job"]
        return bool(event["terminal"] or job["stage"] == "uploading" or job["source"] == "local")

    device, client = pair.offloader.device, pair.offloader.client
    device.configure(greeting=f"lies about {about}")
    before = device.firmware_sha256()
    await pair.builder.client.service("lying_builder.lie", None, {"about": about})
    try:
        job = await submit(client, "install", entity)
        job = await reach(client, job["job_id"], settled)
    finally:
        await pair.builder.client.service("lying_builder.lie", None, {"about": "nothing"})
    assert (job["status"], job["failure_reason"]) == ("failed", "integrity"), job["error"]
    assert_built_by_builder(pair, job)
    assert len(job["attempts"]) == 1
    assert not {"uploading", "verifying"} & job["stages"].keys()
    assert device.firmware_sha256() == before
    repair = await integrity_repair(pair)
    assert repair["translation_key"] == "firmware_altered"
    assert repair["translation_placeholders"]["builder"] == "builder"

    # An honest build is flashed, and the repair is over.
    await install(pair, entity)
    assert device.firmware_sha256() != before
    assert await integrity_repair(pair) is None


async def test_firmware_of_another_device_is_never_flashed_whatever_its_builder_calls_it(
    pair: Pair[Builder], entity: str
) -> None:
    device, client = pair.offloader.device, pair.offloader.client
    device.configure(greeting="lies about the node")
    before = device.firmware_sha256()
    await pair.builder.client.service("lying_builder.lie", None, {"about": "node"})
    try:
        job = await submit(client, "install", entity)
        job = await follow(client, job["job_id"])
    finally:
        await pair.builder.client.service("lying_builder.lie", None, {"about": "nothing"})
    assert (job["status"], job["failure_reason"]) == ("failed", "wrong_device"), job["error"]
    assert not {"uploading", "verifying"} & job["stages"].keys()
    assert device.firmware_sha256() == before


async def integrity_repair(pair: Pair[AnyBuilder]) -> Json:
    """Return the repair about altered firmware, None when there is none."""
    issue_id = f"firmware_altered_{pair.offloader.device.configuration}"
    answer = await pair.offloader.client.call("repairs/list_issues")
    found = [issue for issue in answer["issues"] if issue["issue_id"] == issue_id]
    return found[0] if found else None


# A guest that wants more than builds.


async def test_what_a_guest_holds_opens_nothing_of_home_assistant(pair: Pair[Builder]) -> None:
    url = pair.builder.url
    keys = list(held_by(pair))
    assert len(keys) > 3
    async with aiohttp.ClientSession() as session:
        for key in keys:
            bearer = {"Authorization": f"Bearer {key}"}
            signed = {"authSig": key}
            requests = [
                session.get(f"{url}/api/states", headers=bearer),
                session.get(f"{url}/api/config", headers=bearer),
                session.post(f"{url}/api/template", headers=bearer, json={"template": "{{ 1 }}"}),
                session.post(f"{url}/api/services/homeassistant/check_config", headers=bearer),
                session.post(f"{url}/api/services/notify/notify", headers=bearer),
                session.get(f"{url}/api/states", params=signed),
                session.get(f"{url}/api/camera_proxy/camera.none", params={"token": key}),
            ]
            for request in requests:
                async with request as answer:
                    assert answer.status in {401, 403, 404}, (answer.url.path, key)
            async with session.ws_connect(f"{url}/api/websocket") as socket:
                await socket.receive_json()
                await socket.send_json({"type": "auth", "access_token": key})
                assert (await socket.receive_json())["type"] == "auth_invalid"
    # A webhook gives the same answer whether it exists or not; there is none.
    assert await pair.builder.client.call("webhook/list") == []


def held_by(pair: Pair[AnyBuilder]) -> Iterator[str]:
    """Return all texts that the offloader has stored for this builder, and its own key."""
    stored = json.loads(pair.offloader.instance.stored("core.config_entries"))
    (entry,) = (entry for entry in stored["data"]["entries"] if entry["entry_id"] == pair.entry_id)
    yield from texts_in(entry["data"])
    identity = pair.offloader.identity
    for raw in (identity.private, identity.public.raw):
        yield raw.hex()
        yield base64.b64encode(raw).decode()
    yield identity.pin_sha256


def texts_in(value: Json) -> Iterator[str]:
    """Return all texts in a JSON value."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from texts_in(each)
    elif isinstance(value, str):
        yield value


async def test_link_serves_builds_and_nothing_of_home_assistant(pair: Pair[Builder]) -> None:
    commands: list[Json] = [
        {"type": "get_states"},
        {"type": "get_config"},
        {"type": "render_template", "template": "{{ states.sun }}"},
        {"type": "call_service", "domain": "homeassistant", "service": "restart"},
        {"type": "auth/sign_path", "path": "/api/states"},
        {"type": "webhook/list"},
        {"type": "fire_event", "event_type": "test"},
        {"type": "subscribe_events"},
        {"type": "esphome_offload/jobs/list"},
        {"type": "esphome_offload/job/follow", "job_id": "0" * 32},
    ]
    async with second_guest_of(pair.builder) as guest:
        for command in commands:
            with pytest.raises((CommandRefused, ChannelClosed)):
                await guest.session.call(command)
    for old in ("info", "pair", "ticket", "bundle/x", "firmware/x/ota"):
        with pytest.raises(RequestFailedError) as refused:
            await pair.builder.client.get(f"esphome_offload/{old}")
        assert refused.value.code == "404"


async def test_guest_is_no_user_of_home_assistant(pair: Pair[Builder]) -> None:
    users = await pair.builder.client.call("config/auth/list")
    people = [user for user in users if not user["system_generated"]]
    assert [user["username"] for user in people] == [USERNAME]
    stored = json.loads(pair.builder.instance.stored("auth"))["data"]
    names = {user["id"]: user["name"] for user in stored["users"]}
    holders = {names[token["user_id"]] for token in stored["refresh_tokens"]}
    assert {user["name"] for user in stored["users"]} == {user["name"] for user in users}
    for name in {*names.values(), *holders}:
        assert "offload" not in name.lower()
    assert pair.offloader.identity.pin_sha256 not in json.dumps(stored)


# Strangers.


async def test_strangers_stall_nothing_and_lock_nobody_out(
    pair: Pair[Builder], relay: Relay, entity: str
) -> None:
    builder = pair.builder
    code = await builder.open_pairing()
    await builder.client.service("loop_probe.start")
    async with strangers(builder, STRANGERS) as arriving:
        await arriving
        stall = await builder.client.service("loop_probe.read", response=True)
        # With all of them still there, the guest connects and builds.
        await relay.cut()
        await relay.restore()
        await pair.reconnect()
        pair.offloader.device.configure(greeting="among strangers")
        job = await install(pair, entity)
        assert_built_by_builder(pair, job)
        # And the window is as open as before.
        try:
            async with opening(builder.url, Identity.generate()) as (to_builder, hello):
                paired = await pair_by_code(to_builder, hello, code)
            assert paired.public == builder.identity.public
        finally:
            await remove_second_guest(builder)
    # Not by the clock: other processes want the processor as well.
    assert stall["longest_callback_ms"] <= STALL_MS, stall


# An impostor at the builder's address.


async def test_redirect_of_the_link_is_not_followed(
    pair: Pair[AnyBuilder], relay: Relay, proxy: TamperingProxy
) -> None:
    followed: list[str] = []

    async def elsewhere(request: web.Request) -> web.Response:
        followed.append(request.path)
        return web.Response()

    (port,) = ports.pick()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", elsewhere)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        proxy.redirect = f"http://127.0.0.1:{port}{URL_LINK}"
        await relay.cut()
        await relay.restore()
        # Twice: by the second time the first has come to its end.
        for _ in range(2):
            await asyncio.wait_for(proxy.redirected.wait(), PATIENCE)
            proxy.redirected.clear()
        assert followed == []
        proxy.redirect = None
        await pair.reconnect()
    finally:
        await runner.cleanup()
