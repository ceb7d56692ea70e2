"""Texts of builders in events and attributes: automations show them in notifications, as Markdown."""

from homeassistant.core import Event, HomeAssistant
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry, async_capture_events

from custom_components.esphome_offload.coordinator import OffloadCoordinator
from custom_components.esphome_offload.engine.build.model import (
    BuildError,
    BuilderStatus,
    BuildSink,
)
from custom_components.esphome_offload.engine.const import FailureReason, Operation
from custom_components.esphome_offload.engine.reason import Reason, ReasonKey

from .conftest import Stage, until_waiting
from .test_device_entities import ENDED, INSTALLATION, run, state_of

LABEL = "At*tic* [here](http://evil.example)\n## **Paired** <b>"
LINE = "main.cpp:7: error: `x`\r\n# [log in](http://evil.example) <img src=x> | ~~no~~ !"
FORBIDDEN = set("[]<>`*|\\~#!\r\n")


@pytest.fixture
def foreign(stage: Stage, coordinator: OffloadCoordinator) -> None:
    """Let a builder fail, with a name and a line of output that are no plain text."""

    async def fail(_request: object, _sink: BuildSink) -> None:
        reason = Reason(ReasonKey.UNEXPECTED, line=LINE)
        raise BuildError(FailureReason.COMPILE_FAILED, reason)

    stage.builder.label = LABEL
    stage.builder.script = [fail]


def texts(builder: object, reason: object) -> tuple[str, str]:
    assert isinstance(builder, str)
    assert isinstance(reason, str)
    return builder, reason


@pytest.mark.usefixtures("foreign")
@pytest.mark.parametrize("entity_id", [ENDED, INSTALLATION])
async def test_attributes_have_neither_markup_nor_line_breaks(
    hass: HomeAssistant, coordinator: OffloadCoordinator, entity_id: str
) -> None:
    await run(hass, coordinator)
    attributes = state_of(hass, entity_id).attributes
    builder, reason = texts(attributes["builder"], attributes["reason"])
    assert builder.startswith("At tic")
    assert "main.cpp:7: error: x" in " ".join(reason.split())
    assert not FORBIDDEN & {*builder, *reason}


@pytest.mark.usefixtures("foreign")
@pytest.mark.parametrize("event", ["started", "failed"])
async def test_events_have_neither_markup_nor_line_breaks(
    hass: HomeAssistant, coordinator: OffloadCoordinator, event: str
) -> None:
    events: list[Event] = async_capture_events(hass, f"esphome_offload_job_{event}")
    await run(hass, coordinator, Operation.COMPILE)
    (heard,) = events
    error = heard.data["error"] if event == "failed" else ""
    builder, reason = texts(heard.data["source_label"], error)
    assert builder.startswith("At tic")
    assert not FORBIDDEN & {*builder, *reason}


async def test_the_update_entity_has_neither_while_a_job_waits_for_a_builder(
    hass: HomeAssistant, coordinator: OffloadCoordinator, entry: MockConfigEntry, stage: Stage
) -> None:
    stage.builder.label = LABEL
    stage.builder.become(
        BuilderStatus(available=False, why_not=Reason(ReasonKey.UNEXPECTED, line=LINE))
    )
    hass.config_entries.async_update_entry(
        entry, options={"no_builder": "wait_then_fail", "wait_for_builder_minutes": 5}
    )
    job = await coordinator.async_submit("lamp.yaml", Operation.INSTALL)
    await until_waiting(coordinator, job)
    await hass.async_block_till_done()
    waiting_for = state_of(hass, "update.desk_lamp_esphome").attributes["waiting_for"]
    assert "main.cpp:7" in waiting_for
    assert not FORBIDDEN & {*waiting_for}
    await coordinator.async_cancel(job.job_id)
