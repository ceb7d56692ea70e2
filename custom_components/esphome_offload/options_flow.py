"""Options flow: what the owner of "this instance" may change at any time."""

from collections.abc import Mapping
from typing import Any

from homeassistant.config_entries import ConfigFlowResult, OptionsFlow
from homeassistant.data_entry_flow import section
from homeassistant.helpers.selector import (
    BooleanSelector,
    NumberSelector,
    NumberSelectorConfig,
    NumberSelectorMode,
    SelectSelector,
    SelectSelectorConfig,
    SelectSelectorMode,
    TextSelector,
)
import probatio

from .builders.versions import VersionError, VersionProblem, normal_version
from .coordinator import DATA_COORDINATOR
from .options import (
    MAX_PARALLEL_BUILDS,
    MAX_PARALLEL_UPLOADS,
    MAX_WAIT_HOURS,
    EntryKey,
    OffloadOptions,
    VersionChannel,
)

SECTION_VERSION = "version"
SECTION_PARALLEL = "parallel"
SECTION_WAITING = "waiting"

# Without a network nobody can say whether a version exists; then the owner is believed.
_VERSION_ERRORS = {
    VersionProblem.UNKNOWN: "version_not_found",
    VersionProblem.UNSUPPORTED_PYTHON: "version_unsupported",
}

FIXED_VERSION_SCHEMA = probatio.Schema({probatio.Required(EntryKey.FIXED_VERSION): TextSelector()})


class OffloadOptionsFlow(OptionsFlow):
    """Changes the options; the entry's update listener applies them to what runs."""

    def __init__(self) -> None:
        """Start with nothing chosen."""
        self._chosen: dict[str, Any] = {}

    async def async_step_init(self, user_input: dict[str, Any] | None = None) -> ConfigFlowResult:
        """Ask for everything but a fixed version."""
        if user_input is None:
            return self.async_show_form(
                step_id="init",
                data_schema=self.add_suggested_values_to_schema(
                    _options_schema(), _by_section(self._current)
                ),
            )
        self._chosen = _flat(user_input)
        if self._chosen[EntryKey.VERSION_CHANNEL] == VersionChannel.FIXED:
            return await self.async_step_fixed_version()
        return self.async_create_entry(data=self._chosen)

    async def async_step_fixed_version(
        self, user_input: dict[str, Any] | None = None
    ) -> ConfigFlowResult:
        """Ask for the version to stay at."""
        errors: dict[str, str] = {}
        if user_input is None:
            version = self._current.fixed_version or self._latest_version
        else:
            version = user_input[EntryKey.FIXED_VERSION]
            try:
                version = normal_version(version)
            except VersionError:
                errors[EntryKey.FIXED_VERSION] = "version_invalid"
            else:
                errors = await self._version_errors(version)
            if not errors:
                return self.async_create_entry(
                    data={**self._chosen, EntryKey.FIXED_VERSION: version}
                )
        return self.async_show_form(
            step_id="fixed_version",
            data_schema=self.add_suggested_values_to_schema(
                FIXED_VERSION_SCHEMA, {EntryKey.FIXED_VERSION: version}
            ),
            errors=errors,
            description_placeholders={"version": version},
        )

    @property
    def _current(self) -> OffloadOptions:
        return OffloadOptions.from_entry(self.config_entry.data, self.config_entry.options)

    @property
    def _latest_version(self) -> str:
        coordinator = self.hass.data.get(DATA_COORDINATOR)
        return (coordinator and coordinator.latest_version) or ""

    async def _version_errors(self, version: str) -> dict[str, str]:
        """Check that a version exists, as far as that can be known just now."""
        if (coordinator := self.hass.data.get(DATA_COORDINATOR)) is None:
            return {}
        try:
            await coordinator.workshop.versions.check(version)
        except VersionError as error:
            if (key := _VERSION_ERRORS.get(error.problem)) is not None:
                return {EntryKey.FIXED_VERSION: key}
        return {}


def _options_schema() -> probatio.Schema:
    return probatio.Schema(
        {
            probatio.Required(SECTION_VERSION): section(
                probatio.Schema(
                    {
                        probatio.Required(EntryKey.VERSION_CHANNEL): SelectSelector(
                            SelectSelectorConfig(
                                options=list(VersionChannel),
                                mode=SelectSelectorMode.LIST,
                                translation_key="version_channel",
                            )
                        )
                    }
                )
            ),
            probatio.Required(SECTION_PARALLEL): section(
                probatio.Schema(
                    {
                        probatio.Required(EntryKey.PARALLEL_BUILDS): _number(
                            1, MAX_PARALLEL_BUILDS
                        ),
                        probatio.Required(EntryKey.PARALLEL_UPLOADS): _number(
                            1, MAX_PARALLEL_UPLOADS
                        ),
                    }
                )
            ),
            probatio.Required(SECTION_WAITING): section(
                probatio.Schema(
                    {
                        probatio.Required(EntryKey.WAIT_FOR_DEVICE): BooleanSelector(),
                        probatio.Required(EntryKey.WAIT_HOURS): _number(
                            0, MAX_WAIT_HOURS, unit="h"
                        ),
                    }
                )
            ),
        }
    )


def _number(least: int, most: int, unit: str | None = None) -> probatio.All[int]:
    """Return a number box for whole numbers; the frontend sends floats."""
    config = NumberSelectorConfig(min=least, max=most, step=1, mode=NumberSelectorMode.BOX)
    if unit is not None:
        config["unit_of_measurement"] = unit
    return probatio.All(NumberSelector(config), probatio.Coerce(int))


def _by_section(options: OffloadOptions) -> dict[str, dict[str, Any]]:
    return {
        SECTION_VERSION: {EntryKey.VERSION_CHANNEL: options.version_channel},
        SECTION_PARALLEL: {
            EntryKey.PARALLEL_BUILDS: options.parallel_builds,
            EntryKey.PARALLEL_UPLOADS: options.parallel_uploads,
        },
        SECTION_WAITING: {
            EntryKey.WAIT_FOR_DEVICE: options.wait_for_device,
            EntryKey.WAIT_HOURS: options.wait_hours,
        },
    }


def _flat(user_input: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {key: value for group in user_input.values() for key, value in group.items()}
