"""Secrets of configurations are nowhere but in the logs of jobs."""

import json
import logging
from pathlib import Path

from homeassistant.components.recorder import Recorder, get_instance
from homeassistant.core import Event, HomeAssistant, callback
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import issue_registry as ir
from homeassistant.setup import async_setup_component
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry
from pytest_homeassistant_custom_component.components.recorder.common import (
    async_wait_recording_done,
)
from pytest_homeassistant_custom_component.typing import WebSocketGenerator
from sqlalchemy import text

from custom_components.esphome_offload.coordinator import OffloadCoordinator
from custom_components.esphome_offload.diagnostics import async_get_config_entry_diagnostics
from custom_components.esphome_offload.engine.build.diagnosis import classify
from custom_components.esphome_offload.engine.build.model import (
    BuildError,
    BuildRequest,
    BuildSink,
    FlashRequest,
)
from custom_components.esphome_offload.engine.build.process.processes import ProcessResult
from custom_components.esphome_offload.engine.build.upload_diagnosis import judge
from custom_components.esphome_offload.engine.codec import decode, encode
from custom_components.esphome_offload.engine.const import FailureReason
from custom_components.esphome_offload.engine.protocol.messages import SentReason
from custom_components.esphome_offload.stores.storage import job_journal

from ..engine.jobs.fakes import Act
from .conftest import Stage

INLINE, SECRET, SUBSTITUTED = "inline-hunter2", "secret-hunter2", "substituted-hunter2"
SECRETS = (INLINE, SECRET, SUBSTITUTED)
ENTITY = "update.desk_lamp_esphome"

LAMP = f"""
substitutions:
  password: {SUBSTITUTED}
esphome:
  name: lamp
  friendly_name: Desk lamp
host:
wifi:
  password: {INLINE}
api:
  password: !secret api
ota:
  password: ${{password}}
"""

REFUSED = [
    "Failed config",
    "",
    "wifi: [source lamp.yaml:8]",
    f"  '{INLINE}' is not a valid value, nor is {SECRET}",
    f"  password: {INLINE}",
    f"  key: {SECRET}",
    f"  other: {SUBSTITUTED} [source {SECRET}:3]",
]
NOT_YAML = [
    f"ERROR Error while reading config: Invalid YAML syntax: {INLINE}",
    f'  in "{{folder}}/lamp.yaml", line 9, column 3: {SECRET} {SUBSTITUTED}',
]
NOT_COMPILED = [
    f"{{folder}}/lamp.yaml:9:3: error: '{INLINE}' was not declared in this scope",
    f'   9 |   connect("{SECRET}");',
    f"src/main.cpp:9:3: error: #error {SUBSTITUTED}",
]
ENDED = [f"ERROR {INLINE} {SECRET}", f"what(): {SUBSTITUTED}"]
NOT_FLASHED = [
    f"ERROR {INLINE} says no",
    f"ERROR Authentication of {SECRET} with {SUBSTITUTED} failed",
]


class Failing:
    """Prints lines, then fails as what stands in them says."""

    def __init__(self, lines: list[str], exit_code: int, folder: Path) -> None:
        self.lines = [line.replace("{folder}", str(folder)) for line in lines]
        self.result = ProcessResult(exit_code=exit_code)
        self.folder = folder

    async def build(self, _request: BuildRequest, sink: BuildSink) -> None:
        sink.lines(self.lines)
        raise classify(self.lines, self.result, self.folder)

    async def flash(self, _request: FlashRequest, sink: BuildSink) -> None:
        sink.lines(self.lines)
        raise judge(self.lines, self.result, "lamp", self.folder)


def as_a_peer_says(**said: object) -> Act:
    """Return an act that fails with what a careless builder says."""

    async def act(_request: BuildRequest, sink: BuildSink) -> None:
        sink.lines(SECRETS)
        sent = {"line": f"{INLINE} {SECRET} {SUBSTITUTED}", **said}
        reason = decode(SentReason, sent).received(label="attic", device="lamp")
        raise BuildError(FailureReason.COMPILE_FAILED, reason)

    return act


IN_PARAMETERS = {"file": f"{INLINE}/{SECRET}", "row": SUBSTITUTED}


@pytest.fixture(autouse=True)
def _custom_integrations(recorder_db_url: str, enable_custom_integrations: None) -> None:
    """Let Home Assistant load this integration, once there is a database."""


@pytest.fixture
def planted(config_dir: Path) -> Path:
    """Plant the secrets in the configuration."""
    (config_dir / "lamp.yaml").write_text(LAMP)
    (config_dir / "secrets.yaml").write_text(f"api: {SECRET}\n")
    return config_dir


async def test_they_are_told_nowhere_else(
    recorder_mock: Recorder,
    hass: HomeAssistant,
    planted: Path,
    stage: Stage,
    entry: MockConfigEntry,
    coordinator: OffloadCoordinator,
    caplog: pytest.LogCaptureFixture,
    hass_ws_client: WebSocketGenerator,
    hass_read_only_access_token: str,
) -> None:
    caplog.set_level(logging.DEBUG)
    for domain in ("logbook", "system_health", "repairs"):
        assert await async_setup_component(hass, domain, {})
    seen: list[object] = []

    @callback
    def see(event: Event) -> None:
        seen.append(event.as_dict())

    hass.bus.async_listen("*", see)
    client = await hass_ws_client(hass, hass_read_only_access_token)
    owner = await hass_ws_client(hass)

    for lines, exit_code in ((REFUSED, 2), (NOT_YAML, 2), (NOT_COMPILED, 1), (ENDED, 1)):
        stage.builder.script.append(Failing(lines, exit_code, planted).build)
    stage.builder.script.append(as_a_peer_says(key="code_refused_at", parameters=IN_PARAMETERS))
    stage.builder.script.append(as_a_peer_says(key="code_refused"))
    stage.flasher.script.append(Failing(NOT_FLASHED, 1, planted).flash)
    for _ in range(7):
        with pytest.raises(HomeAssistantError) as raised:
            await hass.services.async_call(
                "update", "install", {"entity_id": ENTITY}, blocking=True
            )
        seen += [str(raised.value), raised.value.translation_placeholders]
        await owner.send_json_auto_id({"type": "update/release_notes", "entity_id": ENTITY})
        seen.append(await owner.receive_json())
    await hass.async_block_till_done(wait_background_tasks=True)
    await async_wait_recording_done(hass)

    for command in (
        {"type": "logbook/get_events", "start_time": "2020-01-01T00:00:00+00:00"},
        {"type": "repairs/list_issues"},
        {"type": "get_states"},
        {"type": "esphome_offload/jobs/list"},
    ):
        await client.send_json_auto_id(command)
        seen.append(await client.receive_json())
    seen += [state.as_dict() for state in hass.states.async_all()]
    seen.append(list(ir.async_get(hass).issues.values()))
    seen.append(await async_get_config_entry_diagnostics(hass, entry))
    seen.append([coordinator.job_details(job) for job in coordinator.queue.jobs()])
    await coordinator.queue._persistence.aclose()
    stored = await job_journal(hass).load()
    assert len(stored) == 7
    seen.append([encode(job) for job in stored])
    seen.append(await get_instance(hass).async_add_executor_job(database, hass))
    found = {secret for secret in SECRETS for each in (*seen, caplog.text) if secret in str(each)}
    assert found == set()

    for job in coordinator.queue.jobs():
        log = "\n".join((await coordinator.logs.read(job.job_id)).lines)
        assert all(secret in log for secret in SECRETS), "the administrator sees all"


def database(hass: HomeAssistant) -> str:
    """Return all that the recorder has written."""
    with get_instance(hass).get_session() as session:
        tables = session.execute(text("SELECT name FROM sqlite_master WHERE type = 'table'"))
        rows = [
            [str(row) for row in session.execute(text(f"SELECT * FROM {name}"))]
            for (name,) in tables.all()
        ]
    written = json.dumps(rows)
    assert "esphome_offload_job_failed" in written
    return written
