"""Devices come and go, and configurations are renamed."""

import asyncio
from pathlib import Path

from homeassistant.core import HomeAssistant
from homeassistant.helpers import device_registry as dr
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.esphome_offload.coordinator import OffloadCoordinator
from custom_components.esphome_offload.engine.build.model import CONFIGURED, FlashRequest, Node
from custom_components.esphome_offload.engine.const import JobStatus, Operation, Stage as JobStage
from custom_components.esphome_offload.engine.target import TargetId
from custom_components.esphome_offload.inventory.api_hello import DeviceIdentity

from ..conftest import LAMP, NEWEST, Pass, Stage
from .lamps import FIRST, OLD, ONE, SECOND, SUFFIXED, TWO, Lamp, entities, install, shown


async def test_a_device_that_comes_later_gets_its_entity_and_a_removed_one_loses_it(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    lamps: tuple[Lamp, Lamp],
    pass_time: Pass,
    entry: MockConfigEntry,
) -> None:
    third = Lamp(hass, "aa:bb:cc:00:55:66", available=False)
    await pass_time(1)
    assert set(entities(hass)) == {ONE, TWO, "lamp.yaml@aa:bb:cc:00:55:66"}
    waiting = await install(coordinator, "lamp.yaml@aa:bb:cc:00:55:66")
    await hass.config_entries.async_remove(third.entry.entry_id)
    await pass_time(1)
    assert set(entities(hass)) == {ONE, TWO}
    assert waiting.status is JobStatus.CANCELLED
    assert "lamp-005566 was removed" in "".join(
        (await coordinator.logs.read(waiting.job_id, 0, 100)).lines
    )
    for lamp in lamps:
        await hass.config_entries.async_remove(lamp.entry.entry_id)
    await pass_time(1)
    # The configuration can still be built.
    assert set(entities(hass)) == {"lamp.yaml"}
    assert dr.async_entries_for_config_entry(dr.async_get(hass), entry.entry_id)


async def test_the_first_device_goes_on_with_what_is_known_of_its_configuration(
    hass: HomeAssistant, coordinator: OffloadCoordinator, pass_time: Pass
) -> None:
    before = entities(hass)["lamp.yaml"]
    built = await coordinator.async_submit("lamp.yaml", Operation.COMPILE)
    await coordinator.async_wait(built)
    lamp = Lamp(hass, FIRST)
    await pass_time(1)
    after = entities(hass)
    assert set(after) == {ONE}
    assert (after[ONE].id, after[ONE].device_id) == (before.id, lamp.device.id)
    assert shown(hass, ONE)["job_id"] == built.job_id
    assert built.request.device_name == "lamp-001122"
    Lamp(hass, SECOND)
    await pass_time(1)
    assert entities(hass)[ONE].id == before.id
    assert set(entities(hass)) == {ONE, TWO}


async def test_a_device_that_gets_its_suffix_by_the_installation(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    config_dir: Path,
    pass_time: Pass,
    stage: Stage,
) -> None:
    (config_dir / "lamp.yaml").write_text(LAMP)
    lamp = Lamp(hass, FIRST, name="lamp")
    await pass_time(31)
    before = entities(hass)["lamp.yaml"]
    (config_dir / "lamp.yaml").write_text(SUFFIXED)
    await pass_time(31)
    assert entities(hass)[ONE].id == before.id
    stage.firmware.node = Node("lamp", adds_mac_suffix=True)

    async def flash(request: FlashRequest, _sink: object) -> None:
        assert request.addresses == (CONFIGURED, lamp.host)
        build = request.firmware.build_info
        lamp.live.runs(build.esphome_version, build.build_time, "lamp-001122")

    stage.flasher.script = [flash]
    job = await install(coordinator, ONE)
    assert (job.status, job.outcome.verified) == (JobStatus.COMPLETED, True)
    assert set(entities(hass)) == {ONE}


async def test_a_renamed_file_takes_all_of_its_devices_with_it(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    lamps: tuple[Lamp, Lamp],
    config_dir: Path,
    pass_time: Pass,
) -> None:
    job = await install(coordinator, ONE)
    before = {target: entity.id for target, entity in entities(hass).items()}
    (config_dir / "lamp.yaml").rename(config_dir / "desk.yaml")
    await pass_time(31)
    after = {target: entity.id for target, entity in entities(hass).items()}
    assert after == {
        target.replace("lamp.yaml", "desk.yaml"): entity for target, entity in before.items()
    }
    assert coordinator.queue.last(f"desk.yaml@{FIRST}") is job
    assert coordinator.firmware.macs("desk.yaml") == (FIRST, SECOND)


async def test_a_renamed_node_keeps_its_devices(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    lamps: tuple[Lamp, Lamp],
    config_dir: Path,
    pass_time: Pass,
    stage: Stage,
) -> None:
    before = {target: entity.id for target, entity in entities(hass).items()}
    (config_dir / "lamp.yaml").write_text(SUFFIXED.replace("name: lamp", "name: light"))
    await pass_time(31)
    assert {target: entity.id for target, entity in entities(hass).items()} == before
    stage.firmware.node = Node("light", adds_mac_suffix=True)
    job = await install(coordinator, TWO)
    assert job.request.device_name == "light-003344"
    assert (job.status, job.outcome.verified) == (JobStatus.COMPLETED, True)
    assert stage.flasher.requests[0].addresses[0] == "lamp-003344.local"


async def test_a_job_whose_device_is_no_more_one_of_the_configuration_sends_nothing(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    lamps: tuple[Lamp, Lamp],
    config_dir: Path,
    pass_time: Pass,
    stage: Stage,
) -> None:
    lamps[0].live.available = False
    job = await install(coordinator, ONE)
    assert job.stage is JobStage.WAITING_DEVICE
    ended = asyncio.Event()
    coordinator.queue.subscribe(
        job.job_id, lambda _event, job: ended.set() if job.terminal else None
    )
    stage.firmware.node = Node("bedroom")
    (config_dir / "lamp.yaml").write_text(LAMP.replace("name: lamp", "name: bedroom"))
    await pass_time(31)
    await pass_time(1)
    async with asyncio.timeout(30):
        await ended.wait()
    assert (job.status, job.outcome.failure_reason) == (JobStatus.FAILED, "wrong_device")
    assert "lamp-001122 is no device of its configuration any more" in str(job.outcome.error)
    assert stage.flasher.requests == []
    # At an address that a person gives, those that it had are still its own.
    is_of_another = coordinator.inventory.is_of_another
    assert not is_of_another(TargetId("lamp.yaml"), DeviceIdentity("lamp-001122"))
    assert is_of_another(TargetId("lamp.yaml"), DeviceIdentity("athom-plug-abc123"))


async def test_a_restart_keeps_what_is_known_of_each(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    lamps: tuple[Lamp, Lamp],
    entry: MockConfigEntry,
) -> None:
    await install(coordinator, ONE)
    before = {target: entity.id for target, entity in entities(hass).items()}
    await hass.config_entries.async_reload(entry.entry_id)
    await hass.async_block_till_done(wait_background_tasks=True)
    assert {target: entity.id for target, entity in entities(hass).items()} == before
    assert shown(hass, ONE)["installed_version"] == NEWEST
    assert shown(hass, TWO)["installed_version"] == OLD
