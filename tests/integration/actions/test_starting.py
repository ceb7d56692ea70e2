"""Who may call, all or nothing, and waiting for the end."""

import asyncio
from pathlib import Path

from homeassistant.core import Context, HomeAssistant
from homeassistant.exceptions import HomeAssistantError, ServiceValidationError, Unauthorized
import pytest
from pytest_homeassistant_custom_component.common import (
    MockConfigEntry,
    MockUser,
    async_capture_events,
)

from custom_components.esphome_offload.const import DOMAIN
from custom_components.esphome_offload.coordinator import OffloadCoordinator
from custom_components.esphome_offload.engine.build.model import BuildSink
from custom_components.esphome_offload.engine.const import FailureReason, JobStatus
from custom_components.esphome_offload.engine.jobs.model import FirmwareJob, JobEvent, JobRequest
from custom_components.esphome_offload.engine.jobs.ports import Presence
from custom_components.esphome_offload.inventory.device_link import CoreDeviceLink
from custom_components.esphome_offload.services import OffloadService

from ...engine.jobs.fakes import Block, because, failing, flash_failing, settle
from ..conftest import NEWEST, Stage
from .calling import (
    LAMP_ENTITY,
    PLUG_ENTITY,
    call,
    refused,
)

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
    assert home.lender.pairing.state is None


async def test_the_job_and_its_events_have_the_user_of_the_call(
    hass: HomeAssistant, home: OffloadCoordinator, hass_admin_user: MockUser
) -> None:
    queued = async_capture_events(hass, "esphome_offload_job_queued")
    context = Context(user_id=hass_admin_user.id)
    response = await call(hass, "compile", context=context, entity_id=LAMP_ENTITY)
    assert response["jobs"][0]["user_id"] == hass_admin_user.id
    assert [event.context for event in queued] == [context]


async def test_a_response_is_returned_only_if_requested(
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


# Together or alone


async def test_what_one_call_starts_belongs_together(
    hass: HomeAssistant, home: OffloadCoordinator
) -> None:
    home.queue.hold()  # what is at work could not be replaced
    await call(hass, "compile", entity_id="all")
    batches = {job.request.batch for job in home.queue.jobs()}
    assert len(batches) == 1
    for entity_id in (LAMP_ENTITY, PLUG_ENTITY):
        await call(hass, "clean", entity_id=entity_id)
    assert len({job.request.batch for job in home.queue.jobs()} - batches) == 2


async def test_updates_that_one_call_installs_belong_together(
    hass: HomeAssistant, home: OffloadCoordinator, stage: Stage
) -> None:
    block = Block()
    stage.builder.script = [block]
    await hass.services.async_call(
        "update", "install", {"entity_id": [LAMP_ENTITY, PLUG_ENTITY]}, blocking=False
    )
    await block.entered.wait()
    first, second = home.queue.jobs()
    assert first.request.batch == second.request.batch is not None


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


@pytest.mark.parametrize("joins", [False, True], ids=["new", "joined"])
async def test_when_one_cannot_be_started_any_more_those_before_it_are_withdrawn(
    hass: HomeAssistant,
    home: OffloadCoordinator,
    monkeypatch: pytest.MonkeyPatch,
    joins: bool,
) -> None:
    home.queue.hold()
    if joins:
        await call(hass, "compile", entity_id=LAMP_ENTITY)
    submit = home.queue.submit

    def submit_and_detach(request: JobRequest) -> FirmwareJob:
        monkeypatch.setattr(home, "options", None)
        return submit(request)

    monkeypatch.setattr(home.queue, "submit", submit_and_detach)
    error = await refused(hass, "compile", entity_id=[LAMP_ENTITY, PLUG_ENTITY])
    assert error.translation_key == "no_config_folder"
    (job,) = home.queue.jobs()
    assert job.status is (JobStatus.QUEUED if joins else JobStatus.CANCELLED)


@pytest.mark.parametrize("raises", [True, False])
async def test_others_get_their_turn_between_two_jobs(
    hass: HomeAssistant, home: OffloadCoordinator, raises: bool
) -> None:
    order: list[str] = []

    def queued(event: JobEvent, _job: FirmwareJob) -> None:
        if event is JobEvent.QUEUED:
            order.append("job")
            hass.loop.call_soon(order.append, "other")

    home.queue.subscribe(None, queued)
    await call(hass, "compile", entity_id="all", raise_on_failure=raises)
    assert order == ["job", "other"] * 2


@pytest.mark.parametrize("raises", [True, False])
async def test_a_call_that_is_cancelled_between_two_jobs_starts_both(
    hass: HomeAssistant, home: OffloadCoordinator, raises: bool
) -> None:
    calling = asyncio.create_task(call(hass, "compile", entity_id="all", raise_on_failure=raises))

    def queued(event: JobEvent, _job: FirmwareJob) -> None:
        if event is JobEvent.QUEUED:
            calling.cancel()

    home.queue.subscribe(None, queued)
    with pytest.raises(asyncio.CancelledError):
        await calling
    assert len(home.queue.jobs()) == 2


async def test_without_raising_the_others_are_started_and_the_answer_says_why_not_that_one(
    hass: HomeAssistant, home: OffloadCoordinator, stage: Stage
) -> None:
    block = Block()
    stage.builder.script = [block]
    await call(hass, "install", entity_id=PLUG_ENTITY)
    await block.entered.wait()

    # It waits for the end of the lamp's job, which waits for the slot of the plug's.
    running = hass.async_create_task(call(hass, "compile", entity_id="all", raise_on_failure=False))
    async with asyncio.timeout(30):
        while len(home.queue.jobs()) < 2:
            await settle()
        block.release.set()
        response = await running

    assert [job["configuration"] for job in response["jobs"]] == ["lamp.yaml"]
    (left_out,) = response["left_out"]
    assert (left_out["configuration"], left_out["entity_id"]) == ("plug.yaml", PLUG_ENTITY)
    assert "plug" in left_out["reason"]


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
            await home.inventory.async_rescan()

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


async def test_with_wait_one_failure_is_raised_with_device_and_reason(
    hass: HomeAssistant, home: OffloadCoordinator, stage: Stage
) -> None:
    stage.builder.script = [failing(FailureReason.COMPILE_FAILED, "lamp.cpp:3: error: no")]
    with pytest.raises(HomeAssistantError) as raised:
        await call(hass, "compile", entity_id="all", wait=True)
    assert raised.value.translation_key == "job_failed"
    assert str(raised.value) == f"lamp: {because('lamp.cpp:3: error: no')}"
    assert [job.status for job in home.queue.jobs()] == [JobStatus.FAILED, JobStatus.COMPLETED]


async def test_with_wait_several_failures_are_all_raised(
    hass: HomeAssistant, home: OffloadCoordinator, stage: Stage
) -> None:
    stage.builder.script = [
        failing(FailureReason.COMPILE_FAILED, "first"),
        failing(FailureReason.CONFIG_INVALID, "second"),
    ]
    with pytest.raises(HomeAssistantError) as raised:
        await call(hass, "install", entity_id="all", wait=True)
    assert raised.value.translation_key == "jobs_failed"
    assert f"lamp: {because('first')}; plug: {because('second')}" in str(raised.value)


async def test_with_wait_a_cancelled_job_is_raised_as_a_failure(
    hass: HomeAssistant, home: OffloadCoordinator, stage: Stage
) -> None:
    block = Block()
    stage.builder.script = [block]
    waiting = hass.async_create_task(call(hass, "compile", entity_id=PLUG_ENTITY, wait=True))
    await block.entered.wait()
    await call(hass, "cancel", entity_id=PLUG_ENTITY)
    with pytest.raises(HomeAssistantError, match="plug: It was cancelled"):
        await waiting


@pytest.mark.parametrize("action", ["install", "compile"])
async def test_without_raising_the_end_of_every_job_is_the_answer(
    hass: HomeAssistant, home: OffloadCoordinator, stage: Stage, action: str
) -> None:
    stage.builder.script = [failing(FailureReason.COMPILE_FAILED, "lamp.cpp:3: error: no")]
    response = await call(hass, action, entity_id="all", raise_on_failure=False)
    ends = {job["configuration"]: (job["status"], job["error"]) for job in response["jobs"]}
    assert ends == {
        "lamp.yaml": ("failed", str(because("lamp.cpp:3: error: no"))),
        "plug.yaml": ("completed", None),
    }


async def test_an_upload_without_raising_answers_with_its_end(
    hass: HomeAssistant, home: OffloadCoordinator, stage: Stage
) -> None:
    await call(hass, "compile", entity_id=PLUG_ENTITY, wait=True)
    stage.flasher.script = [flash_failing(FailureReason.UPLOAD_REFUSED)]
    response = await call(hass, "upload", entity_id=PLUG_ENTITY, raise_on_failure=False)
    assert response["jobs"][0]["status"] == "failed"


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


@pytest.mark.parametrize("action", ["install", "upload"])
async def test_the_response_says_that_firmware_waits_for_its_device(
    hass: HomeAssistant, home: OffloadCoordinator, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    await call(hass, "compile", entity_id=LAMP_ENTITY, wait=True)
    monkeypatch.setattr(CoreDeviceLink, "presence", lambda *_: Presence.OFFLINE)
    response = await call(hass, action, entity_id=LAMP_ENTITY, wait=True)
    [job] = response["jobs"]
    assert (job["pending"], job["stage"]) == (True, "waiting_device")
    assert job["message"] == (
        f"ESPHome {NEWEST} for lamp is built, and is installed as soon as the device is ready"
    )


async def test_firmware_that_waits_for_its_device_is_an_error_where_the_call_wants_one(
    hass: HomeAssistant,
    home: OffloadCoordinator,
    entry: MockConfigEntry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(CoreDeviceLink, "presence", lambda *_: Presence.OFFLINE)
    with pytest.raises(
        HomeAssistantError, match=r"lamp is built.*ready\. ESPHome.*plug is"
    ) as error:
        await call(hass, "install", entity_id=[LAMP_ENTITY, PLUG_ENTITY], fail_if_pending=True)
    assert error.value.translation_key == "install_pending"
    assert [job.pending for job in home.queue.jobs()] == [True, True]

    hass.config_entries.async_update_entry(entry, options={"pending_is_error": True})
    await hass.async_block_till_done()
    with pytest.raises(HomeAssistantError, match="lamp is built"):
        await call(hass, "install", entity_id=LAMP_ENTITY, wait=True)
    response = await call(hass, "install", entity_id=LAMP_ENTITY, wait=True, fail_if_pending=False)
    assert response["jobs"][0]["pending"]
    assert len(home.queue.jobs()) == 2
