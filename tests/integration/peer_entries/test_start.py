"""After a start, peers that are on their way are waited for."""

import asyncio
from pathlib import Path
from unittest.mock import patch

from homeassistant.config_entries import ConfigEntryDisabler
from homeassistant.core import CoreState, HomeAssistant
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.esphome_offload.coordinator import DATA_COORDINATOR, OffloadCoordinator
from custom_components.esphome_offload.engine.client.dial import Caller
from custom_components.esphome_offload.engine.client.link import LinkState
from custom_components.esphome_offload.engine.const import Source
from custom_components.esphome_offload.engine.protocol.errors import ErrorCode
from custom_components.esphome_offload.engine.reason import ReasonKey
from custom_components.esphome_offload.peering.caller import async_get_caller

from ..conftest import Stage
from ..scripted_peers import ScriptedLink
from .entries import add_peer, submit, waits_for


async def test_after_a_start_a_job_waits_for_peers_that_are_on_their_way(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    peer: MockConfigEntry,
    link: ScriptedLink,
) -> None:
    job = await submit(coordinator)
    await waits_for(coordinator, job, ReasonKey.WAITS_FOR_CONNECTIONS)
    link.silent = True
    link.become(LinkState.CONNECTED)
    assert job.waiting, "it has not said yet what it can do"
    link.silent = False
    link.become(LinkState.CONNECTED)
    job = await coordinator.async_wait(job)
    assert job.routing.source is Source.REMOTE


async def test_a_peer_that_will_not_come_is_not_waited_for(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    peer: MockConfigEntry,
    link: ScriptedLink,
) -> None:
    job = await submit(coordinator)
    await waits_for(coordinator, job, ReasonKey.WAITS_FOR_CONNECTIONS)
    link.become(LinkState.CONNECTING, ReasonKey.PEER_NOT_LENT, ErrorCode.NOT_LENDING)
    job = await coordinator.async_wait(job)
    assert job.routing.source is Source.LOCAL


async def test_only_entries_that_will_be_set_up_are_on_their_way(
    hass: HomeAssistant, coordinator: OffloadCoordinator
) -> None:
    entry = add_peer(hass)
    assert coordinator.peering.expected == 0.0
    hass.set_state(CoreState.not_running)
    assert 0.0 < coordinator.peering.expected <= 20.0
    await hass.config_entries.async_set_disabled_by(entry.entry_id, ConfigEntryDisabler.USER)
    assert coordinator.peering.expected == 0.0


async def test_the_grace_is_given_once(
    hass: HomeAssistant, coordinator: OffloadCoordinator, peer: MockConfigEntry, stage: Stage
) -> None:
    now = hass.loop.time()
    with patch.object(hass.loop, "time", return_value=now + 25.0):
        assert coordinator.peering.expected == 0.0
        coordinator.peering.start_grace()
        assert coordinator.peering.expected == 0.0


async def test_an_entry_that_is_being_set_up_is_on_its_way(
    hass: HomeAssistant, coordinator: OffloadCoordinator
) -> None:
    entry = add_peer(hass)
    reading = asyncio.Event()
    go_on = asyncio.Event()

    async def slowly(hass: HomeAssistant) -> Caller:
        reading.set()
        await go_on.wait()
        return await async_get_caller(hass)

    with patch("custom_components.esphome_offload.peering.peers.async_get_caller", slowly):
        setup = hass.async_create_task(hass.config_entries.async_setup(entry.entry_id))
        await reading.wait()
        assert coordinator.peering.expected > 0.0
        go_on.set()
        assert await setup


async def test_no_peer_is_waited_for_before_this_instance_is_set_up(
    hass: HomeAssistant, stage: Stage, config_dir: Path
) -> None:
    peer = add_peer(hass)
    assert await hass.config_entries.async_setup(peer.entry_id)
    assert hass.data[DATA_COORDINATOR].peering.expected == 0.0
