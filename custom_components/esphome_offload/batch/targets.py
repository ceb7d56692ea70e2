"""The configurations and devices that a service call targets."""

from collections.abc import Collection, Mapping
from typing import Any

from homeassistant.const import ATTR_ENTITY_ID, ENTITY_MATCH_ALL, Platform
from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import device_registry as dr, entity_registry as er, target
from homeassistant.helpers.target import TargetSelection, async_extract_referenced_entity_ids

from ..const import DOMAIN
from ..engine.target import TargetId
from ..texts.errors import validation_error

_EXCLUDE = "exclude"


def has_target(data: Mapping[str, Any]) -> bool:
    """Return whether a service call has a target: anything, "all", or only what it excludes."""
    return TargetSelection(dict(data)).has_any_target or bool(data.get(_EXCLUDE))


@callback
def async_targets(
    hass: HomeAssistant, data: Mapping[str, Any], known: Collection[TargetId]
) -> list[TargetId]:
    """Return the targets (sorted) of a service call.

    ``known`` are those that exist. An entity or a device that the call names must be
    ours; areas, floors, labels and groups contribute those of ours that they contain. What the
    call excludes is left out, however it is targeted.
    Raises ServiceValidationError for what is missing or foreign, and when nothing is left.
    """
    selection = TargetSelection(dict(data))
    registry = er.async_get(hass)
    # Entities may also be named by the id of their registry entry.
    selection.entity_ids = {
        er.async_resolve_entity_id(registry, entity_id) or entity_id
        for entity_id in selection.entity_ids
    }
    # Update entities are configuration entities: the default would leave them out of every
    # device, area and floor.
    selected = async_extract_referenced_entity_ids(hass, selection, primary_entities_only=False)
    _refuse_missing("device_not_found", selected.missing_devices)
    _refuse_missing("area_not_found", selected.missing_areas)
    _refuse_missing("floor_not_found", selected.missing_floors)
    _refuse_missing("label_not_found", selected.missing_labels)

    ours = {
        entity.entity_id: entity
        for entity in registry.entities.values()
        if entity.platform == DOMAIN and entity.domain == Platform.UPDATE
    }
    excluded = _excluded(hass, selection)
    found: set[TargetId] = set()
    for entity_id in sorted(selection.entity_ids - {ENTITY_MATCH_ALL}):
        # A group is not among the referenced: its members are. Neither is what is excluded.
        if entity_id in selected.referenced:
            found.add(_own_entity(hass, ours, entity_id, known))
    for device_id in sorted(selection.device_ids):
        found.update(_of_device(hass, ours, device_id, known, excluded))

    targeted = selected.referenced | selected.indirectly_referenced
    if data.get(ATTR_ENTITY_ID) == ENTITY_MATCH_ALL:
        targeted |= ours.keys() - excluded
    found.update(
        TargetId(entity.unique_id)
        for entity_id in targeted & ours.keys()
        if not (entity := ours[entity_id]).disabled and entity.unique_id in known
    )
    if not found:
        raise validation_error("no_target")
    return sorted(found)


def _excluded(hass: HomeAssistant, selection: TargetSelection) -> set[str]:
    """Return the entities that a target excludes; Home Assistant 2026.10 has no exclusion."""
    extract = getattr(target, "async_extract_excluded_entity_ids", None)
    return set() if extract is None else extract(hass, selection)


def _refuse_missing(translation_key: str, missing: Collection[str]) -> None:
    if missing:
        raise validation_error(translation_key, ids=", ".join(sorted(missing)))


def _own_entity(
    hass: HomeAssistant,
    ours: Mapping[str, er.RegistryEntry],
    entity_id: str,
    known: Collection[TargetId],
) -> TargetId:
    if (entity := ours.get(entity_id)) is not None:
        return _usable(entity, known)
    exists = er.async_get(hass).async_get(entity_id) or hass.states.get(entity_id)
    raise validation_error("foreign_entity" if exists else "entity_not_found", entity=entity_id)


def _of_device(
    hass: HomeAssistant,
    ours: Mapping[str, er.RegistryEntry],
    device_id: str,
    known: Collection[TargetId],
    excluded: Collection[str],
) -> list[TargetId]:
    """Return the targets of a device, which may belong to core's esphome, by its entities."""
    # A device may include others: its children, and the parts that an old one was split into.
    devices = async_extract_referenced_entity_ids(
        hass, TargetSelection({"device_id": [device_id]}), primary_entities_only=False
    ).referenced_devices
    entities = [entity for entity in ours.values() if entity.device_id in devices]
    if not entities:
        device = dr.async_get(hass).async_get(device_id)
        name = device and (device.name_by_user or device.name)
        raise validation_error("foreign_device", device=name or device_id)
    entities = [entity for entity in entities if entity.entity_id not in excluded]
    enabled = [entity for entity in entities if not entity.disabled]
    return [_usable(entity, known) for entity in enabled or entities]


def _usable(entity: er.RegistryEntry, known: Collection[TargetId]) -> TargetId:
    if entity.disabled:
        raise validation_error("entity_disabled", entity=entity.entity_id)
    if entity.unique_id not in known:
        raise validation_error(
            "configuration_gone", entity=entity.entity_id, configuration=entity.unique_id
        )
    return TargetId(entity.unique_id)
