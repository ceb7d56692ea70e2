"""The bases of the entities of this instance as a builder, and of its guests."""

from collections.abc import Callable, Iterable
from typing import override

from homeassistant.core import callback
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback
from homeassistant.helpers.update_coordinator import BaseCoordinatorEntity

from ..engine.host.guests import Guest
from .guest_devices import guest_device_info, instance_device_info
from .lender import Lender


class _LenderEntity(BaseCoordinatorEntity[Lender]):
    """An entity whose state is the lender's; a state that stays the same is not written again."""

    _attr_has_entity_name = True

    @override
    async def async_update(self) -> None:
        """Fetch nothing: the lender has the current state."""


class InstanceEntity(_LenderEntity):
    """An entity on the device that stands for this instance as a builder."""

    def __init__(self, lender: Lender, key: str) -> None:
        super().__init__(lender)
        self._attr_unique_id = f"instance_{key}"
        self._attr_device_info = instance_device_info()


class GuestEntity(_LenderEntity):
    """An entity on the device of a guest."""

    def __init__(self, lender: Lender, guest: Guest, key: str) -> None:
        super().__init__(lender)
        self.guest = guest
        self.pin_sha256 = guest.pin_sha256
        self._attr_unique_id = f"guest_{guest.pin_sha256}_{key}"
        self._attr_device_info = guest_device_info(guest)

    @override
    @callback
    def _handle_coordinator_update(self) -> None:
        guest = self.coordinator.guests.get(self.pin_sha256)
        if guest is not None:  # else it is being removed
            self.guest = guest
            super()._handle_coordinator_update()


@callback
def async_add_to_guests[E: GuestEntity](
    lender: Lender,
    add: AddConfigEntryEntitiesCallback,
    make: Callable[[Lender, Guest], Iterable[E]],
) -> Callable[[], None]:
    """Add what ``make`` returns for each guest that is there or comes; returns unsubscribe."""
    known: set[str] = set()

    @callback
    def follow() -> None:
        guests = lender.guests.all()
        new = [guest for guest in guests if guest.pin_sha256 not in known]
        known.clear()
        known.update(guest.pin_sha256 for guest in guests)
        if new:
            add(entity for guest in new for entity in make(lender, guest))

    unsubscribe = lender.guests.changed.subscribe(follow)
    follow()
    return unsubscribe
