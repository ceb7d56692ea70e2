"""A lamp that core's esphome knows, connected or not."""

from collections.abc import Callable
from types import SimpleNamespace

from homeassistant.config_entries import ConfigEntryState
from homeassistant.core import (
    HomeAssistant,
)
from homeassistant.helpers import device_registry as dr
from pytest_homeassistant_custom_component.common import MockConfigEntry

MAC = "aa:bb:cc:00:11:22"


class LiveLamp:
    """The runtime data of core's esphome for the lamp, or for another device."""

    def __init__(self, available: bool, name: str = "lamp", mac: str = MAC) -> None:
        self.available = available
        self._name, self._mac = name, mac
        self.loaded_platforms: set[str] = set()
        self._listeners: list[Callable[[], None]] = []
        self.runs("2026.9.1", "2026-09-20 10:00:00 +0000")

    def async_subscribe_device_updated(self, listener: Callable[[], None]) -> Callable[[], None]:
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def sleep(self) -> None:
        """Disconnect."""
        self.available = False
        self._notify()

    def runs(self, version: str, build_time: str, name: str | None = None) -> None:
        """Reconnect, to a lamp that runs this build."""
        self._name = name or self._name
        self.device_info = SimpleNamespace(
            name=self._name,
            mac_address=self._mac,
            esphome_version=version,
            compilation_time=build_time,
        )
        self._notify()

    def _notify(self) -> None:
        for listener in tuple(self._listeners):
            listener()


def core_device(
    hass: HomeAssistant, *, available: bool | None = None
) -> tuple[MockConfigEntry, dr.DeviceEntry]:
    """Let core's esphome know the lamp; ``available`` is None while it is not set up."""
    entry = MockConfigEntry(
        domain="esphome",
        unique_id=MAC,
        title="Desk lamp",
        data={"host": "192.168.1.20", "port": 6053, "device_name": "lamp"},
    )
    entry.add_to_hass(hass)
    if available is not None:
        entry.runtime_data = LiveLamp(available)
        entry.mock_state(hass, ConfigEntryState.LOADED)
    device = dr.async_get(hass).async_get_or_create(
        config_entry_id=entry.entry_id,
        connections={(dr.CONNECTION_NETWORK_MAC, MAC)},
        name="Desk lamp",
        sw_version="2026.9.1 (2026-09-20 10:00:00 +0000)",
    )
    return entry, device
