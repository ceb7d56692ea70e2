"""Options flow, the part about automatic updates."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import time
from typing import Any, Final

from homeassistant.config_entries import ConfigFlowResult, OptionsFlow
from homeassistant.const import WEEKDAYS, Platform
from homeassistant.helpers import entity_registry as er
from homeassistant.helpers.selector import (
    EntitySelector,
    EntitySelectorConfig,
    SelectSelector,
    SelectSelectorConfig,
    SelectSelectorMode,
    TimeSelector,
)
import probatio

from ..automatic.canary import (
    CanaryProblem,
    canary_state,
    canary_target,
    why_it_cannot_vouch,
)
from ..automatic.settings import AutomaticFor, AutomaticSettings
from ..automatic.window import LEAST, length
from ..const import DOMAIN
from ..coordinator import DATA_COORDINATOR
from ..options import EntryKey
from ..texts.reasons import common_text
from .fields import choice, whole_number

AUTOMATIC_SCHEMA: Final = probatio.Schema(
    {
        probatio.Required(EntryKey.AUTOMATIC): choice(AutomaticFor, "automatic_updates"),
        probatio.Required(EntryKey.AUTOMATIC_DAYS): SelectSelector(
            SelectSelectorConfig(
                options=list(WEEKDAYS),
                multiple=True,
                mode=SelectSelectorMode.LIST,
                translation_key="weekday",
            )
        ),
        probatio.Required(EntryKey.AUTOMATIC_START): TimeSelector(),
        probatio.Required(EntryKey.AUTOMATIC_END): TimeSelector(),
        probatio.Required(EntryKey.AUTOMATIC_DELAY_DAYS): whole_number(
            EntryKey.AUTOMATIC_DELAY_DAYS
        ),
        probatio.Optional(EntryKey.AUTOMATIC_CANARY): EntitySelector(
            EntitySelectorConfig(filter={"integration": DOMAIN, "domain": Platform.UPDATE})
        ),
        probatio.Required(EntryKey.AUTOMATIC_CANARY_HOURS): whole_number(
            EntryKey.AUTOMATIC_CANARY_HOURS
        ),
        probatio.Required(EntryKey.AUTOMATIC_FAILURES): whole_number(EntryKey.AUTOMATIC_FAILURES),
    }
)


class AutomaticSteps(OptionsFlow):
    """The step about automatic updates."""

    async def async_step_automatic(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Ask what is updated automatically, and when."""
        errors: dict[str, str] = {}
        problem: CanaryProblem | None = None
        if user_input is not None:
            errors = self._errors(user_input)
            if not errors and (problem := self._canary_problem(user_input)) is not None:
                errors[EntryKey.AUTOMATIC_CANARY] = "canary_blocks"
            if not errors:
                # Without a canary the form sends none.
                others = {
                    key: value
                    for key, value in self.config_entry.options.items()
                    if key != EntryKey.AUTOMATIC_CANARY
                }
                return self.async_create_entry(data={**others, **self._stored(user_input)})
        return self.async_show_form(
            step_id="automatic",
            data_schema=self.add_suggested_values_to_schema(
                AUTOMATIC_SCHEMA, user_input or self._shown()
            ),
            errors=errors,
            description_placeholders=None
            if problem is None
            else {"reason": common_text(self.hass, f"canary_{problem}")},
        )

    def _errors(self, user_input: Mapping[str, Any]) -> dict[str, str]:
        errors: dict[str, str] = {}
        if not user_input[EntryKey.AUTOMATIC_DAYS]:
            errors[EntryKey.AUTOMATIC_DAYS] = "no_day"
        start = time.fromisoformat(user_input[EntryKey.AUTOMATIC_START])
        end = time.fromisoformat(user_input[EntryKey.AUTOMATIC_END])
        if length(start, end) < LEAST:
            errors[EntryKey.AUTOMATIC_END] = "window_too_short"
        canary = user_input.get(EntryKey.AUTOMATIC_CANARY)
        if canary is not None and er.async_get(self.hass).async_get(canary) is None:
            errors[EntryKey.AUTOMATIC_CANARY] = "no_such_device"
        return errors

    def _canary_problem(self, user_input: Mapping[str, Any]) -> CanaryProblem | None:
        """Return why the device to update first would not get the next version."""
        options = self._stored(user_input)
        settings = AutomaticSettings.from_options(options)
        target = canary_target(self.hass, settings.canary)
        coordinator = self.hass.data.get(DATA_COORDINATOR)
        if target is None or coordinator is None or settings.devices is AutomaticFor.OFF:
            return None
        state = canary_state(self.hass, coordinator, settings, target)
        return why_it_cannot_vouch(replace(state, up_to_date=False))

    def _stored(self, user_input: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options; the canary by what stays when its entity is called otherwise."""
        stored = dict(user_input)
        if (canary := stored.get(EntryKey.AUTOMATIC_CANARY)) is not None:
            entity = er.async_get(self.hass).async_get(canary)
            stored[EntryKey.AUTOMATIC_CANARY] = None if entity is None else entity.id
        return stored

    def _shown(self) -> dict[str, Any]:
        settings = AutomaticSettings.from_options(self.config_entry.options)
        shown: dict[str, Any] = {
            EntryKey.AUTOMATIC: settings.devices,
            EntryKey.AUTOMATIC_DAYS: [day for day in WEEKDAYS if day in settings.days],
            EntryKey.AUTOMATIC_START: settings.start.isoformat(),
            EntryKey.AUTOMATIC_END: settings.end.isoformat(),
            EntryKey.AUTOMATIC_DELAY_DAYS: settings.delay.days,
            EntryKey.AUTOMATIC_CANARY_HOURS: settings.canary_time.total_seconds() / 3600,
            EntryKey.AUTOMATIC_FAILURES: settings.failure_limit,
        }
        if settings.canary is not None:
            entity = er.async_get(self.hass).entities.get_entry(settings.canary)
            if entity is not None:
                shown[EntryKey.AUTOMATIC_CANARY] = entity.entity_id
        return shown
