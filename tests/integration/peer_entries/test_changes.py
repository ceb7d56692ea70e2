"""Entries change, come and go."""

import asyncio
from pathlib import Path

from homeassistant.config_entries import ConfigEntryState
from homeassistant.core import HomeAssistant
from homeassistant.helpers import device_registry as dr
from homeassistant.setup import async_setup_component
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.esphome_offload.const import DOMAIN, INSTANCE_UNIQUE_ID
from custom_components.esphome_offload.coordinator import DATA_COORDINATOR, OffloadCoordinator
from custom_components.esphome_offload.engine.build.model import BuildDetached
from custom_components.esphome_offload.engine.client.link import LinkState
from custom_components.esphome_offload.engine.const import JobStatus, Source
from custom_components.esphome_offload.engine.reason import ReasonKey
from custom_components.esphome_offload.stores.identity import async_get_identity

from ..conftest import Stage
from ..scripted_peers import ScriptedLink
from .entries import add_peer, reauths, submit, waits_for

# Changes of an entry


async def test_another_address_keeps_the_connection_object_and_its_builds(
    hass: HomeAssistant, stage: Stage, peer: MockConfigEntry, link: ScriptedLink
) -> None:
    hass.config_entries.async_update_entry(peer, data={**peer.data, "url": "http://other:1"})
    await hass.async_block_till_done()
    assert link.url == "http://other:1"
    assert stage.peers.links == [link]


async def test_the_link_on_its_page_leads_to_the_new_address(
    hass: HomeAssistant, peer: MockConfigEntry, link: ScriptedLink
) -> None:
    hass.config_entries.async_update_entry(peer, data={**peer.data, "url": "http://other:1"})
    await hass.async_block_till_done()
    (device,) = dr.async_entries_for_config_entry(dr.async_get(hass), peer.entry_id)
    assert device.configuration_url == "http://other:1"


async def test_a_build_is_gone_on_with_when_the_entry_is_reloaded(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    stage: Stage,
    peer: MockConfigEntry,
    link: ScriptedLink,
) -> None:
    begun, closed = asyncio.Event(), asyncio.Event()
    link.become(LinkState.CONNECTED)
    link.subscribe(lambda: closed.set() if link.state is LinkState.STOPPED else None)
    assert link.builder is not None

    async def build_until_closed(_request: object, _sink: object) -> None:
        begun.set()
        await closed.wait()
        raise BuildDetached("the connection was closed")

    link.builder.script = [build_until_closed]
    job = await submit(coordinator)
    await begun.wait()
    await hass.config_entries.async_reload(peer.entry_id)
    await waits_for(coordinator, job, ReasonKey.WAITS_FOR_ITS_BUILDER)
    again = stage.peers.links[-1]
    (attempt,) = job.attempts
    assert list(again.wanted()) == [attempt.attempt_id]
    again.become(LinkState.CONNECTED)
    job = await coordinator.async_wait(job)
    assert job.status is JobStatus.COMPLETED
    assert len(job.attempts) == 1
    assert again.builder is not None
    assert [each.resume for each in again.builder.requests] == [True]


async def test_another_name_is_the_one_that_jobs_show(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    stage: Stage,
    entry: MockConfigEntry,
    peer: MockConfigEntry,
    link: ScriptedLink,
) -> None:
    hass.config_entries.async_update_entry(peer, title="loft")
    hass.config_entries.async_update_entry(entry, title="cellar")
    await hass.async_block_till_done()
    assert link.stopped == 1
    assert [each.label for each in coordinator.builders.builders] == ["cellar", "loft"]


@pytest.mark.parametrize(
    "damage",
    [{"public_key": "?"}, {"public_key": "QUJD"}, {"url": None}, {"public_key": None}, {}],
)
async def test_a_damaged_entry_asks_to_pair_again(
    hass: HomeAssistant, peer: MockConfigEntry, link: ScriptedLink, damage: dict[str, object]
) -> None:
    another_pin = {} if damage else {"unique_id": "f" * 64}
    hass.config_entries.async_update_entry(peer, data={**peer.data, **damage}, **another_pin)
    await hass.async_block_till_done()
    assert link.stopped == 1
    assert peer.state is ConfigEntryState.SETUP_ERROR
    assert peer.error_reason_translation_key == "peer_to_pair_again"
    assert reauths(hass, peer) == 1


async def test_an_entry_of_an_earlier_version_asks_to_pair_again(
    hass: HomeAssistant, coordinator: OffloadCoordinator, stage: Stage
) -> None:
    entry = add_peer(hass)
    hass.config_entries.async_update_entry(entry, minor_version=1)
    assert not await hass.config_entries.async_setup(entry.entry_id)
    assert reauths(hass, entry) == 1
    assert not stage.peers.links


async def test_the_own_key_is_no_peer(hass: HomeAssistant, coordinator: OffloadCoordinator) -> None:
    entry = add_peer(hass, identity=await async_get_identity(hass))
    assert not await hass.config_entries.async_setup(entry.entry_id)
    assert entry.state is ConfigEntryState.SETUP_ERROR


# Coming and going


async def test_unloading_closes_the_connection_and_jobs_go_elsewhere(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    peer: MockConfigEntry,
    link: ScriptedLink,
) -> None:
    link.become(LinkState.CONNECTED)
    assert await hass.config_entries.async_unload(peer.entry_id)
    assert link.stopped == 1
    assert link.unpaired == 0
    job = await coordinator.async_wait(await submit(coordinator))
    assert job.routing.source is Source.LOCAL


async def test_a_change_while_the_entry_is_unloaded_counts_at_the_next_setup(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    peer: MockConfigEntry,
    link: ScriptedLink,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def stop() -> None:
        hass.config_entries.async_update_entry(peer, title="shed")
        await hass.async_block_till_done()

    monkeypatch.setattr(link, "stop", stop)
    assert await hass.config_entries.async_unload(peer.entry_id)
    assert await hass.config_entries.async_setup(peer.entry_id)
    assert [each.settings.label for each in coordinator.peering.peers] == ["shed"]


async def test_peers_may_come_before_this_instance(
    hass: HomeAssistant, config_dir: Path, stage: Stage
) -> None:
    peers = [add_peer(hass, label) for label in ("attic", "shed")]
    assert await async_setup_component(hass, DOMAIN, {})
    await hass.async_block_till_done(wait_background_tasks=True)
    assert [peer.state for peer in peers] == [ConfigEntryState.LOADED] * 2
    for link in stage.peers.links:
        link.become(LinkState.CONNECTED)
    coordinator = hass.data[DATA_COORDINATOR]
    assert {each.label for each in coordinator.builders.builders} >= {"attic", "shed"}

    instance = MockConfigEntry(
        domain=DOMAIN,
        unique_id=INSTANCE_UNIQUE_ID,
        data={"kind": "instance", "config_dir": "esphome"},
    )
    instance.add_to_hass(hass)
    assert await hass.config_entries.async_setup(instance.entry_id)
    await hass.async_block_till_done(wait_background_tasks=True)
    job = await coordinator.async_wait(await submit(coordinator))
    assert job.routing.source is Source.REMOTE


async def test_removing_a_peer_unpairs_it_there(
    hass: HomeAssistant, stage: Stage, peer: MockConfigEntry, link: ScriptedLink
) -> None:
    await hass.config_entries.async_remove(peer.entry_id)
    assert (link.stopped, link.unpaired) == (1, 0)
    last = stage.peers.links[-1]
    assert (last.started, last.unpaired, last.stopped) == (1, 1, 1)
    assert list(last.wanted()) == []


async def test_a_peer_that_cannot_be_reached_is_removed_here_all_the_same(
    hass: HomeAssistant,
    stage: Stage,
    peer: MockConfigEntry,
    caplog: pytest.LogCaptureFixture,
) -> None:
    stage.peers.reachable = False
    await hass.config_entries.async_remove(peer.entry_id)
    assert hass.config_entries.async_get_entry(peer.entry_id) is None
    last = stage.peers.links[-1]
    assert (last.unpaired, last.stopped) == (0, 1)
    assert "attic could not be unpaired (it cannot be reached)" in caplog.text


async def test_removing_this_instance_removes_its_peers(
    hass: HomeAssistant, stage: Stage, entry: MockConfigEntry, peer: MockConfigEntry
) -> None:
    await hass.config_entries.async_remove(entry.entry_id)
    assert hass.config_entries.async_entries(DOMAIN) == []
    assert stage.peers.links[-1].unpaired == 1


async def test_home_assistant_stops_with_its_connections_closed(
    hass: HomeAssistant, coordinator: OffloadCoordinator, link: ScriptedLink
) -> None:
    await coordinator.async_stop()
    assert link.stopped == 1


async def test_a_new_identity_sets_all_peers_up_again(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    stage: Stage,
    peer: MockConfigEntry,
    link: ScriptedLink,
) -> None:
    await coordinator.async_renew_identity()
    await hass.async_block_till_done()
    new = stage.peers.links[-1]
    assert new.caller.identity == await async_get_identity(hass)
    assert new.caller.identity != link.caller.identity
