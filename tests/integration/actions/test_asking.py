"""Asking for jobs and for their output."""

from typing import Any

from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError
import pytest

from custom_components.esphome_offload.coordinator import OffloadCoordinator
from custom_components.esphome_offload.engine.build.model import BuildSink
from custom_components.esphome_offload.engine.const import FailureReason

from ...engine.jobs.fakes import Block, failing
from ..conftest import Stage
from .calling import (
    LAMP_ENTITY,
    PLUG_ENTITY,
    Response,
    call,
    own_device,
    refused,
)


async def test_jobs_are_returned_newest_first_and_can_be_narrowed_down(
    hass: HomeAssistant, home: OffloadCoordinator, stage: Stage
) -> None:
    assert await call(hass, "get_jobs") == {"jobs": []}
    await call(hass, "compile", entity_id=PLUG_ENTITY, wait=True)
    await call(hass, "install", entity_id=PLUG_ENTITY, wait=True)
    stage.builder.script = [failing(FailureReason.COMPILE_FAILED)]
    with pytest.raises(HomeAssistantError):
        await call(hass, "compile", entity_id=LAMP_ENTITY, wait=True)

    async def asked(**data: Any) -> list[tuple[str, str]]:
        jobs = (await call(hass, "get_jobs", **data))["jobs"]
        return [(job["device_name"], job["operation"]) for job in jobs]

    everything = [("lamp", "compile"), ("plug", "install"), ("plug", "compile")]
    assert await asked() == everything
    assert await asked(entity_id=PLUG_ENTITY) == everything[1:]
    assert await asked(status="failed") == everything[:1]
    assert await asked(status=["completed"], limit=1) == everything[1:2]
    assert await asked(area_id="office", status="completed") == []
    assert (await refused(hass, "get_jobs", area_id="attic")).translation_key == "area_not_found"


async def test_the_output_of_a_job_is_read_page_by_page(
    hass: HomeAssistant, home: OffloadCoordinator, stage: Stage
) -> None:
    block = Block()

    async def talk(request: object, sink: BuildSink) -> None:
        sink.lines(["one", "two"])
        await block(request, sink)
        sink.lines(["three"])

    stage.builder.script = [talk]
    job_id = (await call(hass, "compile", entity_id=PLUG_ENTITY))["jobs"][0]["job_id"]
    await block.entered.wait()

    so_far = await call(hass, "get_log", job_id=job_id)
    assert so_far["lines"][-3:] == ["INFO Compiling", "one", "two"]
    assert (so_far["first_line"], so_far["complete"]) == (0, False)
    after_two = so_far["next_line"]
    assert after_two == len(so_far["lines"])

    page = await call(hass, "get_log", entity_id=PLUG_ENTITY, from_line=after_two - 2, limit=1)
    assert page == {
        "job_id": job_id,
        "first_line": after_two - 2,
        "lines": ["one"],
        "next_line": after_two - 1,
        "complete": False,
    }

    block.release.set()
    await home.async_wait(home.queue.jobs()[0])
    rest = await call(hass, "get_log", device_id=own_device(hass, PLUG_ENTITY), from_line=after_two)
    assert rest["lines"][0] == "three"
    assert rest["complete"]
    first = await call(hass, "get_log", job_id=job_id, limit=1)
    assert (first["next_line"], first["complete"]) == (1, False)


async def test_the_output_of_the_newest_job_of_a_device_is_meant(
    hass: HomeAssistant, home: OffloadCoordinator
) -> None:
    await call(hass, "compile", entity_id=PLUG_ENTITY, wait=True)
    second = await call(hass, "compile", entity_id=PLUG_ENTITY, wait=True)
    page = await call(hass, "get_log", entity_id=PLUG_ENTITY)
    assert page["job_id"] == second["jobs"][0]["job_id"]


@pytest.mark.parametrize(
    ("what", "key"),
    [
        ({}, "log_needs_one_way"),
        ({"job_id": "1", "entity_id": LAMP_ENTITY}, "log_needs_one_way"),
        ({"entity_id": "all"}, "log_needs_one_way"),
        ({"job_id": "nothing"}, "unknown_job"),
        ({"entity_id": LAMP_ENTITY}, "no_job_yet"),
    ],
)
async def test_whose_output_is_wanted_must_be_clear(
    hass: HomeAssistant, home: OffloadCoordinator, what: Response, key: str
) -> None:
    assert (await refused(hass, "get_log", **what)).translation_key == key
