"""A device whose API moved away from where Home Assistant looks for it."""

import pytest

from .harness import ports
from .harness.device import Device
from .harness.jobs import follow, submit
from .harness.offloader import Offloader

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]


async def test_device_whose_api_is_lost_is_flashed_and_comes_back(
    offloader: Offloader, device: Device, entity: str
) -> None:
    (elsewhere,) = ports.pick(1)
    device.configure(greeting="elsewhere")
    text = device.yaml.read_text()
    device.yaml.write_text(text.replace(f"port: {device.api_port}", f"port: {elsewhere}"))
    job = await submit(offloader.client, "install", entity)
    job = await follow(offloader.client, job["job_id"])
    # It was flashed well, but Home Assistant cannot ask it.
    assert job["status"] == "completed", f"{job['error']}\n{device.log[-3000:]}"
    assert job["verified"] is False
    assert "cannot connect to it" in job["message"]

    device.configure(greeting="here again")
    job = await submit(offloader.client, "install", entity)
    job = await follow(offloader.client, job["job_id"])
    assert job["status"] == "completed", job["error"]
    assert job["verified"] is True
    assert job["stages"].get("waiting_device", 0) < 30
    await offloader.device_says("here again")
