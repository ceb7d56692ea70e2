"""What a builder answers over HTTP, to strangers and to guests."""

from collections.abc import AsyncIterator
import json
from pathlib import Path
from typing import Any

from aiohttp.test_utils import TestClient
from custom_components.esphome_offload.engine.protocol.body import sealed_size
from custom_components.esphome_offload.engine.protocol.greetings import Info
from custom_components.esphome_offload.engine.protocol.tickets import TicketApplication
from homeassistant.core import HomeAssistant
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry
from yarl import URL

from custom_components.esphome_offload.const import DOMAIN
from custom_components.esphome_offload.coordinator import OffloadCoordinator
from custom_components.esphome_offload.engine.protocol.definitions import (
    BUNDLE_LIMIT,
    PAIRING_BODY_LIMIT,
    TICKET_BODY_LIMIT,
    URL_INFO,
    URL_PAIR,
    URL_TICKET,
    ErrorCode,
    ProtocolError,
)
from custom_components.esphome_offload.engine.protocol.identity import Identity
from custom_components.esphome_offload.engine.protocol.pairing import PairingError, PairingFailure
from custom_components.esphome_offload.engine.protocol.parsing import parse
from custom_components.esphome_offload.identity_store import async_get_identity
from custom_components.esphome_offload.lending import views as peer_views

from .conftest import LEND
from .guest_client import CommandRefusedError, Offloader, new_attempt_id


async def refusal(response: Any) -> str:
    answer = await response.json()
    assert answer["type"] == "refusal"
    code: str = answer["error"]
    return code


# Who is here


async def test_it_says_who_it_is_while_it_is_lent(
    hass: HomeAssistant, lent: OffloadCoordinator, client: TestClient
) -> None:
    hass.config.location_name = "workshop"
    response = await client.get(URL_INFO)
    assert response.status == 200
    info = parse(Info, await response.json())
    assert info.pin_sha256 == (await async_get_identity(hass)).pin_sha256
    assert (info.label, info.pairing) == ("workshop", False)
    lent.lender.open_window()
    assert parse(Info, await (await client.get(URL_INFO)).json()).pairing is True


async def test_it_says_nothing_while_it_is_not_lent(
    hass: HomeAssistant, coordinator: OffloadCoordinator, client: TestClient, tmp_path: Path
) -> None:
    response = await client.get(URL_INFO)
    assert (response.status, await refusal(response)) == (403, "not_lending")
    with pytest.raises(PairingError) as refused:
        await Offloader(client, tmp_path).pair("12345678")
    assert refused.value.failure is PairingFailure.WINDOW_CLOSED
    response = await client.post(URL_TICKET, json={})
    assert await refusal(response) == "not_lending"


# What needs no user


@pytest.mark.parametrize(
    ("url", "limit"), [(URL_PAIR, PAIRING_BODY_LIMIT), (URL_TICKET, TICKET_BODY_LIMIT)]
)
async def test_a_body_that_is_too_large_is_refused_announced_or_not(
    lent: OffloadCoordinator, client: TestClient, url: str, limit: int
) -> None:
    response = await client.post(url, data=b" " * (limit + 1))
    assert await refusal(response) == "too_large"

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(limit // 1024 + 8):
            yield b" " * 1024

    response = await client.post(url, data=endless())
    assert await refusal(response) == "too_large"


@pytest.mark.parametrize("url", [URL_PAIR, URL_TICKET])
@pytest.mark.parametrize("body", [b"", b"{", b"[" * 8000, b"[]", b'"pair_start"', b"\xff"])
async def test_a_body_that_is_no_message_is_refused(
    lent: OffloadCoordinator, client: TestClient, url: str, body: bytes
) -> None:
    lent.lender.open_window()
    response = await client.post(url, data=body)
    assert (response.status, await refusal(response)) == (200, "malformed")


@pytest.fixture
def patience_of_stone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody ask again because time went by, however slow this machine is."""
    monkeypatch.setattr(peer_views, "_PER_SECOND", 0.0)


@pytest.mark.usefixtures("patience_of_stone")
async def test_who_asks_too_often_is_told_to_wait(
    lent: OffloadCoordinator, client: TestClient
) -> None:
    codes = [(await client.get(URL_INFO)).status for _ in range(80)]
    assert codes == [200] * 60 + [429] * 20
    assert await refusal(await client.post(URL_TICKET, json={})) == "busy"


# Tickets


async def test_a_ticket_is_for_guests_only(pi: Offloader) -> None:
    pi.identity = Identity.generate()
    with pytest.raises(ProtocolError) as refused:
        await pi.ticket()
    assert refused.value.code is ErrorCode.UNKNOWN_GUEST


async def test_a_ticket_request_is_good_once(pi: Offloader, client: TestClient) -> None:
    application = TicketApplication(pi.channel)
    first = await (await client.post(URL_TICKET, json=application.message)).json()
    assert application.open(first).expires_in == 60
    second = await (await client.post(URL_TICKET, json=application.message)).json()
    with pytest.raises(ProtocolError) as refused:
        application.open(second)
    assert refused.value.code is ErrorCode.REPLAYED


async def test_a_guest_whose_user_was_switched_off_gets_no_ticket(
    hass: HomeAssistant, lent: OffloadCoordinator, pi: Offloader
) -> None:
    await pi.ticket()
    (guest,) = lent.lender.guests.all()
    user = await hass.auth.async_get_user(guest.user_id)
    assert user is not None
    await hass.auth.async_deactivate_user(user)
    with pytest.raises(ProtocolError) as refused:
        await pi.ticket()
    assert refused.value.code is ErrorCode.UNKNOWN_GUEST


# Bundles


async def test_a_bundle_and_a_firmware_need_a_user(lent: OffloadCoordinator, pi: Offloader) -> None:
    attempt_id = new_attempt_id()
    assert (await pi.put(attempt_id, b"", None))[0] == 401
    assert (await pi.get(attempt_id, "ota", None)).status == 401


async def test_who_is_no_guest_gets_nowhere(
    lent: OffloadCoordinator, pi: Offloader, hass_access_token: str
) -> None:
    attempt_id = new_attempt_id()
    status, answer = await pi.put(attempt_id, b"", hass_access_token)
    assert (status, answer and answer["error"]) == (403, "unknown_guest")
    response = await pi.get(attempt_id, "ota", hass_access_token)
    assert (response.status, await refusal(response)) == (403, "unknown_guest")


async def test_a_bundle_that_is_announced_as_too_large_is_not_read(pi: Offloader) -> None:
    token = await pi.ticket()

    async def large() -> AsyncIterator[bytes]:
        yield b"EOSEAL01"
        raise AssertionError("the rest was asked for")

    response = await pi.client.put(
        f"/api/{DOMAIN}/bundle/{new_attempt_id()}",
        data=large(),
        headers={
            "Authorization": f"Bearer {token}",
            "Content-Length": str(sealed_size(BUNDLE_LIMIT) * 2),
            "Expect": "100-continue",
        },
    )
    assert (response.status, await refusal(response)) == (413, "too_large")


async def test_an_altered_bundle_is_refused_and_not_kept(
    lent: OffloadCoordinator, pi: Offloader
) -> None:
    attempt_id = new_attempt_id()
    body = bytearray(b"".join(pi.bundle(attempt_id).batches()))
    body[-1] ^= 1
    status, answer = await pi.put(attempt_id, bytes(body), await pi.ticket())
    assert (status, answer and answer["error"]) == (400, "tampered")
    inbox = lent.build_services.layout.inbox
    assert [path for path in inbox.rglob("*") if path.is_file()] == []


async def test_a_bundle_of_somebody_else_is_refused(pi: Offloader, attic: Offloader) -> None:
    attempt_id = new_attempt_id()
    body = b"".join(attic.bundle(attempt_id).batches())
    status, answer = await pi.put(attempt_id, body, await pi.ticket())
    assert (status, answer and answer["error"]) == (400, "tampered")


async def test_an_attempt_id_that_is_a_path_leads_nowhere(
    lent: OffloadCoordinator, pi: Offloader, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere" / "folder"
    for name in (f"{elsewhere}/bundle", "deeper/bundle", "bundle"):
        attempt_id = name.replace("/", "%2F")
        response = await pi.client.put(
            URL(f"/api/{DOMAIN}/bundle/{attempt_id}", encoded=True),
            data=b"".join(pi.bundle(new_attempt_id()).batches()),
            headers={"Authorization": f"Bearer {await pi.ticket()}"},
        )
        assert (response.status, await refusal(response)) == (400, "malformed")
    assert not elsewhere.exists()
    assert not lent.build_services.layout.inbox.exists()


async def test_while_paused_no_bundle_is_taken_and_the_reason_is_told(
    lent: OffloadCoordinator, pi: Offloader
) -> None:
    await lent.lender.async_set_paused(paused=True)
    attempt_id = new_attempt_id()
    status, answer = await pi.upload(attempt_id, pi.bundle(attempt_id))
    assert answer is not None
    assert (status, answer["error"]) == (403, "not_lending")
    assert "paused" in str(answer["detail"])


# Firmware


async def test_firmware_comes_back_sealed_to_its_guest(
    lent: OffloadCoordinator, pi: Offloader, attic: Offloader
) -> None:
    wire = await pi.connect()
    attempt_id = await pi.submit(wire)
    await wire.built(attempt_id)

    content, header = await pi.fetch(attempt_id)
    assert content == b"firmware of " + attempt_id.encode()
    assert header.parameters["part"] == "ota"
    assert header.parameters["parts"] == ["ota"]

    with pytest.raises(CommandRefusedError) as refused:
        await attic.fetch(attempt_id)
    assert refused.value.code == "unknown_attempt"
    for part in ("elf", "secrets"):
        response = await pi.get(attempt_id, part, await pi.ticket())
        assert (response.status, await refusal(response)) == (404, "firmware_not_ready")


async def test_firmware_that_changed_on_disk_is_not_sent(
    lent: OffloadCoordinator, pi: Offloader
) -> None:
    wire = await pi.connect()
    attempt_id = await pi.submit(wire)
    await wire.built(attempt_id)
    root = lent.build_services.layout.guest(pi.identity.pin_sha256).all_firmware
    (image,) = root.rglob("firmware.bin")
    image.chmod(0o600)
    image.write_bytes(b"something else")
    with pytest.raises((CommandRefusedError, ProtocolError)):
        await pi.fetch(attempt_id)


async def test_what_is_lent_no_more_is_not_handed_out(
    hass: HomeAssistant, lent: OffloadCoordinator, entry: MockConfigEntry, pi: Offloader
) -> None:
    wire = await pi.connect()
    attempt_id = await pi.submit(wire)
    await wire.built(attempt_id)
    token = await pi.ticket()
    hass.config_entries.async_update_entry(entry, options={**LEND, "lend": False})
    await wire.closed()
    response = await pi.get(attempt_id, "ota", token)
    assert (response.status, await refusal(response)) == (403, "not_lending")


async def test_guests_survive_a_restart_and_so_does_what_they_built(
    hass: HomeAssistant,
    lent: OffloadCoordinator,
    entry: MockConfigEntry,
    pi: Offloader,
    hass_storage: dict[str, Any],
) -> None:
    wire = await pi.connect()
    attempt_id = await pi.submit(wire)
    await wire.built(attempt_id)
    await lent.lender.async_stop()
    assert len(hass_storage["esphome_offload.guests"]["data"]["guests"]) == 1
    assert attempt_id in json.dumps(hass_storage["esphome_offload.guest_builds"])

    await lent.lender.async_start()
    await lent.lender.async_apply(lent.options)
    content, _ = await pi.fetch(attempt_id)
    assert content == b"firmware of " + attempt_id.encode()


@pytest.fixture
def expected_lingering_timers() -> bool:
    """Allow that aiohttp leaves the heartbeat timer of a websocket that the server closed."""
    return True
