"""Homes with one device and with three; it is 13:00 on a Monday in Berlin."""

from collections.abc import Generator
from datetime import UTC, datetime
from pathlib import Path
import uuid

from freezegun import freeze_time
from freezegun.api import FrozenDateTimeFactory
from homeassistant.core import HomeAssistant
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.esphome_offload.coordinator import OffloadCoordinator
from custom_components.esphome_offload.engine.codec import schema
from custom_components.esphome_offload.inventory.device_settings import DeviceSetting

from ...conftest import LAMP, NEWEST, Pass, Stage
from .home import Home


@pytest.fixture
def freezer(monkeypatch: pytest.MonkeyPatch) -> Generator[FrozenDateTimeFactory]:
    """Set the clock, which goes on: what waits for a moment would never end otherwise."""
    # Ids of jobs never go back in time, also not those of other tests.
    monkeypatch.setattr(uuid, "_last_timestamp_v7", None)
    schema(DeviceSetting)  # with the class of times that it has, before that is replaced
    with freeze_time("2026-11-30 12:00:00+00:00", tick=True) as clock:
        yield clock


@pytest.fixture(autouse=True)
async def _long_released(
    hass: HomeAssistant, freezer: FrozenDateTimeFactory, stage: Stage, config_dir: Path
) -> None:
    """Before anything is set up: the time zone is that of Berlin, and versions have been out for long."""
    await hass.config.async_set_time_zone("Europe/Berlin")
    stage.versions.uploaded_at[NEWEST] = datetime(2026, 10, 21, tzinfo=UTC)


@pytest.fixture
def home(
    hass: HomeAssistant,
    coordinator: OffloadCoordinator,
    entry: MockConfigEntry,
    freezer: FrozenDateTimeFactory,
) -> Home:
    """Return one in which nobody asked for automatic updates, and the lamp was never heard of."""
    return Home(hass, coordinator, entry, freezer)


@pytest.fixture
async def lamp(home: Home) -> Home:
    """Return one with a lamp that has an update."""
    home.runs()
    await home.set_options()
    return home


@pytest.fixture
async def fleet(home: Home, config_dir: Path, pass_time: Pass) -> Home:
    """Return one with three devices that all have an update."""
    for name in ("plug", "fan"):
        (config_dir / f"{name}.yaml").write_text(LAMP.replace("lamp", name))
    await pass_time(31)
    for name in ("lamp", "plug", "fan"):
        home.runs(name)
    await home.set_options()
    return home
