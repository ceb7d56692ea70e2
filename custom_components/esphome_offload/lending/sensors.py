"""Sensors of this instance as a builder, and of its guests."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, repeat
from typing import Any, Final, override

from homeassistant.components.sensor import (
    SensorDeviceClass,
    SensorEntity,
    SensorEntityDescription,
    SensorStateClass,
)
from homeassistant.const import (
    MAX_LENGTH_STATE_STATE,
    PERCENTAGE,
    EntityCategory,
    UnitOfInformation,
)

from ..engine.const import GIB
from ..engine.host.attempt import GuestAttempt
from ..engine.host.guests import Guest
from ..engine.protocol.messages import AttemptState
from .entity import GuestEntity, InstanceEntity
from .lender import Lender

IDLE: Final = "idle"

type _Attributes = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class InstanceSensorDescription(SensorEntityDescription):
    """A sensor of this instance: how its value and attributes are read."""

    value: Callable[[Lender], float | None]
    attributes: Callable[[Lender], _Attributes] = lambda _lender: {}


@dataclass(frozen=True, kw_only=True)
class GuestSensorDescription(SensorEntityDescription):
    """A sensor of a guest: how its value and attributes are read."""

    value: Callable[[Guest, list[GuestAttempt]], datetime | int | str | None]
    attributes: Callable[[list[GuestAttempt]], _Attributes] = lambda _attempts: {}


def _active(lender: Lender) -> tuple[GuestAttempt, ...]:
    return () if lender.host is None else lender.host.active()


def _waits(attempt: GuestAttempt) -> bool:
    return attempt.state is AttemptState.QUEUED


def _owners(lender: Lender, count: int, *, waiting: bool) -> list[str]:
    """Return for whom so many builds wait, or run: those that are no guest's are our own."""
    labels = {guest.pin_sha256: guest.label for guest in lender.guests.all()}
    guests = [
        labels.get(attempt.key.pin_sha256, "")
        for attempt in _active(lender)
        if _waits(attempt) is waiting
    ]
    return sorted(set(chain(guests, repeat(lender.label, max(0, count - len(guests))))))


def _disk_used(lender: Lender) -> float | None:
    return None if lender.host is None else round(lender.host.disk_used / GIB, 1)


_INSTANCE_SENSORS: Final = (
    InstanceSensorDescription(
        key="builds_running",
        translation_key="builds_running",
        state_class=SensorStateClass.MEASUREMENT,
        value=lambda lender: lender.slots.busy,
        attributes=lambda lender: {"built_for": _owners(lender, lender.slots.busy, waiting=False)},
    ),
    InstanceSensorDescription(
        key="builds_queued",
        translation_key="builds_queued",
        state_class=SensorStateClass.MEASUREMENT,
        value=lambda lender: lender.slots.waiting,
        attributes=lambda lender: {
            "built_for": _owners(lender, lender.slots.waiting, waiting=True)
        },
    ),
    InstanceSensorDescription(
        key="from_cache",
        translation_key="from_cache",
        state_class=SensorStateClass.MEASUREMENT,
        entity_category=EntityCategory.DIAGNOSTIC,
        native_unit_of_measurement=PERCENTAGE,
        value=lambda lender: lender.cache_use.percent,
    ),
    InstanceSensorDescription(
        key="guest_disk",
        translation_key="guest_disk",
        device_class=SensorDeviceClass.DATA_SIZE,
        state_class=SensorStateClass.MEASUREMENT,
        entity_category=EntityCategory.DIAGNOSTIC,
        native_unit_of_measurement=UnitOfInformation.GIBIBYTES,
        suggested_display_precision=1,
        value=_disk_used,
        attributes=lambda lender: {"limit": lender.disk_limit_gib},
    ),
)


def _building(_guest: Guest, attempts: list[GuestAttempt]) -> str:
    running = [each.submission.parameters.configuration for each in attempts if not _waits(each)]
    return ", ".join(running)[:MAX_LENGTH_STATE_STATE] or IDLE


_GUEST_SENSORS: Final = (
    GuestSensorDescription(
        key="last_seen",
        translation_key="last_seen",
        device_class=SensorDeviceClass.TIMESTAMP,
        entity_category=EntityCategory.DIAGNOSTIC,
        value=lambda guest, _: guest.last_seen,
    ),
    GuestSensorDescription(
        key="builds",
        translation_key="builds",
        state_class=SensorStateClass.TOTAL_INCREASING,
        entity_category=EntityCategory.DIAGNOSTIC,
        value=lambda guest, _: guest.builds,
    ),
    GuestSensorDescription(
        key="last_build",
        translation_key="last_build",
        device_class=SensorDeviceClass.TIMESTAMP,
        entity_category=EntityCategory.DIAGNOSTIC,
        value=lambda guest, _: guest.last_build,
    ),
    GuestSensorDescription(
        key="building",
        translation_key="building",
        value=_building,
        attributes=lambda attempts: {"queued": sum(map(_waits, attempts))},
    ),
)


def instance_sensors(lender: Lender) -> list[InstanceSensor]:
    """Return the sensors of this instance."""
    return [InstanceSensor(lender, description) for description in _INSTANCE_SENSORS]


def guest_sensors(lender: Lender, guest: Guest) -> list[GuestSensor]:
    """Return the sensors of a guest."""
    return [GuestSensor(lender, guest, description) for description in _GUEST_SENSORS]


class InstanceSensor(InstanceEntity, SensorEntity):
    """A figure of this instance as a builder, for itself and for guests."""

    entity_description: InstanceSensorDescription
    _unrecorded_attributes = frozenset({"built_for"})

    def __init__(self, lender: Lender, description: InstanceSensorDescription) -> None:
        super().__init__(lender, description.key)
        self.entity_description = description

    @property
    @override
    def native_value(self) -> float | None:
        return self.entity_description.value(self.coordinator)

    @property
    @override
    def extra_state_attributes(self) -> _Attributes:
        return self.entity_description.attributes(self.coordinator)


class GuestSensor(GuestEntity, SensorEntity):
    """A value of one guest."""

    entity_description: GuestSensorDescription

    def __init__(self, lender: Lender, guest: Guest, description: GuestSensorDescription) -> None:
        super().__init__(lender, guest, description.key)
        self.entity_description = description

    @property
    def _attempts(self) -> list[GuestAttempt]:
        return [
            each for each in _active(self.coordinator) if each.key.pin_sha256 == self.pin_sha256
        ]

    @property
    @override
    def native_value(self) -> datetime | int | str | None:
        return self.entity_description.value(self.guest, self._attempts)

    @property
    @override
    def extra_state_attributes(self) -> _Attributes:
        return self.entity_description.attributes(self._attempts)
