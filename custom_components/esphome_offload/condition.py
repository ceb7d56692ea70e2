"""The condition for automations: whether an installation goes on."""

from typing import override

from homeassistant.const import Platform
from homeassistant.core import HomeAssistant
from homeassistant.helpers.automation import DomainSpec
from homeassistant.helpers.condition import Condition, EntityStateConditionBase

from .engine.const import JobStatus, Stage
from .registry import own_entities


class IsInstallingCondition(EntityStateConditionBase):
    """A job is queued or at work; one that waits for its device is neither."""

    _domain_specs = {Platform.SENSOR: DomainSpec()}  # noqa: RUF012
    # The sensor is for diagnosis, and so left out of areas and devices by default.
    _primary_entities_only = False
    _states: set[str | bool] = {JobStatus.QUEUED, *Stage} - {Stage.WAITING_DEVICE}

    @override
    def entity_filter(self, entities: set[str]) -> set[str]:
        return own_entities(self._hass, super().entity_filter(entities), "installation")


CONDITIONS: dict[str, type[Condition]] = {"is_installing": IsInstallingCondition}


async def async_get_conditions(hass: HomeAssistant) -> dict[str, type[Condition]]:
    """Return the conditions."""
    return CONDITIONS
