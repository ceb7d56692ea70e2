"""A peer builds: which jobs go there, and what becomes of the others."""

import asyncio
from pathlib import Path

from homeassistant.core import HomeAssistant
from homeassistant.exceptions import ServiceValidationError
from homeassistant.helpers import issue_registry as ir
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.esphome_offload.const import DOMAIN
from custom_components.esphome_offload.coordinator import OffloadCoordinator
from custom_components.esphome_offload.engine.client.link import LinkState
from custom_components.esphome_offload.engine.const import (
    FailureReason,
    JobStatus,
    Operation,
    Source,
)
from custom_components.esphome_offload.engine.reason import ReasonKey

from ...engine.jobs.fakes import Block, because, failing
from ..conftest import Pass
from ..scripted_peers import ScriptedLink
from .entries import add_peer, submit, waits_for


async def test_a_connected_peer_builds_and_the_job_shows_it(
    coordinator: OffloadCoordinator, peer: MockConfigEntry, link: ScriptedLink
) -> None:
    assert link.started == 1
    link.become(LinkState.CONNECTED)
    job = await coordinator.async_wait(await submit(coordinator))
    assert job.status is JobStatus.COMPLETED
    assert job.routing.source is Source.REMOTE
    assert job.routing.source_label == "attic"
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
    source = {"label": "attic", "label in capitals": " ATTIC ", "pin": peer.unique_id}[by]
    response = await hass.services.async_call(
        DOMAIN,
        "compile",
        {"entity_id": "update.desk_lamp_esphome", "source": source, "wait": True},
        blocking=True,
        return_response=True,
    )
    assert response is not None
    (job,) = response["jobs"]
    assert (job["source"], job["source_label"]) == ("remote", "attic")


async def test_two_peers_of_one_name_are_asked_for_by_their_pins(
    hass: HomeAssistant, coordinator: OffloadCoordinator, peer: MockConfigEntry
) -> None:
    other = add_peer(hass)
    assert await hass.config_entries.async_setup(other.entry_id)
    with pytest.raises(ServiceValidationError) as caught:
        await hass.services.async_call(
            DOMAIN,
            "compile",
            {"entity_id": "update.desk_lamp_esphome", "source": "attic"},
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
    assert "The firmware will be built on attic." in await entity.async_release_notes()
    link.become(LinkState.REFUSED, ReasonKey.PEER_FORGOT)
    assert "The firmware will be built on This instance." in await entity.async_release_notes()


ALTERED = "firmware_altered_lamp.yaml"


async def altered(coordinator: OffloadCoordinator, link: ScriptedLink) -> None:
    """Have a build end with firmware that is not what was built."""
    link.become(LinkState.CONNECTED)
    assert link.builder is not None
    link.builder.script = [failing(FailureReason.INTEGRITY, "the digest is another")]
    job = await coordinator.async_wait(await submit(coordinator))
    assert job.outcome.failure_reason is FailureReason.INTEGRITY


async def test_firmware_that_was_altered_raises_a_repair_until_a_job_succeeds(
    coordinator: OffloadCoordinator,
    peer: MockConfigEntry,
    link: ScriptedLink,
    issue_registry: ir.IssueRegistry,
) -> None:
    await altered(coordinator, link)
    issue = issue_registry.async_get_issue(DOMAIN, ALTERED)
    assert issue is not None
    (job,) = coordinator.queue.jobs()
    assert issue.translation_placeholders == {
        "device": "lamp",
        "builder": "attic",
        "error": str(because("the digest is another")),
        "log": f"/esphome-offload/job/{job.job_id}",
    }
    cleaned = await coordinator.async_submit("lamp.yaml", Operation.CLEAN)
    assert (await coordinator.async_wait(cleaned)).status is JobStatus.COMPLETED
    assert issue_registry.async_get_issue(DOMAIN, ALTERED) is not None
    await coordinator.async_wait(await submit(coordinator))
    assert issue_registry.async_get_issue(DOMAIN, ALTERED) is None


async def test_the_repair_goes_with_the_configuration(
    coordinator: OffloadCoordinator,
    peer: MockConfigEntry,
    link: ScriptedLink,
    issue_registry: ir.IssueRegistry,
    config_dir: Path,
    pass_time: Pass,
) -> None:
    await altered(coordinator, link)
    await pass_time(31)
    assert issue_registry.async_get_issue(DOMAIN, ALTERED) is not None
    (config_dir / "lamp.yaml").unlink()
    await pass_time(31)
    assert issue_registry.async_get_issue(DOMAIN, ALTERED) is None


async def test_the_repair_follows_a_configuration_that_is_renamed(
    coordinator: OffloadCoordinator,
    peer: MockConfigEntry,
    link: ScriptedLink,
    issue_registry: ir.IssueRegistry,
    config_dir: Path,
    pass_time: Pass,
) -> None:
    await altered(coordinator, link)
    before = issue_registry.async_get_issue(DOMAIN, ALTERED)
    assert before is not None
    (config_dir / "lamp.yaml").rename(config_dir / "desk.yaml")
    await pass_time(31)
    assert issue_registry.async_get_issue(DOMAIN, ALTERED) is None
    after = issue_registry.async_get_issue(DOMAIN, "firmware_altered_desk.yaml")
    assert after is not None
    assert (after.translation_placeholders, after.severity, after.is_persistent) == (
        before.translation_placeholders,
        before.severity,
        before.is_persistent,
    )


async def test_the_repair_goes_with_this_instance(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    entry: MockConfigEntry,
    peer: MockConfigEntry,
    link: ScriptedLink,
    issue_registry: ir.IssueRegistry,
) -> None:
    await altered(coordinator, link)
    await hass.config_entries.async_remove(entry.entry_id)
    assert issue_registry.async_get_issue(DOMAIN, ALTERED) is None


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


# The option


@pytest.mark.parametrize(
    ("chosen", "outcome"),
    [
        ("local", "This instance"),
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
    link.become(LinkState.REFUSED, ReasonKey.PEER_UNPAIRED)
    job = await submit(coordinator)
    if outcome == "waits":
        await waits_for(coordinator, job, ReasonKey.WAITS_FOR_BUILDER)
        await coordinator.async_cancel(job.job_id)
        return
    job = await coordinator.async_wait(job)
    assert job.routing.source_label == outcome
    if outcome is None:
        assert job.outcome.error is not None
        assert "attic: Its owner ended the pairing; pair the two again" in str(job.outcome.error)


async def test_an_update_shows_what_it_waits_for_and_then_who_builds(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    entry: MockConfigEntry,
    link: ScriptedLink,
) -> None:
    hass.config_entries.async_update_entry(entry, options={"no_builder": "wait_then_fail"})
    await hass.async_block_till_done(wait_background_tasks=True)
    link.become(LinkState.REFUSED, ReasonKey.PEER_UNPAIRED)
    queued = asyncio.Event()
    coordinator.async_add_listener(queued.set)
    update = "update.desk_lamp_esphome"
    install = asyncio.create_task(
        hass.services.async_call("update", "install", {"entity_id": update}, blocking=True)
    )
    await queued.wait()
    job = coordinator.queue.active("lamp.yaml")
    assert job is not None
    await waits_for(coordinator, job, ReasonKey.WAITS_FOR_BUILDER)

    def shown() -> tuple[object, ...]:
        attributes = hass.states.get(update).attributes
        return tuple(attributes[key] for key in ("in_progress", "waiting_for", "source_label"))

    assert shown() == (
        True,
        "A builder: attic: Its owner ended the pairing; pair the two again",
        None,
    )
    link.become(LinkState.CONNECTED)
    await install
    assert shown() == (False, None, "attic")
