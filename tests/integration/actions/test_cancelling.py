"""Cancelling by target or by job."""

from homeassistant.core import HomeAssistant
import pytest

from custom_components.esphome_offload.coordinator import OffloadCoordinator

from ...engine.jobs.fakes import Block
from ..conftest import Stage
from .calling import (
    LAMP_ENTITY,
    Response,
    call,
    configurations,
    refused,
)


async def test_cancelling_a_target_ends_its_job(
    hass: HomeAssistant, home: OffloadCoordinator, stage: Stage
) -> None:
    block = Block()
    stage.builder.script = [block]
    await call(hass, "install", entity_id=LAMP_ENTITY)
    await block.entered.wait()

    response = await call(hass, "cancel", area_id="office")

    assert block.cancelled
    assert response["jobs"][0]["status"] == "cancelled"
    assert not stage.flasher.requests


async def test_cancelling_many_ends_those_that_have_a_job(
    hass: HomeAssistant, home: OffloadCoordinator, stage: Stage
) -> None:
    block = Block()
    stage.builder.script = [block]
    await call(hass, "install", entity_id=LAMP_ENTITY)
    await block.entered.wait()
    assert configurations(await call(hass, "cancel", entity_id="all")) == ["lamp.yaml"]


async def test_a_job_is_cancelled_by_its_id(
    hass: HomeAssistant, home: OffloadCoordinator, stage: Stage
) -> None:
    stage.builder.script = [Block()]
    job_id = (await call(hass, "install", entity_id=LAMP_ENTITY))["jobs"][0]["job_id"]
    response = await call(hass, "cancel", job_id=job_id)
    assert [job["job_id"] for job in response["jobs"]] == [job_id]
    assert response["jobs"][0]["status"] == "cancelled"

    error = await refused(hass, "cancel", job_id=job_id)
    assert error.translation_key == "nothing_to_cancel"
    assert "lamp" in str(error)


async def test_a_call_with_nothing_to_cancel_is_refused(
    hass: HomeAssistant, home: OffloadCoordinator
) -> None:
    error = await refused(hass, "cancel", entity_id="all")
    assert error.translation_key == "nothing_to_cancel"
    assert "lamp, plug" in str(error)
    error = await refused(hass, "cancel", job_id="nothing")
    assert error.translation_key == "unknown_job"


@pytest.mark.parametrize("what", [{}, {"job_id": "1", "entity_id": LAMP_ENTITY}])
async def test_jobs_to_cancel_are_named_in_exactly_one_way(
    hass: HomeAssistant, home: OffloadCoordinator, what: Response
) -> None:
    assert (await refused(hass, "cancel", **what)).translation_key == "cancel_needs_one_way"


async def test_a_fault_while_cancelling_is_not_hidden(
    hass: HomeAssistant, home: OffloadCoordinator, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.builder.script = [Block()]
    await call(hass, "install", entity_id=LAMP_ENTITY)

    async def broken(_job_id: str) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(home, "async_cancel", broken)
    with pytest.raises(RuntimeError, match="broken"):
        await call(hass, "cancel", entity_id=LAMP_ENTITY)
