"""The devices of configurations that core's esphome does not know."""

from collections.abc import Mapping
from pathlib import Path
from unittest.mock import Mock, patch

from homeassistant.const import EVENT_STATE_CHANGED, EVENT_STATE_REPORTED
from homeassistant.core import Event, HomeAssistant, callback
from homeassistant.helpers import area_registry as ar, device_registry as dr, entity_registry as er
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.esphome_offload import registry
from custom_components.esphome_offload.const import DOMAIN
from custom_components.esphome_offload.coordinator import OffloadCoordinator
from custom_components.esphome_offload.engine.target import TargetId, target_id

from .conftest import LAMP, Pass, devices_of
from .live_lamp import MAC

FAN = "esphome:\n  name: fan\nhost:\n"


@pytest.fixture
def own(
    hass: HomeAssistant, coordinator: OffloadCoordinator, device_registry: dr.DeviceRegistry
) -> dr.DeviceEntry:
    """Return the lamp's device, to which a person gave a name and an area."""
    (entity,) = _entities(hass, "lamp.yaml")
    assert entity.device_id is not None
    area = ar.async_get(hass).async_create("Study")
    device = device_registry.async_update_device(
        entity.device_id, name_by_user="Reading lamp", area_id=area.id
    )
    assert device is not None
    return device


async def test_two_configurations_of_one_name_have_a_device_each(
    hass: HomeAssistant,
    own: dr.DeviceEntry,
    entry: MockConfigEntry,
    config_dir: Path,
    pass_time: Pass,
) -> None:
    other = LAMP.replace("Desk lamp", "Other lamp")
    (config_dir / "other.yaml").write_text(other)
    await pass_time(31)
    names = {entity.device_id: entity.unique_id for entity in _entities(hass)}
    assert sorted(names.values()) == ["lamp.yaml", "other.yaml"]
    assert {device.name for device in devices_of(hass, entry)} == {"Desk lamp", "Other lamp"}

    written: list[object] = []

    @callback
    def note(event: Event[Mapping[str, object]]) -> None:
        written.append(event.data.get("entity_id", event.data.get("device_id")))

    for event_type in (
        dr.EVENT_DEVICE_REGISTRY_UPDATED,
        er.EVENT_ENTITY_REGISTRY_UPDATED,
        EVENT_STATE_CHANGED,
        EVENT_STATE_REPORTED,
    ):
        hass.bus.async_listen(event_type, note, event_filter=callback(lambda _data: True))
    (config_dir / "fan.yaml").write_text(FAN)
    await pass_time(31)
    of_lamps = {
        entity.entity_id
        for entity in er.async_get(hass).entities.values()
        if entity.device_id in names
    }
    assert written
    assert not (of_lamps | names.keys()) & set(written)


async def test_a_change_of_one_does_not_ask_for_all_others(
    hass: HomeAssistant, own: dr.DeviceEntry, config_dir: Path, pass_time: Pass
) -> None:
    """With hundreds of configurations that would take long."""
    made = Mock(wraps=registry.own_device_info)
    with patch.object(registry, "own_device_info", made):
        (config_dir / "lamp.yaml").write_text(LAMP.replace("Desk lamp", "Light"))
        (config_dir / "fan.yaml").write_text(FAN)
        await pass_time(31)
        assert [call.args[0].target for call in made.call_args_list] == ["lamp.yaml"]
        made.reset_mock()
        (config_dir / "plug.yaml").write_text(FAN.replace("fan", "plug"))
        await pass_time(31)
        made.assert_not_called()


async def test_a_changed_name_keeps_the_device(
    hass: HomeAssistant,
    own: dr.DeviceEntry,
    config_dir: Path,
    pass_time: Pass,
    device_registry: dr.DeviceRegistry,
) -> None:
    (config_dir / "lamp.yaml").write_text(
        LAMP.replace("name: lamp", "name: light").replace("Desk lamp", "Light")
    )
    await pass_time(31)
    after = device_registry.async_get(own.id)
    assert after is not None
    assert (after.name, after.name_by_user, after.area_id) == ("Light", "Reading lamp", own.area_id)
    assert [entity.device_id for entity in _entities(hass)] == [own.id]


async def test_a_renamed_file_keeps_the_device(
    hass: HomeAssistant,
    own: dr.DeviceEntry,
    config_dir: Path,
    pass_time: Pass,
    device_registry: dr.DeviceRegistry,
) -> None:
    (config_dir / "lamp.yaml").rename(config_dir / "desk.yaml")
    await pass_time(31)
    after = device_registry.async_get(own.id)
    assert after is not None
    assert after.identifiers == {(DOMAIN, "desk.yaml")}
    assert (after.name_by_user, after.area_id) == ("Reading lamp", own.area_id)
    assert [entity.device_id for entity in _entities(hass, "desk.yaml")] == [own.id]


async def test_each_device_of_a_renamed_configuration_goes_with_it(
    hass: HomeAssistant, entry: MockConfigEntry, device_registry: dr.DeviceRegistry
) -> None:
    lamp, desk = TargetId("lamp.yaml"), TargetId("desk.yaml")
    names = (target_id(lamp, MAC), "lamp.yml", "guest_lamp.yaml")
    devices = [
        device_registry.async_get_or_create(
            config_entry_id=entry.entry_id, identifiers={(DOMAIN, name)}
        )
        for name in names
    ]
    registry.async_rename(hass, entry.entry_id, lamp, desk)
    after = {device.id: device.identifiers for device in devices_of(hass, entry)}
    assert after[devices[0].id] == {(DOMAIN, target_id(desk, MAC))}
    assert all(after[device.id] == device.identifiers for device in devices[1:])


def _entities(hass: HomeAssistant, target: str | None = None) -> list[er.RegistryEntry]:
    """Return the update entities, or that of a target."""
    return [
        entity
        for entity in er.async_get(hass).entities.values()
        if (entity.platform, entity.domain) == (DOMAIN, "update")
        and target in (None, entity.unique_id)
    ]
