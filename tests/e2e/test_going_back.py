"""A device that goes back to its old firmware.

A boot loader that does so needs real hardware. The device here is the real program of ESPHome's
host platform; a stand-in for the boot loader starts the old program in the place of the new one.
"""

from collections.abc import Awaitable, Callable

import pytest

from .harness.client import Json
from .harness.device import Device
from .harness.jobs import Job, follow, reach, submit
from .harness.offloader import Offloader
from .harness.waiting import PATIENCE, until

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

type GoBack = Callable[[], Awaitable[None]]


@pytest.fixture
def go_back(offloader: Offloader, device: Device) -> GoBack:
    """Return the stand-in, with the program that the device has now."""
    old = device.program.read_bytes()

    async def go_back() -> None:
        await device.switch_off()
        device.program.write_bytes(old)
        await device.switch_on()

    return go_back


async def repair(offloader: Offloader) -> Json:
    answer = await offloader.client.call("repairs/list_issues")
    wanted = f"rolled_back_{offloader.device.configuration}"
    return next((issue for issue in answer["issues"] if issue["issue_id"] == wanted), None)


def counts_down(event: Json) -> bool:
    """Return whether a job waits for its firmware to count as good."""
    job: Job = event["job"]
    return job["stage"] == "verifying" and bool(job["waiting_for"])


async def test_a_device_that_goes_back_before_the_firmware_is_good_was_not_updated(
    offloader: Offloader, device: Device, entity: str, go_back: GoBack
) -> None:
    device.configure(greeting="for a moment", good_after=50)
    job = await submit(offloader.client, "install", entity)
    await reach(offloader.client, job["job_id"], counts_down)
    await offloader.device_says("for a moment")
    await go_back()
    job = await follow(offloader.client, job["job_id"])
    assert (job["status"], job["failure_reason"]) == ("failed", "rolled_back")
    assert job["verified"] is False
    await until(lambda: repair(offloader), "the repair", PATIENCE)


async def test_firmware_that_counts_as_good_is_verified_and_ends_the_repair(
    offloader: Offloader, device: Device, entity: str, go_back: GoBack
) -> None:
    device.configure(greeting="for good", good_after=8)
    job = await submit(offloader.client, "install", entity)
    job = await follow(offloader.client, job["job_id"])
    assert job["status"] == "completed", job["error"]
    assert job["verified"] is True
    assert job["stages"]["verifying"] >= 8

    async def over() -> bool:
        return await repair(offloader) is None

    await until(over, "no repair", PATIENCE)
    # Later than anybody waits for.
    await go_back()
    await until(lambda: repair(offloader), "the repair", PATIENCE)
