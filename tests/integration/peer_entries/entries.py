"""Entries of peers, and the jobs that they are for."""

import asyncio

from homeassistant.config_entries import SOURCE_REAUTH
from homeassistant.core import HomeAssistant
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.esphome_offload.const import DOMAIN
from custom_components.esphome_offload.coordinator import OffloadCoordinator
from custom_components.esphome_offload.engine.const import Operation
from custom_components.esphome_offload.engine.jobs.model import FirmwareJob
from custom_components.esphome_offload.engine.protocol.identity import Identity
from custom_components.esphome_offload.engine.reason import ReasonKey
from custom_components.esphome_offload.peering.entry import PeerSettings
from custom_components.esphome_offload.stores.identity import async_get_identity

from ...engine.client.scripted_server import ScriptedServer


def add_peer(
    hass: HomeAssistant,
    label: str = "attic",
    identity: Identity | None = None,
    url: str = "http://attic.example:8123",
) -> MockConfigEntry:
    """Return the entry of a peer that is not set up."""
    public = (identity or Identity.generate()).public
    settings = PeerSettings(url, True, public, label)
    entry = MockConfigEntry(
        domain=DOMAIN, minor_version=2, unique_id=public.pin_sha256, title=label, data=settings.data
    )
    entry.add_to_hass(hass)
    return entry


async def add_builder(
    hass: HomeAssistant, builder: ScriptedServer, url: str | None = None
) -> MockConfigEntry:
    """Return the entry of a builder that knows this instance; its address unless told otherwise."""
    builder.guests.add((await async_get_identity(hass)).public)
    return add_peer(hass, identity=builder.identity, url=url or builder.url)


def reauths(hass: HomeAssistant, entry: MockConfigEntry) -> int:
    return len(list(entry.async_get_active_flows(hass, {SOURCE_REAUTH})))


async def waits_for(coordinator: OffloadCoordinator, job: FirmwareJob, key: ReasonKey) -> None:
    """Return when a job waits for this."""
    moved = asyncio.Event()
    unsubscribe = coordinator.queue.subscribe(job.job_id, lambda *_: moved.set())
    async with asyncio.timeout(30):
        while job.waiting_for is None or job.waiting_for.key is not key:
            await moved.wait()
            moved.clear()
    unsubscribe()


async def submit(coordinator: OffloadCoordinator, source: str = "auto") -> FirmwareJob:
    return await coordinator.async_submit("lamp.yaml", Operation.COMPILE, source=source)
