"""The targets of an action."""

from collections.abc import Callable

from homeassistant.components.group import DOMAIN as GROUP_DOMAIN
from homeassistant.config_entries import ConfigEntryDisabler
from homeassistant.core import HomeAssistant
from homeassistant.helpers import (
    area_registry as ar,
    device_registry as dr,
    entity_registry as er,
    floor_registry as fr,
    label_registry as lr,
    target as target_helper,
)
from homeassistant.setup import async_setup_component
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.esphome_offload.const import DOMAIN
from custom_components.esphome_offload.coordinator import OffloadCoordinator

from .calling import (
    FOREIGN_ENTITY,
    LAMP_ENTITY,
    PLUG_ENTITY,
    Response,
    call,
    configurations,
    own_device,
    refused,
)


def _by_entity(_hass: HomeAssistant) -> Response:
    return {"entity_id": LAMP_ENTITY}


def _by_registry_id(hass: HomeAssistant) -> Response:
    entity = er.async_get(hass).async_get(LAMP_ENTITY)
    assert entity is not None
    return {"entity_id": entity.id}


def _by_cores_device(hass: HomeAssistant) -> Response:
    device_id = own_device(hass, LAMP_ENTITY)
    assert device_id == own_device(hass, FOREIGN_ENTITY)
    return {"device_id": [device_id]}


def _by_area_of_the_device(_hass: HomeAssistant) -> Response:
    return {"area_id": "office"}


def _by_area_of_the_entity(hass: HomeAssistant) -> Response:
    cellar = ar.async_get(hass).async_create("Cellar")
    er.async_get(hass).async_update_entity(LAMP_ENTITY, area_id=cellar.id)
    return {"area_id": [cellar.id]}


def _by_floor(_hass: HomeAssistant) -> Response:
    return {"floor_id": "upstairs"}


def _by_label_of_the_entity(hass: HomeAssistant) -> Response:
    er.async_get(hass).async_update_entity(LAMP_ENTITY, labels={"nightly"})
    er.async_get(hass).async_update_entity(FOREIGN_ENTITY, labels={"nightly"})
    return {"label_id": "nightly"}


def _by_label_of_the_device(hass: HomeAssistant) -> Response:
    dr.async_get(hass).async_update_device(own_device(hass, LAMP_ENTITY), labels={"nightly"})
    return {"label_id": "nightly"}


def _by_label_of_the_area(hass: HomeAssistant) -> Response:
    ar.async_get(hass).async_update("office", labels={"nightly"})
    return {"label_id": "nightly"}


def _hidden_by_device(hass: HomeAssistant) -> Response:
    er.async_get(hass).async_update_entity(LAMP_ENTITY, hidden_by=er.RegistryEntryHider.USER)
    return {"device_id": own_device(hass, LAMP_ENTITY)}


@pytest.mark.parametrize(
    "target",
    [
        _by_entity,
        _by_registry_id,
        _by_cores_device,
        _by_area_of_the_device,
        _by_area_of_the_entity,
        _by_floor,
        _by_label_of_the_entity,
        _by_label_of_the_device,
        _by_label_of_the_area,
        _hidden_by_device,
    ],
)
async def test_every_kind_of_target_leads_to_the_device(
    hass: HomeAssistant, home: OffloadCoordinator, target: Callable[[HomeAssistant], Response]
) -> None:
    assert configurations(await call(hass, "install", **target(hass))) == ["lamp.yaml"]


async def test_a_device_of_ours_is_a_target_too(
    hass: HomeAssistant, home: OffloadCoordinator
) -> None:
    response = await call(hass, "install", device_id=own_device(hass, PLUG_ENTITY))
    assert configurations(response) == ["plug.yaml"]


async def test_kinds_can_be_mixed_and_name_a_device_twice(
    hass: HomeAssistant, home: OffloadCoordinator
) -> None:
    response = await call(
        hass, "install", entity_id=[PLUG_ENTITY, LAMP_ENTITY], area_id="office", floor_id="upstairs"
    )
    assert configurations(response) == ["lamp.yaml", "plug.yaml"]


async def test_all_means_all_of_ours(hass: HomeAssistant, home: OffloadCoordinator) -> None:
    response = await call(hass, "install", entity_id="all")
    assert configurations(response) == ["lamp.yaml", "plug.yaml"]


def _excluding_the_entity(_hass: HomeAssistant) -> Response:
    return {"entity_id": [LAMP_ENTITY]}


def _excluding_the_device(hass: HomeAssistant) -> Response:
    return {"device_id": [own_device(hass, LAMP_ENTITY)]}


def _excluding_its_area(_hass: HomeAssistant) -> Response:
    return {"area_id": ["office"]}


def _excluding_its_floor(_hass: HomeAssistant) -> Response:
    return {"floor_id": ["upstairs"]}


def _excluding_its_label(hass: HomeAssistant) -> Response:
    return {"label_id": _by_label_of_the_entity(hass)["label_id"]}


def _all(_hass: HomeAssistant) -> Response:
    return {"entity_id": "all"}


def _both_entities(_hass: HomeAssistant) -> Response:
    return {"entity_id": [LAMP_ENTITY, PLUG_ENTITY]}


def _both_devices(hass: HomeAssistant) -> Response:
    return {"device_id": [own_device(hass, LAMP_ENTITY), own_device(hass, PLUG_ENTITY)]}


def _both_areas(hass: HomeAssistant) -> Response:
    cellar = ar.async_get(hass).async_create("Cellar")
    er.async_get(hass).async_update_entity(PLUG_ENTITY, area_id=cellar.id)
    return {"area_id": ["office", cellar.id]}


def _both_floors(hass: HomeAssistant) -> Response:
    ground = fr.async_get(hass).async_create("Ground floor")
    cellar = ar.async_get(hass).async_create("Cellar", floor_id=ground.floor_id)
    er.async_get(hass).async_update_entity(PLUG_ENTITY, area_id=cellar.id)
    return {"floor_id": ["upstairs", ground.floor_id]}


def _common_label(hass: HomeAssistant) -> Response:
    label = lr.async_get(hass).async_create("Weekly").label_id
    for device in (own_device(hass, LAMP_ENTITY), own_device(hass, PLUG_ENTITY)):
        dr.async_get(hass).async_update_device(device, labels={label})
    return {"label_id": label}


targets_can_exclude = pytest.mark.skipif(
    not hasattr(target_helper, "async_extract_excluded_entity_ids"),
    reason="Home Assistant 2026.10 has no exclusion in targets",
)


@targets_can_exclude
@pytest.mark.parametrize(
    "excluded",
    [
        _excluding_the_entity,
        _excluding_the_device,
        _excluding_its_area,
        _excluding_its_floor,
        _excluding_its_label,
    ],
)
@pytest.mark.parametrize(
    "target", [_all, _both_entities, _both_devices, _both_areas, _both_floors, _common_label]
)
async def test_what_a_target_excludes_is_left_out(
    hass: HomeAssistant,
    home: OffloadCoordinator,
    target: Callable[[HomeAssistant], Response],
    excluded: Callable[[HomeAssistant], Response],
) -> None:
    data = {**target(hass), "exclude": excluded(hass)}
    assert configurations(await call(hass, "install", **data)) == ["plug.yaml"]


@targets_can_exclude
@pytest.mark.parametrize("target", [_by_entity, _by_cores_device, _by_floor])
async def test_a_target_that_excludes_all_of_itself_is_refused(
    hass: HomeAssistant, home: OffloadCoordinator, target: Callable[[HomeAssistant], Response]
) -> None:
    error = await refused(hass, "install", **target(hass), exclude={"entity_id": LAMP_ENTITY})
    assert error.translation_key == "no_target"


@targets_can_exclude
@pytest.mark.parametrize("action", ["install", "get_jobs"])
async def test_a_call_that_only_excludes_targets_nothing(
    hass: HomeAssistant, home: OffloadCoordinator, action: str
) -> None:
    error = await refused(hass, action, exclude={"entity_id": LAMP_ENTITY})
    assert error.translation_key == "no_target"


async def test_of_a_group_the_members_that_are_ours_are_meant(
    hass: HomeAssistant, home: OffloadCoordinator
) -> None:
    assert await async_setup_component(
        hass,
        GROUP_DOMAIN,
        {GROUP_DOMAIN: {"desk": {"entities": [PLUG_ENTITY, FOREIGN_ENTITY]}}},
    )
    response = await call(hass, "install", entity_id="group.desk")
    assert configurations(response) == ["plug.yaml"]


@pytest.mark.parametrize(
    ("target", "key", "named"),
    [
        ({"entity_id": "update.nothing"}, "entity_not_found", "update.nothing"),
        ({"device_id": "0123"}, "device_not_found", "0123"),
        ({"area_id": ["attic", "office"]}, "area_not_found", "attic"),
        ({"floor_id": "roof"}, "floor_not_found", "roof"),
        ({"label_id": "weekly"}, "label_not_found", "weekly"),
        ({"entity_id": FOREIGN_ENTITY}, "foreign_entity", FOREIGN_ENTITY),
        ({"entity_id": [LAMP_ENTITY, "sun.sun"]}, "foreign_entity", "sun.sun"),
        ({"label_id": "nightly"}, "no_target", "no device"),
        ({"entity_id": "none"}, "no_target", "no device"),
        ({"entity_id": []}, "no_target", "no device"),
        ({}, "no_target", "no device"),
    ],
)
async def test_a_missing_or_foreign_target_is_named_and_nothing_starts(
    hass: HomeAssistant,
    home: OffloadCoordinator,
    *,
    target: Response,
    key: str,
    named: str,
) -> None:
    hass.states.async_set("sun.sun", "above_horizon")
    error = await refused(hass, "install", **target)
    assert error.translation_key == key
    assert named in str(error)
    assert not home.queue.jobs()


async def test_a_foreign_device_is_refused_by_its_name(
    hass: HomeAssistant, home: OffloadCoordinator
) -> None:
    other = MockConfigEntry(domain="other")
    other.add_to_hass(hass)
    device = dr.async_get(hass).async_get_or_create(
        config_entry_id=other.entry_id, identifiers={("other", "1")}, name="Kettle"
    )
    error = await refused(hass, "install", device_id=[device.id], entity_id=LAMP_ENTITY)
    assert error.translation_key == "foreign_device"
    assert "Kettle" in str(error)
    assert not home.queue.jobs()


@pytest.mark.parametrize("target", [_by_entity, _by_cores_device])
async def test_a_disabled_entity_is_refused_with_what_to_do(
    hass: HomeAssistant, home: OffloadCoordinator, target: Callable[[HomeAssistant], Response]
) -> None:
    er.async_get(hass).async_update_entity(LAMP_ENTITY, disabled_by=er.RegistryEntryDisabler.USER)
    error = await refused(hass, "install", **target(hass))
    assert error.translation_key == "entity_disabled"
    assert LAMP_ENTITY in str(error)


@pytest.mark.parametrize("target", [{"area_id": "office"}, {"entity_id": "all"}])
async def test_a_disabled_entity_is_not_meant_by_more_general_targets(
    hass: HomeAssistant, home: OffloadCoordinator, target: Response
) -> None:
    for entity_id in (LAMP_ENTITY, PLUG_ENTITY):
        er.async_get(hass).async_update_entity(entity_id, disabled_by=er.RegistryEntryDisabler.USER)
    assert (await refused(hass, "install", **target)).translation_key == "no_target"


async def test_a_removed_configuration_is_named(
    hass: HomeAssistant, home: OffloadCoordinator, entry: MockConfigEntry
) -> None:
    old = er.async_get(hass).async_get_or_create(
        "update", DOMAIN, "old.yaml", config_entry=entry, suggested_object_id="old"
    )
    error = await refused(hass, "install", entity_id=old.entity_id)
    assert error.translation_key == "configuration_gone"
    assert "old.yaml" in str(error)


async def test_a_call_without_the_entry_or_its_folder_is_refused(
    hass: HomeAssistant, home: OffloadCoordinator, entry: MockConfigEntry
) -> None:
    hass.config_entries.async_update_entry(entry, data={"kind": "instance", "config_dir": ""})
    await hass.async_block_till_done()
    error = await refused(hass, "install", entity_id=LAMP_ENTITY)
    assert error.translation_key == "no_config_folder"

    await hass.config_entries.async_set_disabled_by(entry.entry_id, ConfigEntryDisabler.USER)
    error = await refused(hass, "install", entity_id=LAMP_ENTITY)
    assert error.translation_key == "not_set_up"
