"""The fields of the actions."""

from homeassistant.core import HomeAssistant
import probatio
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.esphome_offload.coordinator import OffloadCoordinator
from custom_components.esphome_offload.engine.build.toolchain.versions import (
    VersionError,
)
from custom_components.esphome_offload.engine.client.link import LinkState
from custom_components.esphome_offload.engine.const import Operation, Source
from custom_components.esphome_offload.engine.reason import Reason, ReasonKey

from ...engine.jobs.fakes import ScriptedBuilder
from ..conftest import NEWEST, Stage
from ..peer_entries.entries import add_peer
from .calling import (
    LAMP_ENTITY,
    PLUG_ENTITY,
    Response,
    call,
    own_device,
    refused,
)


async def test_the_fields_are_in_the_job(
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
    assert stage.flasher.requests[0].addresses == ("plug.local",)


async def test_the_newest_version_is_installed_also_when_it_is_there_already(
    hass: HomeAssistant, home: OffloadCoordinator, stage: Stage
) -> None:
    for _ in range(2):
        response = await call(hass, "install", entity_id=PLUG_ENTITY, wait=True)
        assert response["jobs"][0]["esphome_version"] == NEWEST
    assert len(stage.flasher.requests) == 2
    assert len(stage.builder.requests) == 1, "nothing has changed"


@pytest.mark.parametrize(
    "operation", [Operation.INSTALL, Operation.COMPILE, Operation.CLEAN, Operation.UPLOAD]
)
async def test_each_action_starts_its_operation(
    hass: HomeAssistant, home: OffloadCoordinator, stage: Stage, operation: Operation
) -> None:
    await call(hass, "compile", entity_id=PLUG_ENTITY, wait=True, version="2026.9.0")
    built = len(stage.builder.requests)

    response = await call(hass, operation, entity_id=PLUG_ENTITY, wait=True)

    assert response["jobs"][0]["operation"] == operation
    assert response["jobs"][0]["status"] == "completed"
    assert len(stage.builder.requests) - built == int(operation.builds)
    assert len(stage.flasher.requests) == int(operation.flashes)
    assert stage.builder.cleaned == (["plug.yaml"] if operation is Operation.CLEAN else [])


async def test_cleaning_can_take_the_tools_as_well(
    hass: HomeAssistant, home: OffloadCoordinator, stage: Stage
) -> None:
    await call(hass, "clean", entity_id=PLUG_ENTITY, wait=True, all=True)
    assert stage.builder.cleaned == ["plug.yaml", "tools"]


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
        ("2026.99.0", ReasonKey.VERSION_UNKNOWN, "version_not_found"),
        ("2020.1.0", ReasonKey.VERSION_OTHER_PYTHON, "version_unsupported"),
        ("2026.12.0", ReasonKey.VERSION_UNCHECKED, "version_not_checked"),
    ],
)
async def test_a_version_that_cannot_be_used_is_refused(
    hass: HomeAssistant,
    home: OffloadCoordinator,
    stage: Stage,
    *,
    version: str,
    problem: ReasonKey | None,
    key: str,
) -> None:
    if problem is not None:
        stage.versions.unknown[version] = VersionError(Reason(problem, {"version": "1.2.3"}))
    error = await refused(hass, "install", entity_id="all", version=version)
    assert error.translation_key == key
    assert version in str(error)
    assert not home.queue.jobs()


async def test_a_builder_is_named_by_its_label_or_its_pin(
    hass: HomeAssistant, home: OffloadCoordinator, stage: Stage
) -> None:
    peer = ScriptedBuilder(
        "12ab", "Big Box", Source.REMOTE, pin_sha256="12ab", keeper=stage.firmware
    )
    home.builders.register(peer)
    for named in ("big box", "12ab"):
        response = await call(
            hass, "compile", entity_id=PLUG_ENTITY, source=named, clean=True, wait=True
        )
        assert response["jobs"][0]["requested_source"] == "12ab"
        assert response["jobs"][0]["source_label"] == "Big Box"
    assert len(peer.requests) == 2
    assert not stage.builder.requests


async def test_a_builder_is_named_by_its_entry_which_the_editor_lists(
    hass: HomeAssistant, home: OffloadCoordinator, stage: Stage, entry: MockConfigEntry
) -> None:
    peer = add_peer(hass)
    assert await hass.config_entries.async_setup(peer.entry_id)
    stage.peers.links[-1].become(LinkState.CONNECTED)
    await hass.async_block_till_done()
    for chosen, requested in ((peer, peer.unique_id), (entry, "local")):
        response = await call(
            hass, "compile", entity_id=PLUG_ENTITY, source=chosen.entry_id, wait=True
        )
        assert response["jobs"][0]["requested_source"] == requested

    await hass.config_entries.async_unload(peer.entry_id)
    error = await refused(hass, "compile", entity_id=PLUG_ENTITY, source=peer.entry_id)
    assert error.translation_key == "unknown_source"
    assert "attic" in str(error)


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
