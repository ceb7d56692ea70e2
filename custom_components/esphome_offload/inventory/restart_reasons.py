"""RestartReasons: what a device says about its last restart."""

import asyncio
from contextlib import suppress
import re
from typing import Final

from homeassistant.components.sensor import DOMAIN as SENSOR_DOMAIN
from homeassistant.const import STATE_UNAVAILABLE
from homeassistant.core import Event, EventStateChangedData, HomeAssistant, callback
from homeassistant.helpers import entity_registry as er
from homeassistant.helpers.event import async_track_state_change_event

from ..engine.devices.model import CoreDevice

_TIMEOUT: Final = 5.0
"""Seconds from the connection to a device until all its sensors have said something."""
_REASONS: Final = frozenset(
    {
        "brownout",
        "CPU lock up",
        "efuse error",
        "exception/panic",
        "external pin",
        "interrupt watchdog",
        "other watchdogs",
        "power glitch detected",
        "power-on event",
        "software via esp_restart",
        "task watchdog",
    }
)
"""The states of ESPHome's sensor of the ``debug`` component, on ESP32: no other goes back."""
_REQUEST: Final = re.compile(r"Reboot request from [a-z0-9_.]{1,24}")


class RestartReasons:
    """Reads the text sensor ``reset_reason`` of a device in core's esphome, by what it says.

    Its name is the user's. Devices whose configuration has none give no reason.
    """

    def __init__(self, hass: HomeAssistant) -> None:
        self._hass = hass

    async def of(self, device: CoreDevice) -> str | None:
        """Return the reason that a device gives, which has connected just now."""
        # The sensors of one that sleeps keep the state from before.
        if device.device_id is None or device.deep_sleep:
            return None
        entities = er.async_entries_for_device(er.async_get(self._hass), device.device_id)
        sensors = [each.entity_id for each in entities if each.domain == SENSOR_DOMAIN]
        changed = asyncio.Event()

        @callback
        def note(_event: Event[EventStateChangedData]) -> None:
            changed.set()

        unsubscribe = async_track_state_change_event(self._hass, sensors, note)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(_TIMEOUT):
                    while self._silent(sensors) and self._found(sensors) is None:
                        changed.clear()
                        await changed.wait()
        finally:
            unsubscribe()
        return self._found(sensors)

    def _silent(self, sensors: list[str]) -> bool:
        """Return whether a sensor has not said anything yet since the device connected."""
        states = map(self._hass.states.get, sensors)
        return any(state is not None and state.state == STATE_UNAVAILABLE for state in states)

    def _found(self, sensors: list[str]) -> str | None:
        states = (state.state for each in sensors if (state := self._hass.states.get(each)))
        return next((state for state in states if _is_reason(state)), None)


def _is_reason(state: str) -> bool:
    return state in _REASONS or _REQUEST.fullmatch(state) is not None
