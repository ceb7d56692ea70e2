"""Durable and delayed saves."""

from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

from homeassistant.core import HomeAssistant
from homeassistant.helpers.storage import Store
from homeassistant.util.file import WriteError
import pytest

from custom_components.esphome_offload.stores.storage import StatePersistence

KEY = "esphome_offload.state"


@pytest.fixture
def full_disk() -> Iterator[None]:
    """Have Home Assistant fail to write, which it logs and does not raise."""
    error = WriteError("[Errno 28] No space left on device")
    with patch.object(Store, "_async_write_data", side_effect=error):
        yield


async def test_it_is_there_when_that_returns(
    hass: HomeAssistant, hass_storage: dict[str, Any]
) -> None:
    await StatePersistence(hass, "state").save_durably({"seen": ["one"]})
    assert hass_storage[KEY]["data"]["seen"] == ["one"]
    assert await StatePersistence(hass, "state").load() == {"seen": ["one"]}


@pytest.mark.usefixtures("hass_storage", "full_disk")
async def test_a_full_disk_is_noticed(hass: HomeAssistant) -> None:
    with pytest.raises(OSError, match="its log says why"):
        await StatePersistence(hass, "state").save_durably({"seen": ["one"]})


@pytest.mark.usefixtures("hass_storage")
async def test_a_full_disk_is_noticed_though_an_older_state_is_there_from_before_a_restart(
    hass: HomeAssistant, request: pytest.FixtureRequest
) -> None:
    before = StatePersistence(hass, "state")
    for number in range(3):
        await before.save_durably({"seen": [number]})
    after = StatePersistence(hass, "state")
    assert await after.load() == {"seen": [2]}
    request.getfixturevalue("full_disk")
    with pytest.raises(OSError, match="its log says why"):
        await after.save_durably({"seen": ["more"]})
    assert await StatePersistence(hass, "state").load() == {"seen": [2]}
