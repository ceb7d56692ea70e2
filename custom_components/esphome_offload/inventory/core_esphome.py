"""The devices of Home Assistant's own ``esphome`` integration.

Its runtime data are internals that may change with any release. This is the only module that
reads them. What is missing or not as expected is logged once, and replaced by what the config
entry and the device registry say.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
import logging
import re
from typing import Any, Final

from homeassistant.config_entries import (
    SIGNAL_CONFIG_ENTRY_CHANGED,
    ConfigEntry,
    ConfigEntryChange,
    ConfigEntryState,
)
from homeassistant.const import CONF_HOST, CONF_PORT
from homeassistant.core import (
    CALLBACK_TYPE,
    Event,
    EventStateChangedData,
    HomeAssistant,
    State,
    callback,
)
from homeassistant.helpers import device_registry as dr, entity_registry as er
from homeassistant.helpers.dispatcher import async_dispatcher_connect
from homeassistant.helpers.event import TrackStates, async_track_state_change_filtered
from homeassistant.helpers.hassio import is_hassio

from ..engine.devices.model import CoreDevice
from ..engine.listeners import Listeners
from .identity import Identity
from .peer_address import peer_addresses

__all__ = ["CoreDevice", "CoreEsphome", "esphome_app", "mac_suffix_stem"]

_LOGGER = logging.getLogger(__name__)

_DOMAIN: Final = "esphome"
_CONF_DEVICE_NAME: Final = "device_name"
_UPDATE_DOMAIN: Final = "update"
_ATTR_IN_PROGRESS: Final = "in_progress"

_MAC_SUFFIX: Final = re.compile(r"(.+)-([0-9a-f]{6})")
# "2026.10.0 (2026-11-23 18:25:51 +0000)", of a project "1.2 (ESPHome 2026.10.0)".
_SW_VERSION: Final = re.compile(r"(?P<version>\S+) \((?P<build_time>[^()]*\d:\d[^()]*)\)")
_PROJECT_VERSION: Final = re.compile(r".* \(ESPHome (?P<version>\S+)\)")


@dataclass(frozen=True, slots=True)
class _Live:
    """What the runtime data of an entry say; None for what they do not."""

    available: bool | None = None
    name: str | None = None
    friendly_name: str | None = None
    mac: str | None = None
    esphome_version: str | None = None
    build_time: str | None = None
    deep_sleep: bool = False
    connected_at: tuple[str, ...] = ()
    info: object = None


@dataclass(slots=True)
class _Session:
    """The subscription to one loaded entry, and the last state of its connection."""

    runtime_data: object
    unsubscribe: CALLBACK_TYPE | None
    available: bool
    info: object


@callback
def esphome_app(hass: HomeAssistant) -> str | None:
    """Return Supervisor's name of the app with ESPHome's own page; None: there is none."""
    manager = hass.data.get("esphome_dashboard_manager")
    # While that is being set up there is something else in its place.
    get = getattr(manager, "async_get", None)
    dashboard = None if get is None or not is_hassio(hass) else get()
    return None if dashboard is None else getattr(dashboard, "addon_slug", None)


class CoreEsphome:
    """All devices of the ``esphome`` integration, which need not be set up."""

    def __init__(self, hass: HomeAssistant) -> None:
        self._hass = hass
        self._listeners = Listeners[[]]()
        self._unsubscribes: list[CALLBACK_TYPE] = []
        self._sessions: dict[str, _Session] = {}
        self._connections: dict[str, int] = {}
        self._followed: dict[str, CoreDevice] = {}
        self._degraded = False

    @callback
    def devices(self) -> list[CoreDevice]:
        """Return every device, except for those of disabled and ignored entries."""
        return [self._device(entry) for entry in self._entries()]

    @callback
    def followed(self) -> list[CoreDevice]:
        """Return the same as of the last call of the listeners: for hundreds, of which one changed."""
        if not self._listeners:
            return self.devices()
        before, self._followed = self._followed, {}
        for entry in self._entries():
            device = before.get(entry.entry_id)
            self._followed[entry.entry_id] = device or self._device(entry)
        return list(self._followed.values())

    @callback
    def get(self, entry_id: str) -> CoreDevice | None:
        """Return the present state of a device."""
        entry = self._hass.config_entries.async_get_entry(entry_id)
        return None if entry is None or entry.disabled_by is not None else self._device(entry)

    @callback
    def updating(self, device: CoreDevice) -> bool:
        """Return whether one of core's own update entities is updating the device."""
        if device.device_id is None:
            return False
        return any(
            entity.domain == _UPDATE_DOMAIN
            and entity.platform == _DOMAIN
            and _in_progress(self._hass.states.get(entity.entity_id))
            for entity in er.async_entries_for_device(er.async_get(self._hass), device.device_id)
        )

    @callback
    def subscribe(self, listener: Callable[[], None]) -> CALLBACK_TYPE:
        """Call ``listener`` whenever any device may have changed; returns unsubscribe.

        That is when one is added or removed, connects or disconnects, changes in the device
        registry, or when core's own update of one starts or ends.
        """
        if not self._listeners:
            self._attach()
        remove = self._listeners.subscribe(listener)

        @callback
        def unsubscribe() -> None:
            remove()
            if not self._listeners:
                self._detach()

        return unsubscribe

    # The devices

    def _entries(self) -> Iterator[ConfigEntry[Any]]:
        return iter(
            self._hass.config_entries.async_entries(
                _DOMAIN, include_ignore=False, include_disabled=False
            )
        )

    def _device(self, entry: ConfigEntry[Any]) -> CoreDevice:
        live = self._live(entry)
        mac = live.mac
        if mac is None and entry.unique_id is not None and ":" in entry.unique_id:
            mac = dr.format_mac(entry.unique_id)
        registered = self._registered(entry, mac)
        version, build_time = live.esphome_version, live.build_time
        if version is None and registered is not None:
            version, build_time = _parse_sw_version(registered.sw_version)
        node_name = self._node_name(entry, live)
        return CoreDevice(
            entry_id=entry.entry_id,
            device_id=None if registered is None else registered.id,
            node_name=node_name,
            mac=mac,
            friendly_name=live.friendly_name
            or (registered.name if registered is not None else None)
            or entry.title
            or node_name,
            esphome_version=version,
            build_time=build_time,
            online=live.available,
            deep_sleep=live.deep_sleep,
            host=_text(entry.data.get(CONF_HOST)),
            connected_at=live.connected_at,
            connections=self._connections.get(entry.entry_id, 0),
        )

    def _node_name(self, entry: ConfigEntry[Any], live: _Live) -> str:
        return live.name or _text(entry.data.get(_CONF_DEVICE_NAME)) or entry.title

    def _registered(self, entry: ConfigEntry[Any], mac: str | None) -> dr.DeviceEntry | None:
        registry = dr.async_get(self._hass)
        if mac is None:
            return None
        return registry.async_get_device_by_connection(
            (dr.CONNECTION_NETWORK_MAC, mac), entry.entry_id
        )

    def _live(self, entry: ConfigEntry[Any]) -> _Live:
        if entry.state is not ConfigEntryState.LOADED:
            return _Live()
        runtime_data = getattr(entry, "runtime_data", None)
        available = getattr(runtime_data, "available", None)
        if not isinstance(available, bool) or not hasattr(runtime_data, "device_info"):
            self._note_degraded()
        info = getattr(runtime_data, "device_info", None)
        mac = _text(getattr(info, "mac_address", None))
        client = getattr(runtime_data, "client", None)
        return _Live(
            available=available if isinstance(available, bool) else None,
            name=_text(getattr(info, "name", None)),
            friendly_name=_text(getattr(info, "friendly_name", None)),
            mac=None if mac is None else dr.format_mac(mac),
            esphome_version=_text(getattr(info, "esphome_version", None)),
            build_time=_text(getattr(info, "compilation_time", None)),
            deep_sleep=getattr(info, "has_deep_sleep", False) is True,
            connected_at=peer_addresses(client, entry.data.get(CONF_PORT)) if available else (),
            info=info,
        )

    def _note_degraded(self) -> None:
        if not self._degraded:
            self._degraded = True
            _LOGGER.warning(
                "The runtime data of Home Assistant's esphome integration are not as expected; "
                "whether devices are connected is unknown"
            )

    # Changes

    def _attach(self) -> None:
        self._unsubscribes = [
            async_dispatcher_connect(self._hass, SIGNAL_CONFIG_ENTRY_CHANGED, self._entry_changed),
            self._hass.bus.async_listen(dr.EVENT_DEVICE_REGISTRY_UPDATED, self._registry_changed),
            async_track_state_change_filtered(
                self._hass,
                TrackStates(all_states=False, entities=set(), domains={_UPDATE_DOMAIN}),
                self._update_state_changed,
            ).async_remove,
        ]
        self._follow_entries()

    def _detach(self) -> None:
        for unsubscribe in self._unsubscribes:
            unsubscribe()
        self._unsubscribes = []
        self._followed.clear()
        for entry_id in list(self._sessions):
            self._leave(entry_id)

    def _follow_entries(self) -> None:
        """Subscribe to the loaded entries; a reloaded one has new runtime data."""
        loaded = {
            entry.entry_id: entry
            for entry in self._entries()
            if entry.state is ConfigEntryState.LOADED
        }
        for entry_id, session in list(self._sessions.items()):
            entry = loaded.get(entry_id)
            if entry is None or getattr(entry, "runtime_data", None) is not session.runtime_data:
                self._leave(entry_id)
        for entry_id, entry in loaded.items():
            if entry_id not in self._sessions:
                self._join(entry)

    def _join(self, entry: ConfigEntry[Any]) -> None:
        runtime_data = getattr(entry, "runtime_data", None)
        subscribe = getattr(runtime_data, "async_subscribe_device_updated", None)
        unsubscribe: CALLBACK_TYPE | None = None
        if callable(subscribe):
            unsubscribe = subscribe(partial(self._device_updated, entry))
        else:
            self._note_degraded()
        live = self._live(entry)
        self._sessions[entry.entry_id] = _Session(
            runtime_data, unsubscribe, live.available is True, live.info
        )
        if live.available:
            self._count(entry)

    def _leave(self, entry_id: str) -> None:
        unsubscribe = self._sessions.pop(entry_id).unsubscribe
        if unsubscribe is not None:
            try:
                unsubscribe()
            except KeyError, ValueError:
                _LOGGER.debug("The subscription to %s had ended already", entry_id)

    def _count(self, entry: ConfigEntry[Any]) -> None:
        self._connections[entry.entry_id] = self._connections.get(entry.entry_id, 0) + 1

    @callback
    def _device_updated(self, entry: ConfigEntry[Any]) -> None:
        """Count a new connection of core to a device.

        Each connection brings a new object with the device information, which also reveals a
        loss between two updates.
        """
        session = self._sessions.get(entry.entry_id)
        live = self._live(entry)
        if session is not None:
            available = live.available is True
            if available and not (session.available and live.info is session.info):
                self._count(entry)
            session.available = available
            session.info = live.info
        self._notify(entry.entry_id)

    @callback
    def _entry_changed(self, change: ConfigEntryChange, entry: ConfigEntry[Any]) -> None:
        if entry.domain != _DOMAIN:
            return
        if change is ConfigEntryChange.REMOVED:
            self._connections.pop(entry.entry_id, None)
        self._follow_entries()
        self._notify(entry.entry_id)

    @callback
    def _registry_changed(self, event: Event[dr.EventDeviceRegistryUpdatedData]) -> None:
        device = dr.async_get(self._hass).async_get(event.data["device_id"])
        if device is None:
            self._notify(None)
            return
        entry = self._hass.config_entries.async_get_entry(device.config_entry_id)
        if entry is not None and entry.domain == _DOMAIN:
            self._notify(entry.entry_id)

    @callback
    def _update_state_changed(self, event: Event[EventStateChangedData]) -> None:
        if _in_progress(event.data["old_state"]) == _in_progress(event.data["new_state"]):
            return
        entity = er.async_get(self._hass).async_get(event.data["entity_id"])
        if entity is not None and entity.platform == _DOMAIN:
            self._listeners.notify()

    def _notify(self, entry_id: str | None) -> None:
        """Tell of a change of one device, or of any (None)."""
        if entry_id is None:
            self._followed.clear()
        else:
            self._followed.pop(entry_id, None)
        self._listeners.notify()


def mac_suffix_stem(device: Identity) -> str | None:
    """Return the node name before a suffix of the MAC address; None without such a suffix."""
    found = _MAC_SUFFIX.fullmatch(device.node_name)
    if found is None or not (device.mac is None or device.mac.replace(":", "").endswith(found[2])):
        return None
    return found[1]


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _in_progress(state: State | None) -> bool:
    return state is not None and bool(state.attributes.get(_ATTR_IN_PROGRESS))


def _parse_sw_version(sw_version: str | None) -> tuple[str | None, str | None]:
    """Return version and build time from how core writes them into the device registry."""
    if not sw_version:
        return None, None
    if (match := _PROJECT_VERSION.fullmatch(sw_version)) is not None:
        return match["version"], None
    if (match := _SW_VERSION.fullmatch(sw_version)) is not None:
        return match["version"], match["build_time"]
    return sw_version.split(" ")[0], None
