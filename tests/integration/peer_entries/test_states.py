"""What an entry shows, and what is done about the states of its connection."""

from datetime import timedelta
import logging

from homeassistant.config_entries import ConfigEntryDisabler, ConfigEntryState
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import ServiceValidationError
from homeassistant.helpers import device_registry as dr, entity_registry as er, issue_registry as ir
from homeassistant.setup import async_setup_component
from homeassistant.util import dt as dt_util
import pytest
from pytest_homeassistant_custom_component.common import (
    MockConfigEntry,
    async_fire_time_changed,
    get_system_health_info,
)
from pytest_homeassistant_custom_component.typing import WebSocketGenerator

from custom_components.esphome_offload import async_remove_config_entry_device
from custom_components.esphome_offload.const import DOMAIN
from custom_components.esphome_offload.coordinator import OffloadCoordinator
from custom_components.esphome_offload.diagnostics import async_get_config_entry_diagnostics
from custom_components.esphome_offload.engine.client.link import LinkState
from custom_components.esphome_offload.engine.protocol.errors import ErrorCode
from custom_components.esphome_offload.engine.protocol.hello import Introduction, Program
from custom_components.esphome_offload.engine.protocol.negotiation import own_offer
from custom_components.esphome_offload.engine.reason import ReasonKey
from custom_components.esphome_offload.page.payload import page_overview
from custom_components.esphome_offload.peering.entity import PeerEntity
from custom_components.esphome_offload.peering.peers import START_GRACE

from ..scripted_peers import ScriptedLink
from .entries import reauths

# What an entry shows


async def test_a_peer_is_a_device_with_a_connection_and_its_builds(
    hass: HomeAssistant, peer: MockConfigEntry, link: ScriptedLink
) -> None:
    (device,) = dr.async_entries_for_config_entry(dr.async_get(hass), peer.entry_id)
    assert device.name == "attic"
    assert device.entry_type is dr.DeviceEntryType.SERVICE
    assert device.configuration_url == "http://attic.example:8123"

    def states() -> dict[str, str]:
        return {
            entity.unique_id.rpartition(f"{peer.entry_id}_")[2]: hass.states.get(
                entity.entity_id
            ).state
            for entity in er.async_entries_for_config_entry(er.async_get(hass), peer.entry_id)
        }

    assert states() == {
        "connected": "off",
        "ready": "unknown",
        "builds_running": "unavailable",
        "builds_queued": "unavailable",
        "from_cache": "unavailable",
        "use_builder": "on",
    }
    link.become(LinkState.CONNECTED, slots=2, busy=2, queue_length=3)
    connected = {"connected": "on", "ready": "on", "builds_running": "2", "builds_queued": "3"}
    connected["use_builder"] = "on"
    assert states() == {**connected, "from_cache": "unknown"}
    link.become(LinkState.CONNECTED, busy=2, queue_length=3, ccache_hits=118, ccache_files=120)
    assert states() == {**connected, "from_cache": "98"}
    link.become(LinkState.CONNECTING, ReasonKey.PEER_AWAY)
    assert states()["connected"] == "off"
    assert states()["ready"] == "off"
    assert states()["builds_running"] == "unavailable"


async def test_a_builder_that_is_not_found_within_the_grace_of_a_start_is_not_ready(
    hass: HomeAssistant, peer: MockConfigEntry, link: ScriptedLink
) -> None:
    (ready,) = (each for each in hass.states.async_entity_ids("binary_sensor") if "ready" in each)
    link.become(LinkState.CONNECTING, ReasonKey.PEER_AWAY)
    assert hass.states.get(ready).state == "unknown"
    async_fire_time_changed(hass, dt_util.utcnow() + timedelta(seconds=START_GRACE + 1))
    await hass.async_block_till_done()
    assert hass.states.get(ready).state == "off"


async def test_a_builder_that_is_switched_off_is_left_out_also_after_it_is_set_up_again(
    hass: HomeAssistant, coordinator: OffloadCoordinator, peer: MockConfigEntry
) -> None:
    builder_id = peer.runtime_data.builder.builder_id
    (switch,) = (each for each in hass.states.async_entity_ids("switch") if "attic" in each)
    for use, state in ((False, "off"), (True, "on"), (False, "off")):
        action = "turn_on" if use else "turn_off"
        await hass.services.async_call("switch", action, {"entity_id": switch}, blocking=True)
        await hass.async_block_till_done()
        assert hass.states.get(switch).state == state
        assert coordinator.builders.uses(builder_id) is use
    assert await hass.config_entries.async_reload(peer.entry_id)
    await hass.async_block_till_done()
    assert hass.states.get(switch).state == "off"
    assert not coordinator.builders.uses(builder_id)
    assert page_overview(hass, coordinator)["builders"][-1]["used"] is False


async def test_the_page_switches_a_builder_off_as_well(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    peer: MockConfigEntry,
    hass_ws_client: WebSocketGenerator,
) -> None:
    builder_id = peer.runtime_data.builder.builder_id
    (switch,) = (each for each in hass.states.async_entity_ids("switch") if "attic" in each)
    client = await hass_ws_client()
    await client.send_json_auto_id(
        {"type": "esphome_offload/builder/use", "builder": builder_id, "use": False}
    )
    assert (await client.receive_json())["success"]
    await hass.async_block_till_done()
    assert hass.states.get(switch).state == "off"
    assert not coordinator.builders.uses(builder_id)


@pytest.mark.parametrize(
    ("program", "model"),
    [
        (Program.HOME_ASSISTANT, "Home Assistant"),
        (Program.STANDALONE_BUILDER, "ESPHome Offload Builder"),
    ],
)
async def test_its_device_says_what_it_is_and_its_version(
    hass: HomeAssistant, peer: MockConfigEntry, link: ScriptedLink, program: Program, model: str
) -> None:
    link.introduction = Introduction(own_offer("1.2.3"), "attic", program)
    link.become(LinkState.CONNECTED)
    (device,) = dr.async_entries_for_config_entry(dr.async_get(hass), peer.entry_id)
    assert (device.model, device.sw_version) == (model, "1.2.3")
    link.become(LinkState.CONNECTING, ReasonKey.PEER_AWAY)
    (device,) = dr.async_entries_for_config_entry(dr.async_get(hass), peer.entry_id)
    assert (device.model, device.sw_version) == (model, "1.2.3")


async def test_a_peer_that_connects_before_its_device_is_there_is_described_all_the_same(
    hass: HomeAssistant, peer: MockConfigEntry, link: ScriptedLink
) -> None:
    registry = dr.async_get(hass)
    (device,) = dr.async_entries_for_config_entry(registry, peer.entry_id)
    registry.async_remove_device(device.id)
    link.introduction = Introduction(own_offer("1.2.3"), "attic", Program.STANDALONE_BUILDER)
    link.become(LinkState.CONNECTED)
    assert not dr.async_entries_for_config_entry(registry, peer.entry_id)
    described = PeerEntity(peer.runtime_data, "connected").device_info
    assert (described["model"], described["sw_version"]) == ("ESPHome Offload Builder", "1.2.3")


async def test_a_peer_is_removed_with_its_entry_as_its_device_says(
    hass: HomeAssistant, peer: MockConfigEntry
) -> None:
    (device,) = dr.async_entries_for_config_entry(dr.async_get(hass), peer.entry_id)
    with pytest.raises(ServiceValidationError, match=r"choose Delete in the menu of attic"):
        await async_remove_config_entry_device(hass, peer, device)


async def test_diagnostics_of_a_peer_name_neither_its_host_nor_keys(
    hass: HomeAssistant, peer: MockConfigEntry, link: ScriptedLink
) -> None:
    link.become(LinkState.CONNECTING, ReasonKey.PEER_AWAY, ErrorCode.BUSY)
    diagnostics = await async_get_config_entry_diagnostics(hass, peer)
    assert diagnostics["scheme"] == "http"
    assert diagnostics["host"] == "**REDACTED**"
    assert (diagnostics["state"], diagnostics["code"]) == ("connecting", "busy")
    assert diagnostics["builder"]["available"] is False
    assert peer.data["public_key"] not in str(diagnostics)
    assert "attic.example" not in str(diagnostics)


async def test_diagnostics_of_a_peer_that_is_not_set_up_are_not_those_of_this_instance(
    hass: HomeAssistant, peer: MockConfigEntry, link: ScriptedLink
) -> None:
    await hass.config_entries.async_set_disabled_by(peer.entry_id, ConfigEntryDisabler.USER)
    assert await async_get_config_entry_diagnostics(hass, peer) == {}


async def test_system_health_lists_peers(
    hass: HomeAssistant, peer: MockConfigEntry, link: ScriptedLink
) -> None:
    assert await async_setup_component(hass, "system_health", {})
    await hass.async_block_till_done()
    link.become(LinkState.CONNECTING, ReasonKey.PEER_AWAY)
    info = await get_system_health_info(hass, DOMAIN)
    assert info["peers"] == "attic: It cannot be reached"
    link.become(LinkState.CONNECTED)
    info = await get_system_health_info(hass, DOMAIN)
    assert info["peers"] == "attic: Available"


# What is done about states


async def test_losing_and_regaining_a_peer_is_logged_once_each(
    hass: HomeAssistant,
    peer: MockConfigEntry,
    link: ScriptedLink,
    caplog: pytest.LogCaptureFixture,
) -> None:
    link.become(LinkState.CONNECTED)
    link.become(LinkState.CONNECTED, busy=1)
    link.become(LinkState.CONNECTING, ReasonKey.PEER_LOST)
    link.become(LinkState.CONNECTING, ReasonKey.PEER_AWAY)
    link.become(LinkState.CONNECTED)
    link.become(LinkState.CONNECTED, busy=1)
    assert [
        record.getMessage()
        for record in (*caplog.get_records("setup"), *caplog.records)
        if record.levelno >= logging.INFO and record.getMessage().startswith("attic ")
    ] == [
        "attic is not connected: The connection to it was lost",
        "attic is connected",
    ]


async def test_a_peer_that_is_away_at_the_start_is_logged_once(
    hass: HomeAssistant,
    peer: MockConfigEntry,
    link: ScriptedLink,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for why in (ReasonKey.PEER_AWAY, ReasonKey.PEER_LOST):
        link.become(LinkState.CONNECTING, why)
    lines = [line for line in caplog.text.splitlines() if "attic is not connected" in line]
    assert len(lines) == 1
    assert lines[0].endswith("It cannot be reached")


async def test_a_refused_link_that_recovers_needs_no_pairing(
    hass: HomeAssistant, peer: MockConfigEntry, link: ScriptedLink
) -> None:
    link.become(LinkState.REFUSED, ReasonKey.PEER_REPLACED)
    await hass.async_block_till_done()
    assert reauths(hass, peer) == 1
    link.become(LinkState.CONNECTED)
    assert reauths(hass, peer) == 0


async def test_a_refused_key_asks_once_to_pair_again(
    hass: HomeAssistant, peer: MockConfigEntry, link: ScriptedLink
) -> None:
    link.become(LinkState.REFUSED, ReasonKey.PEER_FORGOT)
    link.become(LinkState.REFUSED, ReasonKey.PEER_REPLACED)
    await hass.async_block_till_done()
    assert reauths(hass, peer) == 1
    assert peer.state is ConfigEntryState.LOADED


async def test_a_peer_of_another_protocol_has_a_repair_until_it_connects(
    hass: HomeAssistant, peer: MockConfigEntry, link: ScriptedLink
) -> None:
    link.become(LinkState.INCOMPATIBLE, ReasonKey.PEER_TOO_OLD, ErrorCode.TOO_OLD)
    issues = ir.async_get(hass)
    issue = issues.async_get_issue(DOMAIN, f"peer_incompatible_{peer.entry_id}")
    assert issue is not None
    assert issue.translation_placeholders == {
        "label": "attic",
        "reason": ReasonKey.PEER_TOO_OLD.text,
    }
    link.become(LinkState.CONNECTING, ReasonKey.PEER_AWAY)
    assert issues.async_get_issue(DOMAIN, issue.issue_id) is not None
    link.become(LinkState.CONNECTED)
    assert issues.async_get_issue(DOMAIN, issue.issue_id) is None


async def test_the_repair_of_a_peer_goes_with_its_entry(
    hass: HomeAssistant, peer: MockConfigEntry, link: ScriptedLink
) -> None:
    link.become(LinkState.INCOMPATIBLE, ReasonKey.PEER_TOO_NEW)
    await hass.config_entries.async_set_disabled_by(peer.entry_id, ConfigEntryDisabler.USER)
    assert not ir.async_get(hass).issues
    link.become(LinkState.INCOMPATIBLE, ReasonKey.PEER_TOO_NEW)
    assert not ir.async_get(hass).issues, "a former connection has no listeners"


async def test_the_repair_of_a_peer_goes_when_its_entry_is_removed(
    hass: HomeAssistant, peer: MockConfigEntry, link: ScriptedLink
) -> None:
    link.become(LinkState.INCOMPATIBLE, ReasonKey.PEER_TOO_NEW)
    await hass.config_entries.async_remove(peer.entry_id)
    assert not ir.async_get(hass).issues


async def test_the_repair_of_a_peer_that_is_ignored_stays_so_over_a_reload(
    hass: HomeAssistant, peer: MockConfigEntry, link: ScriptedLink
) -> None:
    link.become(LinkState.INCOMPATIBLE, ReasonKey.PEER_TOO_NEW)
    issue_id = f"peer_incompatible_{peer.entry_id}"
    ir.async_ignore_issue(hass, DOMAIN, issue_id, ignore=True)
    assert await hass.config_entries.async_unload(peer.entry_id)
    issue = ir.async_get(hass).async_get_issue(DOMAIN, issue_id)
    assert issue is not None
    assert issue.dismissed_version is not None
