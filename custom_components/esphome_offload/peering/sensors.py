"""Sensors of a peer."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import override

from homeassistant.components.sensor import (
    SensorEntity,
    SensorEntityDescription,
    SensorStateClass,
)
from homeassistant.const import PERCENTAGE, EntityCategory
from homeassistant.core import callback
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from ..engine.build.compiler_cache import CacheUse
from ..engine.build.model import BuilderStatus
from .entity import PeerEntity
from .entry import Peer


@dataclass(frozen=True, kw_only=True)
class PeerSensorDescription(SensorEntityDescription):
    """A sensor and how its value is read from the status of a builder."""

    value: Callable[[BuilderStatus], int | None]


_SENSORS = (
    PeerSensorDescription(
        key="builds_running",
        translation_key="builds_running",
        state_class=SensorStateClass.MEASUREMENT,
        value=lambda status: status.busy,
    ),
    PeerSensorDescription(
        key="builds_queued",
        translation_key="builds_queued",
        state_class=SensorStateClass.MEASUREMENT,
        value=lambda status: status.queue_length,
    ),
    PeerSensorDescription(
        key="from_cache",
        translation_key="from_cache",
        state_class=SensorStateClass.MEASUREMENT,
        entity_category=EntityCategory.DIAGNOSTIC,
        native_unit_of_measurement=PERCENTAGE,
        value=lambda status: CacheUse(status.ccache_hits, status.ccache_files).percent,
    ),
)


@callback
def async_add_peer_sensors(peer: Peer, add: AddConfigEntryEntitiesCallback) -> None:
    """Add the sensors of a peer."""
    add(PeerSensor(peer, description) for description in _SENSORS)


class PeerSensor(PeerEntity, SensorEntity):
    """A figure of a peer's status; unavailable while it is not connected."""

    entity_description: PeerSensorDescription

    def __init__(self, peer: Peer, description: PeerSensorDescription) -> None:
        super().__init__(peer, description.key)
        self.entity_description = description

    @property
    @override
    def available(self) -> bool:
        return self.coordinator.link.connected

    @property
    @override
    def native_value(self) -> int | None:
        return self.entity_description.value(self.coordinator.builder.status())
