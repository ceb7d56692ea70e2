"""What all entities have in common."""

from collections.abc import Callable

from homeassistant.core import HomeAssistant
from homeassistant.helpers import entity as entity_helper, entity_platform, entity_registry as er
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.esphome_offload.const import DOMAIN
from custom_components.esphome_offload.coordinator import OffloadCoordinator
from custom_components.esphome_offload.engine.const import JobStatus, Operation

from .conftest import Stage
from .guest_client import OffloaderClient
from .peer_entries.entries import add_peer

LAMP_ENTITY = "update.desk_lamp_esphome"


@pytest.fixture
async def entities(
    hass: HomeAssistant, lent: OffloadCoordinator, offloader: OffloaderClient, stage: Stage
) -> list[entity_helper.Entity]:
    """Return one entity of every class: with a device, a guest and a peer, while lending."""
    peer = add_peer(hass)
    assert await hass.config_entries.async_setup(peer.entry_id)
    await hass.async_block_till_done()
    return [
        entity
        for platform in entity_platform.async_get_platforms(hass, DOMAIN)
        for entity in platform.entities.values()
    ]


async def test_every_entity_keeps_its_state_when_its_id_is_renamed(
    hass: HomeAssistant, entities: list[entity_helper.Entity]
) -> None:
    registry = er.async_get(hass)
    for index, entity in enumerate(entities):
        before = hass.states.get(entity.entity_id)
        renamed = f"{entity.entity_id.partition('.')[0]}.renamed_{index}"
        registry.async_update_entity(entity.entity_id, new_entity_id=renamed)
        await hass.async_block_till_done()
        after = hass.states.get(renamed)
        assert before is not None, entity
        assert after is not None, entity
        assert (after.state, after.attributes) == (before.state, before.attributes)


async def test_home_assistant_2026_11_renames_every_entity_in_place(
    entities: list[entity_helper.Entity],
) -> None:
    # Until 2027.11 it removes and adds an entity that does not say that it can be renamed.
    added_again: Callable[[type], bool] = getattr(
        entity_helper, "_entity_class_requires_readd", lambda _entity: False
    )
    classes = {type(entity) for entity in entities}
    assert len(classes) >= 5
    assert {each for each in classes if added_again(each)} == set()


async def test_a_renamed_update_entity_follows_its_job(
    hass: HomeAssistant, coordinator: OffloadCoordinator
) -> None:
    er.async_get(hass).async_update_entity(LAMP_ENTITY, new_entity_id="update.renamed")
    await hass.async_block_till_done()
    job = await coordinator.async_submit("lamp.yaml", Operation.INSTALL)
    await coordinator.async_wait(job)
    await hass.async_block_till_done()
    assert job.status is JobStatus.COMPLETED
    state = hass.states.get("update.renamed")
    assert state is not None
    assert state.attributes["job_id"] == job.job_id


async def test_a_job_updates_the_entity_of_its_device_alone(
    hass: HomeAssistant, coordinator: OffloadCoordinator, entry: MockConfigEntry
) -> None:
    updated: list[str] = []
    coordinator.async_add_listener(lambda: updated.append("lamp"), lambda: "lamp.yaml")
    coordinator.async_add_listener(lambda: updated.append("plug"), lambda: "plug.yaml")
    unsubscribe = coordinator.async_add_listener(lambda: updated.append("any"))
    job = await coordinator.async_submit("lamp.yaml", Operation.COMPILE)
    await coordinator.async_wait(job)
    assert set(updated) == {"lamp", "any"}

    updated.clear()
    unsubscribe()
    hass.config_entries.async_update_entry(
        entry, options={"version_channel": "fixed", "fixed_version": "2026.9.1"}
    )
    await hass.async_block_till_done()
    assert set(updated) == {"lamp", "plug"}
