"""The blueprints, each run by Home Assistant's own automation with our own actions and triggers."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from datetime import datetime
from pathlib import Path
import shutil
from typing import Any

from freezegun.api import FrozenDateTimeFactory
from homeassistant.components.automation.config import PLATFORM_SCHEMA
from homeassistant.components.blueprint import importer, models
from homeassistant.components.blueprint.schemas import BLUEPRINT_SCHEMA
from homeassistant.components.persistent_notification import DOMAIN as NOTIFICATIONS
from homeassistant.core import HomeAssistant, ServiceCall
from homeassistant.setup import async_setup_component
from homeassistant.util import dt as dt_util, yaml as yaml_util
import pytest
from pytest_homeassistant_custom_component.common import (
    async_fire_time_changed,
    async_mock_service,
)
from pytest_homeassistant_custom_component.test_util.aiohttp import AiohttpClientMocker

from custom_components.esphome_offload.const import DOMAIN
from custom_components.esphome_offload.coordinator import OffloadCoordinator
from custom_components.esphome_offload.engine.const import FailureReason, Operation

from ..engine.jobs.fakes import because, failing, settle
from .conftest import NEWEST, Stage
from .live_lamp import LiveLamp
from .outdated_home import furnish, update_entity
from .sources import REPOSITORY

FOLDER = REPOSITORY / "blueprints" / "automation" / DOMAIN
BLUEPRINTS = sorted(FOLDER.iterdir())
PHONE = {"notify": ["notify.phone"]}
ALIVE = "switch.attic_fan"


@pytest.fixture
def devices(hass: HomeAssistant, config_dir: Path, stage: Stage) -> dict[str, LiveLamp]:
    return furnish(hass, config_dir, stage)


@pytest.fixture
async def home(devices: dict[str, LiveLamp], coordinator: OffloadCoordinator) -> OffloadCoordinator:
    return coordinator


@pytest.fixture
async def sent(
    hass: HomeAssistant, home: OffloadCoordinator, freezer: FrozenDateTimeFactory
) -> AsyncGenerator[list[ServiceCall]]:
    """Return what is sent to the phone by the automation of the test, which begins on a Tuesday."""
    freezer.move_to(datetime(2026, 12, 1, 12, tzinfo=dt_util.get_default_time_zone()))
    assert await async_setup_component(hass, NOTIFICATIONS, {})
    yield async_mock_service(hass, "notify", "send_message")
    await hass.services.async_call("automation", "turn_off", {"entity_id": "all"}, blocking=True)


def shown(hass: HomeAssistant) -> dict[str, str]:
    """Return the messages of the notifications in Home Assistant."""
    return {each: data["message"] for each, data in hass.data[NOTIFICATIONS].items()}


async def automate(hass: HomeAssistant, name: str, **inputs: Any) -> None:
    """Make an automation of a blueprint, as its import and the editor do."""
    folder = Path(hass.config.path("blueprints", "automation", DOMAIN))
    folder.mkdir(parents=True)
    shutil.copy(FOLDER / f"{name}.yaml", folder)
    use = {"path": f"{DOMAIN}/{name}.yaml", "input": inputs}
    config = {"automation": {"alias": name, "use_blueprint": use}}
    assert await async_setup_component(hass, "automation", config)
    await hass.async_block_till_done()
    state = hass.states.get(f"automation.{name}")
    assert state is not None
    assert state.state == "on"


def become(hass: HomeAssistant, freezer: FrozenDateTimeFactory, *time: int) -> None:
    """Let it become this day, hour and minute of December."""
    freezer.move_to(datetime(2026, 12, *time, tzinfo=dt_util.get_default_time_zone()))
    async_fire_time_changed(hass)


async def at(hass: HomeAssistant, freezer: FrozenDateTimeFactory, hour: int, day: int = 2) -> None:
    """Let it become this hour, of a Wednesday unless said otherwise, and the automation end."""
    become(hass, freezer, day, hour)
    await hass.async_block_till_done()


async def until(happened: Callable[[], object]) -> None:
    """Return once it has happened: an automation that waits is never done."""
    async with asyncio.timeout(60):
        while not happened():
            await settle()


def order(stage: Stage) -> list[str]:
    """Return the configurations that were built, in their order."""
    return [request.configuration.removesuffix(".yaml") for request in stage.builder.requests]


# All of them


@pytest.mark.parametrize("path", BLUEPRINTS, ids=lambda path: path.stem)
def test_home_assistant_accepts_it_with_its_defaults(path: Path) -> None:
    data = yaml_util.load_yaml_dict(path)
    blueprint = models.Blueprint(
        data, expected_domain="automation", path=path.name, schema=BLUEPRINT_SCHEMA
    )
    assert blueprint.validate() is None
    assert data["blueprint"]["homeassistant"]["min_version"] == "2026.10.0"
    given = {key: "switch.any" for key, value in blueprint.inputs.items() if "default" not in value}
    inputs = models.BlueprintInputs(
        blueprint, {"use_blueprint": {"path": path.name, "input": given}}
    )
    inputs.validate()
    config = inputs.async_substitute()
    config.pop("use_blueprint", None)
    PLATFORM_SCHEMA({"alias": "any", **config})
    for value in blueprint.inputs.values():
        assert value["name"]
        assert value["selector"]


@pytest.mark.parametrize("path", BLUEPRINTS, ids=lambda path: path.stem)
async def test_it_is_imported_by_its_own_address(
    hass: HomeAssistant, aioclient_mock: AiohttpClientMocker, path: Path
) -> None:
    url = yaml_util.load_yaml_dict(path)["blueprint"]["source_url"]
    where = path.relative_to(REPOSITORY)
    raw = f"https://raw.githubusercontent.com/esphome-offload/esphome-offload/main/{where}"
    aioclient_mock.get(raw, text=path.read_text())
    imported = await importer.fetch_blueprint_from_url(hass, url)
    assert imported.suggested_filename == f"esphome-offload/{path.stem}"
    assert f"blueprint_url={url}" in (REPOSITORY / "README.md").read_text()


# Update at night


async def test_everything_is_updated_at_night_and_a_summary_is_sent(
    hass: HomeAssistant, stage: Stage, sent: list[ServiceCall], freezer: FrozenDateTimeFactory
) -> None:
    await automate(hass, "update_at_night", **PHONE)
    await at(hass, freezer, 2)
    assert order(stage) == []
    await at(hass, freezer, 3)
    assert order(stage) == ["cellar", "porch", "attic"]
    (call,) = sent
    assert call.data["message"] == "- Updated: Cellar, Porch, Attic"
    assert call.data["entity_id"] == ["notify.phone"]
    assert shown(hass) == {
        "esphome_offload_update_at_night": (
            "- Updated: Cellar, Porch, Attic\n\n[All jobs](/esphome-offload/jobs)"
        )
    }


async def test_the_night_ends_after_failures_and_leaves_out_what_is_asleep(
    hass: HomeAssistant,
    home: OffloadCoordinator,
    devices: dict[str, LiveLamp],
    stage: Stage,
    sent: list[ServiceCall],
    freezer: FrozenDateTimeFactory,
) -> None:
    devices["cellar"].sleep()
    home.inventory.match_now()
    stage.builder.script = [failing(FailureReason.COMPILE_FAILED, "porch.cpp:3: error: no")]
    await automate(hass, "update_at_night", stop_after_failures=1, **PHONE)
    await at(hass, freezer, 3)
    assert sent[0].data["message"].splitlines() == [
        f"- Failed: Porch. {because('porch.cpp:3: error: no')}",
        "- Left out: Cellar (not connected)",
        "- Left out: Attic (too many others had failed before)",
    ]


async def test_a_night_is_as_it_was_configured(
    hass: HomeAssistant, stage: Stage, sent: list[ServiceCall], freezer: FrozenDateTimeFactory
) -> None:
    await automate(
        hass,
        "update_at_night",
        devices={"entity_id": update_entity("attic")},
        days=["wed", "thu"],
        at="01:00:00",
        at_once=3,
        start_within={"hours": 1},
        stop_after_failures=0,
        skip_offline=False,
        always=True,
    )
    for day in (2, 3):
        await at(hass, freezer, 1, day)
        assert order(stage) == ["attic"]
    assert shown(hass)["esphome_offload_update_at_night"].startswith("No device has an update.")
    assert not sent


async def test_nothing_happens_on_another_day_and_nothing_is_told_without_an_update(
    hass: HomeAssistant, stage: Stage, sent: list[ServiceCall], freezer: FrozenDateTimeFactory
) -> None:
    await automate(hass, "update_at_night", days=["mon"], always=True, **PHONE)
    await at(hass, freezer, 3)
    assert order(stage) == []
    assert not sent


# One device first


async def canary(hass: HomeAssistant, freezer: FrozenDateTimeFactory) -> None:
    """Begin at night, with the attic as the first device."""
    hass.states.async_set(ALIVE, "on")
    await automate(
        hass, "update_canary_first", canary=update_entity("attic"), canary_entity=ALIVE, **PHONE
    )
    become(hass, freezer, 2, 2)


async def watched(hass: HomeAssistant, freezer: FrozenDateTimeFactory) -> None:
    """Let the first device be updated and watched."""
    await canary(hass, freezer)
    await until(lambda: ALIVE in hass.data["track_state_change_data"].callbacks)


async def test_the_others_follow_when_the_first_device_stayed_up(
    hass: HomeAssistant,
    home: OffloadCoordinator,
    stage: Stage,
    sent: list[ServiceCall],
    freezer: FrozenDateTimeFactory,
) -> None:
    await watched(hass, freezer)
    # What comes out meanwhile was not tried by the first device.
    stage.versions.newest_stable = "2026.10.1"
    await home.versions.async_refresh()
    become(hass, freezer, 2, 2, 29)
    await settle()
    assert order(stage) == ["attic"]
    become(hass, freezer, 2, 2, 31)
    await until(lambda: sent)
    assert order(stage) == ["attic", "cellar", "porch"]
    assert {request.esphome_version for request in stage.builder.requests} == {NEWEST}
    assert sent[0].data["message"] == "- Updated: Attic\n\n- Updated: Cellar, Porch"


async def test_the_others_are_left_alone_when_the_first_device_went_away(
    hass: HomeAssistant, stage: Stage, sent: list[ServiceCall], freezer: FrozenDateTimeFactory
) -> None:
    await watched(hass, freezer)
    hass.states.async_set(ALIVE, "unavailable")
    await until(lambda: sent)
    assert order(stage) == ["attic"]
    assert "left as they are" in sent[0].data["message"]
    assert "left as they are" in shown(hass)["esphome_offload_update_canary_first"]


async def test_the_others_are_left_alone_when_the_first_device_failed(
    hass: HomeAssistant, stage: Stage, sent: list[ServiceCall], freezer: FrozenDateTimeFactory
) -> None:
    stage.builder.script = [failing(FailureReason.COMPILE_FAILED, "no luck")]
    await canary(hass, freezer)
    await until(lambda: sent)
    assert order(stage) == ["attic"]
    first, last = sent[0].data["message"].split("\n\n")
    assert first == f"- Failed: Attic. {because('no luck')}"
    assert "left as they are" in last


async def test_the_first_device_is_watched_also_when_it_was_updated_before(
    hass: HomeAssistant,
    home: OffloadCoordinator,
    stage: Stage,
    sent: list[ServiceCall],
    freezer: FrozenDateTimeFactory,
) -> None:
    await home.async_wait(await home.async_submit("attic.yaml", Operation.INSTALL))
    await watched(hass, freezer)
    assert order(stage) == ["attic"]
    become(hass, freezer, 2, 2, 31)
    await until(lambda: sent)
    assert order(stage) == ["attic", "cellar", "porch"]
    assert sent[0].data["message"].endswith("- Updated: Cellar, Porch")


async def test_a_first_device_that_went_away_in_its_night_is_watched_again_in_the_next(
    hass: HomeAssistant, stage: Stage, sent: list[ServiceCall], freezer: FrozenDateTimeFactory
) -> None:
    await watched(hass, freezer)
    hass.states.async_set(ALIVE, "unavailable")
    await until(lambda: sent)
    await hass.async_block_till_done()
    hass.states.async_set(ALIVE, "on")
    become(hass, freezer, 3, 2)
    await until(lambda: ALIVE in hass.data["track_state_change_data"].callbacks)
    hass.states.async_set(ALIVE, "unavailable")
    await hass.async_block_till_done()
    assert order(stage) == ["attic"]


@pytest.mark.parametrize("state", ["unavailable", None])
async def test_the_others_are_left_alone_while_the_first_device_is_down(
    hass: HomeAssistant,
    home: OffloadCoordinator,
    stage: Stage,
    sent: list[ServiceCall],
    freezer: FrozenDateTimeFactory,
    state: str | None,
) -> None:
    await home.async_wait(await home.async_submit("attic.yaml", Operation.INSTALL))
    await canary(hass, freezer)
    if state is None:
        hass.states.async_remove(ALIVE)
    else:
        hass.states.async_set(ALIVE, state)
    for minute in (3, 34, 59):
        become(hass, freezer, 2, 2, minute)
        await settle()
    await hass.async_block_till_done()
    assert order(stage) == ["attic"]
    assert not sent


async def test_the_others_are_left_alone_while_an_update_of_the_first_device_is_skipped(
    hass: HomeAssistant, stage: Stage, sent: list[ServiceCall], freezer: FrozenDateTimeFactory
) -> None:
    entity = {"entity_id": update_entity("attic")}
    await hass.services.async_call("update", "skip", entity, blocking=True)
    await canary(hass, freezer)
    await hass.async_block_till_done()
    assert order(stage) == []


# Build ahead


async def test_a_new_version_is_built_at_once_and_installed_in_the_window(
    hass: HomeAssistant,
    home: OffloadCoordinator,
    stage: Stage,
    sent: list[ServiceCall],
    freezer: FrozenDateTimeFactory,
) -> None:
    await automate(hass, "build_ahead", at_once=1, **PHONE)
    stage.versions.newest_stable = "2026.10.1"
    await home.versions.async_refresh()
    await hass.async_block_till_done()
    assert order(stage) == ["cellar", "porch", "attic", "hall"]
    assert not stage.flasher.requests
    assert sent[0].data["message"] == "- Built: Cellar, Porch, Attic, Hall"

    await at(hass, freezer, 3)
    flashed = [request.firmware.device_name for request in stage.flasher.requests]
    assert flashed == ["cellar", "porch", "attic", "hall"]
    assert len(order(stage)) == 4, "what was built ahead is not built again"
    assert sent[1].data["message"] == "- Updated: Cellar, Porch, Attic, Hall"


# Notify on failure


async def test_a_failure_is_told_with_its_reason_and_a_link_until_it_goes_well(
    hass: HomeAssistant, home: OffloadCoordinator, stage: Stage, sent: list[ServiceCall]
) -> None:
    also = async_mock_service(hass, "test", "tell")
    tell = {"action": "test.tell", "data": {"url": "{{ link }}", "of": "{{ device }}"}}
    await automate(hass, "notify_on_failure", also=[tell], **PHONE)
    stage.builder.script = [failing(FailureReason.COMPILE_FAILED, "attic.cpp:3: error: no")]

    job = await home.async_submit("attic.yaml", Operation.INSTALL)
    await home.async_wait(job)
    await hass.async_block_till_done()
    reason = str(because("attic.cpp:3: error: no"))
    link = f"/esphome-offload/job/{job.job_id}"
    (message,) = shown(hass).values()
    assert message == f"{reason}\n\n[Show the output]({link})"
    assert sent[0].data["title"] == "Attic: the installation failed"
    assert sent[0].data["message"] == reason
    assert also[0].data == {"url": link, "of": "Attic"}

    await home.async_wait(await home.async_submit("attic.yaml", Operation.INSTALL))
    await hass.async_block_till_done()
    assert shown(hass) == {}
    assert len(sent) == 1
