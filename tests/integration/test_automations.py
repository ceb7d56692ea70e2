"""Automations with our triggers and our condition, in a real automation."""

from datetime import timedelta
from pathlib import Path
from typing import Any

from homeassistant.core import CoreState, HomeAssistant, ServiceCall
from homeassistant.helpers import (
    area_registry as ar,
    condition,
    device_registry as dr,
    entity_registry as er,
    floor_registry as fr,
    label_registry as lr,
    trigger,
)
from homeassistant.setup import async_setup_component
from homeassistant.util import dt as dt_util
import pytest
from pytest_homeassistant_custom_component.common import (
    MockConfigEntry,
    async_fire_time_changed,
    async_mock_service,
)

from custom_components.esphome_offload.coordinator import OffloadCoordinator
from custom_components.esphome_offload.engine.client.link import LinkState
from custom_components.esphome_offload.engine.const import FailureReason, Operation

from ..engine.jobs.fakes import failing, flash_failing
from .conftest import LAMP as LAMP_YAML, NEWEST, Pass, Stage
from .guest_client import OffloaderClient
from .live_lamp import core_device
from .peer_entries.entries import add_peer
from .test_device_entities import ENDED, INSTALLATION, run

LAMP = {"entity_id": [ENDED, INSTALLATION]}
GUEST = "binary_sensor.offloader_connected"


async def automation(hass: HomeAssistant, **config: Any) -> list[ServiceCall]:
    """Set up an automation; what it calls are the entities that triggered it."""
    calls = async_mock_service(hass, "test", "automation")
    data = {"entity": "{{ trigger.entity_id }}", "event": "{{ trigger.to_state.state }}"}
    action = {"action": "test.automation", "data": data}
    assert await async_setup_component(
        hass, "automation", {"automation": {"alias": "test", "actions": [action], **config}}
    )
    await hass.async_block_till_done()
    return calls


async def triggered(
    hass: HomeAssistant, key: str, target: dict[str, Any], **options: Any
) -> list[ServiceCall]:
    config = {"trigger": f"esphome_offload.{key}", "target": target, "options": options}
    return await automation(hass, triggers=[config])


@pytest.mark.parametrize("kind", ["entity", "device", "area", "floor", "label"])
async def test_an_installation_that_finished_triggers_by_every_kind_of_target(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    entity_registry: er.EntityRegistry,
    device_registry: dr.DeviceRegistry,
    kind: str,
) -> None:
    entity = entity_registry.async_get(ENDED)
    assert entity is not None
    assert entity.device_id is not None
    floor = fr.async_get(hass).async_create("Upstairs")
    area = ar.async_get(hass).async_create("Study", floor_id=floor.floor_id)
    label = lr.async_get(hass).async_create("Lamps")
    device_registry.async_update_device(entity.device_id, area_id=area.id, labels={label.label_id})
    target = {
        "entity": {"entity_id": ENDED},
        "device": {"device_id": entity.device_id},
        "area": {"area_id": area.id},
        "floor": {"floor_id": floor.floor_id},
        "label": {"label_id": label.label_id},
    }[kind]
    calls = await triggered(hass, "install_finished", target)
    await run(hass, coordinator)
    assert [call.data["entity"] for call in calls] == [ENDED]
    await run(hass, coordinator, Operation.COMPILE)
    assert len(calls) == 1


async def test_only_the_chosen_outcomes_trigger(
    hass: HomeAssistant, coordinator: OffloadCoordinator, stage: Stage
) -> None:
    calls = await triggered(hass, "install_finished", LAMP, outcomes=["cancelled", "failed"])
    job, _ = await stage.start_blocked(coordinator)
    await coordinator.async_cancel(job.job_id)
    await hass.async_block_till_done()
    assert len(calls) == 1
    stage.builder.script = [failing(FailureReason.COMPILE_FAILED)]
    await run(hass, coordinator)
    assert len(calls) == 2
    await run(hass, coordinator)
    assert len(calls) == 2


async def test_a_failure_and_a_device_that_went_back_trigger_as_failed(
    hass: HomeAssistant, coordinator: OffloadCoordinator, stage: Stage
) -> None:
    calls = await triggered(hass, "install_failed", LAMP)
    stage.builder.script = [failing(FailureReason.COMPILE_FAILED)]
    await run(hass, coordinator)
    assert len(calls) == 1
    stage.flasher.script = [flash_failing(FailureReason.ROLLED_BACK)]
    await run(hass, coordinator)
    assert len(calls) == 2
    await run(hass, coordinator)
    assert len(calls) == 2


async def test_a_device_that_is_waited_for_triggers_after_the_time_that_was_chosen(
    hass: HomeAssistant, coordinator: OffloadCoordinator
) -> None:
    core_device(hass, available=False)
    calls = await triggered(hass, "waiting_for_device", LAMP, **{"for": {"minutes": 5}})
    await run(hass, coordinator)
    for minutes, expected in ((4, 0), (6, 1)):
        async_fire_time_changed(hass, dt_util.utcnow() + timedelta(minutes=minutes))
        await hass.async_block_till_done()
        assert len(calls) == expected
    job = coordinator.queue.active("lamp.yaml")
    assert job is not None
    await coordinator.async_cancel(job.job_id)


async def ready_sensor(hass: HomeAssistant) -> tuple[MockConfigEntry, str]:
    """Return the entry of a builder and its sensor, before the builder was heard of."""
    peer = add_peer(hass)
    assert await hass.config_entries.async_setup(peer.entry_id)
    await hass.async_block_till_done()
    (sensor,) = (each for each in hass.states.async_entity_ids("binary_sensor") if "ready" in each)
    return peer, sensor


AWAY = (LinkState.CONNECTING, {})
PAUSED = (LinkState.CONNECTED, {"available": False})
READY = (LinkState.CONNECTED, {})
STOPPED = (LinkState.STOPPED, {})


@pytest.mark.parametrize(
    ("key", "former", "states"),
    [
        ("builder_available", PAUSED, [READY]),
        ("builder_available", PAUSED, [AWAY, PAUSED, READY]),
        ("builder_unavailable", READY, [PAUSED]),
        ("builder_unavailable", READY, [AWAY]),
    ],
)
async def test_a_builder_that_can_or_cannot_take_builds_any_more_triggers(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    stage: Stage,
    key: str,
    former: tuple[LinkState, dict[str, bool]],
    states: list[tuple[LinkState, dict[str, bool]]],
) -> None:
    _, sensor = await ready_sensor(hass)
    calls = await triggered(hass, key, {"entity_id": sensor})
    link = stage.peers.links[-1]
    for state, status in (former, *states):
        assert calls == []
        link.become(state, **status)
        await hass.async_block_till_done()
    assert [call.data["entity"] for call in calls] == [sensor]


@pytest.mark.parametrize("key", ["builder_available", "builder_unavailable"])
@pytest.mark.parametrize(
    "found",
    [
        pytest.param([READY], id="ready"),
        pytest.param([AWAY, READY], id="ready at the second try"),
        pytest.param([PAUSED], id="paused"),
        pytest.param([READY, STOPPED], id="ready until the stop"),
    ],
)
async def test_how_a_builder_is_found_after_a_reload_or_left_at_a_stop_triggers_nothing(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    stage: Stage,
    key: str,
    found: list[tuple[LinkState, dict[str, bool]]],
) -> None:
    peer, sensor = await ready_sensor(hass)
    calls = await triggered(hass, key, {"entity_id": sensor})
    stage.peers.links[-1].become(LinkState.CONNECTED)
    await hass.async_block_till_done()
    assert await hass.config_entries.async_reload(peer.entry_id)
    for state, status in found:
        stage.peers.links[-1].become(state, **status)
        await hass.async_block_till_done()
    assert calls == []


async def test_a_guest_that_connects_is_no_builder_that_became_available(
    hass: HomeAssistant, lent: OffloadCoordinator, offloader: OffloaderClient
) -> None:
    await hass.async_block_till_done()
    calls = await triggered(hass, "builder_available", {"entity_id": GUEST})
    async with offloader.connected():
        await hass.async_block_till_done()
        assert hass.states.get(GUEST).state == "on"
        assert calls == []


@pytest.mark.parametrize("config", [{}, {"target": {}}], ids=["no target", "empty target"])
async def test_without_a_target_every_device_triggers_also_one_that_is_new(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    config_dir: Path,
    pass_time: Pass,
    config: dict[str, Any],
) -> None:
    calls = await automation(
        hass, triggers=[{"trigger": "esphome_offload.install_finished", **config}]
    )
    (config_dir / "plug.yaml").write_text(LAMP_YAML.replace("lamp", "plug"))
    await pass_time(31)
    for target in ("lamp.yaml", "plug.yaml"):
        await coordinator.async_wait(await coordinator.async_submit(target, Operation.INSTALL))
        await hass.async_block_till_done()
    assert [call.data["entity"] for call in calls] == [ENDED, "event.desk_plug_installation_ended"]


async def test_a_new_version_triggers_once_the_update_entities_show_it(
    hass: HomeAssistant, coordinator: OffloadCoordinator, stage: Stage
) -> None:
    calls = async_mock_service(hass, "test", "automation")
    update = "{{ state_attr('update.desk_lamp_esphome', 'latest_version') }}"
    versions = "{{ trigger.from_version }} {{ trigger.to_version }} "
    action = {"action": "test.automation", "data": {"versions": versions + update}}
    config = {"triggers": [{"trigger": "esphome_offload.new_version"}], "actions": [action]}
    assert await async_setup_component(hass, "automation", {"automation": config})
    await hass.async_block_till_done()
    for version in ("2026.10.1", "2026.10.1", NEWEST, "2026.10.1"):
        stage.versions.newest_stable = version
        await coordinator.versions.async_refresh()
        await hass.async_block_till_done()
    assert [call.data["versions"] for call in calls] == [f"{NEWEST} 2026.10.1 2026.10.1"]


async def test_a_version_that_came_out_before_a_start_triggers_once_automations_can_hear_it(
    hass: HomeAssistant,
    stage: Stage,
    entry: MockConfigEntry,
    hass_storage: dict[str, Any],
) -> None:
    hass_storage["esphome_offload.new_versions"] = {
        "version": 1,
        "data": {"announced": "2026.9.1", "followed": "stable"},
    }
    hass.set_state(CoreState.not_running)
    assert await hass.config_entries.async_setup(entry.entry_id)
    await hass.async_block_till_done(wait_background_tasks=True)
    calls = async_mock_service(hass, "test", "automation")
    versions = "{{ trigger.from_version }} {{ trigger.to_version }}"
    action = {"action": "test.automation", "data": {"versions": versions}}
    config = {"triggers": [{"trigger": "esphome_offload.new_version"}], "actions": [action]}
    assert await async_setup_component(hass, "automation", {"automation": config})
    await hass.async_block_till_done()
    assert calls == []
    await hass.async_start()
    await hass.async_block_till_done()
    await hass.config_entries.async_reload(entry.entry_id)
    await hass.async_block_till_done(wait_background_tasks=True)
    assert [call.data["versions"] for call in calls] == [f"2026.9.1 {NEWEST}"]


async def test_entities_of_others_do_not_trigger(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    entity_registry: er.EntityRegistry,
    entry: MockConfigEntry,
) -> None:
    other = entity_registry.async_get_or_create("event", "doorbell", "1").entity_id
    unregistered = "event.of_yaml"
    calls = await triggered(hass, "install_finished", {"entity_id": [other, unregistered]})
    for entity_id in (other, unregistered):
        hass.states.async_set(entity_id, "unknown")
        hass.states.async_set(entity_id, "2026-11-29T10:00:00", {"event_type": "completed"})
    await hass.async_block_till_done()
    assert not calls


async def test_the_condition_passes_while_an_installation_goes_on(
    hass: HomeAssistant, coordinator: OffloadCoordinator, stage: Stage
) -> None:
    calls = await automation(
        hass,
        triggers=[{"trigger": "event", "event_type": "ask"}],
        conditions=[{"condition": "esphome_offload.is_installing", "target": LAMP}],
        actions=[{"action": "test.automation"}],
    )

    async def passes() -> bool:
        before = len(calls)
        hass.bus.async_fire("ask")
        await hass.async_block_till_done()
        return len(calls) > before

    assert not await passes()
    job, block = await stage.start_blocked(coordinator)
    await hass.async_block_till_done()
    assert await passes()
    block.release.set()
    await coordinator.async_wait(job)
    await hass.async_block_till_done()
    assert not await passes()

    core_device(hass, available=False)
    await run(hass, coordinator)
    assert not await passes()
    waiting = coordinator.queue.active("lamp.yaml")
    assert waiting is not None
    await coordinator.async_cancel(waiting.job_id)


async def test_home_assistant_offers_them_with_what_can_be_chosen(
    hass: HomeAssistant, coordinator: OffloadCoordinator
) -> None:
    assert await async_setup_component(hass, "automation", {})
    await hass.async_block_till_done()
    triggers = await trigger.async_get_all_descriptions(hass)
    conditions = await condition.async_get_all_descriptions(hass)
    ours = {key for key in (*triggers, *conditions) if key.startswith("esphome_offload.")}
    assert ours == {
        "esphome_offload.builder_available",
        "esphome_offload.builder_unavailable",
        "esphome_offload.install_failed",
        "esphome_offload.install_finished",
        "esphome_offload.is_installing",
        "esphome_offload.new_version",
        "esphome_offload.waiting_for_device",
    }
    finished = triggers["esphome_offload.install_finished"]
    assert finished is not None
    assert set(finished["fields"]) == {"outcomes"}
    assert finished["target"]["entity"][0]["integration"] == "esphome_offload"
