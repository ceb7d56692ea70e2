"""Entries of core's esphome with its real run-time data, changed as core changes them."""

from collections.abc import Callable
from inspect import signature
from typing import Any
from unittest.mock import Mock

from aioesphomeapi import APIClient, APIVersion, DeviceInfo
from homeassistant.components.esphome.entry_data import ESPHomeStorage, RuntimeEntryData
from homeassistant.config_entries import ConfigEntryState
from homeassistant.core import HomeAssistant
from homeassistant.helpers import device_registry as dr
from pytest_homeassistant_custom_component.common import MockConfigEntry

MAC = "AA:BB:CC:DD:EE:FF"
BUILD_TIME = "2026-11-23 18:25:51 +0000"


def info(name: str = "kitchen", mac: str = MAC, **changes: object) -> DeviceInfo:
    return DeviceInfo(
        **{
            "name": name,
            "friendly_name": name.title(),
            "mac_address": mac,
            "esphome_version": "2026.10.0",
            "compilation_time": BUILD_TIME,
            **changes,
        }
    )


class Core:
    """Changes the entries of core's esphome as it does."""

    def __init__(
        self, hass: HomeAssistant, client: Callable[[], Any] = lambda: Mock(spec=APIClient)
    ) -> None:
        self.hass = hass
        self.client = client

    def entry(
        self,
        name: str = "kitchen",
        mac: str = MAC,
        *,
        data: RuntimeEntryData | object | None = None,
        state: ConfigEntryState = ConfigEntryState.LOADED,
        **kwargs: object,
    ) -> MockConfigEntry:
        entry = MockConfigEntry(
            domain="esphome",
            title=name.title(),
            unique_id=mac.lower(),
            data={"host": f"{name}.local", "port": 6053, "password": "", "device_name": name},
            state=state,
            **kwargs,
        )
        entry.add_to_hass(self.hass)
        if state is ConfigEntryState.LOADED:
            entry.runtime_data = self.runtime_data(entry) if data is None else data
        return entry

    def runtime_data(self, entry: MockConfigEntry) -> RuntimeEntryData:
        client = self.client()
        client.connected_address = "192.0.2.7"
        return RuntimeEntryData(
            entry_id=entry.entry_id,
            title=entry.title,
            client=client,
            store=ESPHomeStorage(self.hass, 1, f"esphome.{entry.entry_id}"),
        )

    def registered(self, entry: MockConfigEntry, mac: str = MAC, **kwargs: str) -> str:
        return (
            dr.async_get(self.hass)
            .async_get_or_create(
                config_entry_id=entry.entry_id,
                connections={(dr.CONNECTION_NETWORK_MAC, mac)},
                **kwargs,  # type: ignore[arg-type]
            )
            .id
        )

    def connect(self, entry: MockConfigEntry, device_info: DeviceInfo | None = None) -> None:
        data: RuntimeEntryData = entry.runtime_data
        data.async_on_connect(self.hass, device_info or info(), APIVersion(1, 14))
        data.async_update_device_state()

    def disconnect(self, entry: MockConfigEntry) -> None:
        data: RuntimeEntryData = entry.runtime_data
        # Since 2026.11 it takes Home Assistant.
        data.async_on_disconnect(
            *(self.hass,)[: len(signature(data.async_on_disconnect).parameters)]
        )
        data.async_update_device_state()

    def reload(self, entry: MockConfigEntry) -> None:
        entry.mock_state(self.hass, ConfigEntryState.NOT_LOADED)
        entry._async_set_state(self.hass, ConfigEntryState.SETUP_IN_PROGRESS, None)
        entry.runtime_data = self.runtime_data(entry)
        entry._async_set_state(self.hass, ConfigEntryState.LOADED, None)
