"""Following jobs over the websocket."""

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
import socket
from typing import Any
from unittest.mock import ANY, patch

import aiohttp
from homeassistant.core import HomeAssistant
import pytest
from pytest_homeassistant_custom_component.typing import (
    MockHAClientWebSocket,
    WebSocketGenerator,
)

from custom_components.esphome_offload import websocket_api
from custom_components.esphome_offload.coordinator import OffloadCoordinator
from custom_components.esphome_offload.engine.build.model import BuildRequest, BuildSink
from custom_components.esphome_offload.engine.const import JobStatus, Operation
from custom_components.esphome_offload.engine.jobs.model import FirmwareJob, JobEvent
from custom_components.esphome_offload.engine.target import TargetId
from custom_components.esphome_offload.page import websocket_stream as outlet_module
from custom_components.esphome_offload.page.websocket_stream import ThrottledSubscription

from ..engine.jobs.fakes import Block
from .conftest import LAMP, Stage

FOLLOW = "esphome_offload/job/follow"


class Printer(Block):
    """Prints lines, then goes on until it is released."""

    def __init__(self, count: int, pause: float = 0) -> None:
        super().__init__()
        self.count = count
        self.pause = pause

    async def __call__(self, request: BuildRequest, sink: BuildSink) -> None:
        for first in range(0, self.count, 100):
            last = min(first + 100, self.count)
            sink.lines([f"line {number} {'x' * 60}" for number in range(first, last)])
            await asyncio.sleep(self.pause)
        await super().__call__(request, sink)


class Follower:
    """The messages to one client."""

    def __init__(self, client: MockHAClientWebSocket) -> None:
        self.client = client
        self.events: list[dict[str, Any]] = []

    @property
    def lines(self) -> list[str]:
        return [line for event in self.events for line in event["lines"]]

    async def until_terminal(self) -> None:
        while not self.events or not self.events[-1]["terminal"]:
            message = await self.client.receive_json()
            assert message["type"] == "event"
            event = message["event"]
            if self.events:
                assert event["first_line"] >= self.events[-1]["next_line"]
            assert len(event["lines"]) <= 500
            self.events.append(event)


async def follow(client: MockHAClientWebSocket, job_id: str, from_line: int = 0) -> Follower:
    await client.send_json_auto_id({"type": FOLLOW, "job_id": job_id, "from_line": from_line})
    answer = await client.receive_json()
    assert answer["success"], answer
    return Follower(client)


async def test_a_subscriber_gets_the_log_so_far_then_new_lines_then_the_end(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    stage: Stage,
    hass_ws_client: WebSocketGenerator,
) -> None:
    printer = Printer(10)
    stage.builder.script = [printer]
    job = await coordinator.async_submit("lamp.yaml", Operation.INSTALL)
    await printer.entered.wait()

    follower = await follow(await hass_ws_client(), job.job_id)
    first = (await follower.client.receive_json())["event"]
    assert first["first_line"] == 0
    assert [line for line in first["lines"] if line.startswith("line 9 ")]
    assert first["job"]["status"] == "running"
    assert first["job"]["stage"] == "compiling"
    assert first["terminal"] is False

    follower.events.append(first)
    printer.release.set()
    await follower.until_terminal()
    last = follower.events[-1]
    assert last["job"]["status"] == "completed"
    assert [event["terminal"] for event in follower.events].count(True) == 1
    page = await coordinator.logs.read(job.job_id)
    assert follower.lines == list(page.lines)


async def test_a_job_that_has_ended_can_be_read_from_any_line(
    coordinator: OffloadCoordinator, hass_ws_client: WebSocketGenerator
) -> None:
    job = await coordinator.async_submit("lamp.yaml", Operation.COMPILE)
    await coordinator.async_wait(job)
    page = await coordinator.logs.read(job.job_id)

    follower = await follow(await hass_ws_client(), job.job_id, from_line=2)
    await follower.until_terminal()
    assert follower.events[0]["first_line"] == 2
    assert follower.lines == list(page.lines[2:])


async def test_output_comes_in_at_most_ten_messages_a_second(
    coordinator: OffloadCoordinator, stage: Stage, hass_ws_client: WebSocketGenerator
) -> None:
    printer = Printer(3000)
    stage.builder.script = [printer]
    job = await coordinator.async_submit("lamp.yaml", Operation.INSTALL)
    follower = await follow(await hass_ws_client(), job.job_id)
    times: list[float] = []
    printer.release.set()
    loop = asyncio.get_running_loop()
    while not follower.events or not follower.events[-1]["terminal"]:
        follower.events.append((await follower.client.receive_json())["event"])
        times.append(loop.time())
    assert len(follower.lines) >= 3000
    # Eleven messages are ten intervals apart.
    assert all(later - now >= 0.9 for now, later in zip(times, times[10:], strict=False))


@pytest.fixture
async def narrow_client(
    hass: HomeAssistant, hass_ws_client: WebSocketGenerator, hass_access_token: str
) -> AsyncGenerator[aiohttp.ClientWebSocketResponse]:
    """Return a client that buffers almost nothing that it has not read."""
    url = (await hass_ws_client()).client.make_url("/api/websocket")

    def narrow_socket(address: tuple[Any, ...]) -> socket.socket:
        made = socket.socket(*address[:3])
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        return made

    connector = aiohttp.TCPConnector(socket_factory=narrow_socket)
    async with (
        aiohttp.ClientSession(connector=connector, read_bufsize=4096) as session,
        session.ws_connect(url) as client,
    ):
        await client.receive_json()
        await client.send_json({"type": "auth", "access_token": hass_access_token})
        assert (await client.receive_json())["type"] == "auth_ok"
        yield client


@pytest.mark.parametrize("countable", [True, False])
async def test_a_client_that_does_not_read_is_not_cut_off_and_gets_the_end(
    coordinator: OffloadCoordinator,
    stage: Stage,
    narrow_client: aiohttp.ClientWebSocketResponse,
    monkeypatch: pytest.MonkeyPatch,
    *,
    countable: bool,
) -> None:
    unread: list[int] = []
    send = ThrottledSubscription.send

    def watched_send(outlet: ThrottledSubscription, event: dict[str, Any]) -> None:
        handler: Any = outlet_module._handler(outlet._connection)
        sock = handler._request.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        handler._wsock._writer._limit = 4096
        send(outlet, event)
        unread.append(len(handler._message_queue))

    monkeypatch.setattr(ThrottledSubscription, "send", watched_send)
    monkeypatch.setattr(websocket_api, "OUTPUT_INTERVAL", 0.001)
    monkeypatch.setattr(outlet_module, "_BLIND_INTERVAL", 0.1)
    if not countable:
        monkeypatch.setattr(outlet_module, "_unread", lambda _connection: None)

    # Slow enough that a follower which heeds nothing would send a message for each batch.
    printer = Printer(20_000, pause=0.003)
    stage.builder.script = [printer]
    job = await coordinator.async_submit("lamp.yaml", Operation.INSTALL)
    await narrow_client.send_json({"id": 1, "type": FOLLOW, "job_id": job.job_id})
    await printer.entered.wait()
    printer.release.set()
    await coordinator.async_wait(job)
    assert job.status is JobStatus.COMPLETED

    events: list[dict[str, Any]] = []
    assert (await narrow_client.receive_json())["success"]
    while not events or not events[-1]["terminal"]:
        events.append((await narrow_client.receive_json())["event"])
    assert events[-1]["job"]["status"] == "completed"
    assert not narrow_client.closed
    assert any("line 19999 " in line for line in events[-1]["lines"] + events[-2]["lines"])
    if countable:
        assert max(unread) == 17


async def test_a_client_that_goes_away_leaves_nothing_behind(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    stage: Stage,
    hass_ws_client: WebSocketGenerator,
) -> None:
    job, block = await stage.start_blocked(coordinator)
    listeners = coordinator.queue._ledger._listeners_by_job
    assert not listeners
    client = await hass_ws_client()
    follower = await follow(client, job.job_id)
    await follower.client.receive_json()
    assert set(listeners) == {job.job_id}
    await client.close()
    await hass.async_block_till_done(wait_background_tasks=True)
    assert not listeners
    block.release.set()
    await coordinator.async_wait(job)


async def test_an_unknown_job_is_not_found(
    coordinator: OffloadCoordinator, hass_ws_client: WebSocketGenerator
) -> None:
    client = await hass_ws_client()
    await client.send_json_auto_id({"type": FOLLOW, "job_id": "x"})
    answer = await client.receive_json()
    assert answer["error"]["code"] == "not_found"
    assert answer["error"]["translation_key"] == "unknown_job"


@pytest.mark.parametrize(
    "command",
    [
        {"type": FOLLOW, "job_id": "x"},
        {"type": "esphome_offload/jobs/list"},
        {"type": "esphome_offload/jobs/subscribe"},
    ],
)
async def test_only_admins_may(
    coordinator: OffloadCoordinator,
    hass_ws_client: WebSocketGenerator,
    hass_read_only_access_token: str,
    command: dict[str, Any],
) -> None:
    client = await hass_ws_client(access_token=hass_read_only_access_token)
    await client.send_json_auto_id(command)
    assert (await client.receive_json())["error"]["code"] == "unauthorized"


async def test_the_list_has_the_newest_first(
    coordinator: OffloadCoordinator, hass_ws_client: WebSocketGenerator
) -> None:
    jobs = []
    for _ in range(3):
        jobs.append(await coordinator.async_submit("lamp.yaml", Operation.COMPILE, clean=True))
        await coordinator.async_wait(jobs[-1])
    client = await hass_ws_client()
    await client.send_json_auto_id({"type": "esphome_offload/jobs/list", "limit": 2})
    listed = (await client.receive_json())["result"]["jobs"]
    assert [each["job_id"] for each in listed] == [jobs[2].job_id, jobs[1].job_id]
    assert listed[0]["status"] == "completed"
    assert listed[0]["attempts"][0]["label"] == "This instance"


async def test_the_list_has_all_active_jobs_whatever_its_limit(
    coordinator: OffloadCoordinator, stage: Stage, hass_ws_client: WebSocketGenerator
) -> None:
    ended, _block = await stage.start_blocked(coordinator)
    await coordinator.async_cancel(ended.job_id)
    active, _block = await stage.start_blocked(coordinator)
    client = await hass_ws_client()
    with patch.object(coordinator.queue, "jobs", return_value=[active, *[ended] * 3]):
        await client.send_json_auto_id({"type": "esphome_offload/jobs/list", "limit": 2})
        listed = (await client.receive_json())["result"]["jobs"]
    assert [each["job_id"] for each in listed] == [ended.job_id, ended.job_id, active.job_id]


async def test_a_subscriber_gets_all_jobs_then_those_that_changed(
    coordinator: OffloadCoordinator, hass_ws_client: WebSocketGenerator
) -> None:
    earlier = await coordinator.async_submit("lamp.yaml", Operation.COMPILE)
    await coordinator.async_wait(earlier)
    client = await hass_ws_client()
    await client.send_json_auto_id({"type": "esphome_offload/jobs/subscribe"})
    assert (await client.receive_json())["success"]
    snapshot = (await client.receive_json())["event"]
    assert snapshot["snapshot"] is True
    assert [each["job_id"] for each in snapshot["jobs"]] == [earlier.job_id]

    job = await coordinator.async_submit("lamp.yaml", Operation.COMPILE)
    await coordinator.async_wait(job)
    changes = (await client.receive_json())["event"]
    # All that happened within the interval is one message with the job as it is now.
    assert changes["snapshot"] is False
    assert [(each["job_id"], each["status"]) for each in changes["jobs"]] == [
        (job.job_id, "completed")
    ]


async def has_place(coordinator: OffloadCoordinator, job: FirmwareJob, place: int) -> None:
    async with asyncio.timeout(10):
        while coordinator.queue.forecast(job).place != place:  # noqa: ASYNC110 - it has no event of its own
            await asyncio.sleep(0.01)


@pytest.fixture
def three_devices(config_dir: Path) -> None:
    for name in ("plug", "sofa"):
        (config_dir / f"{name}.yaml").write_text(LAMP.replace("lamp", name))


@pytest.mark.usefixtures("three_devices")
async def test_a_subscriber_is_told_who_moved_up_in_the_queue_without_an_event_of_its_own(
    coordinator: OffloadCoordinator,
    stage: Stage,
    hass_ws_client: WebSocketGenerator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(websocket_api, "_EXPECTED_INTERVAL", 0.01)
    blocks = [Block(), Block(), Block()]
    stage.builder.script = list(blocks)
    first, *_, last = [
        await coordinator.async_submit(TargetId(f"{name}.yaml"), Operation.COMPILE)
        for name in ("lamp", "plug", "sofa")
    ]
    await blocks[0].entered.wait()
    await has_place(coordinator, last, 2)
    client = await hass_ws_client()
    await client.send_json_auto_id({"type": "esphome_offload/jobs/subscribe"})
    assert (await client.receive_json())["success"]
    snapshot = (await client.receive_json())["event"]
    assert [each["queue_place"] for each in snapshot["jobs"]] == [2, 1, None]
    told: list[tuple[JobEvent, FirmwareJob]] = []
    coordinator.queue.subscribe(last.job_id, lambda event, job: told.append((event, job)))

    blocks[0].release.set()
    await coordinator.async_wait(first)
    changes = (await client.receive_json())["event"]
    assert last.job_id not in [each["job_id"] for each in changes["jobs"]]
    assert changes["expected"][last.job_id] == {"queue_place": 1, "expected_end": ANY}
    assert not told
    for block in blocks:
        block.release.set()


@pytest.mark.usefixtures("three_devices")
async def test_a_job_whose_output_somebody_follows_comes_first_meanwhile(
    coordinator: OffloadCoordinator, stage: Stage, hass_ws_client: WebSocketGenerator
) -> None:
    block = Block()
    stage.builder.script = [block]
    await coordinator.async_submit(TargetId("lamp.yaml"), Operation.COMPILE)
    await block.entered.wait()
    plug, sofa = [
        await coordinator.async_submit(TargetId(f"{name}.yaml"), Operation.COMPILE)
        for name in ("plug", "sofa")
    ]
    await has_place(coordinator, sofa, 2)
    client = await hass_ws_client()
    await follow(client, sofa.job_id)
    assert (await client.receive_json())["event"]["job"]["queue_place"] == 1
    assert coordinator.queue.forecast(plug).place == 2
    await client.send_json_auto_id({"type": "unsubscribe_events", "subscription": 1})
    while not (await client.receive_json()).get("success"):
        pass
    await has_place(coordinator, sofa, 2)
    block.release.set()
