"""One install on one Home Assistant, and how it fails."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from custom_components.esphome_offload.jobs.payload import JobEventPayload

from .harness.client import Json, RequestFailedError
from .harness.device import FIRST_VERSION, NEW_VERSION, Device
from .harness.jobs import (
    all_jobs,
    follow,
    has,
    in_stage,
    output,
    reach,
    submit,
)
from .harness.offloader import Offloader
from .harness.waiting import PATIENCE, until

pytestmark = [pytest.mark.e2e, pytest.mark.asyncio(loop_scope="session")]

TERMINAL = ("completed", "failed", "cancelled")
KINDS = ("queued", "started", "progress", *TERMINAL)


async def test_install_updates_the_device_and_fires_its_events(
    offloader: Offloader, entity: str
) -> None:
    """The first test: the device still runs the version that it came with."""
    queue: asyncio.Queue[Json] = asyncio.Queue()
    messages: list[Json] = []
    assert await offloader.reported_version() == FIRST_VERSION

    async with AsyncExitStack() as stack:
        for kind in KINDS:
            event_type = f"esphome_offload_job_{kind}"
            subscription = offloader.client.subscribe(
                "subscribe_events", into=queue, event_type=event_type
            )
            await stack.enter_async_context(subscription)
        job_id = (await submit(offloader.client, "install", entity, version=NEW_VERSION))["job_id"]
        job = await follow(offloader.client, job_id, shown=messages.append)
        events = await events_of_one_job(queue)

    assert job["status"] == "completed", job["error"]
    assert job["verified"] is True
    assert job["source"] == "local"
    assert {"compiling", "uploading", "verifying"} <= set(job["stages"])
    assert await offloader.reported_version() == NEW_VERSION

    kinds = [event["event_type"].removeprefix("esphome_offload_job_") for event in events]
    assert kinds[:2] == ["queued", "started"]
    assert kinds[-1] == "completed"
    assert len(kinds) > 3
    assert set(kinds[2:-1]) == {"progress"}
    for event in events:
        data = event["data"]
        assert data.keys() == JobEventPayload.__required_keys__
        assert (data["job_id"], data["entity_id"]) == (job_id, entity)
    percents = [event["data"]["progress"] for event in events]
    progress = [percent for percent in percents if percent is not None]
    assert progress == sorted(progress)
    assert progress[-1] == 100

    numbers = [(message["first_line"], message["next_line"]) for message in messages]
    assert [first for first, _ in numbers[1:]] == [after for _, after in numbers[:-1]]
    shown = [line for message in messages for line in message["lines"]]
    assert any("] CXX " in line for line in shown)
    assert shown == await output(offloader.client, job_id)


async def events_of_one_job(queue: asyncio.Queue[Json]) -> list[Json]:
    """Return a job's events up to the terminal one, and those that came right after it."""
    events = []
    async with asyncio.timeout(PATIENCE):
        while not events or not events[-1]["event_type"].endswith(TERMINAL):
            events.append(await queue.get())
    while not queue.empty():
        events.append(queue.get_nowait())
    return events


async def test_second_install_while_one_runs_is_refused(
    offloader: Offloader, compiling: str, entity: str
) -> None:
    with pytest.raises(RequestFailedError, match="job runs already") as refused:
        await submit(offloader.client, "install", entity)
    assert refused.value.code == "service_validation_error"
    running = [job["job_id"] for job in await all_jobs(offloader.client) if not job["finished_at"]]
    assert running == [compiling]


async def test_invalid_configuration_fails_with_the_message_of_esphome(
    offloader: Offloader, device: Device, entity: str
) -> None:
    device.yaml.write_text(device.yaml.read_text() + "output:\n  - platform: nonsense\n")
    job = await submit(offloader.client, "install", entity)
    job = await follow(offloader.client, job["job_id"])
    assert (job["status"], job["failure_reason"]) == ("failed", "config_invalid")
    assert has(job["error"], "platform not found")


async def test_wrong_ota_password_is_refused_by_the_device(
    offloader: Offloader, device: Device, entity: str
) -> None:
    device.configure(ota_password="another")
    job = await submit(offloader.client, "install", entity)
    job = await follow(offloader.client, job["job_id"])
    assert (job["status"], job["failure_reason"]) == ("failed", "upload_refused")
    await offloader.device_connected()


async def test_changed_secret_is_what_is_built_and_used(
    offloader: Offloader, device: Device, entity: str
) -> None:
    await offloader.device_says("hello")
    device.configure(greeting="good evening")
    job = await submit(offloader.client, "install", entity)
    job = await follow(offloader.client, job["job_id"])
    assert job["status"] == "completed", job["error"]
    await offloader.device_says("good evening")


async def test_changed_configuration_is_an_update_in_words_and_a_comment_is_none(
    offloader: Offloader, device: Device, entity: str
) -> None:
    async def shown(state: str, changed: bool) -> Json:
        found = await offloader.client.state(entity)
        right = found["attributes"].get("configuration_changed") is changed
        return found if right and found["state"] == state else None

    job = await submit(offloader.client, "install", entity)
    job = await follow(offloader.client, job["job_id"])
    assert job["status"] == "completed", job["error"]
    await until(lambda: shown("off", False), "the firmware to be that of the configuration")

    device.configure(greeting="another")
    state = await until(lambda: shown("on", True), "the changed secret to be noticed")
    latest = state["attributes"]["latest_version"]
    assert latest.startswith(f"{NEW_VERSION} (configuration changed, ")

    device.configure(greeting="hello")
    device.yaml.write_text(f"# nothing new\n{device.yaml.read_text()}")
    await until(lambda: shown("off", False), "the change to be taken back")

    device.configure(greeting="another")
    await until(lambda: shown("on", True), "the changed secret to be noticed again")
    await offloader.client.service("update.install", {"entity_id": entity}, seconds=PATIENCE)
    await until(lambda: shown("off", False), "the changed firmware to run")
    await offloader.device_says("another")


async def test_device_that_is_off_is_flashed_when_it_comes_back(
    offloader: Offloader, device: Device, entity: str
) -> None:
    device.configure(greeting="welcome back")
    await device.switch_off()
    job = await submit(offloader.client, "install", entity)
    job = await reach(offloader.client, job["job_id"], in_stage("waiting_device"))
    state = await offloader.client.state(entity)
    assert state["attributes"]["in_progress"] is False
    await device.switch_on()
    job = await follow(offloader.client, job["job_id"])
    assert job["status"] == "completed", job["error"]
    assert job["verified"] is True
    await offloader.device_says("welcome back")


async def test_install_that_waits_for_its_device_can_be_cancelled(
    offloader: Offloader, device: Device, entity: str
) -> None:
    await device.switch_off()
    job = await submit(offloader.client, "install", entity)
    await reach(offloader.client, job["job_id"], in_stage("waiting_device"))
    await offloader.client.service("esphome_offload.cancel", {"entity_id": entity})
    job = await follow(offloader.client, job["job_id"])
    assert job["status"] == "cancelled"


async def test_renamed_configuration_keeps_its_device(
    offloader: Offloader, device: Device, entity: str
) -> None:
    text = device.yaml.read_text()
    # There, and back.
    for greeting, name in (("renamed", "pantry"), ("as before", device.name)):
        device.configure(greeting=greeting)
        device.yaml.write_text(text.replace(f"name: {device.name}\n", f"name: {name}\n", 1))
        job = await submit(offloader.client, "install", entity)
        job = await follow(offloader.client, job["job_id"])
        assert job["status"] == "completed", job["error"]
        assert job["verified"] is True
        await offloader.device_says(greeting)
