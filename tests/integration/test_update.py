"""The update entity."""

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
import re

from homeassistant.core import HomeAssistant, State
from homeassistant.exceptions import HomeAssistantError, ServiceValidationError
from homeassistant.helpers.entity_component import async_update_entity
from homeassistant.helpers.template import Template
import pytest
from pytest_homeassistant_custom_component.common import (
    MockConfigEntry,
)
from pytest_homeassistant_custom_component.typing import WebSocketGenerator

from custom_components.esphome_offload.coordinator import OffloadCoordinator
from custom_components.esphome_offload.engine.build.model import (
    BuilderStatus,
    BuildRequest,
    BuildSink,
)
from custom_components.esphome_offload.engine.build.toolchain.versions import (
    VersionError,
)
from custom_components.esphome_offload.engine.const import (
    FailureReason,
    JobStatus,
    Operation,
)
from custom_components.esphome_offload.engine.device_access import DeviceAccess
from custom_components.esphome_offload.engine.devices.answers import Answer
from custom_components.esphome_offload.engine.jobs.model import JobEvent
from custom_components.esphome_offload.engine.jobs.ports import Presence
from custom_components.esphome_offload.engine.reason import Reason, ReasonKey
from custom_components.esphome_offload.inventory.announced_firmware import AnnouncedFirmware
from custom_components.esphome_offload.inventory.device_link import CoreDeviceLink

from ..engine.jobs.fakes import Block, failing, flash_failing
from .conftest import LAMP, NEWEST, Pass, Stage as Scripted, until_waiting

ENTITY = "update.desk_lamp_esphome"


def state(hass: HomeAssistant) -> State:
    found = hass.states.get(ENTITY)
    assert found is not None
    return found


def runs(coordinator: OffloadCoordinator, name: str, version: str) -> None:
    """Let a device announce its version."""
    coordinator.firmware._announced(AnnouncedFirmware(name, version))


async def install(hass: HomeAssistant, **data: str) -> None:
    await hass.services.async_call(
        "update", "install", {"entity_id": ENTITY, **data}, blocking=True
    )


@pytest.fixture(autouse=True)
async def _coordinator(coordinator: OffloadCoordinator) -> None:
    """Every test has an instance that is set up."""


async def test_it_offers_the_newest_version_of_a_device_that_nobody_knows(
    hass: HomeAssistant,
) -> None:
    attributes = state(hass).attributes
    assert state(hass).state == "on"
    assert attributes["installed_version"] == "Unknown"
    assert attributes["latest_version"] == NEWEST
    assert attributes["device_class"] == "firmware"
    assert attributes["release_url"] == "https://esphome.io/changelog/2026.10.0/"
    assert attributes["friendly_name"] == "Desk lamp ESPHome"
    assert attributes["in_progress"] is False
    assert attributes["job_id"] is None

    await hass.services.async_call("update", "skip", {"entity_id": ENTITY}, blocking=True)
    assert state(hass).state == "off"
    await hass.services.async_call("update", "clear_skipped", {"entity_id": ENTITY}, blocking=True)
    assert state(hass).state == "on"


async def test_what_cannot_be_flashed_is_not_offered_while_nothing_is_known_of_its_device(
    hass: HomeAssistant, config_dir: Path, stage: Scripted, pass_time: Pass
) -> None:
    stage.inspector.answers["lamp.yaml"] = Answer(
        "lamp.yaml",
        node_name="lamp",
        friendly_name="Desk lamp",
        platform="host",
        complete=True,
        access=DeviceAccess(ota=()),
    )
    (config_dir / "lamp.yaml").write_text(LAMP + "# changed\n")
    await pass_time(31)
    assert state(hass).state == "unknown"
    assert state(hass).attributes["installed_version"] is None


async def test_an_installation_that_went_well_shows_what_was_flashed(
    hass: HomeAssistant, stage: Scripted
) -> None:
    await install(hass, version="2026.9.1")
    assert state(hass).state == "on"
    assert state(hass).attributes["installed_version"] == "2026.9.1"
    assert stage.builder.requests[0].esphome_version == "2026.9.1"

    await install(hass)
    assert state(hass).state == "off"
    assert state(hass).attributes["installed_version"] == NEWEST
    assert len(stage.flasher.requests) == 2


async def test_progress_is_the_jobs_also_when_the_service_did_not_start_it(
    hass: HomeAssistant, coordinator: OffloadCoordinator, stage: Scripted
) -> None:
    compiling, flashing = Block(), Block()

    async def build(request: BuildRequest, sink: BuildSink) -> None:
        sink.progress(50)
        await compiling(request, sink)

    stage.builder.script = [build]
    stage.flasher.script = [flashing]
    job = await coordinator.async_submit("lamp.yaml", Operation.INSTALL)
    await compiling.entered.wait()

    attributes = state(hass).attributes
    assert attributes["in_progress"] is True
    assert attributes["job_id"] == job.job_id
    assert attributes["source_label"] == "This instance"
    assert attributes["update_percentage"] == 30

    compiling.release.set()
    await flashing.entered.wait()
    assert hass.states.get("sensor.desk_lamp_installation").state == "uploading"

    flashing.release.set()
    await coordinator.async_wait(job)
    attributes = state(hass).attributes
    assert attributes["in_progress"] is False
    assert attributes["update_percentage"] is None


@pytest.mark.parametrize("reason", [FailureReason.CONFIG_INVALID, FailureReason.COMPILE_FAILED])
async def test_a_failure_names_the_device_the_reason_and_what_to_do(
    hass: HomeAssistant, stage: Scripted, reason: FailureReason
) -> None:
    stage.builder.script = [failing(reason, "unknown key 'wfi'")]
    with pytest.raises(HomeAssistantError, match=r"lamp was not updated.*unknown key 'wfi'") as err:
        await install(hass)
    assert err.value.translation_key == f"install_failed_{reason}"
    assert "orrect the" in str(err.value)
    assert state(hass).attributes["in_progress"] is False


async def test_a_flash_that_the_device_refuses_raises(hass: HomeAssistant, stage: Scripted) -> None:
    stage.flasher.script = [flash_failing(FailureReason.UPLOAD_REFUSED, "Authentication invalid")]
    with pytest.raises(HomeAssistantError, match=r"lamp refused.*Authentication invalid.*password"):
        await install(hass)


@pytest.mark.parametrize("reason", FailureReason)
async def test_every_failure_has_its_own_words(
    hass: HomeAssistant, coordinator: OffloadCoordinator, reason: FailureReason
) -> None:
    error = HomeAssistantError(
        translation_domain="esphome_offload",
        translation_key=f"install_failed_{reason.value}",
        translation_placeholders={
            "device": "lamp",
            "configuration": "lamp.yaml",
            "version": "2026.10.0",
            "error": "why",
        },
    )
    assert "lamp" in str(error)
    assert "{" not in str(error)


async def test_a_caller_that_goes_away_leaves_the_job_running(
    hass: HomeAssistant, coordinator: OffloadCoordinator, stage: Scripted
) -> None:
    block = Block()
    stage.builder.script = [block]
    caller = asyncio.create_task(install(hass))
    await block.entered.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller

    assert not block.cancelled
    assert state(hass).attributes["in_progress"] is True
    block.release.set()
    job = coordinator.queue.jobs()[-1]
    assert (await coordinator.async_wait(job)).status is JobStatus.COMPLETED


async def test_a_cancelled_job_raises_at_its_caller(
    hass: HomeAssistant, coordinator: OffloadCoordinator, stage: Scripted
) -> None:
    block = Block()
    stage.builder.script = [block]
    caller = asyncio.create_task(install(hass))
    await block.entered.wait()
    await coordinator.async_cancel(coordinator.queue.jobs()[-1].job_id)
    with pytest.raises(HomeAssistantError, match="lamp was cancelled"):
        await caller


async def test_an_installation_that_waits_is_replaced_by_another_and_not_cancelled(
    hass: HomeAssistant, coordinator: OffloadCoordinator, stage: Scripted
) -> None:
    slot = stage.builder.slots.take("guest")
    assert slot is not None
    queued = asyncio.Event()
    coordinator.queue.subscribe(None, lambda event, _job: event is JobEvent.QUEUED and queued.set())
    caller = asyncio.create_task(install(hass, version="2026.9.1"))
    await queued.wait()
    newer = await coordinator.async_submit("lamp.yaml", Operation.INSTALL)
    with pytest.raises(HomeAssistantError, match="replaced by a newer one") as error:
        await caller
    assert "cancelled" not in str(error.value)
    slot.release()
    await coordinator.async_wait(newer)
    assert state(hass).attributes["installed_version"] == NEWEST


async def test_a_second_installation_while_one_runs_is_refused(
    hass: HomeAssistant, coordinator: OffloadCoordinator, stage: Scripted
) -> None:
    job, block = await stage.start_blocked(coordinator)
    with pytest.raises(HomeAssistantError):
        await install(hass)
    with pytest.raises(ServiceValidationError, match=f"lamp runs already.*{job.job_id}"):
        await coordinator.async_submit("lamp.yaml", Operation.INSTALL)
    block.release.set()
    await coordinator.async_wait(job)


async def test_release_notes_without_a_known_version_name_none(
    hass: HomeAssistant,
    stage: Scripted,
    entry: MockConfigEntry,
    hass_ws_client: WebSocketGenerator,
) -> None:
    stage.versions.error = VersionError(
        Reason(ReasonKey.VERSION_UNCHECKED, {"version": "2026.12.0"})
    )
    hass.config_entries.async_update_entry(entry, options={"version_channel": "prerelease"})
    await hass.async_block_till_done(wait_background_tasks=True)
    client = await hass_ws_client()
    await client.send_json_auto_id({"type": "update/release_notes", "entity_id": ENTITY})
    text = (await client.receive_json())["result"]
    assert text.startswith("[What is new in ESPHome](https://esphome.io/changelog/)")


async def test_release_notes_say_what_is_new_what_builds_and_what_failed_last(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    stage: Scripted,
    hass_ws_client: WebSocketGenerator,
) -> None:
    client = await hass_ws_client()

    async def notes() -> str:
        await client.send_json_auto_id({"type": "update/release_notes", "entity_id": ENTITY})
        return (await client.receive_json())["result"]

    text = await notes()
    assert f"[What is new in ESPHome {NEWEST}](https://esphome.io/changelog/2026.10.0/)" in text
    assert "The firmware will be built on This instance." in text

    stage.builder.become(BuilderStatus(available=False, why_not=Reason(ReasonKey.NOT_GLIBC)))
    assert (
        "Nothing can be built now: No builder takes this job: This instance: The compilers"
        in await notes()
    )

    stage.builder.become(BuilderStatus(available=True))
    stage.builder.script = [failing(FailureReason.COMPILE_FAILED, "main.cpp:7: error")]
    with pytest.raises(HomeAssistantError):
        await install(hass)
    failed = coordinator.queue.last("lamp.yaml")
    assert failed is not None
    text = await notes()
    assert f"Last job: Installation of {NEWEST} on This instance, failed. " in text
    assert "main.cpp:7: error" in text
    assert text.endswith(f"[Show log](/esphome-offload/job/{failed.job_id})")

    await install(hass)
    assert "Last job" not in await notes(), "what ended well is over"


async def test_release_notes_say_only_how_the_job_stands_while_there_is_one(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    stage: Scripted,
    hass_ws_client: WebSocketGenerator,
) -> None:
    stage.flasher.script = [flash_failing(FailureReason.UPLOAD_REFUSED, "wrong password")]
    with pytest.raises(HomeAssistantError):
        await install(hass)
    client = await hass_ws_client()

    async def notes() -> list[str]:
        await client.send_json_auto_id({"type": "update/release_notes", "entity_id": ENTITY})
        text = (await client.receive_json())["result"]
        return re.sub(r"\b\d\d:\d\d\b", "HH:MM", text).split("\n\n")

    assert "wrong password" in "".join(await notes())
    news = f"[What is new in ESPHome {NEWEST}](https://esphome.io/changelog/2026.10.0/)"
    stage.builder.slots.set_count(1)
    slot = stage.builder.slots.take("guest")
    assert slot is not None
    job = await coordinator.async_submit("lamp.yaml", Operation.COMPILE, clean=True)
    await until_waiting(coordinator, job)
    link = f"[Follow this job](/esphome-offload/job/{job.job_id})"
    first, *others = await notes()
    assert first == f"At HH:MM: Compilation of {NEWEST}, queued."
    assert others[0].startswith("It waits for this: ")
    assert others[1] == "Place in the queue: 1."
    assert others[-2:] == [link, news]

    block = Block()

    async def build(request: BuildRequest, sink: BuildSink) -> None:
        sink.progress(50)
        await block(request, sink)

    stage.builder.script = [build]
    slot.release()
    await block.entered.wait()
    first, *others = await notes()
    assert first == f"At HH:MM: Compilation of {NEWEST} on This instance, compiling, 50 %."
    assert others == ["Expected end: about HH:MM.", link, news]
    block.release.set()
    await coordinator.async_wait(job)
    assert "The firmware will be built on This instance." in await notes()

    stage.flasher.script = [flash_failing(FailureReason.DEVICE_OFFLINE, "no answer")]
    job = await coordinator.async_submit("lamp.yaml", Operation.UPLOAD)
    await coordinator.async_wait(job)
    first, waits, *_ = await notes()
    assert first.startswith(f"At HH:MM: Upload of {NEWEST}")
    assert "waiting for the device" in first
    assert waits == "It waits for this: lamp to be reachable."


@dataclass
class Presences:
    """Which devices are awake."""

    awake: set[str] = field(default_factory=set)

    def of(self, name: str) -> Presence:
        return Presence.ONLINE if name in self.awake else Presence.OFFLINE


@pytest.fixture
def asleep(monkeypatch: pytest.MonkeyPatch) -> Presences:
    """Make all devices unreachable, but those that are ``awake``."""
    presences = Presences()
    monkeypatch.setattr(
        CoreDeviceLink, "presence", lambda _, request: presences.of(request.device_name)
    )
    return presences


async def test_an_update_that_waits_for_its_device_says_so(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    asleep: Presences,
    caplog: pytest.LogCaptureFixture,
) -> None:
    runs(coordinator, "lamp", "2026.9.0")
    await install(hass)
    attributes = state(hass).attributes
    assert (attributes["installed_version"], attributes["latest_version"]) == ("2026.9.0", NEWEST)
    assert attributes["in_progress"] is False
    assert attributes["pending_version"] == NEWEST
    assert attributes["waiting_for"] == "lamp to be reachable"
    built = f"ESPHome {NEWEST} for lamp is built, and is installed as soon as the device is ready"
    assert attributes["release_summary"] == built
    assert [record.levelname for record in caplog.records if built in record.message] == ["WARNING"]

    ended = asyncio.Event()
    coordinator.queue.subscribe(None, lambda _event, job: job.terminal and ended.set())
    asleep.awake.add("lamp")
    coordinator.queue.kick()
    await ended.wait()
    await hass.async_block_till_done()
    attributes = state(hass).attributes
    assert attributes["installed_version"] == NEWEST
    assert attributes["pending_version"] is attributes["release_summary"] is None


async def test_the_first_update_of_a_template_is_none_that_waits_for_its_device(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    config_dir: Path,
    stage: Scripted,
    asleep: Presences,
    pass_time: Pass,
) -> None:
    """An automation that installs the first update every minute updates all that can be."""
    for name in ("fan", "zebra"):
        (config_dir / f"{name}.yaml").write_text(LAMP.replace("lamp", name))
    await pass_time(31)
    for name in ("lamp", "fan", "zebra"):
        runs(coordinator, name, "2026.9.0")
        await pass_time(1)
    outdated = Template(
        "{{ states.update | selectattr('state', 'eq', 'on') | map(attribute='entity_id') | list }}",
        hass,
    )
    asleep.awake |= {"fan", "zebra"}
    for entity in hass.states.async_entity_ids("update"):
        await async_update_entity(hass, entity)
    installed = set()
    for _ in range(3):
        first = outdated.async_render()[0]
        installed.add(first)
        await hass.services.async_call("update", "install", {"entity_id": first}, blocking=True)
    assert len(installed) == 3
    assert outdated.async_render() == []
    waiting = coordinator.queue.active("lamp.yaml")
    assert waiting is not None
    assert [job for job in coordinator.queue.jobs() if job.status is JobStatus.CANCELLED] == []

    # Asked again by name, it is the same job.
    await install(hass)
    assert coordinator.queue.active("lamp.yaml") is waiting
    # A newer version can be asked for.
    stage.versions.newest_stable = "2026.10.1"
    await pass_time(6 * 3600 + 1)
    assert state(hass).state == "on"


async def test_an_update_that_waits_for_its_device_is_an_error_with_the_option(
    hass: HomeAssistant, coordinator: OffloadCoordinator, entry: MockConfigEntry, asleep: Presences
) -> None:
    hass.config_entries.async_update_entry(entry, options={"pending_is_error": True})
    await hass.async_block_till_done()
    with pytest.raises(HomeAssistantError, match=r"Not installed yet\. ESPHome 2026.10.0 for lamp"):
        await install(hass)
    job = coordinator.queue.active("lamp.yaml")
    assert job is not None
    assert job.pending
