"""The devices of guests, and of the instance itself."""

from collections.abc import Callable
import re

from homeassistant.core import HomeAssistant, callback
from homeassistant.helpers import device_registry as dr

from ..const import DOMAIN
from ..engine.host.guests import Guest, GuestRegistry

_GUEST = "guest_"
# A configuration may be called guest_room.yaml: only a whole pin makes the device of a guest.
_GUEST_DEVICE = re.compile(rf"{_GUEST}([0-9a-f]{{64}})")

# No target has this name: it would end in that of a configuration file or in a MAC address.
_INSTANCE = "this:instance"


def instance_device_info() -> dr.DeviceInfo:
    """Return the device that stands for this instance as a builder."""
    return dr.DeviceInfo(
        identifiers={(DOMAIN, _INSTANCE)},
        entry_type=dr.DeviceEntryType.SERVICE,
        translation_key="instance",
    )


def guest_device_info(guest: Guest) -> dr.DeviceInfo:
    """Return the device of a guest; removing it unpairs the guest."""
    return dr.DeviceInfo(
        identifiers={(DOMAIN, f"{_GUEST}{guest.pin_sha256}")},
        entry_type=dr.DeviceEntryType.SERVICE,
        name=guest.label,
    )


def guest_pin(device: dr.AnyDeviceEntry) -> str | None:
    """Return the pin of the guest that a device stands for."""
    for identifier in device.identifiers:
        if identifier[0] == DOMAIN and (guest := _GUEST_DEVICE.fullmatch(identifier[1])):
            return guest[1]
    return None


def is_instance(device: dr.AnyDeviceEntry) -> bool:
    """Return whether a device stands for this instance."""
    return (DOMAIN, _INSTANCE) in device.identifiers


@callback
def async_remove_instance(hass: HomeAssistant, entry_id: str) -> None:
    """Remove the device of the instance with its entities: nothing can be compiled here."""
    registry = dr.async_get(hass)
    device = registry.async_get_device_by_identifier((DOMAIN, _INSTANCE), entry_id)
    if device is not None:
        registry.async_remove_device(device.id)


@callback
def async_follow_guests(
    hass: HomeAssistant, entry_id: str, guests: GuestRegistry
) -> Callable[[], None]:
    """Keep the devices of guests as the guests are; returns unsubscribe."""

    @callback
    def follow() -> None:
        _update_devices(hass, entry_id, guests.all())

    follow()
    return guests.changed.subscribe(follow)


def _update_devices(hass: HomeAssistant, entry_id: str, guests: tuple[Guest, ...]) -> None:
    """Remove the devices of former guests, and update the names of the others."""
    registry = dr.async_get(hass)
    labels = {guest.pin_sha256: guest.label for guest in guests}
    for device in dr.async_entries_for_config_entry(registry, entry_id):
        pin_sha256 = guest_pin(device)
        if pin_sha256 is None:
            continue
        if pin_sha256 not in labels:
            registry.async_remove_device(device.id)
        elif device.name != labels[pin_sha256]:
            registry.async_update_device(device.id, name=labels[pin_sha256])
