"""Guests as devices, and what becomes of them when no builds are accepted."""

from pathlib import Path
from types import SimpleNamespace
from typing import cast

from aiohttp.test_utils import TestClient
from homeassistant.config_entries import ConfigEntryDisabler
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import ServiceValidationError
from homeassistant.helpers import device_registry as dr
from homeassistant.util import dt as dt_util
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry
from pytest_homeassistant_custom_component.typing import WebSocketGenerator

from custom_components.esphome_offload.const import DOMAIN
from custom_components.esphome_offload.coordinator import OffloadCoordinator
from custom_components.esphome_offload.engine.build.compiler_cache import CacheUse
from custom_components.esphome_offload.engine.host.lending import Lending
from custom_components.esphome_offload.engine.protocol.calls import CommandRefused
from custom_components.esphome_offload.engine.protocol.errors import ErrorCode
from custom_components.esphome_offload.engine.protocol.hello import Refused
from custom_components.esphome_offload.engine.protocol.messages import Cancel
from custom_components.esphome_offload.lending.guest_devices import guest_pin
from custom_components.esphome_offload.options import OffloadOptions

from ..engine.jobs.fakes import Block
from .conftest import LEND, Stage
from .guest_client import OffloaderClient, new_attempt_id


def devices(hass: HomeAssistant, entry: MockConfigEntry) -> dict[str, dr.DeviceEntry]:
    found = dr.async_entries_for_config_entry(dr.async_get(hass), entry.entry_id)
    return {device.name or "": device for device in found}


# Guests


async def test_a_guest_has_no_user_and_no_token(
    hass: HomeAssistant, lent: OffloadCoordinator, client: TestClient, tmp_path: Path
) -> None:
    async def credentials() -> set[str]:
        users = await hass.auth.async_get_users()
        return {user.id for user in users} | {
            token for user in users for token in user.refresh_tokens
        }

    before = await credentials()
    offloader = OffloaderClient(client, tmp_path)
    await offloader.pair(lent.lender.open_window().code)
    async with offloader.connected() as link:
        await link.built(await link.submit())
        assert await credentials() == before


async def test_a_guest_is_a_device_that_says_when_it_was_connected_and_what_it_built(
    hass: HomeAssistant,
    lent: OffloadCoordinator,
    entry: MockConfigEntry,
    offloader: OffloaderClient,
    stage: Stage,
) -> None:
    await hass.async_block_till_done()
    device = devices(hass, entry)["offloader"]
    assert device.identifiers == {(DOMAIN, f"guest_{offloader.identity.pin_sha256}")}
    assert hass.states.get("sensor.offloader_last_seen").state == "unknown"
    assert hass.states.get("sensor.offloader_builds").state == "0"
    assert hass.states.get("sensor.offloader_last_build").state == "unknown"
    assert hass.states.get("sensor.offloader_builds_now").state == "idle"
    assert hass.states.get("binary_sensor.offloader_connected").state == "off"

    block = Block()
    stage.guests.script = [block]
    async with offloader.connected() as link:
        assert hass.states.get("binary_sensor.offloader_connected").state == "on"
        attempt_id = await link.submit()
        await block.entered.wait()
        await hass.async_block_till_done()
        assert hass.states.get("sensor.offloader_builds_now").state == "lamp.yaml"
        running = hass.states.get("sensor.this_instance_builds_running")
        assert (running.state, running.attributes["built_for"]) == ("1", ["offloader"])
        block.release.set()
        assert (await link.built(attempt_id))[-1]["state"] == "completed"
        assert await link.fetch(attempt_id) == b"firmware of " + attempt_id.encode()
    await hass.async_block_till_done()
    assert hass.states.get("binary_sensor.offloader_connected").state == "off"
    assert hass.states.get("sensor.offloader_builds_now").state == "idle"
    assert hass.states.get("sensor.offloader_last_build").state != "unknown"
    assert hass.states.get("sensor.offloader_last_seen").state != "unknown"
    assert hass.states.get("sensor.offloader_builds").state == "1"


async def test_pairing_again_keeps_the_guest_and_takes_its_new_name(
    hass: HomeAssistant,
    lent: OffloadCoordinator,
    entry: MockConfigEntry,
    offloader: OffloaderClient,
) -> None:
    lent.lender.guests.count_build(offloader.identity.pin_sha256, dt_util.utcnow())
    offloader.label = "kitchen"
    await offloader.pair(lent.lender.open_window().code)
    await hass.async_block_till_done()
    (after,) = lent.lender.guests.all()
    assert (after.builds, after.label) == (1, "kitchen")
    assert "kitchen" in devices(hass, entry)


async def test_a_guest_that_has_a_new_name_brings_it_along(
    hass: HomeAssistant,
    lent: OffloadCoordinator,
    entry: MockConfigEntry,
    offloader: OffloaderClient,
) -> None:
    offloader.label = "kitchen"
    async with offloader.connected():
        await hass.async_block_till_done()
        assert "kitchen" in devices(hass, entry)


async def test_removing_the_device_unpairs_and_closes_the_connection(
    hass: HomeAssistant,
    lent: OffloadCoordinator,
    entry: MockConfigEntry,
    offloader: OffloaderClient,
    hass_ws_client: WebSocketGenerator,
) -> None:
    await hass.async_block_till_done()
    device = devices(hass, entry)["offloader"]
    admin = await hass_ws_client(hass)
    async with offloader.connected() as link:
        response = await admin.remove_device(device.id)
        assert response["success"]
        await link.lost()
        assert link.statuses[-1] == {"type": "unpaired"}

    assert lent.lender.guests.all() == ()
    assert "offloader" not in devices(hass, entry)
    assert hass.states.get("sensor.offloader_builds") is None
    with pytest.raises(Refused) as refused:
        async with offloader.connected():
            pass
    assert refused.value.code is ErrorCode.UNKNOWN_GUEST


async def test_other_devices_are_not_removed_by_hand_and_it_is_said_how_they_are(
    hass: HomeAssistant,
    lent: OffloadCoordinator,
    entry: MockConfigEntry,
    hass_ws_client: WebSocketGenerator,
) -> None:
    admin = await hass_ws_client(hass)
    response = await admin.remove_device(devices(hass, entry)["Desk lamp"].id)
    assert not response["success"]
    assert response["error"]["message"].startswith("A device is removed with its configuration. ")
    assert "lamp.yaml" in response["error"]["message"]

    response = await admin.remove_device(devices(hass, entry)["This instance"].id)
    assert not response["success"]
    assert "switch off Accept builds" in response["error"]["message"]


async def test_removing_this_instance_unpairs_all_guests(
    hass: HomeAssistant,
    lent: OffloadCoordinator,
    entry: MockConfigEntry,
    offloader: OffloaderClient,
) -> None:
    async with offloader.connected() as link:
        await hass.config_entries.async_remove(entry.entry_id)
        await link.lost()
    assert lent.lender.guests.all() == ()
    assert lent.lender.lending is Lending.OFF


async def test_a_guest_that_is_removed_while_nothing_is_lent_is_gone_with_its_files(
    hass: HomeAssistant,
    lent: OffloadCoordinator,
    entry: MockConfigEntry,
    offloader: OffloaderClient,
    stage: Stage,
) -> None:
    async with offloader.connected() as link:
        await link.built(await link.submit())
    hass.config_entries.async_update_entry(entry, options={**LEND, "accept_builds": False})
    await hass.async_block_till_done()
    assert len(list(stage.layout.guests.iterdir())) == 1
    await lent.lender.async_unpair(offloader.identity.pin_sha256)
    assert lent.lender.guests.all() == ()
    assert list(stage.layout.guests.iterdir()) == []


async def test_users_of_former_guests_are_removed_at_the_start(
    hass: HomeAssistant, entry: MockConfigEntry, stage: Stage
) -> None:
    former = await hass.auth.async_create_system_user("ESPHome Offload guest: offloader")
    other = await hass.auth.async_create_system_user("Supervisor")
    assert await hass.config_entries.async_setup(entry.entry_id)
    assert await hass.auth.async_get_user(former.id) is None
    assert await hass.auth.async_get_user(other.id) is not None


# Builds that are not accepted, and what happens to the entry


async def accept(hass: HomeAssistant, entry: MockConfigEntry, *, accept: bool) -> None:
    hass.config_entries.async_update_entry(entry, options={**LEND, "accept_builds": accept})
    await hass.async_block_till_done()


async def test_what_runs_goes_on_when_no_builds_are_accepted_any_more(
    hass: HomeAssistant,
    lent: OffloadCoordinator,
    entry: MockConfigEntry,
    offloader: OffloaderClient,
    stage: Stage,
) -> None:
    block = Block()
    stage.guests.script = [block]
    async with offloader.connected() as link:
        attempt_id = await link.submit()
        await block.entered.wait()
        await accept(hass, entry, accept=False)
        with pytest.raises(CommandRefused) as refused:
            await link.submit()
        assert refused.value.code is ErrorCode.NOT_LENDING
        assert await link.refusal() == "accepts_no_builds"
        block.release.set()
        assert (await link.built(attempt_id))[-1]["state"] == "completed"
        assert await link.fetch(attempt_id) == b"firmware of " + attempt_id.encode()

        await accept(hass, entry, accept=True)
        assert (await link.built(await link.submit()))[-1]["state"] == "completed"


async def test_guests_connect_and_nobody_is_paired_while_no_builds_are_accepted(
    hass: HomeAssistant,
    lent: OffloadCoordinator,
    entry: MockConfigEntry,
    offloader: OffloaderClient,
) -> None:
    lent.lender.open_window()
    await accept(hass, entry, accept=False)
    await hass.config_entries.async_reload(entry.entry_id)
    await hass.async_block_till_done()
    assert lent.lender.pairing.state is None
    with pytest.raises(ServiceValidationError):
        lent.lender.open_window()
    async with offloader.connected() as link:
        assert await link.refusal() == "accepts_no_builds"


async def test_without_guests_nothing_is_served_while_no_builds_are_accepted(
    hass: HomeAssistant,
    lent: OffloadCoordinator,
    entry: MockConfigEntry,
    client: TestClient,
    tmp_path: Path,
) -> None:
    await accept(hass, entry, accept=False)
    assert lent.lender.lending is Lending.OFF
    with pytest.raises(Refused) as refused:
        await OffloaderClient(client, tmp_path).hello()
    assert refused.value.code is ErrorCode.NOT_LENDING


async def test_without_its_last_guest_nothing_is_served_while_no_builds_are_accepted(
    hass: HomeAssistant,
    lent: OffloadCoordinator,
    entry: MockConfigEntry,
    offloader: OffloaderClient,
    client: TestClient,
    tmp_path: Path,
) -> None:
    await accept(hass, entry, accept=False)
    assert lent.lender.lending is Lending.DRAINING
    async with offloader.connected() as link:
        await lent.lender.async_unpair(offloader.identity.pin_sha256)
        await link.lost()
        assert link.statuses[-1] == {"type": "unpaired"}
    await hass.async_block_till_done(wait_background_tasks=True)
    assert lent.lender.lending is Lending.OFF
    with pytest.raises(Refused) as refused:
        await OffloaderClient(client, tmp_path / "stranger").hello()
    assert refused.value.code is ErrorCode.NOT_LENDING


async def test_a_reload_of_the_entry_leaves_builds_and_connections_alone(
    hass: HomeAssistant,
    lent: OffloadCoordinator,
    entry: MockConfigEntry,
    offloader: OffloaderClient,
    stage: Stage,
) -> None:
    block = Block()
    stage.guests.script = [block]
    async with offloader.connected() as link:
        attempt_id = await link.submit()
        await block.entered.wait()
        assert await hass.config_entries.async_reload(entry.entry_id)
        block.release.set()
        assert (await link.built(attempt_id))[-1]["state"] == "completed"


async def test_guests_and_what_they_built_survive_a_restart(
    hass: HomeAssistant,
    lent: OffloadCoordinator,
    entry: MockConfigEntry,
    offloader: OffloaderClient,
) -> None:
    async with offloader.connected() as link:
        attempt_id = await link.submit()
        await link.built(attempt_id)
    await lent.lender.async_stop()
    await lent.lender.async_apply(OffloadOptions.from_entry(entry.data, entry.options))
    async with offloader.connected() as link:
        assert await link.fetch(attempt_id) == b"firmware of " + attempt_id.encode()
        with pytest.raises(CommandRefused):
            await link.session.call(Cancel(new_attempt_id()))


async def test_an_instance_that_never_lent_refuses(
    coordinator: OffloadCoordinator, client: TestClient, tmp_path: Path
) -> None:
    with pytest.raises(Refused) as refused:
        await OffloaderClient(client, tmp_path).hello()
    assert refused.value.code is ErrorCode.NOT_LENDING


async def test_a_disabled_entry_lends_nothing(
    hass: HomeAssistant, lent: OffloadCoordinator, entry: MockConfigEntry
) -> None:
    await hass.config_entries.async_set_disabled_by(entry.entry_id, ConfigEntryDisabler.USER)
    assert lent.lender.lending is Lending.OFF


def test_a_device_of_a_configuration_is_never_taken_for_a_guest_s() -> None:
    def pin_of(name: str) -> str | None:
        return guest_pin(cast("dr.DeviceEntry", SimpleNamespace(identifiers={(DOMAIN, name)})))

    assert pin_of("guest_room_lamp") is None
    assert pin_of(f"guest_{'a' * 64}") == "a" * 64


# This instance as a builder


async def test_this_instance_says_what_is_built_for_whom_and_what_that_takes(
    hass: HomeAssistant, lent: OffloadCoordinator, stage: Stage
) -> None:
    def shown(key: str) -> tuple[str, object, object]:
        state = hass.states.get(f"sensor.this_instance_{key}")
        attributes = state.attributes
        return state.state, attributes.get("built_for"), attributes.get("limit")

    assert shown("builds_running") == ("0", [], None)
    assert shown("builds_queued") == ("0", [], None)
    assert shown("disk_used_for_guests") == ("0.0", None, 30)
    assert shown("from_the_compiler_cache")[0] == "unknown"

    stage.compiler_caches.use = CacheUse(3, 4)
    slot = stage.builder.slots.take("local")
    assert slot is not None
    stage.builder.slots.want("local", 1, lambda: None)
    assert shown("builds_running") == ("1", ["test home"], None)
    assert shown("builds_queued") == ("1", ["test home"], None)
    assert shown("from_the_compiler_cache")[0] == "75"
    slot.release()
    assert shown("builds_running") == ("0", [], None)
