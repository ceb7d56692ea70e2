"""The triggers for automations: ends of installations, devices waited for, builders."""

from collections.abc import Collection
from typing import Final, override

from homeassistant.components.binary_sensor import BinarySensorDeviceClass
from homeassistant.const import CONF_OPTIONS, STATE_OFF, STATE_ON, Platform
from homeassistant.core import HomeAssistant, State
from homeassistant.helpers.automation import DomainSpec
from homeassistant.helpers.trigger import (
    ENTITY_STATE_TRIGGER_SCHEMA,
    EntityTargetStateTriggerBase,
    EntityTriggerBase,
    NotTriggeredReasonReporter,
    StatelessEntityTriggerBase,
    Trigger,
    TriggerConfig,
)
import probatio

from .engine.const import Stage
from .event import InstallationEnd
from .registry import own_entities

CONF_OUTCOMES: Final = "outcomes"


class _OwnEntities(EntityTriggerBase):
    """Entities of this integration alone, whatever else the target has."""

    # All are for diagnosis, and so left out of areas and devices by default.
    _primary_entities_only = False
    _translation_key: str | None

    @override
    def entity_filter(self, entities: set[str]) -> set[str]:
        return own_entities(self._hass, super().entity_filter(entities), self._translation_key)


class InstallFailedTrigger(_OwnEntities, StatelessEntityTriggerBase):
    """An installation failed, also because the device went back to its old firmware."""

    _domain_specs = {Platform.EVENT: DomainSpec()}  # noqa: RUF012
    _translation_key = "installation_ended"
    _outcomes: Collection[str] = (InstallationEnd.FAILED, InstallationEnd.ROLLED_BACK)

    @override
    def is_valid_state(
        self, state: State, report_not_triggered: NotTriggeredReasonReporter
    ) -> bool:
        return state.attributes.get("event_type") in self._outcomes


class InstallFinishedTrigger(InstallFailedTrigger):
    """An installation ended, in one of the chosen ways or in any."""

    _schema = ENTITY_STATE_TRIGGER_SCHEMA.extend(
        {
            probatio.Required(CONF_OPTIONS, default={}): {
                probatio.Optional(CONF_OUTCOMES): probatio.All(
                    probatio.EnsureList(), [probatio.Coerce(InstallationEnd)]
                )
            }
        }
    )

    def __init__(self, hass: HomeAssistant, config: TriggerConfig) -> None:
        super().__init__(hass, config)
        self._outcomes = self._options.get(CONF_OUTCOMES) or tuple(InstallationEnd)


class WaitingForDeviceTrigger(_OwnEntities, EntityTargetStateTriggerBase):
    """Firmware is built and waits for its device."""

    _domain_specs = {Platform.SENSOR: DomainSpec()}  # noqa: RUF012
    _to_states = {Stage.WAITING_DEVICE.value}  # noqa: RUF012
    _translation_key = "installation"


class BuilderAvailableTrigger(_OwnEntities, EntityTargetStateTriggerBase):
    """A builder is connected."""

    _domain_specs = {  # noqa: RUF012
        Platform.BINARY_SENSOR: DomainSpec(device_class=BinarySensorDeviceClass.CONNECTIVITY)
    }
    _to_states = {STATE_ON}  # noqa: RUF012
    _translation_key = None


class BuilderUnavailableTrigger(BuilderAvailableTrigger):
    """A builder is not connected any more."""

    _to_states = {STATE_OFF}  # noqa: RUF012


TRIGGERS: dict[str, type[Trigger]] = {
    "builder_available": BuilderAvailableTrigger,
    "builder_unavailable": BuilderUnavailableTrigger,
    "install_failed": InstallFailedTrigger,
    "install_finished": InstallFinishedTrigger,
    "waiting_for_device": WaitingForDeviceTrigger,
}


async def async_get_triggers(hass: HomeAssistant) -> dict[str, type[Trigger]]:
    """Return the triggers."""
    return TRIGGERS
