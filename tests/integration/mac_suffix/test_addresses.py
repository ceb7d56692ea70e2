"""Firmware goes to a device of the configuration, wherever it is sent."""

from pathlib import Path

from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError, ServiceValidationError
import pytest

from custom_components.esphome_offload.coordinator import OffloadCoordinator
from custom_components.esphome_offload.engine.build.model import FlashRequest, Node
from custom_components.esphome_offload.engine.const import JobStatus, Operation
from custom_components.esphome_offload.engine.target import TargetId
from custom_components.esphome_offload.inventory.api_hello import DeviceIdentity

from ..conftest import LAMP, Pass, Stage
from .lamps import FIRST, OLD, ONE, SECOND, TWO, Lamp, entities, install


async def test_without_a_device_it_is_built_and_flashed_at_an_address_only(
    hass: HomeAssistant, coordinator: OffloadCoordinator, stage: Stage
) -> None:
    with pytest.raises(ServiceValidationError) as refused:
        await coordinator.async_submit("lamp.yaml", Operation.INSTALL)
    assert refused.value.translation_key == "device_unknown"
    built = await coordinator.async_submit("lamp.yaml", Operation.COMPILE)
    assert (await coordinator.async_wait(built)).status is JobStatus.COMPLETED
    job = await install(coordinator, "lamp.yaml", address="192.168.1.9")
    assert job.status is JobStatus.COMPLETED
    assert stage.flasher.requests[0].addresses == ("192.168.1.9",)


@pytest.mark.parametrize(
    "said",
    [
        DeviceIdentity("lamp-003344", SECOND),
        DeviceIdentity("lamp-003344"),
        DeviceIdentity("plug"),
        DeviceIdentity("athom-plug-abc123"),
        DeviceIdentity("lamp", SECOND),
    ],
)
async def test_another_device_at_the_address_is_not_flashed(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    config_dir: Path,
    pass_time: Pass,
    stage: Stage,
    said: DeviceIdentity,
) -> None:
    """Home Assistant does not have it: it is asked itself."""
    (config_dir / "plug.yaml").write_text(LAMP.replace("lamp", "plug"))
    stage.firmware.node = Node("lamp", adds_mac_suffix=True)
    lamp = Lamp(hass, FIRST)
    await pass_time(31)
    stage.identities["192.168.1.9"] = said
    job = await install(coordinator, ONE, address="192.168.1.9")
    assert job.status is JobStatus.FAILED
    assert job.outcome.failure_reason == "wrong_device"
    assert f"and not for {said.node_name};" in str(job.outcome.error)
    assert stage.flasher.requests == []
    stage.identities["192.168.1.9"] = DeviceIdentity("lamp-001122", FIRST)

    async def flash(request: FlashRequest, _sink: object) -> None:
        lamp.flashed(request)

    stage.flasher.script = [flash]
    assert (await install(coordinator, ONE, address="192.168.1.9")).status is JobStatus.COMPLETED


async def test_a_device_that_tells_only_its_name_needs_one_that_is_known_of_it(
    hass: HomeAssistant, coordinator: OffloadCoordinator, config_dir: Path, pass_time: Pass
) -> None:
    lamp = Lamp(hass, FIRST, name="lamp")
    (config_dir / "lamp.yaml").write_text(LAMP)
    await pass_time(31)

    def is_refused(name: str) -> bool:
        return coordinator.inventory.is_of_another(TargetId("lamp.yaml"), DeviceIdentity(name))

    lamp.live.available = False
    names = ("lamp", "athom-plug-abc123", "light")
    assert list(map(is_refused, names)) == [False, True, True]
    (config_dir / "lamp.yaml").write_text(LAMP.replace("name: lamp", "name: light"))
    await pass_time(31)
    assert list(map(is_refused, names)) == [False, True, False]


async def test_a_job_of_the_configuration_is_for_none_of_several(
    hass: HomeAssistant, coordinator: OffloadCoordinator, pass_time: Pass, stage: Stage
) -> None:
    """It was started at an address, before any device was known."""
    job, block = await stage.start_blocked(coordinator, Operation.COMPILE)
    lamps = Lamp(hass, FIRST), Lamp(hass, SECOND)
    await pass_time(1)
    assert set(entities(hass)) == {ONE, TWO}
    with pytest.raises(HomeAssistantError):
        await coordinator.async_submit("lamp.yaml", Operation.INSTALL)
    block.release.set()
    await coordinator.async_wait(job)
    assert job.request.target == "lamp.yaml"
    assert coordinator.queue.last(ONE) is None
    assert [lamp.live.device_info.esphome_version for lamp in lamps] == [OLD, OLD]
