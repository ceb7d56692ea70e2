"""The entry of a peer: connecting, what it shows, what is done about its states, removal."""

import asyncio
from pathlib import Path
from unittest.mock import patch

from homeassistant.config_entries import SOURCE_REAUTH, ConfigEntryDisabler, ConfigEntryState
from homeassistant.core import CoreState, HomeAssistant
from homeassistant.exceptions import ServiceValidationError
from homeassistant.helpers import (
    device_registry as dr,
    entity_registry as er,
    issue_registry as ir,
)
from homeassistant.setup import async_setup_component
import pytest
from pytest_homeassistant_custom_component.common import (
    MockConfigEntry,
    get_system_health_info,
)

from custom_components.esphome_offload.const import (
    DOMAIN,
    INSTANCE_UNIQUE_ID,
    FailureReason,
    JobStatus,
    Operation,
    Source,
)
from custom_components.esphome_offload.coordinator import DATA_COORDINATOR, OffloadCoordinator
from custom_components.esphome_offload.diagnostics import async_get_config_entry_diagnostics
from custom_components.esphome_offload.identity_store import async_get_identity
from custom_components.esphome_offload.jobs.model import FirmwareJob
from custom_components.esphome_offload.peer_entry import PeerSettings
from custom_components.esphome_offload.peers.identity import Identity
from custom_components.esphome_offload.peers.link import LinkState
from custom_components.esphome_offload.peers.protocol import ErrorCode

from ..jobs.fakes import Block, failing
from .conftest import Stage
from .scripted_peers import ScriptedLink


@pytest.fixture(autouse=True)
def _storage(config_dir: Path, stage: Stage) -> None:
    """Have the folder that Home Assistant makes before it starts."""
    (config_dir.parent / ".storage").mkdir()


def add_peer(
    hass: HomeAssistant, label: str = "workshop", identity: Identity | None = None
) -> MockConfigEntry:
    """Return the entry of a peer that is not set up."""
    public = (identity or Identity.generate()).public
    settings = PeerSettings("http://workshop.example:8123", True, public, label)
    entry = MockConfigEntry(
        domain=DOMAIN, unique_id=public.pin_sha256, title=label, data=settings.data
    )
    entry.add_to_hass(hass)
    return entry


@pytest.fixture
async def peer(hass: HomeAssistant, coordinator: OffloadCoordinator) -> MockConfigEntry:
    """A peer that is set up, beside "this instance"."""
    entry = add_peer(hass)
    assert await hass.config_entries.async_setup(entry.entry_id)
    await hass.async_block_till_done()
    return entry


@pytest.fixture
def link(stage: Stage, peer: MockConfigEntry) -> ScriptedLink:
    return stage.peers.links[-1]


def reauths(hass: HomeAssistant, entry: MockConfigEntry) -> int:
    return len(list(entry.async_get_active_flows(hass, {SOURCE_REAUTH})))


async def waits_for(coordinator: OffloadCoordinator, job: FirmwareJob, what: str) -> None:
    """Return when a job waits for this."""
    moved = asyncio.Event()
    unsubscribe = coordinator.queue.subscribe(job.job_id, lambda *_: moved.set())
    async with asyncio.timeout(10):
        while job.waiting_for != what:
            await moved.wait()
            moved.clear()
    unsubscribe()


async def submit(coordinator: OffloadCoordinator, source: str = "auto") -> FirmwareJob:
    return await coordinator.async_submit("lamp.yaml", Operation.COMPILE, source=source)


# A peer builds


async def test_a_peer_that_is_connected_builds_and_the_job_says_so(
    coordinator: OffloadCoordinator, peer: MockConfigEntry, link: ScriptedLink
) -> None:
    assert link.started == 1
    link.become(LinkState.CONNECTED)
    job = await coordinator.async_wait(await submit(coordinator))
    assert job.status is JobStatus.COMPLETED
    assert job.routing.source is Source.REMOTE
    assert job.routing.source_label == "workshop"
    assert job.routing.source_pin_sha256 == peer.unique_id


@pytest.mark.parametrize("by", ["label", "label in capitals", "pin"])
async def test_a_peer_is_asked_for_by_its_label_or_its_pin(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    peer: MockConfigEntry,
    link: ScriptedLink,
    by: str,
) -> None:
    link.become(LinkState.CONNECTED)
    source = {"label": "workshop", "label in capitals": " WORKSHOP ", "pin": peer.unique_id}[by]
    response = await hass.services.async_call(
        DOMAIN,
        "compile",
        {"entity_id": "update.desk_lamp_esphome", "source": source, "wait": True},
        blocking=True,
        return_response=True,
    )
    assert response is not None
    (job,) = response["jobs"]
    assert (job["source"], job["source_label"]) == ("remote", "workshop")


async def test_two_peers_of_one_name_have_to_be_told_apart(
    hass: HomeAssistant, coordinator: OffloadCoordinator, peer: MockConfigEntry
) -> None:
    other = add_peer(hass)
    assert await hass.config_entries.async_setup(other.entry_id)
    with pytest.raises(ServiceValidationError) as caught:
        await hass.services.async_call(
            DOMAIN,
            "compile",
            {"entity_id": "update.desk_lamp_esphome", "source": "workshop"},
            blocking=True,
        )
    assert caught.value.translation_key == "ambiguous_source"
    assert caught.value.translation_placeholders is not None
    pins = caught.value.translation_placeholders["pins"]
    assert set(pins.split(", ")) == {peer.unique_id, other.unique_id}


async def test_a_job_that_wants_this_machine_does_not_go_to_a_peer(
    coordinator: OffloadCoordinator, peer: MockConfigEntry, link: ScriptedLink
) -> None:
    link.become(LinkState.CONNECTED)
    job = await coordinator.async_wait(await submit(coordinator, "local"))
    assert job.routing.source is Source.LOCAL


async def test_its_release_notes_say_who_builds(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    peer: MockConfigEntry,
    link: ScriptedLink,
) -> None:
    component = hass.data["entity_components"]["update"]
    (entity,) = component.entities
    link.become(LinkState.CONNECTED)
    assert "An installation is built on workshop." in await entity.async_release_notes()
    link.become(LinkState.REFUSED, "it does not know this instance any more")
    assert "An installation is built on This machine." in await entity.async_release_notes()


async def test_firmware_that_was_altered_raises_a_repair_until_a_job_succeeds(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    peer: MockConfigEntry,
    link: ScriptedLink,
) -> None:
    link.become(LinkState.CONNECTED)
    assert link.builder is not None
    link.builder.script = [failing(FailureReason.INTEGRITY, "the digest is another")]
    job = await coordinator.async_wait(await submit(coordinator))
    assert job.outcome.failure_reason is FailureReason.INTEGRITY
    issues = ir.async_get(hass)
    issue = issues.async_get_issue(DOMAIN, "firmware_altered_lamp.yaml")
    assert issue is not None
    assert issue.translation_placeholders == {
        "device": "lamp",
        "builder": "workshop",
        "error": "the digest is another",
    }
    await coordinator.async_wait(await submit(coordinator))
    assert issues.async_get_issue(DOMAIN, issue.issue_id) is None


# Which attempts are still of use


async def test_the_peer_hears_which_of_its_builds_are_still_wanted(
    coordinator: OffloadCoordinator, peer: MockConfigEntry, link: ScriptedLink
) -> None:
    link.become(LinkState.CONNECTED)
    assert list(link.wanted()) == []
    block = Block()
    assert link.builder is not None
    link.builder.script = [block]
    job = await submit(coordinator)
    await block.entered.wait()
    assert list(link.wanted()) == [job.attempts[-1].attempt_id]
    block.release.set()
    await coordinator.async_wait(job)


# What an entry shows


async def test_a_peer_is_a_device_with_a_connection_and_its_builds(
    hass: HomeAssistant, peer: MockConfigEntry, link: ScriptedLink
) -> None:
    (device,) = dr.async_entries_for_config_entry(dr.async_get(hass), peer.entry_id)
    assert device.name == "workshop"
    assert device.entry_type is dr.DeviceEntryType.SERVICE
    assert device.configuration_url == "http://workshop.example:8123"

    def states() -> dict[str, str]:
        return {
            entity.unique_id.rpartition(f"{peer.entry_id}_")[2]: hass.states.get(
                entity.entity_id
            ).state
            for entity in er.async_entries_for_config_entry(er.async_get(hass), peer.entry_id)
        }

    assert states() == {
        "connected": "off",
        "builds_running": "unavailable",
        "builds_queued": "unavailable",
    }
    link.become(LinkState.CONNECTED, slots=2, busy=2, queue_length=3)
    assert states() == {"connected": "on", "builds_running": "2", "builds_queued": "3"}
    link.become(LinkState.CONNECTING, "it cannot be reached")
    assert states()["connected"] == "off"
    assert states()["builds_running"] == "unavailable"


async def test_diagnostics_of_a_peer_name_its_host_and_no_keys(
    hass: HomeAssistant, peer: MockConfigEntry, link: ScriptedLink
) -> None:
    link.become(LinkState.CONNECTING, "it cannot be reached", ErrorCode.BUSY)
    diagnostics = await async_get_config_entry_diagnostics(hass, peer)
    assert diagnostics["scheme"] == "http"
    assert diagnostics["host"] == "workshop.example"
    assert (diagnostics["state"], diagnostics["code"]) == ("connecting", "busy")
    assert diagnostics["builder"]["available"] is False
    assert peer.data["public_key"] not in str(diagnostics)
    assert "8123" not in str(diagnostics)


async def test_system_health_lists_peers(
    hass: HomeAssistant, peer: MockConfigEntry, link: ScriptedLink
) -> None:
    assert await async_setup_component(hass, "system_health", {})
    await hass.async_block_till_done()
    link.become(LinkState.CONNECTING, "it cannot be reached")
    info = await get_system_health_info(hass, DOMAIN)
    assert info["peers"] == "workshop: it cannot be reached"
    link.become(LinkState.CONNECTED)
    info = await get_system_health_info(hass, DOMAIN)
    assert info["peers"] == "workshop: connected"


# What is done about states


async def test_a_refused_key_asks_once_to_pair_again(
    hass: HomeAssistant, peer: MockConfigEntry, link: ScriptedLink
) -> None:
    link.become(LinkState.REFUSED, "it does not know this instance any more")
    link.become(LinkState.REFUSED, "it does not know this instance any more; pair again")
    await hass.async_block_till_done()
    assert reauths(hass, peer) == 1
    assert peer.state is ConfigEntryState.LOADED


async def test_a_peer_of_another_age_says_which_side_to_update_until_that_was_done(
    hass: HomeAssistant, peer: MockConfigEntry, link: ScriptedLink
) -> None:
    why = "workshop runs a version of ESPHome Offload that is too old: update it there."
    link.become(LinkState.INCOMPATIBLE, why, ErrorCode.TOO_OLD)
    issues = ir.async_get(hass)
    issue = issues.async_get_issue(DOMAIN, f"peer_incompatible_{peer.entry_id}")
    assert issue is not None
    assert issue.translation_placeholders == {"label": "workshop", "reason": why}
    link.become(LinkState.CONNECTING, "not connected")
    assert issues.async_get_issue(DOMAIN, issue.issue_id) is not None
    link.become(LinkState.CONNECTED)
    assert issues.async_get_issue(DOMAIN, issue.issue_id) is None


async def test_what_was_wrong_goes_with_the_entry(
    hass: HomeAssistant, peer: MockConfigEntry, link: ScriptedLink
) -> None:
    link.become(LinkState.INCOMPATIBLE, "too new")
    assert await hass.config_entries.async_unload(peer.entry_id)
    assert not ir.async_get(hass).issues
    link.become(LinkState.INCOMPATIBLE, "too new")
    assert not ir.async_get(hass).issues, "nobody listens to a former connection"


# Changes of an entry


async def test_another_address_keeps_the_connection_object_and_its_builds(
    hass: HomeAssistant, stage: Stage, peer: MockConfigEntry, link: ScriptedLink
) -> None:
    hass.config_entries.async_update_entry(peer, data={**peer.data, "url": "http://other:1"})
    await hass.async_block_till_done()
    assert link.url == "http://other:1"
    assert stage.peers.links == [link]


async def test_another_name_is_the_one_that_jobs_show(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    stage: Stage,
    peer: MockConfigEntry,
    link: ScriptedLink,
) -> None:
    hass.config_entries.async_update_entry(peer, title="attic")
    await hass.async_block_till_done()
    assert link.stopped == 1
    assert [each.label for each in coordinator.builders.builders] == ["This machine", "attic"]


@pytest.mark.parametrize(
    "damage",
    [{"public_key": "?"}, {"public_key": "QUJD"}, {"url": None}, {"public_key": None}, {}],
)
async def test_an_entry_that_became_damaged_says_so(
    hass: HomeAssistant, peer: MockConfigEntry, link: ScriptedLink, damage: dict[str, object]
) -> None:
    another_pin = {} if damage else {"unique_id": "f" * 64}
    hass.config_entries.async_update_entry(peer, data={**peer.data, **damage}, **another_pin)
    await hass.async_block_till_done()
    assert link.stopped == 1
    assert peer.state is ConfigEntryState.SETUP_ERROR
    assert peer.error_reason_translation_key == "peer_unusable"


async def test_the_own_key_is_no_peer(hass: HomeAssistant, coordinator: OffloadCoordinator) -> None:
    entry = add_peer(hass, identity=await async_get_identity(hass))
    assert not await hass.config_entries.async_setup(entry.entry_id)
    assert entry.state is ConfigEntryState.SETUP_ERROR


# Coming and going


async def test_unloading_closes_the_connection_and_jobs_go_elsewhere(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    peer: MockConfigEntry,
    link: ScriptedLink,
) -> None:
    link.become(LinkState.CONNECTED)
    assert await hass.config_entries.async_unload(peer.entry_id)
    assert link.stopped == 1
    assert link.unpaired == 0
    job = await coordinator.async_wait(await submit(coordinator))
    assert job.routing.source is Source.LOCAL


async def test_peers_may_come_before_this_instance(hass: HomeAssistant, stage: Stage) -> None:
    peers = [add_peer(hass, label) for label in ("workshop", "attic")]
    assert await async_setup_component(hass, DOMAIN, {})
    await hass.async_block_till_done(wait_background_tasks=True)
    assert [peer.state for peer in peers] == [ConfigEntryState.LOADED] * 2
    for link in stage.peers.links:
        link.become(LinkState.CONNECTED)
    coordinator = hass.data[DATA_COORDINATOR]
    assert {each.label for each in coordinator.builders.builders} == {
        "This machine",
        "workshop",
        "attic",
    }

    instance = MockConfigEntry(
        domain=DOMAIN,
        unique_id=INSTANCE_UNIQUE_ID,
        data={"kind": "instance", "config_dir": "esphome"},
    )
    instance.add_to_hass(hass)
    assert await hass.config_entries.async_setup(instance.entry_id)
    await hass.async_block_till_done(wait_background_tasks=True)
    job = await coordinator.async_wait(await submit(coordinator))
    assert job.routing.source is Source.REMOTE


async def test_removing_a_peer_unpairs_it_there(
    hass: HomeAssistant, stage: Stage, peer: MockConfigEntry, link: ScriptedLink
) -> None:
    await hass.config_entries.async_remove(peer.entry_id)
    assert (link.stopped, link.unpaired) == (1, 0)
    farewell = stage.peers.links[-1]
    assert (farewell.started, farewell.unpaired, farewell.stopped) == (1, 1, 1)
    assert list(farewell.wanted()) == []


async def test_a_peer_that_cannot_be_reached_is_removed_here_all_the_same(
    hass: HomeAssistant,
    stage: Stage,
    peer: MockConfigEntry,
    caplog: pytest.LogCaptureFixture,
) -> None:
    stage.peers.reachable = False
    await hass.config_entries.async_remove(peer.entry_id)
    assert hass.config_entries.async_get_entry(peer.entry_id) is None
    farewell = stage.peers.links[-1]
    assert (farewell.unpaired, farewell.stopped) == (0, 1)
    assert "workshop was not told that it is removed (it cannot be reached)" in caplog.text


async def test_removing_this_instance_removes_its_peers(
    hass: HomeAssistant, stage: Stage, entry: MockConfigEntry, peer: MockConfigEntry
) -> None:
    await hass.config_entries.async_remove(entry.entry_id)
    assert hass.config_entries.async_entries(DOMAIN) == []
    assert stage.peers.links[-1].unpaired == 1


async def test_home_assistant_stops_with_its_connections_closed(
    hass: HomeAssistant, coordinator: OffloadCoordinator, link: ScriptedLink
) -> None:
    await coordinator.async_stop()
    assert link.stopped == 1


async def test_a_new_identity_begins_anew_with_all_peers(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    stage: Stage,
    peer: MockConfigEntry,
    link: ScriptedLink,
) -> None:
    await coordinator.async_renew_identity()
    await hass.async_block_till_done()
    new = stage.peers.links[-1]
    assert new.identity == await async_get_identity(hass)
    assert new.identity != link.identity


# At a start


async def test_after_a_start_a_job_waits_for_peers_that_are_on_their_way(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    peer: MockConfigEntry,
    link: ScriptedLink,
) -> None:
    job = await submit(coordinator)
    await waits_for(coordinator, job, "builders to connect")
    link.silent = True
    link.become(LinkState.CONNECTED)
    assert job.waiting, "it has not said yet what it can do"
    link.silent = False
    link.become(LinkState.CONNECTED)
    job = await coordinator.async_wait(job)
    assert job.routing.source is Source.REMOTE


async def test_a_peer_that_will_not_come_is_not_waited_for(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    peer: MockConfigEntry,
    link: ScriptedLink,
) -> None:
    job = await submit(coordinator)
    await waits_for(coordinator, job, "builders to connect")
    link.become(LinkState.CONNECTING, "its owner does not lend it now", ErrorCode.NOT_LENDING)
    job = await coordinator.async_wait(job)
    assert job.routing.source is Source.LOCAL


async def test_only_entries_that_will_be_set_up_are_on_their_way(
    hass: HomeAssistant, coordinator: OffloadCoordinator
) -> None:
    entry = add_peer(hass)
    assert coordinator.peering.expected == 0.0
    hass.set_state(CoreState.not_running)
    assert 0.0 < coordinator.peering.expected <= 20.0
    await hass.config_entries.async_set_disabled_by(entry.entry_id, ConfigEntryDisabler.USER)
    assert coordinator.peering.expected == 0.0


async def test_the_grace_is_given_once(
    hass: HomeAssistant, coordinator: OffloadCoordinator, peer: MockConfigEntry, stage: Stage
) -> None:
    now = hass.loop.time()
    with patch.object(hass.loop, "time", return_value=now + 25.0):
        assert coordinator.peering.expected == 0.0
        coordinator.peering.begin_grace()
        assert coordinator.peering.expected == 0.0


async def test_an_entry_that_is_being_set_up_is_on_its_way(
    hass: HomeAssistant, coordinator: OffloadCoordinator
) -> None:
    entry = add_peer(hass)
    reading = asyncio.Event()
    go_on = asyncio.Event()

    async def slowly(_hass: HomeAssistant) -> Identity:
        reading.set()
        await go_on.wait()
        return Identity.generate()

    with patch("custom_components.esphome_offload.peering.async_get_identity", slowly):
        setup = hass.async_create_task(hass.config_entries.async_setup(entry.entry_id))
        await reading.wait()
        assert coordinator.peering.expected > 0.0
        go_on.set()
        assert await setup


async def test_before_this_instance_nobody_is_waited_for(
    hass: HomeAssistant, stage: Stage, config_dir: Path
) -> None:
    peer = add_peer(hass)
    assert await hass.config_entries.async_setup(peer.entry_id)
    assert hass.data[DATA_COORDINATOR].peering.expected == 0.0


# The option


@pytest.mark.parametrize(
    ("chosen", "outcome"),
    [
        ("local", "This machine"),
        ("fail", None),
        ("wait_then_local", "waits"),
        ("wait_then_fail", "waits"),
    ],
)
async def test_while_no_peer_can_be_reached_the_option_decides(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    entry: MockConfigEntry,
    link: ScriptedLink,
    chosen: str,
    outcome: str | None,
) -> None:
    hass.config_entries.async_update_entry(
        entry, options={"no_builder": chosen, "wait_for_builder_minutes": 5}
    )
    await hass.async_block_till_done(wait_background_tasks=True)
    link.become(LinkState.REFUSED, "pair again")
    job = await submit(coordinator)
    if outcome == "waits":
        await waits_for(coordinator, job, "a builder (workshop: pair again)")
        await coordinator.async_cancel(job.job_id)
        return
    job = await coordinator.async_wait(job)
    assert job.routing.source_label == outcome
    if outcome is None:
        assert job.outcome.error is not None
        assert "workshop: pair again" in job.outcome.error
