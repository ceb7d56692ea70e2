"""The actions: whom they are about, what they refuse, what they return."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

from homeassistant.components.group import DOMAIN as GROUP_DOMAIN
from homeassistant.config_entries import ConfigEntryDisabler
from homeassistant.core import Context, HomeAssistant
from homeassistant.exceptions import HomeAssistantError, ServiceValidationError, Unauthorized
from homeassistant.helpers import (
    area_registry as ar,
    device_registry as dr,
    entity_registry as er,
    floor_registry as fr,
    label_registry as lr,
)
from homeassistant.setup import async_setup_component
import probatio
import pytest
from pytest_homeassistant_custom_component.common import (
    MockConfigEntry,
    MockUser,
    async_capture_events,
)

from custom_components.esphome_offload.builders.model import BuildSink
from custom_components.esphome_offload.builders.versions import VersionError, VersionProblem
from custom_components.esphome_offload.const import (
    DOMAIN,
    FailureReason,
    JobStatus,
    Operation,
    Source,
)
from custom_components.esphome_offload.coordinator import OffloadCoordinator
from custom_components.esphome_offload.services import OffloadService

from ..jobs.fakes import Block, ScriptedBuilder, failing
from .conftest import LAMP, NEWEST, Stage

MAC = "aa:bb:cc:dd:ee:ff"
LAMP_ENTITY = "update.office_desk_lamp_esphome"
PLUG_ENTITY = "update.desk_plug_esphome"
FOREIGN_ENTITY = "light.desk_lamp"

type Response = dict[str, Any]


async def call(
    hass: HomeAssistant, action: str, *, context: Context | None = None, **data: Any
) -> Response:
    response = await hass.services.async_call(
        DOMAIN, action, data, blocking=True, return_response=True, context=context
    )
    assert response is not None
    return response


async def refused(hass: HomeAssistant, action: str, **data: Any) -> ServiceValidationError:
    """Call an action that is to be refused; the reason is translated, with nothing left open."""
    with pytest.raises(ServiceValidationError) as raised:
        await call(hass, action, **data)
    assert raised.value.translation_domain == DOMAIN
    assert str(raised.value) != raised.value.translation_key
    assert "{" not in str(raised.value)
    return raised.value


def configurations(response: Response) -> list[str]:
    return [job["configuration"] for job in response["jobs"]]


@pytest.fixture
def core_device(hass: HomeAssistant) -> dr.DeviceEntry:
    """The lamp as core's esphome integration has it, with a light, in the office upstairs."""
    entry = MockConfigEntry(
        domain="esphome", unique_id=MAC, title="Desk lamp", data={"device_name": "lamp"}
    )
    entry.add_to_hass(hass)
    device = dr.async_get(hass).async_get_or_create(
        config_entry_id=entry.entry_id,
        connections={(dr.CONNECTION_NETWORK_MAC, MAC)},
        name="Desk lamp",
    )
    er.async_get(hass).async_get_or_create(
        "light",
        "esphome",
        MAC,
        config_entry=entry,
        device_id=device.id,
        suggested_object_id="desk_lamp",
    )
    upstairs = fr.async_get(hass).async_create("Upstairs")
    office = ar.async_get(hass).async_create("Office", floor_id=upstairs.floor_id)
    lr.async_get(hass).async_create("Nightly")
    updated = dr.async_get(hass).async_update_device(device.id, area_id=office.id)
    assert updated is not None
    return updated


@pytest.fixture
def configs(config_dir: Path, core_device: dr.DeviceEntry) -> None:
    """A lamp that core knows, and a plug that it does not."""
    (config_dir / "plug.yaml").write_text(LAMP.replace("lamp", "plug"))


@pytest.fixture
async def home(configs: None, coordinator: OffloadCoordinator) -> OffloadCoordinator:
    """Both devices, set up."""
    return coordinator


def own_device(hass: HomeAssistant, entity_id: str) -> str:
    entity = er.async_get(hass).async_get(entity_id)
    assert entity is not None
    assert entity.device_id is not None
    return entity.device_id


# Who may call


@pytest.mark.parametrize("action", list(OffloadService))
async def test_only_administrators_may_call(
    hass: HomeAssistant,
    home: OffloadCoordinator,
    hass_read_only_user: MockUser,
    action: OffloadService,
) -> None:
    target = {} if action is OffloadService.OPEN_PAIRING else {"entity_id": LAMP_ENTITY}
    with pytest.raises(Unauthorized):
        await call(hass, action, context=Context(user_id=hass_read_only_user.id), **target)
    assert not home.queue.jobs()
    assert home.lender.window is None


async def test_the_job_knows_who_asked_and_so_do_its_events(
    hass: HomeAssistant, home: OffloadCoordinator, hass_admin_user: MockUser
) -> None:
    queued = async_capture_events(hass, "esphome_offload_job_queued")
    context = Context(user_id=hass_admin_user.id)
    response = await call(hass, "compile", context=context, entity_id=LAMP_ENTITY)
    assert response["jobs"][0]["user_id"] == hass_admin_user.id
    assert [event.context for event in queued] == [context]


async def test_a_response_is_given_to_those_who_ask_for_one(
    hass: HomeAssistant, home: OffloadCoordinator
) -> None:
    for action in ("install", "compile"):
        answer = await hass.services.async_call(
            DOMAIN, action, {"entity_id": PLUG_ENTITY, "wait": True}, blocking=True
        )
        assert answer is None
    assert len(home.queue.jobs()) == 2
    with pytest.raises(ServiceValidationError):
        await hass.services.async_call(DOMAIN, "get_jobs", {}, blocking=True)


# Whom a call is about


def _by_entity(_hass: HomeAssistant) -> Response:
    return {"entity_id": LAMP_ENTITY}


def _by_registry_id(hass: HomeAssistant) -> Response:
    entity = er.async_get(hass).async_get(LAMP_ENTITY)
    assert entity is not None
    return {"entity_id": entity.id}


def _by_cores_device(hass: HomeAssistant) -> Response:
    device_id = own_device(hass, LAMP_ENTITY)
    assert device_id == own_device(hass, FOREIGN_ENTITY)
    return {"device_id": [device_id]}


def _by_area_of_the_device(_hass: HomeAssistant) -> Response:
    return {"area_id": "office"}


def _by_area_of_the_entity(hass: HomeAssistant) -> Response:
    cellar = ar.async_get(hass).async_create("Cellar")
    er.async_get(hass).async_update_entity(LAMP_ENTITY, area_id=cellar.id)
    return {"area_id": [cellar.id]}


def _by_floor(_hass: HomeAssistant) -> Response:
    return {"floor_id": "upstairs"}


def _by_label_of_the_entity(hass: HomeAssistant) -> Response:
    er.async_get(hass).async_update_entity(LAMP_ENTITY, labels={"nightly"})
    er.async_get(hass).async_update_entity(FOREIGN_ENTITY, labels={"nightly"})
    return {"label_id": "nightly"}


def _by_label_of_the_device(hass: HomeAssistant) -> Response:
    dr.async_get(hass).async_update_device(own_device(hass, LAMP_ENTITY), labels={"nightly"})
    return {"label_id": "nightly"}


def _by_label_of_the_area(hass: HomeAssistant) -> Response:
    ar.async_get(hass).async_update("office", labels={"nightly"})
    return {"label_id": "nightly"}


def _hidden_by_device(hass: HomeAssistant) -> Response:
    er.async_get(hass).async_update_entity(LAMP_ENTITY, hidden_by=er.RegistryEntryHider.USER)
    return {"device_id": own_device(hass, LAMP_ENTITY)}


@pytest.mark.parametrize(
    "target",
    [
        _by_entity,
        _by_registry_id,
        _by_cores_device,
        _by_area_of_the_device,
        _by_area_of_the_entity,
        _by_floor,
        _by_label_of_the_entity,
        _by_label_of_the_device,
        _by_label_of_the_area,
        _hidden_by_device,
    ],
)
async def test_every_kind_of_target_leads_to_the_device(
    hass: HomeAssistant, home: OffloadCoordinator, target: Callable[[HomeAssistant], Response]
) -> None:
    assert configurations(await call(hass, "install", **target(hass))) == ["lamp.yaml"]


async def test_a_device_of_ours_is_a_target_too(
    hass: HomeAssistant, home: OffloadCoordinator
) -> None:
    response = await call(hass, "install", device_id=own_device(hass, PLUG_ENTITY))
    assert configurations(response) == ["plug.yaml"]


async def test_kinds_can_be_mixed_and_name_a_device_twice(
    hass: HomeAssistant, home: OffloadCoordinator
) -> None:
    response = await call(
        hass, "install", entity_id=[PLUG_ENTITY, LAMP_ENTITY], area_id="office", floor_id="upstairs"
    )
    assert configurations(response) == ["lamp.yaml", "plug.yaml"]


async def test_all_means_all_of_ours(hass: HomeAssistant, home: OffloadCoordinator) -> None:
    response = await call(hass, "install", entity_id="all")
    assert configurations(response) == ["lamp.yaml", "plug.yaml"]


async def test_of_a_group_the_members_that_are_ours_are_meant(
    hass: HomeAssistant, home: OffloadCoordinator
) -> None:
    assert await async_setup_component(
        hass,
        GROUP_DOMAIN,
        {GROUP_DOMAIN: {"desk": {"entities": [PLUG_ENTITY, FOREIGN_ENTITY]}}},
    )
    response = await call(hass, "install", entity_id="group.desk")
    assert configurations(response) == ["plug.yaml"]


@pytest.mark.parametrize(
    ("target", "key", "named"),
    [
        ({"entity_id": "update.nothing"}, "entity_not_found", "update.nothing"),
        ({"device_id": "0123"}, "device_not_found", "0123"),
        ({"area_id": ["attic", "office"]}, "area_not_found", "attic"),
        ({"floor_id": "roof"}, "floor_not_found", "roof"),
        ({"label_id": "weekly"}, "label_not_found", "weekly"),
        ({"entity_id": FOREIGN_ENTITY}, "foreign_entity", FOREIGN_ENTITY),
        ({"entity_id": [LAMP_ENTITY, "sun.sun"]}, "foreign_entity", "sun.sun"),
        ({"label_id": "nightly"}, "no_target", "no device"),
        ({"entity_id": "none"}, "no_target", "no device"),
        ({"entity_id": []}, "no_target", "no device"),
        ({}, "no_target", "no device"),
    ],
)
async def test_what_is_missing_or_foreign_is_named_and_nothing_starts(
    hass: HomeAssistant,
    home: OffloadCoordinator,
    *,
    target: Response,
    key: str,
    named: str,
) -> None:
    hass.states.async_set("sun.sun", "above_horizon")
    error = await refused(hass, "install", **target)
    assert error.translation_key == key
    assert named in str(error)
    assert not home.queue.jobs()


async def test_a_foreign_device_is_refused_by_its_name(
    hass: HomeAssistant, home: OffloadCoordinator
) -> None:
    other = MockConfigEntry(domain="other")
    other.add_to_hass(hass)
    device = dr.async_get(hass).async_get_or_create(
        config_entry_id=other.entry_id, identifiers={("other", "1")}, name="Kettle"
    )
    error = await refused(hass, "install", device_id=[device.id], entity_id=LAMP_ENTITY)
    assert error.translation_key == "foreign_device"
    assert "Kettle" in str(error)
    assert not home.queue.jobs()


@pytest.mark.parametrize("target", [_by_entity, _by_cores_device])
async def test_a_disabled_entity_is_refused_with_what_to_do(
    hass: HomeAssistant, home: OffloadCoordinator, target: Callable[[HomeAssistant], Response]
) -> None:
    er.async_get(hass).async_update_entity(LAMP_ENTITY, disabled_by=er.RegistryEntryDisabler.USER)
    error = await refused(hass, "install", **target(hass))
    assert error.translation_key == "entity_disabled"
    assert LAMP_ENTITY in str(error)


@pytest.mark.parametrize("target", [{"area_id": "office"}, {"entity_id": "all"}])
async def test_a_disabled_entity_is_not_meant_by_more_general_targets(
    hass: HomeAssistant, home: OffloadCoordinator, target: Response
) -> None:
    for entity_id in (LAMP_ENTITY, PLUG_ENTITY):
        er.async_get(hass).async_update_entity(entity_id, disabled_by=er.RegistryEntryDisabler.USER)
    assert (await refused(hass, "install", **target)).translation_key == "no_target"


async def test_a_configuration_that_is_gone_is_named(
    hass: HomeAssistant, home: OffloadCoordinator, entry: MockConfigEntry
) -> None:
    old = er.async_get(hass).async_get_or_create(
        "update", DOMAIN, "old.yaml", config_entry=entry, suggested_object_id="old"
    )
    error = await refused(hass, "install", entity_id=old.entity_id)
    assert error.translation_key == "configuration_gone"
    assert "old.yaml" in str(error)


async def test_without_the_entry_or_its_folder_the_call_says_so(
    hass: HomeAssistant, home: OffloadCoordinator, entry: MockConfigEntry
) -> None:
    hass.config_entries.async_update_entry(entry, data={"kind": "instance", "config_dir": ""})
    await hass.async_block_till_done()
    error = await refused(hass, "install", entity_id=LAMP_ENTITY)
    assert error.translation_key == "no_config_folder"

    await hass.config_entries.async_set_disabled_by(entry.entry_id, ConfigEntryDisabler.USER)
    error = await refused(hass, "install", entity_id=LAMP_ENTITY)
    assert error.translation_key == "not_set_up"


# What is asked for


async def test_what_the_fields_say_is_in_the_job(
    hass: HomeAssistant, home: OffloadCoordinator, stage: Stage
) -> None:
    response = await call(
        hass,
        "install",
        entity_id=PLUG_ENTITY,
        version="v2026.09",
        source="LOCAL",
        clean=True,
        address=" Plug.Local ",
        wait=True,
    )
    (job,) = response["jobs"]
    assert job["operation"] == "install"
    assert job["status"] == "completed"
    assert job["entity_id"] == PLUG_ENTITY
    assert job["device_id"] == own_device(hass, PLUG_ENTITY)
    assert job["esphome_version"] == "2026.9.0"
    assert job["requested_source"] == "local"
    assert job["clean"] is True
    assert job["address"] == "plug.local"
    assert stage.builder.requests[0].esphome_version == "2026.9.0"
    assert stage.flasher.requests[0].address == "plug.local"


async def test_the_newest_version_is_installed_also_when_it_is_there_already(
    hass: HomeAssistant, home: OffloadCoordinator, stage: Stage
) -> None:
    for _ in range(2):
        response = await call(hass, "install", entity_id=PLUG_ENTITY, wait=True)
        assert response["jobs"][0]["esphome_version"] == NEWEST
    assert len(stage.builder.requests) == 2


@pytest.mark.parametrize(
    "operation", [Operation.INSTALL, Operation.COMPILE, Operation.CLEAN, Operation.UPLOAD]
)
async def test_each_action_does_what_its_name_says(
    hass: HomeAssistant, home: OffloadCoordinator, stage: Stage, operation: Operation
) -> None:
    await call(hass, "compile", entity_id=PLUG_ENTITY, wait=True)
    built = len(stage.builder.requests)

    response = await call(hass, operation, entity_id=PLUG_ENTITY, wait=True)

    assert response["jobs"][0]["operation"] == operation
    assert response["jobs"][0]["status"] == "completed"
    assert len(stage.builder.requests) - built == int(operation.builds)
    assert len(stage.flasher.requests) == int(operation.flashes)
    assert stage.builder.cleaned == (["plug.yaml"] if operation is Operation.CLEAN else [])


@pytest.mark.parametrize(
    "address", ["192.168.1.20", "fe80::1", "plug", "plug.local", "old_plug.local", "a-b.example."]
)
async def test_an_address_is_an_ip_address_or_a_host_name(
    hass: HomeAssistant, home: OffloadCoordinator, address: str
) -> None:
    response = await call(hass, "install", entity_id=PLUG_ENTITY, address=address)
    assert response["jobs"][0]["address"] == address


@pytest.mark.parametrize(
    "address", ["", "192.168.1", "1.2.3.4.5", "a b", "--help", "/dev/ttyUSB0", "http://plug", "a,b"]
)
async def test_another_address_is_refused(
    hass: HomeAssistant, home: OffloadCoordinator, address: str
) -> None:
    error = await refused(hass, "install", entity_id=PLUG_ENTITY, address=address)
    assert error.translation_key == "invalid_address"
    assert not home.queue.jobs()


@pytest.mark.parametrize("word", ["SERIAL", "OTA", "MQTT", "MQTTIP", "BOOTSEL"])
async def test_a_word_with_a_meaning_for_esphome_is_a_host_name_like_others(
    hass: HomeAssistant, home: OffloadCoordinator, word: str
) -> None:
    response = await call(hass, "install", entity_id=PLUG_ENTITY, address=word)
    assert response["jobs"][0]["address"] == word.lower()


async def test_one_address_for_several_devices_is_refused(
    hass: HomeAssistant, home: OffloadCoordinator
) -> None:
    error = await refused(hass, "install", entity_id="all", address="192.168.1.20")
    assert error.translation_key == "address_needs_one_target"
    assert "lamp, plug" in str(error)
    assert not home.queue.jobs()


@pytest.mark.parametrize(
    ("version", "problem", "key"),
    [
        ("newest", None, "version_not_found"),
        ("2026.99.0", VersionProblem.UNKNOWN, "version_not_found"),
        ("2020.1.0", VersionProblem.UNSUPPORTED_PYTHON, "version_unsupported"),
        ("2026.12.0", VersionProblem.NO_NETWORK, "version_not_checked"),
    ],
)
async def test_a_version_that_cannot_be_used_is_refused(
    hass: HomeAssistant,
    home: OffloadCoordinator,
    stage: Stage,
    *,
    version: str,
    problem: VersionProblem | None,
    key: str,
) -> None:
    if problem is not None:
        stage.versions.unknown[version] = VersionError(problem, "The reason.")
    error = await refused(hass, "install", entity_id="all", version=version)
    assert error.translation_key == key
    assert version in str(error)
    assert not home.queue.jobs()


async def test_a_builder_is_named_by_its_label_or_its_pin(
    hass: HomeAssistant, home: OffloadCoordinator, stage: Stage
) -> None:
    peer = ScriptedBuilder("12ab", "Big Box", Source.REMOTE, pin_sha256="12ab", keeper=stage.keeper)
    home.builders.register(peer)
    for named in ("big box", "12ab"):
        response = await call(hass, "compile", entity_id=PLUG_ENTITY, source=named, wait=True)
        assert response["jobs"][0]["requested_source"] == "12ab"
        assert response["jobs"][0]["source_label"] == "Big Box"
    assert len(peer.requests) == 2
    assert not stage.builder.requests


async def test_an_unknown_builder_is_refused(hass: HomeAssistant, home: OffloadCoordinator) -> None:
    error = await refused(hass, "compile", entity_id=PLUG_ENTITY, source="attic")
    assert error.translation_key == "unknown_source"
    assert "attic" in str(error)


async def test_a_label_of_two_builders_is_refused_with_their_pins(
    hass: HomeAssistant, home: OffloadCoordinator
) -> None:
    for pin in ("12ab", "34cd"):
        home.builders.register(ScriptedBuilder(pin, "Box", Source.REMOTE, pin_sha256=pin))
    error = await refused(hass, "compile", entity_id=PLUG_ENTITY, source="Box")
    assert error.translation_key == "ambiguous_source"
    assert "12ab, 34cd" in str(error)


@pytest.mark.parametrize(
    ("action", "field"),
    [
        ("compile", {"address": "192.168.1.20"}),
        ("upload", {"version": NEWEST}),
        ("clean", {"source": "local"}),
        ("get_jobs", {"limit": 0}),
        ("get_jobs", {"status": "sleeping"}),
        ("get_log", {"from_line": -1}),
    ],
)
async def test_fields_that_an_action_does_not_have_are_refused(
    hass: HomeAssistant, home: OffloadCoordinator, action: str, field: Response
) -> None:
    with pytest.raises(probatio.Invalid):
        await call(hass, action, entity_id=LAMP_ENTITY, **field)


# All or nothing


async def test_when_one_device_is_busy_none_is_started(
    hass: HomeAssistant, home: OffloadCoordinator, stage: Stage
) -> None:
    block = Block()
    stage.builder.script = [block]
    await call(hass, "install", entity_id=PLUG_ENTITY)
    await block.entered.wait()

    error = await refused(hass, "install", entity_id="all")

    assert error.translation_key == "jobs_running"
    assert "plug" in str(error)
    assert "lamp" not in str(error)
    assert len(home.queue.jobs()) == 1


async def test_when_a_configuration_goes_away_meanwhile_none_is_started(
    hass: HomeAssistant,
    home: OffloadCoordinator,
    config_dir: Path,
    stage: Stage,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked_up: list[str] = []

    async def slow_check(version: str) -> None:
        looked_up.append(version)
        if len(looked_up) == 2:  # the lamp was found to be fine before
            (config_dir / "lamp.yaml").unlink()
            await home._tracker.async_rescan()

    monkeypatch.setattr(stage.versions, "check", slow_check)
    error = await refused(hass, "install", entity_id="all", version=NEWEST)
    assert error.translation_key == "unknown_configuration"
    assert "lamp.yaml" in str(error)
    assert not home.queue.jobs()


async def test_a_job_that_waits_in_the_queue_is_replaced(
    hass: HomeAssistant, home: OffloadCoordinator, stage: Stage
) -> None:
    block = Block()
    stage.builder.script = [block]
    await call(hass, "compile", entity_id=PLUG_ENTITY)
    await block.entered.wait()
    first = await call(hass, "compile", entity_id=LAMP_ENTITY)

    second = await call(hass, "compile", entity_id=LAMP_ENTITY, clean=True)

    replaced = home.queue.get(first["jobs"][0]["job_id"])
    assert replaced is not None
    assert replaced.outcome.failure_reason is FailureReason.SUPERSEDED
    assert second["jobs"][0]["status"] == "queued"


async def test_when_one_device_has_nothing_built_none_is_flashed(
    hass: HomeAssistant, home: OffloadCoordinator, stage: Stage
) -> None:
    await call(hass, "compile", entity_id=LAMP_ENTITY, wait=True)
    error = await refused(hass, "upload", entity_id="all")
    assert error.translation_key == "nothing_built"
    assert "plug" in str(error)
    assert len(home.queue.jobs()) == 1
    assert not stage.flasher.requests


# Waiting


async def test_without_wait_the_call_returns_while_the_job_goes_on(
    hass: HomeAssistant, home: OffloadCoordinator, stage: Stage
) -> None:
    block = Block()
    stage.builder.script = [block]
    response = await call(hass, "compile", entity_id=PLUG_ENTITY)
    assert response["jobs"][0]["status"] in ("queued", "running")
    block.release.set()


async def test_with_wait_one_failure_is_told_with_device_and_reason(
    hass: HomeAssistant, home: OffloadCoordinator, stage: Stage
) -> None:
    stage.builder.script = [failing(FailureReason.COMPILE_FAILED, "lamp.cpp:3: error: no")]
    with pytest.raises(HomeAssistantError) as raised:
        await call(hass, "compile", entity_id="all", wait=True)
    assert raised.value.translation_key == "job_failed"
    assert str(raised.value) == "lamp: lamp.cpp:3: error: no"
    assert [job.status for job in home.queue.jobs()] == [JobStatus.FAILED, JobStatus.COMPLETED]


async def test_with_wait_several_failures_are_all_told(
    hass: HomeAssistant, home: OffloadCoordinator, stage: Stage
) -> None:
    stage.builder.script = [
        failing(FailureReason.COMPILE_FAILED, "first"),
        failing(FailureReason.CONFIG_INVALID, "second"),
    ]
    with pytest.raises(HomeAssistantError) as raised:
        await call(hass, "install", entity_id="all", wait=True)
    assert raised.value.translation_key == "jobs_failed"
    assert "lamp: first; plug: second" in str(raised.value)


async def test_with_wait_a_job_that_somebody_cancels_is_told_as_not_done(
    hass: HomeAssistant, home: OffloadCoordinator, stage: Stage
) -> None:
    block = Block()
    stage.builder.script = [block]
    waiting = hass.async_create_task(call(hass, "compile", entity_id=PLUG_ENTITY, wait=True))
    await block.entered.wait()
    await call(hass, "cancel", entity_id=PLUG_ENTITY)
    with pytest.raises(HomeAssistantError, match="plug: cancelled"):
        await waiting


async def test_a_caller_that_goes_away_leaves_the_job_running(
    hass: HomeAssistant, home: OffloadCoordinator, stage: Stage
) -> None:
    block = Block()
    stage.builder.script = [block]
    waiting = hass.async_create_task(call(hass, "compile", entity_id=PLUG_ENTITY, wait=True))
    await block.entered.wait()

    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    assert not block.cancelled
    block.release.set()
    (job,) = home.queue.jobs()
    assert (await home.async_wait(job)).status is JobStatus.COMPLETED


async def test_with_wait_a_device_that_is_waited_for_is_no_failure(
    hass: HomeAssistant, home: OffloadCoordinator, stage: Stage
) -> None:
    async def offline(_request: object, _sink: BuildSink) -> None:
        await failing(FailureReason.DEVICE_OFFLINE, "cannot be reached")(_request, _sink)  # type: ignore[arg-type]

    stage.flasher.script = [offline]
    response = await call(hass, "install", entity_id=PLUG_ENTITY, wait=True)
    (job,) = response["jobs"]
    assert (job["status"], job["stage"]) == ("running", "waiting_device")
    assert job["firmware_sha256"] is not None
    await call(hass, "cancel", job_id=job["job_id"])


# Cancelling


async def test_cancelling_a_target_ends_its_job(
    hass: HomeAssistant, home: OffloadCoordinator, stage: Stage
) -> None:
    block = Block()
    stage.builder.script = [block]
    await call(hass, "install", entity_id=LAMP_ENTITY)
    await block.entered.wait()

    response = await call(hass, "cancel", area_id="office")

    assert block.cancelled
    assert response["jobs"][0]["status"] == "cancelled"
    assert not stage.flasher.requests


async def test_cancelling_many_ends_those_that_have_a_job(
    hass: HomeAssistant, home: OffloadCoordinator, stage: Stage
) -> None:
    block = Block()
    stage.builder.script = [block]
    await call(hass, "install", entity_id=LAMP_ENTITY)
    await block.entered.wait()
    assert configurations(await call(hass, "cancel", entity_id="all")) == ["lamp.yaml"]


async def test_a_job_is_cancelled_by_its_id(
    hass: HomeAssistant, home: OffloadCoordinator, stage: Stage
) -> None:
    stage.builder.script = [Block()]
    job_id = (await call(hass, "install", entity_id=LAMP_ENTITY))["jobs"][0]["job_id"]
    response = await call(hass, "cancel", job_id=job_id)
    assert [job["job_id"] for job in response["jobs"]] == [job_id]
    assert response["jobs"][0]["status"] == "cancelled"

    error = await refused(hass, "cancel", job_id=job_id)
    assert error.translation_key == "nothing_to_cancel"
    assert "lamp" in str(error)


async def test_where_there_is_nothing_to_cancel_the_call_says_so(
    hass: HomeAssistant, home: OffloadCoordinator
) -> None:
    error = await refused(hass, "cancel", entity_id="all")
    assert error.translation_key == "nothing_to_cancel"
    assert "lamp, plug" in str(error)
    error = await refused(hass, "cancel", job_id="nothing")
    assert error.translation_key == "unknown_job"


@pytest.mark.parametrize("what", [{}, {"job_id": "1", "entity_id": LAMP_ENTITY}])
async def test_what_to_cancel_is_said_in_exactly_one_way(
    hass: HomeAssistant, home: OffloadCoordinator, what: Response
) -> None:
    assert (await refused(hass, "cancel", **what)).translation_key == "cancel_needs_one_way"


async def test_a_fault_while_cancelling_is_not_hidden(
    hass: HomeAssistant, home: OffloadCoordinator, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.builder.script = [Block()]
    await call(hass, "install", entity_id=LAMP_ENTITY)

    async def broken(_job_id: str) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(home, "async_cancel", broken)
    with pytest.raises(RuntimeError, match="broken"):
        await call(hass, "cancel", entity_id=LAMP_ENTITY)


# Asking


async def test_jobs_are_returned_newest_first_and_can_be_narrowed_down(
    hass: HomeAssistant, home: OffloadCoordinator, stage: Stage
) -> None:
    assert await call(hass, "get_jobs") == {"jobs": []}
    await call(hass, "compile", entity_id=PLUG_ENTITY, wait=True)
    await call(hass, "install", entity_id=PLUG_ENTITY, wait=True)
    stage.builder.script = [failing(FailureReason.COMPILE_FAILED)]
    with pytest.raises(HomeAssistantError):
        await call(hass, "compile", entity_id=LAMP_ENTITY, wait=True)

    async def asked(**data: Any) -> list[tuple[str, str]]:
        jobs = (await call(hass, "get_jobs", **data))["jobs"]
        return [(job["device_name"], job["operation"]) for job in jobs]

    everything = [("lamp", "compile"), ("plug", "install"), ("plug", "compile")]
    assert await asked() == everything
    assert await asked(entity_id=PLUG_ENTITY) == everything[1:]
    assert await asked(status="failed") == everything[:1]
    assert await asked(status=["completed"], limit=1) == everything[1:2]
    assert await asked(area_id="office", status="completed") == []
    assert (await refused(hass, "get_jobs", area_id="attic")).translation_key == "area_not_found"


async def test_the_output_of_a_job_is_read_page_by_page(
    hass: HomeAssistant, home: OffloadCoordinator, stage: Stage
) -> None:
    block = Block()

    async def talk(request: object, sink: BuildSink) -> None:
        sink.lines(["one", "two"])
        await block(request, sink)
        sink.lines(["three"])

    stage.builder.script = [talk]
    job_id = (await call(hass, "compile", entity_id=PLUG_ENTITY))["jobs"][0]["job_id"]
    await block.entered.wait()

    so_far = await call(hass, "get_log", job_id=job_id)
    assert so_far["lines"][-3:] == ["INFO Compiling", "one", "two"]
    assert (so_far["first_line"], so_far["complete"]) == (0, False)
    after_two = so_far["next_line"]
    assert after_two == len(so_far["lines"])

    page = await call(hass, "get_log", entity_id=PLUG_ENTITY, from_line=after_two - 2, limit=1)
    assert page == {
        "job_id": job_id,
        "first_line": after_two - 2,
        "lines": ["one"],
        "next_line": after_two - 1,
        "complete": False,
    }

    block.release.set()
    await home.async_wait(home.queue.jobs()[0])
    rest = await call(hass, "get_log", device_id=own_device(hass, PLUG_ENTITY), from_line=after_two)
    assert rest["lines"][0] == "three"
    assert rest["complete"]
    first = await call(hass, "get_log", job_id=job_id, limit=1)
    assert (first["next_line"], first["complete"]) == (1, False)


async def test_the_output_of_the_newest_job_of_a_device_is_meant(
    hass: HomeAssistant, home: OffloadCoordinator
) -> None:
    await call(hass, "compile", entity_id=PLUG_ENTITY, wait=True)
    second = await call(hass, "compile", entity_id=PLUG_ENTITY, wait=True)
    page = await call(hass, "get_log", entity_id=PLUG_ENTITY)
    assert page["job_id"] == second["jobs"][0]["job_id"]


@pytest.mark.parametrize(
    ("what", "key"),
    [
        ({}, "log_needs_one_way"),
        ({"job_id": "1", "entity_id": LAMP_ENTITY}, "log_needs_one_way"),
        ({"entity_id": "all"}, "log_needs_one_way"),
        ({"job_id": "nothing"}, "unknown_job"),
        ({"entity_id": LAMP_ENTITY}, "no_job_yet"),
    ],
)
async def test_whose_output_is_wanted_must_be_clear(
    hass: HomeAssistant, home: OffloadCoordinator, what: Response, key: str
) -> None:
    assert (await refused(hass, "get_log", **what)).translation_key == key
