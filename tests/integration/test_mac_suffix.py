"""One configuration with ``name_add_mac_suffix``: each device of it is a target of its own."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from homeassistant.config_entries import ConfigEntryState
from homeassistant.core import Event, HomeAssistant
from homeassistant.exceptions import HomeAssistantError, ServiceValidationError
from homeassistant.helpers import device_registry as dr, entity_registry as er, issue_registry as ir
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.esphome_offload import async_remove_config_entry_device
from custom_components.esphome_offload.const import DOMAIN
from custom_components.esphome_offload.coordinator import OffloadCoordinator
from custom_components.esphome_offload.engine.build.model import CONFIGURED, FlashRequest, Node
from custom_components.esphome_offload.engine.const import JobStatus, Operation, Stage as JobStage
from custom_components.esphome_offload.engine.jobs.model import FirmwareJob
from custom_components.esphome_offload.engine.target import TargetId
from custom_components.esphome_offload.inventory import device_firmware
from custom_components.esphome_offload.inventory.announced_firmware import AnnouncedFirmware
from custom_components.esphome_offload.inventory.api_hello import DeviceIdentity
from custom_components.esphome_offload.page.payload import page_devices

from .actions.calling import call
from .conftest import LAMP, NEWEST, Pass, Stage, devices_of
from .inventory.test_configuration_changes import checked

SUFFIXED = LAMP.replace("  name: lamp\n", "  name: lamp\n  name_add_mac_suffix: true\n")
FIRST, SECOND = "aa:bb:cc:00:11:22", "aa:bb:cc:00:33:44"
ONE, TWO = f"lamp.yaml@{FIRST}", f"lamp.yaml@{SECOND}"
OLD = "2026.9.1"


class LiveLamp:
    """The runtime data of core's esphome for one lamp."""

    def __init__(self, name: str, mac: str, available: bool) -> None:
        self.available = available
        self.loaded_platforms: set[str] = set()
        self._listeners: list[Callable[[], None]] = []
        self._name, self._mac = name, mac
        self.runs(OLD, "2026-09-20 10:00:00 +0000")

    def async_subscribe_device_updated(self, listener: Callable[[], None]) -> Callable[[], None]:
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def runs(self, version: str, build_time: str, name: str | None = None) -> None:
        """Reconnect, to a lamp that runs this build."""
        self._name = name or self._name
        self.device_info = SimpleNamespace(
            name=self._name,
            mac_address=self._mac,
            esphome_version=version,
            compilation_time=build_time,
        )
        for listener in tuple(self._listeners):
            listener()


class Lamp:
    """A lamp in core's esphome."""

    def __init__(
        self, hass: HomeAssistant, mac: str, *, name: str | None = None, available: bool = True
    ) -> None:
        suffix = mac.replace(":", "")[-6:]
        self.name = name or f"lamp-{suffix}"
        self.host = f"192.168.1.{int(suffix[-2:], 16)}"
        self.live = LiveLamp(self.name, mac, available)
        self.entry = MockConfigEntry(
            domain="esphome",
            unique_id=mac,
            title=self.name,
            data={"host": self.host, "port": 6053, "device_name": self.name},
        )
        self.entry.add_to_hass(hass)
        self.entry.runtime_data = self.live
        self.device = dr.async_get(hass).async_get_or_create(
            config_entry_id=self.entry.entry_id,
            connections={(dr.CONNECTION_NETWORK_MAC, mac)},
            name=f"Desk lamp {suffix}",
        )
        self.entry.mock_state(hass, ConfigEntryState.LOADED)

    def flashed(self, request: FlashRequest) -> None:
        """Restart with what was sent."""
        build = request.firmware.build_info
        self.live.runs(build.esphome_version, build.build_time)


@pytest.fixture(autouse=True)
def _suffixed(config_dir: Path) -> None:
    (config_dir / "lamp.yaml").write_text(SUFFIXED)


@pytest.fixture
async def lamps(
    hass: HomeAssistant, coordinator: OffloadCoordinator, pass_time: Pass, stage: Stage
) -> tuple[Lamp, Lamp]:
    """Return two lamps of the one configuration, each of which takes what is sent to it."""
    stage.firmware.node = Node("lamp", adds_mac_suffix=True)
    lamps = Lamp(hass, FIRST), Lamp(hass, SECOND)
    await pass_time(1)

    async def flash(request: FlashRequest, _sink: object) -> None:
        next(lamp for lamp in lamps if request.addresses[0] == f"{lamp.name}.local").flashed(
            request
        )

    stage.flasher.script = [flash, flash]
    return lamps


def entities(hass: HomeAssistant) -> dict[str, er.RegistryEntry]:
    """Return our update entities by target."""
    return {
        entity.unique_id: entity
        for entity in er.async_get(hass).entities.values()
        if entity.platform == DOMAIN and entity.domain == "update"
    }


def shown(hass: HomeAssistant, target: str) -> dict[str, Any]:
    """Return the attributes of the entity of a target."""
    state = hass.states.get(entities(hass)[target].entity_id)
    assert state is not None
    return dict(state.attributes)


async def install(coordinator: OffloadCoordinator, target: str, **options: str) -> FirmwareJob:
    job = await coordinator.async_submit(target, Operation.INSTALL, **options)
    return await coordinator.async_wait(job)


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


class TestHeardOf:
    """Devices that Home Assistant does not have, but hears of in the network."""

    @staticmethod
    async def announce(
        coordinator: OffloadCoordinator,
        pass_time: Pass,
        mac: str = FIRST,
        name: str = "lamp-001122",
    ) -> None:
        coordinator.firmware._announced(AnnouncedFirmware(name, OLD, mac, 7))
        await pass_time(1)

    async def test_it_is_a_target_that_stays_after_a_restart(
        self,
        hass: HomeAssistant,
        coordinator: OffloadCoordinator,
        entry: MockConfigEntry,
        pass_time: Pass,
        stage: Stage,
    ) -> None:
        before = entities(hass)["lamp.yaml"]
        await self.announce(coordinator, pass_time)
        await self.announce(coordinator, pass_time, SECOND, "lamp-003344")
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
        self, hass: HomeAssistant, coordinator: OffloadCoordinator, pass_time: Pass
    ) -> None:
        await self.announce(coordinator, pass_time)
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
        self,
        hass: HomeAssistant,
        coordinator: OffloadCoordinator,
        config_dir: Path,
        pass_time: Pass,
    ) -> None:
        await self.announce(coordinator, pass_time)
        (config_dir / "lamp.yaml").write_text(SUFFIXED.replace("name: lamp", "name: light"))
        await pass_time(31)
        device = coordinator.devices[ONE]
        assert (device.name, device.announced) == ("light-001122", "lamp-001122")
        former = DeviceIdentity("lamp-001122")
        assert not coordinator.inventory.is_of_another(TargetId(ONE), former)
        await self.announce(coordinator, pass_time, name="light-001122")
        assert coordinator.devices[ONE].announced == "light-001122"

    @pytest.mark.parametrize(
        ("mac", "name"),
        [(SECOND, "lamp-001122"), (FIRST, "plug-001122"), ("00:11:22", "lamp-001122")],
    )
    async def test_others_are_none(
        self,
        hass: HomeAssistant,
        coordinator: OffloadCoordinator,
        pass_time: Pass,
        mac: str,
        name: str,
    ) -> None:
        await self.announce(coordinator, pass_time, mac, name)
        assert set(entities(hass)) == {"lamp.yaml"}

    @pytest.mark.parametrize("name", ["evil", "evil-001122", "lamp-001122\x07", "lamp-003344"])
    async def test_its_mac_address_alone_gives_it_no_other_name(
        self,
        hass: HomeAssistant,
        coordinator: OffloadCoordinator,
        entry: MockConfigEntry,
        pass_time: Pass,
        name: str,
    ) -> None:
        await self.announce(coordinator, pass_time)
        await self.announce(coordinator, pass_time, name=name)
        assert {target: device.announced for target, device in coordinator.devices.items()} == {
            ONE: "lamp-001122"
        }
        await hass.config_entries.async_reload(entry.entry_id)
        await hass.async_block_till_done(wait_background_tasks=True)
        assert coordinator.devices[TargetId(ONE)].announced == "lamp-001122"

    async def test_it_may_be_that_of_another_configuration_by_now(
        self,
        coordinator: OffloadCoordinator,
        config_dir: Path,
        pass_time: Pass,
    ) -> None:
        (config_dir / "plug.yaml").write_text(SUFFIXED.replace("name: lamp", "name: plug"))
        await pass_time(31)
        await self.announce(coordinator, pass_time)
        await self.announce(coordinator, pass_time, name="plug-001122")
        assert {target: device.announced for target, device in coordinator.devices.items()} == {
            ONE: "lamp-001122",
            f"plug.yaml@{FIRST}": "plug-001122",
        }

    async def test_however_many_announce_themselves_the_newest_are_kept(
        self,
        coordinator: OffloadCoordinator,
        config_dir: Path,
        pass_time: Pass,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(device_firmware, "_MOST_UNMATCHED", 3)
        await self.announce(coordinator, pass_time, FIRST, "plug-001122")
        await self.announce(coordinator, pass_time, SECOND, "plug-003344")
        for name in ("one", "plug-001122", "two", "three"):
            mac = FIRST if name == "plug-001122" else "00:00:00:00:00:01"
            await self.announce(coordinator, pass_time, mac, name)
        (config_dir / "plug.yaml").write_text(SUFFIXED.replace("name: lamp", "name: plug"))
        await pass_time(31)
        plugs = {target for target in coordinator.devices if target.startswith("plug")}
        assert plugs == {f"plug.yaml@{FIRST}"}

    async def test_another_mac_address_of_the_same_name_takes_the_place_of_the_first(
        self, coordinator: OffloadCoordinator, config_dir: Path, pass_time: Pass
    ) -> None:
        other = "aa:bb:dd:00:11:22"
        for mac in (FIRST, other):
            await self.announce(coordinator, pass_time, mac, "plug-001122")
        (config_dir / "plug.yaml").write_text(SUFFIXED.replace("name: lamp", "name: plug"))
        await pass_time(31)
        plugs = {target for target in coordinator.devices if target.startswith("plug")}
        assert plugs == {f"plug.yaml@{other}"}

    async def test_it_can_be_removed(
        self,
        hass: HomeAssistant,
        coordinator: OffloadCoordinator,
        entry: MockConfigEntry,
        pass_time: Pass,
    ) -> None:
        await self.announce(coordinator, pass_time)
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
