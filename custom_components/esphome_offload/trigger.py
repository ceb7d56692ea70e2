"""The triggers for automations: new versions, ends of installations, devices waited for, builders."""

from collections.abc import Collection
from typing import Final, cast, override

from homeassistant.const import (
    ATTR_LABEL_ID,
    CONF_OPTIONS,
    CONF_TARGET,
    STATE_OFF,
    STATE_ON,
    Platform,
)
from homeassistant.core import CALLBACK_TYPE, HomeAssistant, State, callback
from homeassistant.helpers import entity_registry as er
from homeassistant.helpers.automation import DomainSpec
from homeassistant.helpers.target import TargetSelection
from homeassistant.helpers.trigger import (
    ENTITY_STATE_TRIGGER_SCHEMA,
    EntityTargetStateTriggerBase,
    EntityTriggerBase,
    NotTriggeredReasonReporter,
    StatelessEntityTriggerBase,
    Trigger,
    TriggerActionRunner,
    TriggerConfig,
    TriggerNotTriggeredReporter,
)
from homeassistant.helpers.typing import ConfigType
import probatio

from .const import DOMAIN
from .coordinator import DATA_COORDINATOR
from .engine.const import Stage
from .event import InstallationEnd
from .registry import own_entities

CONF_OUTCOMES: Final = "outcomes"


class _OwnEntities(EntityTriggerBase):
    """Entities of this integration alone: those in the target, or all without one."""

    # None is a primary one, and others are left out of areas and devices by default.
    _primary_entities_only = False
    _translation_key: str

    @override
    @classmethod
    async def async_validate_config(cls, hass: HomeAssistant, config: ConfigType) -> ConfigType:
        return await super().async_validate_config(hass, {CONF_TARGET: {}, **config})

    def __init__(self, hass: HomeAssistant, config: TriggerConfig) -> None:
        super().__init__(hass, config)
        self._everywhere = not TargetSelection(self._target).has_any_target
        if self._everywhere:
            # Home Assistant tracks nothing without a target. What this one has is not looked at.
            self._target = {ATTR_LABEL_ID: [DOMAIN]}

    @override
    def entity_filter(self, entities: set[str]) -> set[str]:
        if self._everywhere:
            entities = set(er.async_get(self._hass).entities)
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
    """A builder can take builds."""

    _domain_specs = {Platform.BINARY_SENSOR: DomainSpec()}  # noqa: RUF012
    _to_states = {STATE_ON}  # noqa: RUF012
    _translation_key = "ready"


class BuilderUnavailableTrigger(BuilderAvailableTrigger):
    """A builder cannot take builds any more."""

    _to_states = {STATE_OFF}  # noqa: RUF012


class NewVersionTrigger(Trigger):
    """Devices are to run a newer ESPHome than before."""

    @override
    @classmethod
    async def async_validate_config(cls, hass: HomeAssistant, config: ConfigType) -> ConfigType:
        return cast("ConfigType", probatio.Schema({probatio.Optional(CONF_OPTIONS): {}})(config))

    @override
    async def async_attach_runner(
        self,
        run_action: TriggerActionRunner,
        did_not_trigger: TriggerNotTriggeredReporter | None = None,
    ) -> CALLBACK_TYPE:
        @callback
        def announced(before: str, version: str) -> None:
            run_action({"from_version": before, "to_version": version}, f"ESPHome {version}")

        return self._hass.data[DATA_COORDINATOR].new_versions.subscribe(announced)


TRIGGERS: dict[str, type[Trigger]] = {
    "builder_available": BuilderAvailableTrigger,
    "builder_unavailable": BuilderUnavailableTrigger,
    "install_failed": InstallFailedTrigger,
    "install_finished": InstallFinishedTrigger,
    "new_version": NewVersionTrigger,
    "waiting_for_device": WaitingForDeviceTrigger,
}


async def async_get_triggers(hass: HomeAssistant) -> dict[str, type[Trigger]]:
    """Return the triggers."""
    return TRIGGERS
