"""One configuration with ``name_add_mac_suffix``, and two lamps that have it."""

from pathlib import Path

from homeassistant.core import HomeAssistant
import pytest

from custom_components.esphome_offload.coordinator import OffloadCoordinator
from custom_components.esphome_offload.engine.build.model import FlashRequest, Node

from ..conftest import Pass, Stage
from .lamps import FIRST, SECOND, SUFFIXED, Lamp


@pytest.fixture(autouse=True)
def _suffixed(config_dir: Path) -> None:
    (config_dir / "lamp.yaml").write_text(SUFFIXED)


@pytest.fixture
async def lamps(
    hass: HomeAssistant, coordinator: OffloadCoordinator, pass_time: Pass, stage: Stage
) -> tuple[Lamp, Lamp]:
    """Return two lamps of the one configuration, each of which takes what is sent to it."""
    stage.firmware.node = Node("lamp", adds_mac_suffix=True)
    lamps = Lamp(hass, FIRST), Lamp(hass, SECOND)
    await pass_time(1)

    async def flash(request: FlashRequest, _sink: object) -> None:
        next(lamp for lamp in lamps if request.addresses[0] == f"{lamp.name}.local").flashed(
            request
        )

    stage.flasher.script = [flash, flash]
    return lamps
