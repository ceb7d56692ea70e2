"""Devices that Home Assistant does not have, but hears of in the network."""

from pathlib import Path

from homeassistant.core import HomeAssistant
from homeassistant.exceptions import ServiceValidationError
from homeassistant.helpers import device_registry as dr
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.esphome_offload import async_remove_config_entry_device
from custom_components.esphome_offload.coordinator import OffloadCoordinator
from custom_components.esphome_offload.engine.build.model import Node
from custom_components.esphome_offload.engine.const import JobStatus
from custom_components.esphome_offload.engine.target import TargetId
from custom_components.esphome_offload.inventory import device_firmware
from custom_components.esphome_offload.inventory.announced_firmware import AnnouncedFirmware
from custom_components.esphome_offload.inventory.api_hello import DeviceIdentity

from ..conftest import Pass, Stage
from .lamps import FIRST, OLD, ONE, SECOND, SUFFIXED, TWO, Lamp, entities, install, shown


async def announce(
    coordinator: OffloadCoordinator,
    pass_time: Pass,
    mac: str = FIRST,
    name: str = "lamp-001122",
) -> None:
    coordinator.firmware._announced(AnnouncedFirmware(name, OLD, mac, 7))
    await pass_time(1)


async def test_it_is_a_target_that_stays_after_a_restart(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    entry: MockConfigEntry,
    pass_time: Pass,
    stage: Stage,
) -> None:
    before = entities(hass)["lamp.yaml"]
    await announce(coordinator, pass_time)
    await announce(coordinator, pass_time, SECOND, "lamp-003344")
    assert set(entities(hass)) == {ONE, TWO}
    assert entities(hass)[ONE].id == before.id
    assert shown(hass, ONE)["installed_version"] == OLD
    assert shown(hass, TWO)["friendly_name"] == "Desk lamp 003344 ESPHome"
    await hass.config_entries.async_reload(entry.entry_id)
    await hass.async_block_till_done(wait_background_tasks=True)
    assert set(entities(hass)) == {ONE, TWO}
    stage.firmware.node = Node("lamp", adds_mac_suffix=True)

    job = await install(coordinator, TWO)
    assert (job.status, job.request.device_name) == (JobStatus.COMPLETED, "lamp-003344")
    assert [request.addresses for request in stage.flasher.requests] == [("lamp-003344.local",)]


async def test_it_is_the_same_when_home_assistant_has_it(
    hass: HomeAssistant, coordinator: OffloadCoordinator, pass_time: Pass
) -> None:
    await announce(coordinator, pass_time)
    before = entities(hass)[ONE]
    lamp = Lamp(hass, FIRST)
    await pass_time(1)
    after = entities(hass)
    assert set(after) == {ONE}
    assert (after[ONE].id, after[ONE].device_id) == (before.id, lamp.device.id)
    await hass.config_entries.async_remove(lamp.entry.entry_id)
    await pass_time(1)
    assert set(entities(hass)) == {"lamp.yaml"}


async def test_it_is_expected_under_the_name_that_it_has(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    config_dir: Path,
    pass_time: Pass,
) -> None:
    await announce(coordinator, pass_time)
    (config_dir / "lamp.yaml").write_text(SUFFIXED.replace("name: lamp", "name: light"))
    await pass_time(31)
    device = coordinator.devices[ONE]
    assert (device.name, device.announced) == ("light-001122", "lamp-001122")
    former = DeviceIdentity("lamp-001122")
    assert not coordinator.inventory.is_of_another(TargetId(ONE), former)
    await announce(coordinator, pass_time, name="light-001122")
    assert coordinator.devices[ONE].announced == "light-001122"


@pytest.mark.parametrize(
    ("mac", "name"),
    [(SECOND, "lamp-001122"), (FIRST, "plug-001122"), ("00:11:22", "lamp-001122")],
)
async def test_others_are_none(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    pass_time: Pass,
    mac: str,
    name: str,
) -> None:
    await announce(coordinator, pass_time, mac, name)
    assert set(entities(hass)) == {"lamp.yaml"}


@pytest.mark.parametrize("name", ["evil", "evil-001122", "lamp-001122\x07", "lamp-003344"])
async def test_its_mac_address_alone_gives_it_no_other_name(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    entry: MockConfigEntry,
    pass_time: Pass,
    name: str,
) -> None:
    await announce(coordinator, pass_time)
    await announce(coordinator, pass_time, name=name)
    assert {target: device.announced for target, device in coordinator.devices.items()} == {
        ONE: "lamp-001122"
    }
    await hass.config_entries.async_reload(entry.entry_id)
    await hass.async_block_till_done(wait_background_tasks=True)
    assert coordinator.devices[TargetId(ONE)].announced == "lamp-001122"


async def test_it_may_be_that_of_another_configuration_by_now(
    coordinator: OffloadCoordinator,
    config_dir: Path,
    pass_time: Pass,
) -> None:
    (config_dir / "plug.yaml").write_text(SUFFIXED.replace("name: lamp", "name: plug"))
    await pass_time(31)
    await announce(coordinator, pass_time)
    await announce(coordinator, pass_time, name="plug-001122")
    assert {target: device.announced for target, device in coordinator.devices.items()} == {
        ONE: "lamp-001122",
        f"plug.yaml@{FIRST}": "plug-001122",
    }


async def test_however_many_announce_themselves_the_newest_are_kept(
    coordinator: OffloadCoordinator,
    config_dir: Path,
    pass_time: Pass,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(device_firmware, "_MOST_UNMATCHED", 3)
    await announce(coordinator, pass_time, FIRST, "plug-001122")
    await announce(coordinator, pass_time, SECOND, "plug-003344")
    for name in ("one", "plug-001122", "two", "three"):
        mac = FIRST if name == "plug-001122" else "00:00:00:00:00:01"
        await announce(coordinator, pass_time, mac, name)
    (config_dir / "plug.yaml").write_text(SUFFIXED.replace("name: lamp", "name: plug"))
    await pass_time(31)
    plugs = {target for target in coordinator.devices if target.startswith("plug")}
    assert plugs == {f"plug.yaml@{FIRST}"}


async def test_another_mac_address_of_the_same_name_takes_the_place_of_the_first(
    coordinator: OffloadCoordinator, config_dir: Path, pass_time: Pass
) -> None:
    other = "aa:bb:dd:00:11:22"
    for mac in (FIRST, other):
        await announce(coordinator, pass_time, mac, "plug-001122")
    (config_dir / "plug.yaml").write_text(SUFFIXED.replace("name: lamp", "name: plug"))
    await pass_time(31)
    plugs = {target for target in coordinator.devices if target.startswith("plug")}
    assert plugs == {f"plug.yaml@{other}"}


async def test_it_can_be_removed(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    entry: MockConfigEntry,
    pass_time: Pass,
) -> None:
    await announce(coordinator, pass_time)
    device = dr.async_get(hass).async_get(entities(hass)[ONE].device_id or "")
    assert device is not None
    assert await async_remove_config_entry_device(hass, entry, device)
    await pass_time(1)
    assert set(entities(hass)) == {"lamp.yaml"}
    own = dr.async_get(hass).async_get(entities(hass)["lamp.yaml"].device_id or "")
    assert own is not None
    with pytest.raises(
        ServiceValidationError, match=r"removed with its configuration\. Delete lamp"
    ):
        await async_remove_config_entry_device(hass, entry, own)
