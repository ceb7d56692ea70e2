"""JOB_* on the event bus, and how they read in the logbook."""

from homeassistant.core import Context, Event, HomeAssistant, callback
from homeassistant.helpers import entity_registry as er
import pytest
from pytest_homeassistant_custom_component.common import MockUser

from custom_components.esphome_offload import logbook
from custom_components.esphome_offload.const import DOMAIN
from custom_components.esphome_offload.coordinator import OffloadCoordinator
from custom_components.esphome_offload.engine.const import FailureReason, Operation

from ..engine.jobs.fakes import because, failing
from .conftest import NEWEST, Stage
from .live_lamp import core_device

KEYS = {
    "job_id",
    "device_id",
    "entity_id",
    "configuration",
    "device_name",
    "operation",
    "status",
    "stage",
    "progress",
    "source",
    "source_label",
    "source_pin_sha256",
    "esphome_version",
    "from_version",
    "verified",
    "failure_reason",
    "error",
    "seconds",
}


@pytest.fixture
def heard(hass: HomeAssistant) -> list[Event]:
    """Return all our events from here on."""
    events: list[Event] = []

    @callback
    def hear(event: Event) -> None:
        if event.event_type.startswith(f"{DOMAIN}_"):
            events.append(event)

    hass.bus.async_listen("*", hear)
    return events


def kinds(events: list[Event]) -> list[str]:
    return [event.event_type.removeprefix(f"{DOMAIN}_job_") for event in events]


async def test_one_installation_tells_its_story_with_one_payload(
    hass: HomeAssistant, coordinator: OffloadCoordinator, heard: list[Event]
) -> None:
    job = await coordinator.async_submit("lamp.yaml", Operation.INSTALL)
    await coordinator.async_wait(job)
    await hass.async_block_till_done()

    device_id = er.async_get(hass).async_get("update.desk_lamp_esphome").device_id
    told = kinds(heard)
    assert told[:2] == ["queued", "started"]
    assert told[-1] == "completed"
    assert set(told[2:-1]) <= {"progress"}
    for event in heard:
        assert set(event.data) == KEYS
        assert event.data["job_id"] == job.job_id
        assert event.data["entity_id"] == "update.desk_lamp_esphome"
        assert event.data["device_id"] == device_id

    last = heard[-1].data
    assert last["status"] == "completed"
    assert last["source"] == "local"
    assert last["source_label"] == "This instance"
    assert last["esphome_version"] == NEWEST
    assert last["progress"] == 100
    assert last["seconds"] >= 0


async def test_a_failure_is_told_once_with_its_reason(
    hass: HomeAssistant, coordinator: OffloadCoordinator, stage: Stage, heard: list[Event]
) -> None:
    stage.builder.script = [failing(FailureReason.COMPILE_FAILED, "main.cpp:7: error")]
    await coordinator.async_wait(await coordinator.async_submit("lamp.yaml", Operation.COMPILE))
    await hass.async_block_till_done()

    assert kinds(heard).count("failed") == 1
    assert kinds(heard)[-1] == "failed"
    assert heard[-1].data["failure_reason"] == "compile_failed"
    assert heard[-1].data["error"] == str(because("main.cpp:7: error"))


async def test_events_carry_the_context_of_who_asked(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    heard: list[Event],
    hass_admin_user: MockUser,
) -> None:
    context = Context(user_id=hass_admin_user.id)
    await hass.services.async_call(
        "update",
        "install",
        {"entity_id": "update.desk_lamp_esphome"},
        blocking=True,
        context=context,
    )
    await hass.async_block_till_done()
    assert {event.context.id for event in heard} == {context.id}
    assert coordinator.queue.jobs()[-1].request.user_id == hass_admin_user.id


async def test_the_logbook_tells_how_a_job_ended(
    hass: HomeAssistant, coordinator: OffloadCoordinator, stage: Stage, heard: list[Event]
) -> None:
    describe = {}
    logbook.async_describe_events(
        hass, lambda domain, event_type, function: describe.update({event_type: function})
    )
    stage.builder.script = [failing(FailureReason.COMPILE_FAILED, "main.cpp:7: error")]
    await coordinator.async_wait(await coordinator.async_submit("lamp.yaml", Operation.COMPILE))
    await coordinator.async_wait(await coordinator.async_submit("lamp.yaml", Operation.COMPILE))
    await hass.async_block_till_done()

    told = [describe[event.event_type](event) for event in heard if event.event_type in describe]
    assert [entry["message"] for entry in told] == [
        f"Compilation of ESPHome {NEWEST} failed: {because('main.cpp:7: error')}",
        f"Compilation of ESPHome {NEWEST} completed",
    ]
    assert {entry["name"] for entry in told} == {"lamp"}
    assert {entry["entity_id"] for entry in told} == {"update.desk_lamp_esphome"}


async def test_the_logbook_tells_what_was_replaced_from_what_was_cancelled(
    hass: HomeAssistant, coordinator: OffloadCoordinator, heard: list[Event]
) -> None:
    describe = {}
    logbook.async_describe_events(
        hass, lambda domain, event_type, function: describe.update({event_type: function})
    )
    core_device(hass, available=False)
    for clean in (False, True):
        job = await coordinator.async_submit("lamp.yaml", Operation.INSTALL, clean=clean)
        await coordinator.async_wait(job)
    await coordinator.async_cancel(job.job_id)
    await hass.async_block_till_done()

    told = [describe[event.event_type](event) for event in heard if event.event_type in describe]
    assert [entry["message"] for entry in told] == [
        f"Installation of ESPHome {NEWEST} was replaced by a newer job",
        f"Installation of ESPHome {NEWEST} was cancelled",
    ]
