"""The entities and devices of this integration in Home Assistant's registries."""

from collections.abc import Callable, Iterable, Mapping

from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import device_registry as dr, entity_registry as er

from .const import DOMAIN
from .engine.target import TargetId, moved
from .inventory.tracker import OffloadDevice

_UPDATE_DOMAIN = "update"
_SEPARATOR = "/"
"""Between a target and what else its entities are; no file name has it."""


def own_device_info(device: OffloadDevice) -> dr.DeviceInfo:
    """Return the device of a target that has none in core's esphome.

    It is known by the target: its name can change, and others may have the same one.
    """
    return dr.DeviceInfo(
        identifiers={(DOMAIN, device.target)}, name=device.friendly_name, manufacturer="ESPHome"
    )


def entity_unique_id(target: TargetId, key: str | None = None) -> str:
    """Return the unique id of an entity of a target; without ``key`` of its update entity."""
    return target if key is None else f"{target}{_SEPARATOR}{key}"


def target_of(unique_id: str) -> TargetId:
    """Return the target of an entity."""
    return TargetId(unique_id.partition(_SEPARATOR)[0])


@callback
def async_entity(hass: HomeAssistant, target: TargetId) -> er.RegistryEntry | None:
    """Return the update entity of a target."""
    registry = er.async_get(hass)
    entity_id = registry.async_get_entity_id(_UPDATE_DOMAIN, DOMAIN, target)
    return None if entity_id is None else registry.async_get(entity_id)


@callback
def async_targets_of(hass: HomeAssistant, device_id: str) -> list[TargetId]:
    """Return the targets whose update entities are on a device."""
    registry = er.async_get(hass)
    return [
        TargetId(entity.unique_id)
        for entity in er.async_entries_for_device(
            registry, device_id, include_disabled_entities=True
        )
        if (entity.platform, entity.domain) == (DOMAIN, _UPDATE_DOMAIN)
    ]


@callback
def own_entities(hass: HomeAssistant, entity_ids: Iterable[str], translation_key: str) -> set[str]:
    """Return those of the entities that are of this integration and of one kind."""
    registry = er.async_get(hass)
    return {
        entity_id
        for entity_id in entity_ids
        if (entity := registry.async_get(entity_id)) is not None
        and (entity.platform, entity.translation_key) == (DOMAIN, translation_key)
    }


@callback
def async_rename(hass: HomeAssistant, entry_id: str, old: TargetId, new: TargetId) -> None:
    """Keep the entities and the own device of a target that is called otherwise now.

    See ``moved``.
    """
    registry = er.async_get(hass)
    for entity, target in _of_targets(hass, entry_id):
        now = moved(target, old, new)
        unique_id = now + entity.unique_id.removeprefix(target)
        if now != target and not registry.async_get_entity_id(entity.domain, DOMAIN, unique_id):
            registry.async_update_entity(entity.entity_id, new_unique_id=unique_id)
    devices = dr.async_get(hass)
    for device in dr.async_entries_for_config_entry(devices, entry_id):
        for _, identifier in device.identifiers:
            now = moved(TargetId(identifier), old, new)
            if now != identifier and _own_device(hass, entry_id, now) is None:
                devices.async_update_device(device.id, new_identifiers={(DOMAIN, now)})


@callback
def async_remove_stale(
    hass: HomeAssistant, entry_id: str, is_gone: Callable[[TargetId], bool]
) -> None:
    """Remove the entities of targets that do not exist any more.

    ``async_relink`` removes the devices that have none then.
    """
    registry = er.async_get(hass)
    for entity, target in _of_targets(hass, entry_id):
        if is_gone(target):
            registry.async_remove(entity.entity_id)


@callback
def async_relink(
    hass: HomeAssistant, entry_id: str, devices: Mapping[TargetId, OffloadDevice]
) -> None:
    """Link every entity to its device in core's esphome, else to one of our own."""
    registry = er.async_get(hass)
    device_ids: dict[TargetId, str] = {}
    for entity, target in _of_targets(hass, entry_id):
        if (device := devices.get(target)) is None:
            continue
        if (device_id := device_ids.get(target)) is None:
            device_id = device_ids[target] = _async_device_id(hass, entry_id, device)
        if entity.device_id != device_id:
            registry.async_update_entity(entity.entity_id, device_id=device_id)
    _remove_unused_devices(hass, entry_id)


@callback
def _async_device_id(hass: HomeAssistant, entry_id: str, device: OffloadDevice) -> str:
    """Return the id of a device in core's esphome, else of one of our own with its current name."""
    if device.core is not None and device.core.device_id is not None:
        return device.core.device_id
    own = _own_device(hass, entry_id, device.target)
    # Home Assistant takes long to find out that nothing has changed.
    if own is None or own.name != device.friendly_name:
        own = dr.async_get(hass).async_get_or_create(
            config_entry_id=entry_id, **own_device_info(device)
        )
    return own.id


def _own_device(hass: HomeAssistant, entry_id: str, target: TargetId) -> dr.DeviceEntry | None:
    return dr.async_get(hass).async_get_device_by_identifier((DOMAIN, target), entry_id)


def _of_targets(hass: HomeAssistant, entry_id: str) -> list[tuple[er.RegistryEntry, TargetId]]:
    """Return the entities of targets; others are of guests and of this instance."""
    return [
        (entity, target_of(entity.unique_id))
        for entity in er.async_entries_for_config_entry(er.async_get(hass), entry_id)
        if entity.domain == _UPDATE_DOMAIN or _SEPARATOR in entity.unique_id
    ]


@callback
def _remove_unused_devices(hass: HomeAssistant, entry_id: str) -> None:
    entities = er.async_get(hass)
    devices = dr.async_get(hass)
    for device in dr.async_entries_for_config_entry(devices, entry_id):
        if not er.async_entries_for_device(entities, device.id, include_disabled_entities=True):
            devices.async_remove_device(device.id)
