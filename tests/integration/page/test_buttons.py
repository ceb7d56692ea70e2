"""What the page's buttons do."""

from pathlib import Path
from typing import Any

from aiohttp.test_utils import TestClient
from pytest_homeassistant_custom_component.typing import WebSocketGenerator

from custom_components.esphome_offload.coordinator import OffloadCoordinator
from custom_components.esphome_offload.engine.const import (
    JobStatus,
    Operation,
)
from custom_components.esphome_offload.engine.host.lending import Lending
from custom_components.esphome_offload.engine.protocol.messages import Acknowledge

from ...engine.jobs.fakes import Block
from ..conftest import Stage
from ..guest_client import OffloaderClient
from .following import Ask, Page


async def test_a_job_is_submitted_and_cancelled(
    coordinator: OffloadCoordinator, stage: Stage, ask: Ask
) -> None:
    _job, block = await stage.start_blocked(coordinator)
    job = coordinator.queue.jobs()[-1]
    answer = await ask("job/cancel", job_id=job.job_id)
    assert answer["result"]["job"]["status"] == "cancelled"
    assert not block.release.is_set()

    answer = await ask(
        "job/submit", device="lamp.yaml", operation="compile", version="2026.9.0", batch="all"
    )
    job = coordinator.queue.get(answer["result"]["job"]["job_id"])
    assert job.request.operation is Operation.COMPILE
    assert job.request.esphome_version == "2026.9.0"
    assert job.request.user_id is not None
    assert job.request.batch == "all"
    await coordinator.async_wait(job)
    assert job.status is JobStatus.COMPLETED


async def test_a_job_is_done_once_more_with_all_that_was_asked_for(
    coordinator: OffloadCoordinator, ask: Ask
) -> None:
    asked = await coordinator.async_submit(
        "lamp.yaml", Operation.COMPILE, version="2026.9.0", clean=True, address="192.0.2.7"
    )
    await coordinator.async_wait(asked)
    answer = await ask("job/retry", job_id=asked.job_id)
    again = coordinator.queue.get(answer["result"]["job"]["job_id"])
    assert again is not asked
    assert again.request.address == "192.0.2.7"
    assert again.request.esphome_version == "2026.9.0"
    assert again.request.clean
    assert again.request.user_id is not None
    await coordinator.async_wait(again)
    answer = await ask("job/retry", job_id=asked.job_id, source="local")
    here = coordinator.queue.get(answer["result"]["job"]["job_id"])
    assert here.request.requested_source == "local"
    await coordinator.async_wait(here)

    answer = await ask("job/retry", job_id="gone")
    assert answer["error"]["translation_key"] == "unknown_job"


async def test_what_cannot_be_done_is_said(ask: Ask) -> None:
    answer = await ask("job/submit", device="gone.yaml", operation="install")
    assert answer["error"]["translation_key"] == "unknown_configuration"
    assert "gone.yaml" in answer["error"]["message"]
    answer = await ask("pairing/open")
    assert answer["error"]["translation_key"] == "lending_off"


async def test_builds_are_accepted_or_not_and_a_code_is_shown(
    lent: OffloadCoordinator, shown: Page, ask: Ask
) -> None:
    assert (await ask("pairing/open"))["success"]
    await shown.until(lambda shown: shown.overview["lending"]["code"] is not None)
    assert shown.overview["lending"]["code"] == lent.lender.pairing.state.code
    assert 0 < shown.overview["lending"]["seconds_left"] <= 300
    assert (await ask("pairing/close"))["success"]
    await shown.until(lambda shown: shown.overview["lending"]["code"] is None)

    assert (await ask("accept_builds", accept=False))["success"]
    await shown.until(lambda shown: not shown.overview["lending"]["accepts_builds"])
    assert (await ask("accept_builds", accept=True))["success"]
    await shown.until(lambda shown: shown.overview["lending"]["accepts_builds"])
    assert lent.lender.lending is Lending.ON


async def test_a_build_for_a_guest_is_shown_and_stopped(
    lent: OffloadCoordinator,
    stage: Stage,
    client: TestClient,
    tmp_path: Path,
    shown: Page,
    ask: Ask,
) -> None:
    def builds(shown: Page) -> list[dict[str, Any]]:
        guests = shown.overview["lending"]["guests"]
        return [build for each in guests for build in each["builds"]]

    guest = OffloaderClient(client, tmp_path)
    await guest.pair(lent.lender.open_window().code)
    async with guest.connected() as link:
        await shown.until(
            lambda shown: (
                [each["connected"] for each in shown.overview["lending"]["guests"]] == [True]
            )
        )
        block = Block()
        stage.guests.script = [block]
        attempt_id = await link.submit()
        await block.entered.wait()
        await shown.until(lambda shown: bool(builds(shown)))
        (build,) = builds(shown)
        assert (build["attempt_id"], build["over"]) == (attempt_id, False)
        pin = shown.overview["lending"]["guests"][0]["pin_sha256"]
        assert (await ask("guest_build/stop", pin_sha256=pin, attempt_id=attempt_id))["success"]
        await shown.until(lambda shown: [each["over"] for each in builds(shown)] == [True])
        assert "stopped" in builds(shown)[0]["reason"]
        events = await link.built(attempt_id)
        assert events[-1]["reason"]["key"] == "stopped_by_owner"
    again = await ask("guest_build/stop", pin_sha256=pin, attempt_id=attempt_id)
    assert again["success"], "it has ended already"


async def test_the_output_of_a_build_for_a_guest_is_read_while_it_runs_and_after_the_guest_has_it(
    lent: OffloadCoordinator,
    stage: Stage,
    client: TestClient,
    tmp_path: Path,
    hass_ws_client: WebSocketGenerator,
) -> None:
    browser = await hass_ws_client()
    guest = OffloaderClient(client, tmp_path)
    await guest.pair(lent.lender.open_window().code)
    pin = lent.lender.guests.all()[0].pin_sha256
    async with guest.connected() as link:
        block = Block()
        stage.guests.script = [block]
        attempt_id = await link.submit()
        await block.entered.wait()
        follow = {
            "type": "esphome_offload/guest_build/follow",
            "pin_sha256": pin,
            "attempt_id": attempt_id,
        }
        await browser.send_json_auto_id(follow)
        assert (await browser.receive_json())["success"]
        event = (await browser.receive_json())["event"]
        assert (event["build"]["over"], event["terminal"]) == (False, False)
        block.release.set()
        lines = list(event["lines"])
        while not event["terminal"]:
            event = (await browser.receive_json())["event"]
            lines += event["lines"]
        assert event["build"]["state"] == "completed"
        assert event["build"]["progress"] is None
        await link.session.call(Acknowledge(attempt_id))

    await browser.send_json_auto_id(follow)
    assert (await browser.receive_json())["success"]
    again = (await browser.receive_json())["event"]
    assert (again["lines"], again["terminal"]) == (lines, True)
    await browser.send_json_auto_id({**follow, "attempt_id": "0" * 32})
    error = (await browser.receive_json())["error"]
    assert error["translation_key"] == "unknown_guest_build"


async def test_without_lending_there_is_no_build_to_stop(ask: Ask) -> None:
    answer = await ask("guest_build/stop", pin_sha256="0" * 64, attempt_id="0" * 32)
    assert answer["success"]
