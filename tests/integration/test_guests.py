"""Guests as users and devices, and the switch that pauses."""

from custom_components.esphome_offload.engine.host.admission import Lending
from homeassistant.config_entries import ConfigEntryDisabler
from homeassistant.core import HomeAssistant
from homeassistant.helpers import (
    device_registry as dr,
    entity_registry as er,
)
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry
from pytest_homeassistant_custom_component.typing import WebSocketGenerator

from custom_components.esphome_offload.const import DOMAIN
from custom_components.esphome_offload.coordinator import OffloadCoordinator
from custom_components.esphome_offload.engine.protocol.definitions import ProtocolError

from .conftest import LEND, Stage
from .guest_client import CommandRefusedError, Offloader

SWITCH = "switch.this_instance_lend_this_machine"


def devices(hass: HomeAssistant, entry: MockConfigEntry) -> dict[str, dr.DeviceEntry]:
    found = dr.async_entries_for_config_entry(dr.async_get(hass), entry.entry_id)
    return {device.name or "": device for device in found}


# Guests


async def test_a_guest_is_a_user_without_any_rights(
    hass: HomeAssistant, lent: OffloadCoordinator, pi: Offloader
) -> None:
    await pi.ticket()
    (guest,) = lent.lender.guests.all()
    user = await hass.auth.async_get_user(guest.user_id)
    assert user is not None
    assert (user.system_generated, user.groups, user.is_admin) == (True, [], False)
    (token,) = user.refresh_tokens.values()
    assert token.access_token_expiration.total_seconds() == 60


async def test_a_guest_is_a_device_that_says_when_it_was_here_and_what_it_built(
    hass: HomeAssistant, lent: OffloadCoordinator, entry: MockConfigEntry, pi: Offloader
) -> None:
    await hass.async_block_till_done()
    device = devices(hass, entry)["pi"]
    assert device.identifiers == {(DOMAIN, f"guest_{pi.identity.pin_sha256}")}
    assert hass.states.get("sensor.pi_last_seen").state == "unknown"
    assert hass.states.get("sensor.pi_builds").state == "0"

    wire = await pi.connect()
    await hass.async_block_till_done()
    assert hass.states.get("sensor.pi_last_seen").state != "unknown"
    await wire.socket.close()


async def test_pairing_again_keeps_the_guest_and_takes_its_new_name(
    hass: HomeAssistant, lent: OffloadCoordinator, entry: MockConfigEntry, pi: Offloader
) -> None:
    lent.lender.guests.built(pi.identity.pin_sha256)
    (before,) = lent.lender.guests.all()
    pi.label = "kitchen pi"
    await pi.pair(lent.lender.open_window().code)
    await pi.ticket()
    await hass.async_block_till_done()
    (after,) = lent.lender.guests.all()
    assert (after.user_id, after.builds, after.label) == (before.user_id, 1, "kitchen pi")
    assert "kitchen pi" in devices(hass, entry)


async def test_removing_the_device_unpairs_and_closes_the_connection(
    hass: HomeAssistant,
    lent: OffloadCoordinator,
    entry: MockConfigEntry,
    pi: Offloader,
    hass_ws_client: WebSocketGenerator,
) -> None:
    (guest,) = lent.lender.guests.all()
    token = await pi.ticket()
    wire = await pi.connect()
    await hass.async_block_till_done()
    device = devices(hass, entry)["pi"]

    admin = await hass_ws_client(hass)
    response = await admin.remove_device(device.id)
    assert response["success"]
    await wire.closed()

    assert lent.lender.guests.all() == ()
    assert await hass.auth.async_get_user(guest.user_id) is None
    assert "pi" not in devices(hass, entry)
    assert hass.states.get("sensor.pi_builds") is None
    with pytest.raises(CommandRefusedError):
        await pi.connect(token=token)
    with pytest.raises(ProtocolError):
        await pi.ticket()


async def test_devices_of_configurations_are_not_removed_by_hand(
    hass: HomeAssistant,
    lent: OffloadCoordinator,
    entry: MockConfigEntry,
    hass_ws_client: WebSocketGenerator,
) -> None:
    admin = await hass_ws_client(hass)
    response = await admin.remove_device(devices(hass, entry)["Desk lamp"].id)
    assert not response["success"]


async def test_removing_this_instance_unpairs_all_guests(
    hass: HomeAssistant, lent: OffloadCoordinator, entry: MockConfigEntry, pi: Offloader
) -> None:
    (guest,) = lent.lender.guests.all()
    wire = await pi.connect()
    await hass.config_entries.async_remove(entry.entry_id)
    await wire.closed()
    assert lent.lender.guests.all() == ()
    assert await hass.auth.async_get_user(guest.user_id) is None
    assert lent.lender.lending is Lending.OFF


async def test_users_of_guests_that_are_none_are_removed_at_the_start(
    hass: HomeAssistant, entry: MockConfigEntry, stage: Stage
) -> None:
    stray = await hass.auth.async_create_system_user("ESPHome Offload guest: pi")
    other = await hass.auth.async_create_system_user("Supervisor")
    assert await hass.config_entries.async_setup(entry.entry_id)
    assert await hass.auth.async_get_user(stray.id) is None
    assert await hass.auth.async_get_user(other.id) is not None


# The switch, and what happens to the entry


async def test_the_switch_pauses_and_that_survives_a_reload(
    hass: HomeAssistant, lent: OffloadCoordinator, entry: MockConfigEntry
) -> None:
    await hass.services.async_call("switch", "turn_off", {"entity_id": SWITCH}, blocking=True)
    assert lent.lender.lending is Lending.PAUSED
    assert hass.states.get(SWITCH).state == "off"
    await hass.config_entries.async_reload(entry.entry_id)
    await hass.async_block_till_done()
    assert lent.lender.lending is Lending.PAUSED

    # Who switches lending off and on again in the options means it.
    for lend in (False, True):
        hass.config_entries.async_update_entry(entry, options={**LEND, "lend": lend})
        await hass.async_block_till_done()
    assert lent.lender.lending is Lending.ON


async def test_the_switch_is_there_only_while_the_machine_is_lent(
    hass: HomeAssistant, lent: OffloadCoordinator, entry: MockConfigEntry
) -> None:
    hass.config_entries.async_update_entry(entry, options={**LEND, "lend": False})
    await hass.async_block_till_done()
    assert hass.states.get(SWITCH) is None
    assert er.async_get(hass).async_get(SWITCH) is None
    assert "This instance" not in devices(hass, entry)


async def test_switched_off_all_connections_end_and_the_reason_is_told(
    hass: HomeAssistant, lent: OffloadCoordinator, entry: MockConfigEntry, pi: Offloader
) -> None:
    wire = await pi.connect()
    hass.config_entries.async_update_entry(entry, options={**LEND, "lend": False})
    await wire.closed()
    with pytest.raises(ProtocolError) as refused:
        await pi.ticket()
    assert refused.value.code == "not_lending"
    assert len(lent.lender.guests.all()) == 1, "the pairing stays"


async def test_a_disabled_entry_lends_nothing(
    hass: HomeAssistant, lent: OffloadCoordinator, entry: MockConfigEntry
) -> None:
    await hass.config_entries.async_set_disabled_by(entry.entry_id, ConfigEntryDisabler.USER)
    assert lent.lender.lending is Lending.OFF


@pytest.fixture
def expected_lingering_timers() -> bool:
    """Allow that aiohttp leaves the heartbeat timer of a websocket that the server closed."""
    return True
