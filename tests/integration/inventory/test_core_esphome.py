"""The adapter to core's esphome, with its real run-time data."""

import logging
from types import SimpleNamespace
from unittest.mock import Mock

from homeassistant.components.esphome.coordinator import ESPHomeDashboardCoordinator
from homeassistant.components.esphome.dashboard import (
    KEY_DASHBOARD_MANAGER,
    ESPHomeDashboardManager,
)
from homeassistant.config_entries import ConfigEntryDisabler, ConfigEntryState
from homeassistant.core import HomeAssistant
from homeassistant.helpers import device_registry as dr, entity_registry as er
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.esphome_offload.inventory.core_esphome import (
    CoreDevice,
    CoreEsphome,
    esphome_app,
)

from ..core_esphome import BUILD_TIME, MAC, Core, info


@pytest.fixture
def core(hass: HomeAssistant) -> Core:
    return Core(hass)


@pytest.fixture
def adapter(hass: HomeAssistant) -> CoreEsphome:
    return CoreEsphome(hass)


@pytest.fixture
def calls(adapter: CoreEsphome) -> list[None]:
    """Listen; every call is in the list."""
    calls: list[None] = []
    adapter.subscribe(lambda: calls.append(None))
    return calls


def found(adapter: CoreEsphome, name: str = "kitchen") -> CoreDevice:
    (device,) = [each for each in adapter.devices() if each.node_name == name]
    assert adapter.get(device.entry_id) == device
    return device


async def test_the_app_with_esphomes_own_page_is_known_where_supervisor_is(
    hass: HomeAssistant,
) -> None:
    assert esphome_app(hass) is None
    manager = ESPHomeDashboardManager(hass)
    hass.data[KEY_DASHBOARD_MANAGER] = manager
    hass.config.components.add("hassio")
    assert esphome_app(hass) is None
    manager._current_dashboard = ESPHomeDashboardCoordinator(
        hass, "5c53de3b_esphome", "http://172.30.32.1:6052"
    )
    assert esphome_app(hass) == "5c53de3b_esphome"
    hass.config.components.remove("hassio")
    assert esphome_app(hass) is None, "Home Assistant has no page of it then"


async def test_without_core_esphome_there_are_no_devices(adapter: CoreEsphome) -> None:
    adapter.subscribe(lambda: None)

    assert adapter.devices() == []
    assert adapter.get("no such entry") is None


async def test_a_connected_device(core: Core, adapter: CoreEsphome) -> None:
    entry = core.entry()
    device_id = core.registered(entry)
    core.connect(entry, info(has_deep_sleep=True))

    assert adapter.devices() == [
        CoreDevice(
            entry_id=entry.entry_id,
            device_id=device_id,
            node_name="kitchen",
            mac="aa:bb:cc:dd:ee:ff",
            friendly_name="Kitchen",
            esphome_version="2026.10.0",
            build_time=BUILD_TIME,
            online=True,
            deep_sleep=True,
            host="kitchen.local",
            connected_at=("192.0.2.7",),
        )
    ]


async def test_a_disconnected_device_keeps_its_information(
    core: Core, adapter: CoreEsphome
) -> None:
    entry = core.entry()
    core.connect(entry)
    core.disconnect(entry)

    device = found(adapter)

    assert device.online is False
    assert device.esphome_version == "2026.10.0"
    assert device.host == "kitchen.local"


async def test_a_device_that_never_connected(core: Core, adapter: CoreEsphome) -> None:
    core.entry()

    device = found(adapter)

    assert device.online is False
    assert (device.esphome_version, device.build_time, device.device_id) == (None, None, None)


async def test_an_entry_that_is_not_loaded_is_read_from_the_registry(
    core: Core, adapter: CoreEsphome, caplog: pytest.LogCaptureFixture
) -> None:
    entry = core.entry(state=ConfigEntryState.SETUP_RETRY)
    device_id = core.registered(entry, sw_version=f"2026.10.0b1 ({BUILD_TIME})", name="By the sink")

    device = found(adapter)

    assert device.online is None
    assert device.device_id == device_id
    assert device.friendly_name == "By the sink"
    assert (device.esphome_version, device.build_time) == ("2026.10.0b1", BUILD_TIME)
    assert "does not know" not in caplog.text


@pytest.mark.parametrize(
    ("sw_version", "version", "build_time"),
    [
        ("2026.10.0 (Nov 23 2026, 18:25:51)", "2026.10.0", "Nov 23 2026, 18:25:51"),
        ("1.2 beta (ESPHome 2026.10.0)", "2026.10.0", None),
        ("2026.10.0", "2026.10.0", None),
        (None, None, None),
    ],
)
async def test_versions_as_the_registry_writes_them(
    core: Core,
    adapter: CoreEsphome,
    sw_version: str | None,
    version: str | None,
    build_time: str | None,
) -> None:
    entry = core.entry(state=ConfigEntryState.NOT_LOADED)
    device_id = core.registered(entry)
    dr.async_get(core.hass).async_update_device(device_id, sw_version=sw_version)

    device = found(adapter)

    assert (device.esphome_version, device.build_time) == (version, build_time)


@pytest.mark.parametrize(
    "runtime_data",
    [
        None.__class__,
        SimpleNamespace(),
        SimpleNamespace(available="yes", device_info=5),
        SimpleNamespace(available=True, device_info=SimpleNamespace(name=3, esphome_version=[])),
    ],
    ids=["another type", "nothing", "other types", "other information"],
)
async def test_with_changed_internals_the_registries_are_read(
    core: Core, adapter: CoreEsphome, runtime_data: object, calls: list[None]
) -> None:
    entry = core.entry(data=runtime_data)
    device_id = core.registered(entry, sw_version=f"2026.10.0 ({BUILD_TIME})")

    device = found(adapter)

    assert device.node_name == "kitchen"
    assert device.mac == "aa:bb:cc:dd:ee:ff"
    assert device.device_id == device_id
    assert (device.esphome_version, device.build_time) == ("2026.10.0", BUILD_TIME)
    assert device.host == "kitchen.local"
    assert device.deep_sleep is False


async def test_internals_that_changed_are_logged_once(
    core: Core, adapter: CoreEsphome, caplog: pytest.LogCaptureFixture
) -> None:
    core.entry(data=SimpleNamespace())
    core.entry("hall", "AA:BB:CC:00:00:02", data=SimpleNamespace())

    adapter.devices()
    adapter.devices()
    adapter.subscribe(lambda: None)

    assert [record.levelno for record in caplog.records if "not as expected" in record.message] == [
        logging.WARNING
    ]
    assert found(adapter).online is None


async def test_disabled_and_ignored_entries_are_no_devices(
    core: Core, adapter: CoreEsphome
) -> None:
    core.entry(
        "off",
        "AA:BB:CC:00:00:02",
        state=ConfigEntryState.NOT_LOADED,
        disabled_by=ConfigEntryDisabler.USER,
    )
    core.entry("no", "AA:BB:CC:00:00:03", state=ConfigEntryState.NOT_LOADED, source="ignore")

    assert adapter.devices() == []


# Being told


async def test_listeners_hear_of_connections(
    core: Core, adapter: CoreEsphome, calls: list[None]
) -> None:
    entry = core.entry()
    core.reload(entry)
    calls.clear()
    assert found(adapter).online is False

    core.connect(entry)

    assert len(calls) == 1
    assert found(adapter).online is True
    assert found(adapter).connections == 1
    core.disconnect(entry)
    assert len(calls) == 2
    assert found(adapter).online is False
    core.connect(entry)
    assert found(adapter).connections == 2


async def test_a_connection_after_an_unnoticed_loss_counts(
    core: Core, adapter: CoreEsphome
) -> None:
    entry = core.entry()
    adapter.subscribe(lambda: None)
    core.connect(entry)

    core.connect(entry, info(esphome_version="2026.10.1"))

    assert found(adapter).connections == 2
    assert found(adapter).esphome_version == "2026.10.1"


async def test_an_update_without_a_new_connection_does_not_count(
    core: Core, adapter: CoreEsphome
) -> None:
    entry = core.entry()
    adapter.subscribe(lambda: None)
    core.connect(entry)

    entry.runtime_data.async_update_device_state()

    assert found(adapter).connections == 1


async def test_a_reloaded_entry_is_followed_again(
    core: Core, adapter: CoreEsphome, calls: list[None]
) -> None:
    entry = core.entry()
    core.reload(entry)
    core.connect(entry)
    old = entry.runtime_data

    core.reload(entry)
    calls.clear()

    assert old.device_update_subscriptions == set()
    core.connect(entry)
    assert len(calls) == 1
    assert found(adapter).connections == 2


async def test_added_and_removed_entries_are_notified(
    hass: HomeAssistant, core: Core, adapter: CoreEsphome, calls: list[None]
) -> None:
    entry = MockConfigEntry(domain="esphome", title="x", data={"device_name": "kitchen"})
    await hass.config_entries.async_add(entry)
    await hass.async_block_till_done()
    assert calls
    assert found(adapter)
    calls.clear()

    await hass.config_entries.async_remove(entry.entry_id)

    assert calls
    assert adapter.devices() == []


async def test_a_registered_device_is_notified(
    core: Core, adapter: CoreEsphome, calls: list[None]
) -> None:
    entry = core.entry()
    other = MockConfigEntry(domain="other")
    other.add_to_hass(core.hass)
    core.registered(other, "00:00:00:00:00:09")
    assert calls == []

    device_id = core.registered(entry)
    assert calls
    assert found(adapter).device_id == device_id
    calls.clear()

    dr.async_get(core.hass).async_remove_device(device_id)

    assert calls
    assert found(adapter).device_id is None


async def test_cores_own_update_makes_a_device_busy_and_is_notified(
    core: Core, adapter: CoreEsphome, calls: list[None]
) -> None:
    entry = core.entry()
    device_id = core.registered(entry)
    core.connect(entry)
    entities = er.async_get(core.hass)
    own = entities.async_get_or_create("update", "esphome", MAC, device_id=device_id)
    ours = entities.async_get_or_create("update", "esphome_offload", "a.yaml", device_id=device_id)
    calls.clear()

    core.hass.states.async_set(ours.entity_id, "on", {"in_progress": True})
    await core.hass.async_block_till_done()
    assert not adapter.updating(found(adapter))
    assert calls == []

    core.hass.states.async_set(own.entity_id, "on", {"in_progress": True})
    await core.hass.async_block_till_done()
    assert adapter.updating(found(adapter))
    assert len(calls) == 1

    core.hass.states.async_set(own.entity_id, "on", {"in_progress": False})
    await core.hass.async_block_till_done()
    assert not adapter.updating(found(adapter))
    assert len(calls) == 2


async def test_nothing_is_listened_to_without_listeners(core: Core, adapter: CoreEsphome) -> None:
    entry = core.entry()
    first: list[None] = []

    def listener() -> None:
        first.append(None)

    unsubscribes = [adapter.subscribe(listener), adapter.subscribe(listener)]
    core.connect(entry)
    assert len(first) == 2

    unsubscribes[0]()
    unsubscribes[0]()
    core.disconnect(entry)
    assert len(first) == 3

    unsubscribes[1]()
    assert entry.runtime_data.device_update_subscriptions == set()
    core.connect(entry)
    assert len(first) == 3
    assert found(adapter).online is True


async def test_a_listener_that_fails_costs_neither_core_nor_the_others(
    core: Core, adapter: CoreEsphome, caplog: pytest.LogCaptureFixture
) -> None:
    entry = core.entry()
    calls: list[None] = []
    adapter.subscribe(Mock(side_effect=ValueError))
    adapter.subscribe(lambda: calls.append(None))

    core.connect(entry)

    assert calls == [None]
    assert "listener" in caplog.text
