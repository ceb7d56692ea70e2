"""Sensors of a peer: what it is doing."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import override

from homeassistant.components.sensor import (
    SensorEntity,
    SensorEntityDescription,
    SensorStateClass,
)
from homeassistant.core import callback
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from ..engine.build.model import BuilderStatus
from .entity import PeerEntity
from .entry import Peer


@dataclass(frozen=True, kw_only=True)
class PeerSensorDescription(SensorEntityDescription):
    """Says how to read the status of a builder."""

    value: Callable[[BuilderStatus], int]


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
)


@callback
def async_add_peer_sensors(peer: Peer, add: AddConfigEntryEntitiesCallback) -> None:
    """Add the sensors of a peer."""
    add(PeerSensor(peer, description) for description in _SENSORS)


class PeerSensor(PeerEntity, SensorEntity):
    """How many builds there are, of everybody; unknown to us while it is not connected."""

    entity_description: PeerSensorDescription

    def __init__(self, peer: Peer, description: PeerSensorDescription) -> None:
        """Follow a peer."""
        self.entity_description = description
        super().__init__(peer, description.key)

    @override
    def _read(self) -> None:
        self._attr_available = self.peer.link.connected
        self._attr_native_value = self.entity_description.value(self.peer.builder.status())
