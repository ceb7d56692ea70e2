"""What a device says about its last restart, in the entities of core's esphome."""

import asyncio
from datetime import timedelta

from homeassistant.const import STATE_UNAVAILABLE, STATE_UNKNOWN
from homeassistant.core import HomeAssistant
from homeassistant.helpers import device_registry as dr, entity_registry as er
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.esphome_offload.engine.devices.model import CoreDevice
from custom_components.esphome_offload.inventory import restart_reasons
from custom_components.esphome_offload.inventory.restart_reasons import RestartReasons

MAC = "aa:bb:cc:dd:ee:ff"
REASON = "sensor.kitchen_why_on_earth"
NUMBER = "sensor.kitchen_wifi_signal"


class Device:
    """A device in the registries, with the sensors of its old firmware."""

    def __init__(self, hass: HomeAssistant) -> None:
        self.hass = hass
        entry = MockConfigEntry(domain="esphome")
        entry.add_to_hass(hass)
        self.registered = dr.async_get(hass).async_get_or_create(
            config_entry_id=entry.entry_id, connections={(dr.CONNECTION_NETWORK_MAC, MAC)}
        )
        self.entry = entry
        self.deep_sleep = False
        for entity_id in (REASON, NUMBER, "text.kitchen_note"):
            domain, name = entity_id.split(".")
            er.async_get(hass).async_get_or_create(
                domain,
                "esphome",
                f"{MAC}-{name}",
                suggested_object_id=name,
                config_entry=entry,
                device_id=self.registered.id,
            )
            hass.states.async_set(entity_id, STATE_UNAVAILABLE)

    def say(self, entity_id: str, state: str) -> None:
        self.hass.states.async_set(entity_id, state)

    @property
    def core(self) -> CoreDevice:
        return CoreDevice(
            entry_id=self.entry.entry_id,
            device_id=self.registered.id,
            node_name="kitchen",
            mac=MAC,
            friendly_name="Kitchen",
            esphome_version="2026.10.0",
            build_time=None,
            online=True,
            deep_sleep=self.deep_sleep,
            host=None,
            connected_at=(),
            connections=1,
        )


@pytest.fixture
def device(hass: HomeAssistant) -> Device:
    return Device(hass)


async def test_the_reason_is_known_as_soon_as_the_sensor_says_it(
    hass: HomeAssistant, device: Device
) -> None:
    asked = asyncio.create_task(RestartReasons(hass).of(device.core))
    await hass.async_block_till_done()
    assert not asked.done(), "no sensor has said anything yet"
    device.say(NUMBER, "-60")
    await hass.async_block_till_done()
    assert not asked.done()
    device.say(REASON, "brownout")
    async with asyncio.timeout(2):
        assert await asked == "brownout"


@pytest.mark.parametrize(
    ("state", "told"),
    [
        ("exception/panic", "exception/panic"),
        ("Reboot request from wifi", "Reboot request from wifi"),
        ("Reboot request from\nhunter2", None),
        ("hunter2", None),
        (STATE_UNKNOWN, None),
    ],
)
async def test_only_what_esphome_says_of_restarts_is_told(
    hass: HomeAssistant, device: Device, state: str, told: str | None
) -> None:
    device.say(NUMBER, "-60")
    device.say(REASON, state)
    # A text of the user's that reads like one.
    device.say("text.kitchen_note", "brownout")
    async with asyncio.timeout(2):
        assert await RestartReasons(hass).of(device.core) == told


async def test_a_sensor_that_stays_silent_is_not_waited_for_for_long(
    hass: HomeAssistant, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restart_reasons, "_TIMEOUT", timedelta(milliseconds=20).total_seconds())
    assert await RestartReasons(hass).of(device.core) is None


async def test_a_device_that_sleeps_keeps_the_reason_from_before(
    hass: HomeAssistant, device: Device
) -> None:
    device.say(REASON, "brownout")
    device.deep_sleep = True
    assert await RestartReasons(hass).of(device.core) is None
