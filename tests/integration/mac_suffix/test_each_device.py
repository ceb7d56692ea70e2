"""Each device of one configuration is a target of its own."""

from pathlib import Path

from homeassistant.core import Event, HomeAssistant
from homeassistant.helpers import issue_registry as ir
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.esphome_offload.const import DOMAIN
from custom_components.esphome_offload.coordinator import OffloadCoordinator
from custom_components.esphome_offload.engine.const import JobStatus, Stage as JobStage
from custom_components.esphome_offload.page.payload import page_devices

from ..actions.calling import call
from ..conftest import NEWEST, Pass, Stage, devices_of
from ..inventory.test_configuration_changes import checked
from .lamps import OLD, ONE, SUFFIXED, TWO, Lamp, entities, install, shown


async def test_each_device_has_an_entity_of_its_own(
    hass: HomeAssistant, lamps: tuple[Lamp, Lamp], entry: MockConfigEntry
) -> None:
    found = entities(hass)
    assert set(found) == {ONE, TWO}
    assert [found[target].device_id for target in (ONE, TWO)] == [lamp.device.id for lamp in lamps]
    names = [shown(hass, target)["friendly_name"] for target in (ONE, TWO)]
    assert names == ["Desk lamp 001122 ESPHome", "Desk lamp 003344 ESPHome"]
    # None is left over from before the devices were known.
    assert len(hass.states.async_entity_ids("update")) == 2
    assert devices_of(hass, entry) == []


async def test_each_device_is_flashed_where_it_is_and_has_a_version_of_its_own(
    hass: HomeAssistant, coordinator: OffloadCoordinator, lamps: tuple[Lamp, Lamp], stage: Stage
) -> None:
    events: list[Event] = []
    hass.bus.async_listen(f"{DOMAIN}_job_completed", events.append)
    job = await install(coordinator, ONE)
    assert (job.status, job.outcome.verified) == (JobStatus.COMPLETED, True)
    assert job.request.device_name == "lamp-001122"
    assert stage.builder.requests[0].device_name == "lamp"
    assert (shown(hass, ONE)["installed_version"], shown(hass, TWO)["installed_version"]) == (
        NEWEST,
        OLD,
    )
    assert coordinator.queue.last(TWO) is None

    await hass.services.async_call(
        "update", "install", {"entity_id": entities(hass)[TWO].entity_id}, blocking=True
    )
    assert shown(hass, TWO)["installed_version"] == NEWEST
    flashed = [request.addresses for request in stage.flasher.requests]
    assert flashed == [("lamp-001122.local", "192.168.1.34"), ("lamp-003344.local", "192.168.1.68")]
    await hass.async_block_till_done()
    for event, target, lamp in zip(events, (ONE, TWO), lamps, strict=True):
        entity = entities(hass)[target]
        assert (event.data["configuration"], event.data["device_name"]) == ("lamp.yaml", lamp.name)
        assert event.data["entity_id"] == entity.entity_id
        assert event.data["device_id"] == lamp.device.id


async def test_actions_take_the_devices_and_the_entities(
    hass: HomeAssistant, coordinator: OffloadCoordinator, lamps: tuple[Lamp, Lamp]
) -> None:
    both = [lamp.device.id for lamp in lamps]
    response = await call(hass, "install", device_id=both, wait=True)
    assert [job["device_name"] for job in response["jobs"]] == ["lamp-001122", "lamp-003344"]
    assert {job["status"] for job in response["jobs"]} == {"completed"}
    entity_id = entities(hass)[TWO].entity_id
    found = await call(hass, "get_jobs", entity_id=entity_id)
    assert [job["entity_id"] for job in found["jobs"]] == [entity_id]


async def test_the_page_shows_each_device_with_its_jobs(
    hass: HomeAssistant, coordinator: OffloadCoordinator, lamps: tuple[Lamp, Lamp]
) -> None:
    job = await install(coordinator, TWO)
    shown_there = page_devices(hass, coordinator)[TWO]
    assert (shown_there["id"], shown_there["configuration"]) == (TWO, "lamp.yaml")
    assert (shown_there["name"], shown_there["node_name"]) == ("Desk lamp 003344", "lamp-003344")
    assert shown_there["device_id"] == lamps[1].device.id
    assert coordinator.job_details(job)["target"] == TWO


async def test_whether_the_configuration_changed_is_asked_once_for_both(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    lamps: tuple[Lamp, Lamp],
    config_dir: Path,
    pass_time: Pass,
    stage: Stage,
) -> None:
    for target in (ONE, TWO):
        assert (await install(coordinator, target)).outcome.verified
    await checked(hass)
    assert stage.config_hashes.asked == []
    stage.config_hashes.hashes["lamp.yaml"] = 0xAB
    (config_dir / "lamp.yaml").write_text(f"{SUFFIXED}# changed\n")
    await pass_time(31)
    await pass_time(122)
    await checked(hass)
    assert [shown(hass, target)["configuration_changed"] for target in (ONE, TWO)] == [True, True]
    assert stage.config_hashes.asked == [("lamp.yaml", NEWEST)]
    await hass.services.async_call(
        "update", "skip", {"entity_id": entities(hass)[ONE].entity_id}, blocking=True
    )
    assert hass.states.get(entities(hass)[ONE].entity_id).state == "off"
    assert hass.states.get(entities(hass)[TWO].entity_id).state == "on"


async def test_both_can_wait_at_the_same_time_and_one_is_cancelled(
    hass: HomeAssistant, coordinator: OffloadCoordinator, lamps: tuple[Lamp, Lamp]
) -> None:
    for lamp in lamps:
        lamp.live.available = False
    first, second = [await install(coordinator, target) for target in (ONE, TWO)]
    assert (first.stage, second.stage) == (JobStage.WAITING_DEVICE,) * 2
    kept = coordinator.build_services.firmware.in_use()
    assert kept == {first.firmware_sha256, second.firmware_sha256}
    await call(hass, "cancel", entity_id=entities(hass)[ONE].entity_id)
    assert first.status is JobStatus.CANCELLED
    assert second.stage is JobStage.WAITING_DEVICE
    await coordinator.async_cancel(second.job_id)


async def test_a_device_that_goes_back_raises_a_repair_of_its_own(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    lamps: tuple[Lamp, Lamp],
    pass_time: Pass,
    issue_registry: ir.IssueRegistry,
) -> None:
    for target in (ONE, TWO):
        assert (await install(coordinator, target)).outcome.verified
    lamps[1].live.runs(OLD, "2026-09-20 10:00:00 +0000")
    await pass_time(1)
    assert issue_registry.async_get_issue(DOMAIN, f"rolled_back_{TWO}") is not None
    assert issue_registry.async_get_issue(DOMAIN, f"rolled_back_{ONE}") is None
    assert shown(hass, TWO)["installed_version"] == OLD
    assert shown(hass, ONE)["installed_version"] == NEWEST
