"""The configuration folder is unavailable: jobs wait, visibly, and nothing counts as gone."""

from custom_components.esphome_offload.engine.const import JobStatus
from custom_components.esphome_offload.engine.jobs.ports import Presence
from custom_components.esphome_offload.engine.reason import Reason, ReasonKey

from .fakes import settle
from .queue_harness import QueueHarness


async def test_a_job_waits_for_the_folder_and_says_so(harness: QueueHarness) -> None:
    harness.configurations.available = False
    job = await harness.run()
    await harness.time.go(3600)
    assert job.status is JobStatus.RUNNING
    assert job.waiting_for == Reason(ReasonKey.WAITS_FOR_FOLDER)

    harness.configurations.available = True
    await harness.time.go(10)
    assert job.status is JobStatus.COMPLETED


async def test_a_waiting_job_is_kept_when_the_share_is_not_mounted_after_a_restart(
    harness: QueueHarness,
) -> None:
    harness.devices.state["lamp"] = Presence.OFFLINE
    job = await harness.run()
    harness.configurations.available = False
    await harness.restart()
    again = harness.queue.get(job.job_id)
    assert again is not None
    assert not again.terminal

    harness.configurations.available = True
    harness.devices.state["lamp"] = Presence.ONLINE
    await harness.time.go(10)
    await settle()
    assert again.status is JobStatus.COMPLETED
    # From the kept firmware.
    assert len(harness.builder.requests) == 1
