"""Devices that Home Assistant cannot connect to, but that take firmware."""

from dataclasses import replace

from custom_components.esphome_offload.engine.build.model import Node
from custom_components.esphome_offload.engine.const import FailureReason, JobStatus, Stage
from custom_components.esphome_offload.engine.jobs.model import FirmwareJob
from custom_components.esphome_offload.engine.jobs.ports import Presence, Verdict
from custom_components.esphome_offload.engine.reason import Reason, ReasonKey

from .fakes import BUILD_INFO, flash_failing, settle
from .queue_harness import QueueHarness

OTA, API = 3232, 6053
LAMP = Node("lamp", address="lamp.local", ota_port=OTA, api_port=API)
BEFORE = replace(BUILD_INFO, esphome_version="2026.9.0")


def unverified(job: FirmwareJob, key: ReasonKey) -> bool:
    """Return whether a job ended well, but for what its device runs."""
    return (job.status, job.outcome.verified, job.unverified) == (
        JobStatus.COMPLETED,
        False,
        Reason(key, {"device": "lamp"}),
    )


def lose_api(harness: QueueHarness) -> None:
    """Have the lamp answer by its OTA port alone."""
    harness.keeper.node = LAMP
    harness.devices.state["lamp"] = Presence.OFFLINE
    harness.devices.listening = {OTA}


async def test_a_device_whose_api_is_lost_is_flashed_as_soon_as_it_takes_firmware(
    harness: QueueHarness,
) -> None:
    harness.keeper.node = LAMP
    harness.devices.state["lamp"] = Presence.OFFLINE
    job = await harness.run()
    assert job.stage is Stage.WAITING_DEVICE
    harness.devices.listening = {OTA}
    await harness.time.go(59)
    assert job.stage is Stage.WAITING_DEVICE
    await harness.time.go(2)
    assert job.status is JobStatus.COMPLETED
    assert job.outcome.verified is True


async def test_a_job_that_does_not_wait_asks_once(harness: QueueHarness) -> None:
    harness.keeper.node = LAMP
    harness.set(wait_for_device=0.0)
    harness.devices.state["lamp"] = Presence.OFFLINE
    harness.devices.listening = {OTA}
    assert (await harness.run()).status is JobStatus.COMPLETED
    harness.devices.listening = set()
    assert (await harness.run()).outcome.failure_reason is FailureReason.DEVICE_OFFLINE


async def test_a_device_that_did_not_take_it_rests_before_it_is_asked_again(
    harness: QueueHarness,
) -> None:
    lose_api(harness)
    harness.flasher.script = [flash_failing(FailureReason.DEVICE_OFFLINE)]
    job = await harness.run()
    assert (job.stage, len(harness.flasher.requests)) == (Stage.WAITING_DEVICE, 1)
    await harness.time.go(61)
    assert (job.status, len(harness.flasher.requests)) == (JobStatus.COMPLETED, 2)


async def test_a_device_that_somebody_else_updates_is_not_asked(harness: QueueHarness) -> None:
    harness.keeper.node = LAMP
    harness.devices.state["lamp"] = Presence.BUSY
    harness.devices.listening = {OTA}
    job = await harness.run()
    await harness.time.go(300)
    assert job.stage is Stage.WAITING_DEVICE


async def test_a_device_whose_api_stays_lost_is_verified_by_what_it_announces(
    harness: QueueHarness,
) -> None:
    lose_api(harness)
    harness.devices.verdict = Verdict.NOT_BACK
    harness.devices.announcements = [BEFORE, BUILD_INFO]
    job = await harness.run()
    assert job.outcome.verified is True
    assert job.unverified is None


async def test_a_device_that_announces_nothing_is_completed_unverified(
    harness: QueueHarness,
) -> None:
    lose_api(harness)
    harness.devices.verdict = Verdict.NOT_BACK
    job = await harness.run()
    assert unverified(job, ReasonKey.UNVERIFIED_API)


async def test_another_key_for_the_api_does_not_make_the_update_fail(
    harness: QueueHarness,
) -> None:
    harness.keeper.node = LAMP
    harness.devices.verdict = Verdict.NOT_BACK
    harness.devices.listening = {OTA, API}
    assert unverified(await harness.run(), ReasonKey.UNVERIFIED_API)


async def test_a_device_in_its_safe_mode_is_not_back(harness: QueueHarness) -> None:
    harness.keeper.node = LAMP
    harness.devices.verdict = Verdict.NOT_BACK
    harness.devices.listening = {OTA}
    job = await harness.run()
    assert job.outcome.failure_reason is FailureReason.NOT_VERIFIED
    # Without an API in the firmware there is nothing else to ask.
    harness.keeper.node = replace(LAMP, api_port=None)
    assert unverified(await harness.run(), ReasonKey.UNVERIFIED_API)


async def test_an_unknown_device_is_verified_when_it_announces_the_new_build(
    harness: QueueHarness,
) -> None:
    harness.devices.before = None
    harness.devices.state["lamp"] = Presence.UNKNOWN
    harness.devices.verdict = Verdict.UNKNOWN
    harness.devices.announcements = [BEFORE, BEFORE, BEFORE, BUILD_INFO]
    job = await harness.run()
    assert job.stage is Stage.VERIFYING
    await harness.time.go(10)
    assert job.outcome.verified is True


async def test_an_unknown_device_that_goes_on_announcing_the_old_build_is_unverified(
    harness: QueueHarness,
) -> None:
    harness.devices.before = None
    harness.devices.state["lamp"] = Presence.UNKNOWN
    harness.devices.verdict = Verdict.UNKNOWN
    harness.devices.announcements = [BEFORE]
    job = await harness.run()
    await harness.time.go(59)
    assert job.stage is Stage.VERIFYING
    await harness.time.go(5)
    assert unverified(job, ReasonKey.UNVERIFIED_UNKNOWN)


async def test_what_is_announced_before_and_after_proves_nothing(harness: QueueHarness) -> None:
    harness.devices.before = None
    harness.devices.state["lamp"] = Presence.UNKNOWN
    harness.devices.verdict = Verdict.UNKNOWN
    harness.devices.announcements = [BUILD_INFO]
    job = await harness.run()
    await settle()
    assert unverified(job, ReasonKey.UNVERIFIED_UNKNOWN)
