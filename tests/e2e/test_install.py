"""One install, end to end: what happens, and what goes wrong."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from .conftest import connected
from .harness.client import Json, RequestFailedError
from .harness.device import FIRST_VERSION, NEW_VERSION, Device
from .harness.home import Home, until
from .harness.jobs import (
    all_jobs,
    follow,
    in_stage,
    output,
    reach,
    submit,
)

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

EVENT_KEYS = {
    "job_id",
    "device_id",
    "entity_id",
    "configuration",
    "device_name",
    "operation",
    "status",
    "stage",
    "progress",
    "source",
    "source_label",
    "source_pin_sha256",
    "esphome_version",
    "from_version",
    "verified",
    "failure_reason",
    "error",
    "seconds",
}
TERMINAL = ("completed", "failed", "cancelled")
KINDS = ("queued", "started", "progress", *TERMINAL)


async def greeting(home: Home, wanted: str) -> None:
    """Wait until the device says ``wanted``."""

    async def said() -> bool:
        state = await home.client.state("sensor.kitchen_greeting")
        return state is not None and state["state"] == wanted

    await until(said, f"the greeting {wanted!r}")


async def test_install_updates_the_device_and_tells_everybody(home: Home, entity: str) -> None:
    """The first test: the device still runs the version that it came with."""
    queue: asyncio.Queue[Json] = asyncio.Queue()
    messages: list[Json] = []
    assert await home.reported_version() == FIRST_VERSION

    async with AsyncExitStack() as stack:
        for kind in KINDS:
            event_type = f"esphome_offload_job_{kind}"
            subscription = home.client.subscribe(
                "subscribe_events", into=queue, event_type=event_type
            )
            await stack.enter_async_context(subscription)
        job_id = (await submit(home.client, "install", entity, version=NEW_VERSION))["job_id"]
        job = await follow(home.client, job_id, shown=messages.append)
        events = await everything_until_the_end(queue)

    assert job["status"] == "completed", job["error"]
    assert job["verified"] is True
    assert job["source"] == "local"
    assert {"compiling", "uploading", "verifying"} <= set(job["stages"])
    assert await home.reported_version() == NEW_VERSION

    kinds = [event["event_type"].removeprefix("esphome_offload_job_") for event in events]
    assert kinds[:2] == ["queued", "started"]
    assert kinds[-1] == "completed"
    assert len(kinds) > 3
    assert set(kinds[2:-1]) == {"progress"}
    for event in events:
        data = event["data"]
        assert set(data) == EVENT_KEYS
        assert (data["job_id"], data["entity_id"]) == (job_id, entity)
    percents = [event["data"]["progress"] for event in events]
    progress = [percent for percent in percents if percent is not None]
    assert progress == sorted(progress)
    assert progress[-1] == 100

    numbers = [(message["first_line"], message["next_line"]) for message in messages]
    assert [first for first, _ in numbers[1:]] == [after for _, after in numbers[:-1]]
    shown = [line for message in messages for line in message["lines"]]
    assert any("] CXX " in line for line in shown)
    assert shown == await output(home.client, job_id)


async def everything_until_the_end(queue: asyncio.Queue[Json]) -> list[Json]:
    """Return a job's events up to the terminal one, and what still comes right after it."""
    events = []
    async with asyncio.timeout(30):
        while not events or not events[-1]["event_type"].endswith(TERMINAL):
            events.append(await queue.get())
    while not queue.empty():
        events.append(queue.get_nowait())
    return events


async def test_second_install_while_one_runs_is_refused(
    home: Home, compiling: str, entity: str
) -> None:
    with pytest.raises(RequestFailedError, match="job runs already") as refused:
        await submit(home.client, "install", entity)
    assert refused.value.code == "service_validation_error"
    running = [job["job_id"] for job in await all_jobs(home.client) if not job["finished_at"]]
    assert running == [compiling]


async def test_invalid_configuration_fails_with_the_message_of_esphome(
    home: Home, device: Device, entity: str
) -> None:
    device.yaml.write_text(device.yaml.read_text() + "output:\n  - platform: nonsense\n")
    job = await submit(home.client, "install", entity)
    job = await follow(home.client, job["job_id"])
    assert (job["status"], job["failure_reason"]) == ("failed", "config_invalid")
    assert "nonsense" in job["error"]


async def test_wrong_ota_password_is_refused_by_the_device(
    home: Home, device: Device, entity: str
) -> None:
    device.configure(ota_password="another")
    job = await submit(home.client, "install", entity)
    job = await follow(home.client, job["job_id"])
    assert (job["status"], job["failure_reason"]) == ("failed", "upload_refused")
    await connected(home)


async def test_changed_secret_is_what_is_built_and_used(
    home: Home, device: Device, entity: str
) -> None:
    await greeting(home, "hello")
    device.configure(greeting="good evening")
    job = await submit(home.client, "install", entity)
    job = await follow(home.client, job["job_id"])
    assert job["status"] == "completed", job["error"]
    await greeting(home, "good evening")


async def test_device_that_is_off_is_flashed_when_it_comes_back(
    home: Home, device: Device, entity: str
) -> None:
    device.configure(greeting="welcome back")
    await device.switch_off()
    job = await submit(home.client, "install", entity)
    job = await reach(home.client, job["job_id"], in_stage("waiting_device"))
    state = await home.client.state(entity)
    assert state["attributes"]["in_progress"] is False
    await device.switch_on()
    job = await follow(home.client, job["job_id"])
    assert job["status"] == "completed", job["error"]
    assert job["verified"] is True
    await greeting(home, "welcome back")


async def test_install_that_waits_for_its_device_can_be_cancelled(
    home: Home, device: Device, entity: str
) -> None:
    await device.switch_off()
    job = await submit(home.client, "install", entity)
    await reach(home.client, job["job_id"], in_stage("waiting_device"))
    await home.client.service("esphome_offload.cancel", {"entity_id": entity})
    job = await follow(home.client, job["job_id"])
    assert job["status"] == "cancelled"
